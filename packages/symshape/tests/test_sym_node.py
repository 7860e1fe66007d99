"""Our node behind torch.SymInt carries sizes through meta kernels and fake tensors, and its answers are facts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lampwork_symshape import BoolExpr, DataDependentError, UserFrame, integer, layout_questions, symbol
from lampwork_symshape.contiguity import dense_in_order, is_row_major
from lampwork_symshape.sym_node import FloatNode, SymNode, TorchShapeEnv, choose, expr_of, sym_int, with_traced_numbers
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode

Sizes = tuple[torch.SymInt, torch.SymInt]


@pytest.fixture
def env() -> TorchShapeEnv:
    return TorchShapeEnv(find_frame=lambda: UserFrame("model.py", 3, "forward"))


@pytest.fixture
def sizes(env: TorchShapeEnv) -> Sizes:
    """Two symbolic sizes, 5 and 7 during capture."""
    return sym_int(env.create_backed(5, "x.size(0)"), env), sym_int(env.create_backed(7, "x.size(1)"), env)


def test_meta_kernels_carry_sizes(env: TorchShapeEnv, sizes: Sizes) -> None:
    a, b = sizes
    x = torch.empty((a, b), device="meta")
    assert str(tuple(x.shape)) == "(s0, s1)" and str(x.stride()) == "(s1, 1)"
    assert str(tuple((x + x).shape)) == "(s0, s1)" and str(tuple(x.t().shape)) == "(s1, s0)"
    assert x.is_contiguous() and not x.t().is_contiguous()
    assert env.facts == ()


CASES: list[tuple[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor], str]] = [
    ("add", lambda x, w: x + x * 2, "(s0, s1)"),
    ("broadcast", lambda x, w: x + x.sum(0), "(s0, s1)"),
    ("matmul", lambda x, w: x @ w, "(s0, 16)"),
    ("linear", lambda x, w: F.linear(x, w.t()), "(s0, 16)"),
    ("view", lambda x, w: x.view(-1), "(s0*s1)"),
    ("view_split", lambda x, w: (x @ w).view(-1, 4, 4), "(s0, 4, 4)"),
    ("permute_reshape", lambda x, w: (x @ w).view(-1, 4, 4).permute(1, 0, 2).reshape(4, -1), "(4, 4*s0)"),
    ("cat", lambda x, w: torch.cat([x, x], 1), "(s0, 2*s1)"),
    ("softmax", lambda x, w: x.softmax(-1), "(s0, s1)"),
    ("layer_norm", lambda x, w: F.layer_norm(x @ w, (16,)), "(s0, 16)"),
    ("expand", lambda x, w: x.unsqueeze(0).expand(3, -1, -1).contiguous(), "(3, s0, s1)"),
    ("slice", lambda x, w: x[1:, :-1], "(s0 - 1, s1 - 1)"),
    ("transpose", lambda x, w: x.t().contiguous(), "(s1, s0)"),
    ("gelu", lambda x, w: F.gelu(x), "(s0, s1)"),
    ("argmax", lambda x, w: x.argmax(-1), "(s0)"),
    ("arange", lambda x, w: torch.arange(x.shape[0]), "(s0)"),
    ("pad", lambda x, w: F.pad(x, (1, 2)), "(s0, s1 + 3)"),
    ("attention", lambda x, w: F.scaled_dot_product_attention(*[x.expand(2, 3, -1, -1)] * 3), "(2, 3, s0, s1)"),
]


@pytest.mark.parametrize(("operation", "shape"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_fake_tensors_carry_sizes(
    env: TorchShapeEnv,
    sizes: Sizes,
    operation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    shape: str,
) -> None:
    a, b = sizes
    with FakeTensorMode(shape_env=env), enable_python_dispatcher():  # type: ignore[arg-type]
        x, w = torch.empty((a, b)), torch.empty((b, 16))
        first = operation(x, w)
        again = operation(x, w)  # the fake tensor cache must not hand out nodes of another class
    assert "(" + ", ".join(str(n) for n in first.shape) + ")" == shape
    assert all(isinstance(n, int) or isinstance(n.node, SymNode) for t in (first, again) for n in t.shape)
    assert [str(n) for n in first.shape] == [str(n) for n in again.shape]
    real = operation(torch.zeros(5, 7), torch.zeros(7, 16))
    assert [int(env.hint_of(expr_of(n)) or 0) for n in first.shape] == list(real.shape)
    assert [int(env.hint_of(expr_of(n)) or 0) for n in first.stride()] == list(real.stride())
    assert env.specializations == ()


def test_static_fake_tensors_need_nothing_of_the_environment(env: TorchShapeEnv) -> None:
    with FakeTensorMode(shape_env=env) as mode:  # type: ignore[arg-type]
        x = mode.from_tensor(torch.zeros(4, 6), static_shapes=True)
        y = F.conv2d(x.view(1, 1, 4, 6).expand(2, 3, 4, 6), torch.empty(5, 3, 3, 3)).flatten(1).softmax(-1)
    assert tuple(y.shape) == (2, 40) and env.symbols == () and env.facts == ()


def test_python_arithmetic(env: TorchShapeEnv, sizes: Sizes) -> None:
    a, b = sizes
    values = [a + 1, 2 - a, a * b, 17 // a, a // 2, a % 3, -a, abs(a - 9), a**2, max(a, 3), torch.sym_max(a, b)]
    texts = ["s0 + 1", "-s0 + 2", "s0*s1", "17 // s0", "s0 // 2", "s0 % 3", "-s0", "max(s0 - 9, -s0 + 9)", "s0*s0"]
    assert [str(v) for v in values[:9]] == texts
    for value, expected in zip(values, [6, -3, 35, 3, 2, 2, -5, 4, 25, 5, 7], strict=True):
        assert env.hint_of(expr_of(value)) == expected
    assert str(torch.sym_sum([a, b, 3])) == "s0 + s1 + 3"
    assert str(torch.sym_not(a > b)) == "s0 <= s1"
    assert a - a == 0 and math.prod([a, 0]) == 0
    assert [str(f.condition) for f in env.facts] == ["s0 > 2"], "only max() had to know, whether 3 > s0"


def test_branches_become_facts(env: TorchShapeEnv, sizes: Sizes) -> None:
    a, b = sizes
    assert a < 10 and b != 3
    assert int(a) == 5 and [0] * a == [0] * 5
    assert [str(f.condition) for f in env.facts] == ["s0 < 10", "s1 != 3", "s0 == 5"]
    assert [s.value for s in env.specializations] == [5]
    assert a.node.maybe_as_int() == 5 and b.node.maybe_as_int() is None


def test_floats_specialize(env: TorchShapeEnv, sizes: Sizes) -> None:
    a, _ = sizes
    half = a / 2
    assert isinstance(half.node, FloatNode) and float(half) == 2.5
    assert float(half * 2 + 1) == 6.0 and math.floor(half) == 2 and (half > 2) and str(half) == "2.5"
    assert math.ceil(torch.sym_float(a) * 0.5) == 3
    assert [str(f.condition) for f in env.facts] == ["s0 == 5"]


def test_rounded_quotients_are_integers() -> None:
    env = TorchShapeEnv(symbolic_floats=True, find_frame=lambda: None)
    a, b = (sym_int(env.create_backed(hint, str(hint), lower=0), env) for hint in (7, 3))
    quotients = (math.floor(a / b), 2), (math.ceil(a / b), 3), (math.ceil(a / 4), 2), (math.trunc(a / 4), 1)
    for rounded, number in quotients:
        assert isinstance(rounded, torch.SymInt) and env.hint_of(expr_of(rounded)) == number
    assert {str(fact.condition) for fact in env.facts} == {"s1 > 0", f"s1 < {2**53}", f"s0 < {2**53}"}


@pytest.mark.parametrize("factor", [1.5, 0.25, 2.0, -0.75, 3.0])
@pytest.mark.parametrize("rounded", [math.floor, math.ceil, math.trunc])
def test_rounded_products_with_exact_factors_are_integers(factor: float, rounded: Callable[[Any], Any]) -> None:
    env = TorchShapeEnv(symbolic_floats=True, find_frame=lambda: None)
    n = env.create_backed(7, "n", lower=0)
    size = sym_int(n, env)
    for number, value in (
        (rounded(size * factor), lambda k: rounded(k * factor)),
        (rounded(factor * torch.sym_float(size)), lambda k: rounded(factor * k)),
        (rounded(size / factor), lambda k: rounded(k / factor)) if factor in (2.0, 3.0) else (size, lambda k: k),
    ):
        assert isinstance(number, torch.SymInt)
        for k in range(12):
            assert expr_of(number).evaluate({n: k}) == value(k)
    assert not env.specializations
    assert all(fact.value is float for fact in env.scalar_facts), "only that conversions raise nothing"


@pytest.mark.parametrize("factor", [1.7, math.inf, math.nan, 2.0**60])
def test_rounded_products_that_are_not_exact_are_decided(factor: float) -> None:
    env = TorchShapeEnv(symbolic_floats=True, find_frame=lambda: None)
    size = sym_int(env.create_backed(7, "n", lower=1), env)
    try:
        expected: object = math.floor(7 * factor)
    except (OverflowError, ValueError) as error:
        with pytest.raises(type(error)):
            math.floor(size * factor)
        return
    assert math.floor(size * factor) == expected
    assert env.scalar_facts


@pytest.mark.parametrize("factor", [0.7, 1.1, 2.0**20])
@pytest.mark.parametrize("hint", [1, 2])
def test_small_hints_bring_no_bound_that_holds_for_small_integers_alone(factor: float, hint: int) -> None:
    env = TorchShapeEnv(symbolic_floats=True, find_frame=lambda: None)
    n = sym_int(env.create_backed(hint, "n", lower=0), env)
    for number in (n * factor, factor * n):
        assert math.floor(number) == math.floor(hint * factor)
    assert not env.facts and env.scalar_facts


def test_the_last_rows_are_a_minimum(env: TorchShapeEnv, sizes: Sizes) -> None:
    with FakeTensorMode(shape_env=env), enable_python_dispatcher():
        x = torch.empty(sizes)
        assert str(tuple(x[-3:].shape)) == "(min(s0, 3), s1)"
        assert env.facts == ()
        assert str(tuple(x[-3:-1].shape)) == "(2, s1)"
    assert [str(fact.condition) for fact in env.facts] == ["s0 > 2"]


def test_unbacked_values(env: TorchShapeEnv) -> None:
    u = env.create_unbacked_symint()
    assert not u.node.has_hint()
    with pytest.raises(DataDependentError):
        bool(u > 4)
    assert (u > 4).node.guard_or_false() is False and (u > 4).node.guard_or_true() is True
    assert (u >= 0) is True and not (u > 4).node.statically_known_true()
    torch._check(u > 4)
    assert bool(u > 3) and env.facts[0].deferred
    assert (u < 3).node.expect_true() is False


def test_an_unbacked_number_need_not_be_a_size(env: TorchShapeEnv) -> None:
    n = sym_int(env.create_unbacked("n.item()"), env)
    assert n.node.expect_size("", 0) is True and str(env.deferred_facts[0].condition) == "u0 >= 0"
    assert env.known(as_bool(n >= 0)) is True
    with pytest.raises(DataDependentError, match=r"the value of u0.*n\.item\(\)"):
        int(n)


def test_floats_of_unbacked_numbers(env: TorchShapeEnv) -> None:
    symbolic = TorchShapeEnv(symbolic_floats=True)
    n = sym_int(symbolic.create_unbacked("n.item()", lower=0), symbolic)
    mean = torch.sym_float(n) * 2.0
    assert str(mean.node) == "(float(u0) * 2.0)" and not mean.node.has_hint() and not symbolic.deferred_facts
    assert str((7 / n).node) == "(7 / u0)"
    assert [str(f.condition) for f in symbolic.deferred_facts] == ["u0 != 0"]
    with pytest.raises(DataDependentError):
        float(mean)
    with pytest.raises(DataDependentError):
        math.floor(mean)


def test_choosing_decides_nothing(env: TorchShapeEnv, sizes: Sizes) -> None:
    u, (a, _) = env.create_unbacked_symint(), sizes
    assert str(choose(u >= 5, a, u)) == "s0 if u0 > 4 else u0"
    assert choose(True, 1, 2) == 1 and choose(False, 1, 2) == 2 and not env.facts


def test_what_is_taken_for_granted_is_no_fact(env: TorchShapeEnv, sizes: Sizes) -> None:
    u, (a, _) = env.create_unbacked_symint(), sizes
    env.assume(as_bool(u <= a))
    assert env.known(as_bool(u <= a)) is True and not env.facts and not env.deferred_facts


def test_the_owner_names_what_nobody_knows() -> None:
    class Unknown(Exception):
        pass

    env = TorchShapeEnv(undecidable=lambda what, symbols, frame: Unknown(what, [s.origin for s in symbols]))
    n = sym_int(env.create_unbacked("n.item()"), env)
    with pytest.raises(Unknown) as raised:
        bool(n == 3)
    assert raised.value.args == ("whether u0 == 3", ["n.item()"])


def as_bool(condition: torch.SymBool) -> BoolExpr:
    return condition.node.expr


def test_torch_layout_questions(env: TorchShapeEnv, sizes: Sizes) -> None:
    a, b = sizes
    image = torch.empty((a, 3, b, b), device="meta", memory_format=torch.channels_last)
    assert image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    assert torch.ops.aten.is_non_overlapping_and_dense.default(image)
    assert not torch.ops.aten.is_non_overlapping_and_dense.default(
        torch.empty_strided((a, b), (2 * b, 2), device="meta")
    )


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
def test_layout_conditions_agree_with_torch(format: torch.memory_format, env: TorchShapeEnv) -> None:
    for shape in itertools.product((0, 1, 2), repeat=4):
        for order in itertools.islice(itertools.permutations(range(4)), 0, None, 3):
            real = torch.empty([shape[d] for d in order]).permute([order.index(d) for d in range(4)])
            node = env_node(env)
            ask = node.is_contiguous if format is torch.contiguous_format else node.is_channels_last_contiguous_2d
            sizes, strides = list(real.shape), list(real.stride())
            assert ask(sizes, strides).bool_() == real.is_contiguous(memory_format=format), (sizes, strides)
            dense = node.is_non_overlapping_and_dense(sizes, strides).bool_()
            assert dense == torch.ops.aten.is_non_overlapping_and_dense.default(real), (sizes, strides)


def env_node(env: TorchShapeEnv) -> SymNode:
    """Some node, to ask it questions about others."""
    return SymNode(integer(1), env)


def test_contiguity_of_symbols_needs_no_fact() -> None:
    s, t = symbol("s0", 0), symbol("s1", 0)
    assert is_row_major([s, t], [t, integer(1)]) == True  # noqa: E712
    assert is_row_major([s, t], [integer(1), s]) != True  # noqa: E712
    assert dense_in_order([s, t], [integer(1), s], [0, 1]) == True  # noqa: E712


def test_foreign_sizes_are_refused() -> None:
    with pytest.raises(TypeError, match="does not come from"):
        expr_of(torch.SymInt(object()))


def test_this_torch_has_the_functions_whose_questions_are_known() -> None:
    assert layout_questions._SLICE_INDEX is not None and layout_questions._CODES


def test_unknown_sizes_are_many_where_that_is_allowed(env: TorchShapeEnv) -> None:
    u = env.create_unbacked_symint()
    with env.unknown_as_many():
        assert bool(u != 0) and not bool(u == 1) and not bool(u * 4 == 0)
        with pytest.raises(DataDependentError):
            bool(u == 2)
    assert [str(f.condition) for f in env.deferred_facts] == ["u0 != 0", "u0 != 1"]
    with pytest.raises(DataDependentError):
        bool(env.create_unbacked_symint() == 0)


def test_fake_kernels_get_the_numbers_of_the_trace() -> None:
    env = TorchShapeEnv(symbolic_floats=True, find_frame=lambda: None)
    number = env.sym_float(env.create_float(0.5, "f"))
    op = torch.ops.aten.native_layer_norm.default
    args, kwargs = with_traced_numbers(op, (torch.ones(2), [2], None, None, number), {})
    assert args[4] == 0.5 and type(args[4]) is float and not kwargs
    _, kwargs = with_traced_numbers(torch.ops.aten.add.Tensor, (torch.ones(2), torch.ones(2)), {"alpha": number})
    assert kwargs == {"alpha": 0.5}
    assert not env.scalar_facts


def test_facts_about_floats_can_be_forgotten() -> None:
    env = TorchShapeEnv(symbolic_floats=True, find_frame=lambda: None)
    number = env.sym_float(env.create_float(0.5, "f"))
    assert number > 0
    assert float(number) == 0.5 and len(env.scalar_facts) == 2
    env.forget_scalar_facts(1)
    (kept,) = env.scalar_facts
    assert kept.value is True
    assert float(number) == 0.5 and len(env.scalar_facts) == 2  # asked again, it is one again
