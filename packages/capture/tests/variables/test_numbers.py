"""Python ints and floats: inputs on their second value, exact results, and guards on what was decided about them."""

from __future__ import annotations

import enum
import math
import operator
from typing import Any

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from lampwork_capture import _native
from lampwork_capture.code_cache import EntryPayload
from lampwork_capture.guards.facts import ConstantIs, IntegerWithin, ScalarIs

X = torch.arange(32.0).reshape(8, 4) / 7
HUGE = 2**70


class Color(enum.IntEnum):
    RED = 1
    BLUE = 2


def outcome(function, arguments):
    torch.manual_seed(0)
    try:
        return function(*arguments)
    except Exception as error:
        return (type(error), str(error))


def same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, tuple | list):
        return type(expected) is type(actual) and len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, torch.Tensor):
        return (
            isinstance(actual, torch.Tensor)
            and expected.dtype == actual.dtype
            and expected.stride() == actual.stride()
            and torch.equal(expected.nan_to_num(), actual.nan_to_num())
            and torch.equal(expected.isnan(), actual.isnan())
        )
    return type(expected) is type(actual) and repr(expected) == repr(actual)


def check(function, calls, most=None):
    """Every call as in eager; at most `most` graphs are captured."""
    lampwork_capture.reset()
    graphs = []
    optimized = lampwork_capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward)(function)
    for number, arguments in enumerate(calls):
        expected, actual = outcome(function, arguments), outcome(optimized, arguments)
        assert same(expected, actual), f"call {number} with {arguments[1:]}: {expected} {actual}"
    if most is not None:
        assert len(graphs) <= most, [graph.code for graph in graphs]
    return graphs


def product(x, n):
    return x * n, n + 1, -n, 2 * n - 3, n * n


def division(x, n):
    return x + n // 3, n % 3, divmod(n, 5), n / 4, n // -2, n % -7


def powers(x, n):
    return x * n**2, n << 2, n >> 1, ~n, abs(n), n**3


def bits(x, n):
    return x + (n & 3), n | 4, n ^ 1


def floats(x, s):
    return x * s, s + 1, s * s - 2, -s, abs(s), s / 3, 1 - s


def float_functions(x, s):
    return x * math.exp(s), math.floor(s), math.ceil(s), round(s, 1), int(s), math.sin(s)


def roots(x, s):
    return x / math.sqrt(s), math.log(s), s**0.5


def mixed(x, n, s):
    return x * (n * s), n + s, n / s, s // n, n > s, float(n), int(n)


def text(x, n):
    return x + n, f"{n:>4}|{n!r}", str(n), "%d" % n, "a" * n, [0] * n, (1,) * n


def containers(x, n):
    items = [x, x + 1, x + 2, x + 3]
    return items[n % 4], {n: x}, {n, 1}, list(range(n % 5)), items[: n % 3]


def kinds(x, n):
    return x + n, type(n), isinstance(n, int), isinstance(n, bool), n is None, n == "a", n == None, n.bit_length()  # noqa: E711


def extremes(x, n, s):
    return x + max(n, 3), min(n, s), sum([n, 1, s]), max(n, 2, 5), sorted([n, 3, s])


def in_place(x, n):
    y = x.clone()
    y *= n
    y[0] += n
    items = [1]
    items *= n
    count = 3
    count -= n
    return y, items, count


def conditional(x, n):
    if n:
        x = x + 1
    return x * 2 if 3 < n <= 6 or n == 9 else x - n


def unused_error(x, s):
    1 / s
    return x + 1


INTS = [*range(-4, 12), True, False, HUGE, -HUGE, 2**63 - 1, -(2**63), Color.RED, Color.BLUE]
FLOATS = [0.5, 1.5, 2.0, 0.0, -0.0, 1e300, -3.25, math.inf, -math.inf, math.nan, 1, 2, True]


@pytest.mark.filterwarnings("ignore:LW103")
@pytest.mark.parametrize(
    "function",
    [product, division, powers, bits, text, containers, kinds, in_place, conditional],
    ids=lambda f: f.__name__,
)
def test_ints(function):
    check(function, [(X, n) for n in INTS if abs(n) < 100 or function not in (text, containers, in_place)])


@pytest.mark.filterwarnings("ignore:LW103")
@pytest.mark.parametrize("function", [floats, float_functions, roots, unused_error], ids=lambda f: f.__name__)
def test_floats(function):
    check(function, [(X, s) for s in FLOATS])


@pytest.mark.filterwarnings("ignore:LW103")
@pytest.mark.parametrize("function", [mixed, extremes], ids=lambda f: f.__name__)
def test_ints_and_floats(function):
    check(function, [(X, n, s) for n, s in zip(INTS * 2, FLOATS * 3)])


SIZES = {
    "slice": (lambda x, n: x[:n].sum(0), range(2, 9), 2),
    "slice of all lengths": (lambda x, n: x[:n], range(-3, 12), None),
    "arange": (lambda x, n: torch.arange(n) + 1, range(2, 9), 2),
    "full": (lambda x, n: torch.full((n, 3), 1.5 * n) * 2, range(2, 9), 2),
    "empty and single": (lambda x, n: torch.zeros(n, 4) + x[:1], range(6), 4),
    "view": (lambda x, n: x.view(n, -1), [2, 4, 8, 16, 32, 3, 1], None),
    "expand": (lambda x, n: x.expand(n, 8, 4).sum(0), range(2, 7), 2),
    "sizes of results": (lambda x, n: (x[:n].shape, x[:n].size(0) * 2, x[:n].numel(), len(x[:n])), range(2, 7), None),
    "matmul": (lambda x, n: torch.ones(n, 4) @ x.t(), range(2, 7), 2),
    "index": (lambda x, n: x[n], range(-9, 9), None),
    "dimension": (lambda x, n: x.sum(n), range(-3, 3), None),
    "roll": (lambda x, n: x.roll(n, 0), range(5), 2),
    "dropout": (lambda x, n: F.dropout(x, n / 8), range(1, 8), 2),
    "dropout with all or nothing": (lambda x, n: F.dropout(x, n / 8), range(-1, 10), None),
    "layer norm": (lambda x, n: F.layer_norm(x, (4,), eps=n / 8), range(1, 8), 2),
    "add alpha": (lambda x, n: torch.add(x, x, alpha=n), range(1, 8), 2),
    "clamp": (lambda x, n: x.clamp(min=n / 4), range(1, 8), 2),
    "tensor": (lambda x, n: torch.tensor(n) + x, range(1, 8), None),
    "loop": (lambda x, n: [x + i for i in range(n)], range(4), None),
    "repeat": (lambda x, n: x.repeat(n, 1), range(2, 6), 2),
    "cat": (lambda x, n: torch.cat([x[:n], x[n:]]), range(2, 6), 2),
    "pad": (lambda x, n: F.pad(x, (n, n)), range(1, 6), 2),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LW103")
@pytest.mark.parametrize("name", SIZES)
def test_operations(name):
    function, numbers, most = SIZES[name]
    check(function, [(X, n) for n in numbers], most)


def test_comparison_recompiles_by_outcome():
    def f(x, n, s):
        y = x + 1 if n > 100 else x - 1
        return y * 2 if s < 0.5 else y

    calls = [(X, n, s) for n in (0, 5, 99, 100, 101, 7000, -3) for s in (0.1, 0.3, 0.7, 0.9)]
    assert len(check(f, calls)) <= 7  # four outcomes, and three before both numbers were seen to vary


class Scaled(torch.nn.Module):
    def __init__(self, index, scale):
        super().__init__()
        self.index = index
        self.scale = scale
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) * self.scale + self.index


SCALE = 1.5


def test_attributes_globals_cells_and_items(monkeypatch):
    layer = Scaled(0, 1.0)
    settings = {"a": 1, "b": [0.5, 2]}

    def make(offset):
        def f(x):
            return layer(x) * SCALE + settings["a"] * settings["b"][0] + offset

        return f

    graphs = []
    f = make(3)
    optimized = lampwork_capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward)(f)
    for step in range(1, 10):
        layer.index, layer.scale = step, step / 4
        settings.update(a=step * 2, b=[step / 8, 2])
        monkeypatch.setitem(globals(), "SCALE", step / 2)
        f.__closure__[f.__code__.co_freevars.index("offset")].cell_contents = step
        assert torch.equal(optimized(X), f(X))
    assert len(graphs) == 2


def test_layers_one_by_one_do_not_recompile_each():
    layers = torch.nn.ModuleList(Scaled(i, i / 2) for i in range(12))

    def f(x):
        for layer in layers:
            x = layer(x)
            lampwork_capture.graph_break()
        return x

    graphs = []
    optimized = lampwork_capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward)(f)
    with torch.no_grad():
        assert torch.equal(optimized(X), f(X))
    assert len(graphs) == 2


def test_what_is_guarded():
    def f(x, n, s):
        return x * (n if n % 8 == 0 else 1) * (s if s > 1.0 else 2.0)

    optimized = lampwork_capture.optimize()(f)
    for n, s in ((8, 1.5), (16, 2.5)):
        optimized(X, n, s)
    payload = _native.entries(f.__code__)[0].payload
    assert isinstance(payload, EntryPayload)
    facts = [guard.fact for guard in payload.guards]
    programs = {
        fact.program.text.format(*fact.sources): fact.expected.value for fact in facts if isinstance(fact, ScalarIs)
    }
    assert programs == {"(n % 8) == 0": True, "s > 1.0": True} or programs == {"n % 8 == 0": True, "s > 1.0": True}
    assert [fact for fact in facts if isinstance(fact, IntegerWithin)]
    assert not [fact for fact in facts if isinstance(fact, ConstantIs) and type(fact.expected.value) in (int, float)]


def test_reason_names_the_condition():
    def f(x, n):
        return x + n if n > 3 else x

    optimized = lampwork_capture.optimize()(f)
    for n in (5, 6, 1):
        optimized(X, n)
    reasons = optimized.callback.cache.recompilations[-1].reasons
    assert reasons[0].startswith("`4 <= n` fails (n is 1)") or "n" in reasons[0], reasons


def test_backend_is_shown_symbolic_integers():
    seen = []

    def backend(graph, inputs):
        seen.append([type(example) for example in inputs])
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(lambda x, n, s: x * n * s)
    for n in range(2, 5):
        assert torch.equal(optimized(X, n, n / 2), X * n * (n / 2))
    assert seen == [[torch.Tensor], [torch.Tensor, torch.SymInt, float]]


def test_backend_that_knows_tensors_only():
    graphs = []

    def backend(graph, inputs):
        assert all(isinstance(example, torch.Tensor) for example in inputs), "tensors only"
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(lambda x, n: x * (n + 1))
    with pytest.warns(lampwork_capture.NumberVariantsWarning, match="for 8 values of `n`"):
        for n in range(1, 20):
            assert torch.equal(optimized(X, n), X * (n + 1))
    assert len(graphs) == 9
    assert not [n for graph in graphs for n in graph.graph.nodes if n.target is operator.add]


def test_reset_forgets_what_varied():
    graphs = []

    def f(x, n):
        return x * n

    optimized = lampwork_capture.optimize(lambda graph, inputs: graphs.append(len(inputs)) or graph.forward)(f)
    for n in (2, 3):
        optimized(X, n)
    lampwork_capture.reset()
    optimized(X, 4)
    assert graphs == [1, 2, 1]


def test_conditions_over_many_numbers():
    """More numbers than a native program takes: they are guarded one by one."""

    def f(x, numbers):
        return x + 1 if sum(numbers) > 100 else x - 1

    calls = [(X, [step + k for k in range(40)]) for step in (0, 1, 2, -30)]
    calls += [(X, [step] * 40) for step in (0, 2, 3)]
    check(f, calls)


def test_deep_arithmetic():
    def f(x, n, s):
        for step in range(100):
            s = s * 0.5 + step
            n = n * 3 % 1000003 + step
        return x * s + n, s, n

    check(f, [(X, n, n / 3) for n in range(5)])
