"""Calling a compiled graph: conventions, input checks, repairs at the first call, values that are kept."""

from __future__ import annotations

import sys
import traceback
import weakref
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core import BackendNotFound, CompileOptions, InputMismatch, compile_graph, graph_backend
from lampwork_inductor_core.runtime.compiled_graph import ResultMismatch, check_result, load_wrapper

_library = torch.library.Library("lampwork_test_runtime", "FRAGMENT")
_library.define("lying(Tensor x) -> Tensor")
_library.define("watching(Tensor x) -> Tensor")
_watchers: list[Callable[[], None]] = []
_library.impl("watching", lambda x: ([watch() for watch in _watchers], x.clone())[1], "CPU")
_library.impl("watching", lambda x: torch.empty_like(x), "Meta")
_library.impl("lying", lambda x: (x + 1).t().contiguous().t(), "CPU")
_library.impl("lying", lambda x: torch.empty_like(x), "Meta")
_library.define("sharing(Tensor x) -> Tensor")
_library.impl("sharing", lambda x: x.detach(), "CPU")
_library.impl("sharing", lambda x: torch.empty_like(x), "Meta")


def test_both_calling_conventions(compile_interpreted):
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    compiled, _ = compile_interpreted(lambda a, b: (a + b,), [x, y])
    for result in (compiled(x, y), compiled([x, y]), compiled.run((x, y))):
        torch.testing.assert_close(result[0], x + y)


def test_graph_backend_convention(aten, interpreted):
    x = torch.randn(3)
    backend = graph_backend(CompileOptions(backends={"cpu": interpreted()}))
    torch.testing.assert_close(backend(aten(lambda v: (v.exp(),), x), [x])(x)[0], x.exp())


@pytest.mark.parametrize(
    "wrong",
    [torch.randn(3, 5), torch.randn(4, 3).t(), torch.randn(3, 4, dtype=torch.float64), torch.randn(12), 3.0],
    ids=["size", "strides", "dtype", "rank", "kind"],
)
def test_wrong_input_is_refused(compile_interpreted, wrong):
    x = torch.randn(3, 4)
    compiled, _ = compile_interpreted(lambda a: (a * 2,), [x])
    with pytest.raises(InputMismatch, match="input 0"):
        compiled(wrong)
    with pytest.raises(InputMismatch):
        compiled()


def test_unaligned_and_overlapping_inputs(compile_interpreted):
    base = torch.randn(64)
    x, y = base[1:33].view(4, 8), base[3:35].view(4, 8)
    expected = (x + y, torch.softmax(x * y, -1))
    compiled, _ = compile_interpreted(lambda a, b: (a + b, torch.softmax(a * b, -1)), [x, y])
    for mine, eager in zip(compiled(x, y), expected, strict=True):
        torch.testing.assert_close(mine, eager)
    same = torch.randn(4, 8)
    torch.testing.assert_close(compiled(same, same)[0], same + same)


def test_runs_without_grad(compile_interpreted):
    x = torch.randn(3, 4, requires_grad=True)
    compiled, _ = compile_interpreted(lambda a: (a @ a.t(),), [x.detach()])
    assert torch.is_grad_enabled()
    assert not compiled(x)[0].requires_grad
    assert torch.is_grad_enabled()


def test_operator_with_wrong_strides_is_repaired(compile_interpreted):
    x = torch.randn(3, 4)
    compiled, _ = compile_interpreted(lambda a: (torch.ops.lampwork_test_runtime.lying(a) * 2,), [x])
    for _ in range(2):
        torch.testing.assert_close(compiled(x)[0], (x + 1) * 2)
    assert "restride(" in compiled.text


def test_a_repair_draws_the_same_random_numbers(compile_interpreted):
    x = torch.zeros(3, 3)
    compiled, _ = compile_interpreted(lambda a: (torch.ops.aten.uniform.default(a[:, 0]),), [x])
    for _ in range(2):
        torch.manual_seed(0)
        found = compiled(x)[0]
        torch.manual_seed(0)
        torch.testing.assert_close(found, torch.rand(3))


def test_operator_that_shares_memory_is_repaired(compile_interpreted):
    x = torch.randn(3, 4)
    kept = x.clone()
    compiled, _ = compile_interpreted(lambda a: (torch.ops.lampwork_test_runtime.sharing(a) * 2,), [x])
    for _ in range(2):
        torch.testing.assert_close(compiled(x)[0], kept * 2)
        assert torch.equal(x, kept), "the result was overwritten in place, and with it the input"
    assert ".clone()" in compiled.text


def test_a_part_of_other_memory_with_gaps_is_repaired(compile_interpreted):
    def with_rows(a, b):
        return (torch.ops.aten.slice_scatter.default(a[:, 1:5], b, 0, 0, 2),)

    a, b = torch.randn(3, 6), torch.randn(2, 4)
    compiled, _ = compile_interpreted(with_rows, [a, b])
    for _ in range(2):
        torch.testing.assert_close(compiled(a, b)[0], with_rows(a, b)[0], rtol=0, atol=0)
    assert "restride(" in compiled.text


def test_static_part_runs_once_and_follows_changes(compile_interpreted):
    x, w = torch.randn(3, 4), torch.nn.Parameter(torch.randn(4, 4))

    def f(a, b):
        return (a @ torch.exp(b).cumsum(0),)

    with torch.no_grad():
        compiled, _ = compile_interpreted(f, [x, w], static_inputs=frozenset({1}))
        for _ in range(3):
            torch.testing.assert_close(compiled(x, w)[0], f(x, w)[0])
        assert compiled.static_cache is not None and compiled.static_cache.computed == 1
        w.data.mul_(0.5)
        torch.testing.assert_close(compiled(x, w)[0], f(x, w)[0])
        assert compiled.static_cache.computed == 2


def test_nothing_is_kept_of_weights_that_change(compile_interpreted):
    x, w = torch.randn(3, 4), torch.randn(4, 4)
    compiled, _ = compile_interpreted(
        lambda a, b: (a @ torch.exp(b).cumsum(0),), [x, w], static_inputs=frozenset({1}), weights_change=True
    )
    assert compiled.static_cache is None
    torch.testing.assert_close(compiled(x, w)[0], x @ w.exp().cumsum(0))


def test_kept_values_are_returned_as_copies(compile_interpreted):
    x, w = torch.randn(3), torch.randn(4)
    compiled, _ = compile_interpreted(lambda a, b: (a + 1, torch.exp(b)), [x, w], static_inputs=frozenset({1}))
    compiled(x, w)[1].zero_()
    torch.testing.assert_close(compiled(x, w)[1], w.exp())


def test_constants_are_returned_as_copies(interpreted):
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    constant = graph.get_attr("constant")
    total = graph.call_function(torch.ops.aten.add.Tensor, (x, constant))
    graph.output((total, constant))
    holder = torch.nn.Module()
    holder.register_buffer("constant", torch.arange(4.0))
    example = torch.randn(4)
    options = CompileOptions(backends={"cpu": interpreted()})
    compiled = compile_graph(torch.fx.GraphModule(holder, graph), [example], options=options)
    compiled(example)[1].zero_()
    first, second = compiled(example)
    torch.testing.assert_close(second, torch.arange(4.0))
    torch.testing.assert_close(first, example + torch.arange(4.0))


def test_device_without_backend(aten):
    with pytest.raises(BackendNotFound, match="meta"):
        compile_graph(aten(lambda v: (v + 1,), torch.randn(3, device="meta")), [torch.randn(3, device="meta")])


def test_artifacts_keep_every_stage(compile_interpreted):
    x = torch.randn(4, 8)
    compiled, _ = compile_interpreted(lambda a: (torch.softmax(a, -1),), [x])
    stages = compiled.artifacts.stages
    assert [*stages] == ["aten", "passes", "lowered", "schedule", "kernels", "cpu code", "wrapper"]
    assert all(text.strip() for text in stages.values())


def test_text_can_be_edited_and_loaded(compile_interpreted):
    x = torch.randn(4, 8)
    compiled, _ = compile_interpreted(lambda a: (a + 1,), [x])
    text = compiled.text.replace("return [buf0]", "return [buf0, 'edited']")
    call = load_wrapper(text, compiled.kernels, {}, {})
    result = call([x])
    torch.testing.assert_close(result[0], x + 1)
    assert result[1] == "edited"


def test_traceback_shows_the_wrapper(compile_interpreted):
    x = torch.randn(4, 8)
    compiled, _ = compile_interpreted(lambda a: (a + 1,), [x], check_inputs=False)
    compiled(x)
    try:
        compiled("not a tensor")
    except Exception:
        shown = "".join(traceback.format_exception(*sys.exc_info()))
        assert "<lampwork wrapper" in shown and "(x" in shown or "(a" in shown
    else:
        pytest.fail("a string was accepted")


def test_literal_and_repeated_outputs(compile_interpreted):
    x = torch.randn(4)

    def f(a):
        y = F.relu(a)
        return y, y, a

    compiled, _ = compile_interpreted(f, [x])
    first, second, third = compiled(x)
    assert first is second and third is x


def test_an_operators_wrong_result_is_not_called_an_input():
    with pytest.raises(ResultMismatch) as caught:
        check_result(lambda *_: None, "mm", torch.ones(3), (4,), (1,), torch.float32, None)
    assert "expected" in str(caught.value)


def test_inputs_that_are_handed_over_are_freed_after_their_last_reader(compile_interpreted, monkeypatch):
    """Weak references tell; the sizes of one input are all that is wanted, and one is returned."""
    sizes = (3, 4)
    alive: list[list[bool]] = []
    references: list[weakref.ref[torch.Tensor]] = []

    def f(a, b, c, d, e):
        first = torch.ops.lampwork_test_runtime.watching(a + b)
        return torch.ops.lampwork_test_runtime.watching(first * c), d, torch.ops.aten.new_ones.default(e, [2])

    monkeypatch.setattr(
        sys.modules[__name__], "_watchers", [lambda: alive.append([r() is not None for r in references])]
    )
    compiled, _ = compile_interpreted(f, [torch.ones(sizes) for _ in range(5)])
    for call in range(3):
        inputs = [torch.full(sizes, k + 1.0) for k in range(5)]
        references[:] = [weakref.ref(t) for t in inputs]
        alive.clear()
        outputs = compiled.run_owned(inputs)
        assert inputs == []
        torch.testing.assert_close(outputs[0], torch.full(sizes, 9.0))
        assert outputs[1] is references[3]()
        assert alive[0][:3] == [False, False, True] and alive[1][:3] == [False, False, False], call
        assert all(row[3] and not row[4] for row in alive)
    kept = [torch.full(sizes, k + 1.0) for k in range(5)]
    torch.testing.assert_close(compiled.run(kept)[0], torch.full(sizes, 9.0))
    assert len(kept) == 5
    assert "inputs.clear()" in compiled.owned_text and "inputs.clear()" not in compiled.text


def test_inference_parameters_are_not_kept(compile_interpreted):
    with torch.inference_mode():
        w = torch.randn(4, 4)
    x = torch.randn(4)
    compiled, _ = compile_interpreted(
        lambda x, w: (x + w.exp().t().contiguous(),), [x, w], static_inputs=frozenset({1})
    )
    assert compiled.static_cache is None
    torch.testing.assert_close(compiled(x, w)[0], x + w.exp().t())
