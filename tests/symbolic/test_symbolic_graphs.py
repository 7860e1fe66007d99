"""Graphs with symbolic sizes and integers by hand: what is bound from what, and which sizes one compilation serves."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lampwork.pipeline import graph_backend
from lampwork_capture.aot import trace_functional
from lampwork_inductor_core import CompiledGraph, CompileOptions, compile_graph
from lampwork_symshape import eq
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of, sym_int
from torch._subclasses.fake_tensor import FakeTensorMode


class Sizes:
    """An environment and its fake tensors."""

    def __init__(self) -> None:
        self.env = TorchShapeEnv(duck_shaping=False, symbolic_floats=True)
        self.mode = FakeTensorMode(shape_env=self.env, static_shapes=False)

    def symbol(self, hint: int, name: str, lower: int | None = 1) -> torch.SymInt:
        return sym_int(self.env.create_backed(hint, name, lower=lower), self.env)

    def fake(self, *sizes: Any, strides: tuple[Any, ...] | None = None) -> torch.Tensor:
        with self.mode:
            return torch.empty(sizes) if strides is None else torch.empty_strided(sizes, strides)


def graph_of(function: Callable[..., Any], examples: list[Any]) -> torch.fx.GraphModule:
    graph = torch.fx.Graph()
    inputs = [graph.placeholder(f"x{k}") for k in range(len(examples))]
    for node, example in zip(inputs, examples):
        node.meta["example_value"] = example
    graph.output((graph.call_function(function, tuple(inputs)),))
    return torch.fx.GraphModule(torch.nn.Module(), graph)


def compiled(function: Callable[..., Any], examples: list[Any]) -> CompiledGraph:
    return compile_graph(trace_functional(graph_of(function, examples), examples).graph, examples)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x + y,
        lambda x, y: F.softmax(x * 2, -1),
        lambda x, y: F.layer_norm(x, (16,)),
        lambda x, y: torch.cat([x, y], 1),
        lambda x, y: (x * y).sum(),
        lambda x, y: x.mean(1) + x.shape[0],
        lambda x, y: F.gelu(x)[:, 0] + 1,
    ],
)
def test_no_size_is_excluded(function: Callable[..., Any]) -> None:
    s = Sizes()
    batch, length = s.symbol(4, "batch"), s.symbol(6, "length")
    call = compiled(function, [s.fake(batch, length, 16), s.fake(batch, length, 16)])
    assert not s.env.facts
    for b, n in ((4, 6), (1, 6), (4, 1), (1, 1), (9, 70)):
        inputs = [torch.randn(b, n, 16), torch.randn(b, n, 16)]
        torch.testing.assert_close(call(*inputs)[0], function(*inputs), rtol=1e-4, atol=1e-4)


def test_integer_inputs_need_no_variants() -> None:
    s = Sizes()
    batch, n = s.symbol(4, "batch"), s.symbol(3, "n", lower=None)
    graph = torch.fx.Graph()
    x, number = graph.placeholder("x"), graph.placeholder("n")
    examples = [s.fake(batch, 8), n]
    x.meta["example_value"], number.meta["example_value"] = examples
    scaled = graph.call_function(torch.add, (graph.call_function(torch.mul, (x, number)), 1))
    part = graph.call_function(torch.narrow, (scaled, 1, 0, number))
    graph.output((scaled, part, graph.call_function(operator.mul, (number, 2))))
    module = torch.fx.GraphModule(torch.nn.Module(), graph)
    call = graph_backend()(module, examples)
    for b, k in ((4, 3), (7, 5), (1, 2)):
        tensor = torch.randn(b, 8)
        got, want = call(tensor, k), module.forward(tensor, k)
        for one, other in zip(got, want):
            torch.testing.assert_close(one, other)


def test_sizes_that_are_expressions_bind_their_symbols() -> None:
    s = Sizes()
    half = s.symbol(3, "half")
    call = compiled(lambda x: x.view(2, -1) * x.shape[0], [s.fake(half * 2)])
    for n in (3, 1, 40):
        x = torch.randn(2 * n)
        torch.testing.assert_close(call(x)[0], x.view(2, -1) * (2 * n))


def test_symbols_bound_from_strides() -> None:
    s = Sizes()
    rows, step = s.symbol(5, "rows"), s.symbol(32, "step", lower=8)
    call = compiled(lambda x: torch.relu(x), [s.fake(rows, 8, strides=(step, 1))])
    for n, k in ((5, 32), (2, 8), (7, 100)):
        x = torch.randn(n, k)[:, :8]
        torch.testing.assert_close(call(x)[0], torch.relu(x))


def test_a_multiple_has_no_tail() -> None:
    s = Sizes()
    n = s.symbol(64, "n", lower=1)
    s.env.require(eq(expr_of(n) % 64, 0))
    functional = trace_functional(graph_of(lambda x: torch.relu(x) * 2, [s.fake(n)]), [s.fake(n)])
    call = compile_graph(functional.graph, [s.fake(n)], options=CompileOptions(keep_artifacts=True))
    text = call.artifacts.stages["cpu code"] if call.artifacts is not None else ""
    assert "lw::first" not in text and "lw::all" in text
    for k in (1, 5):
        x = torch.randn(64 * k)
        torch.testing.assert_close(call(x)[0], torch.relu(x) * 2)


def test_packed_linears_serve_every_number_of_rows() -> None:
    s = Sizes()
    batch = s.symbol(8, "batch")
    weight, bias = torch.randn(32, 16), torch.randn(32)
    graph = torch.fx.Graph()
    nodes = [graph.placeholder(name) for name in "xwb"]
    examples = [s.fake(batch, 16), *(s.mode.from_tensor(t, static_shapes=True) for t in (weight, bias))]
    for node, example in zip(nodes, examples):
        node.meta["example_value"] = example
        node.meta["static_input"] = node.name != "x"
    graph.output((graph.call_function(F.gelu, (graph.call_function(F.linear, tuple(nodes)),)),))
    functional = trace_functional(torch.fx.GraphModule(torch.nn.Module(), graph), examples)
    call = compile_graph(functional.graph, examples)
    if torch.backends.mkldnn.is_available():
        assert "_linear_pointwise" in call.text
    for b in (8, 1, 3, 100):
        x = torch.randn(b, 16)
        torch.testing.assert_close(call(x, weight, bias)[0], F.gelu(F.linear(x, weight, bias)), rtol=1e-4, atol=1e-4)


def test_a_view_of_an_input_with_symbolic_sizes() -> None:
    s = Sizes()
    batch, length = s.symbol(4, "batch"), s.symbol(6, "length")
    graph = graph_of(lambda x: x.transpose(0, 1), [s.fake(batch, length)])
    call = graph_backend()(graph, [s.fake(batch, length)])
    for b, n in ((4, 6), (2, 9)):
        x = torch.randn(b, n)
        (view,) = call(x)
        assert view.data_ptr() == x.data_ptr()
        assert view.shape == (n, b) and view.stride() == (1, n)


def test_a_sum_over_no_dimension_is_not_repeated() -> None:
    x = torch.randn(5)

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.sum.dim_IntList(torch.ops.aten.sum.dim_IntList(x.exp(), [0]) / 5, [])

    mode = FakeTensorMode()
    call = compiled(function, [mode.from_tensor(x)])
    torch.testing.assert_close(call(x)[0], function(x))
