"""Graphs with floats among their inputs, through lowering, kernels and wrapper: one compile, all values."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lampwork_inductor_core.codegen.interpret_kernel import interpret_kernel
from lampwork_inductor_core.codegen.program import build_wrapper, plan_host
from lampwork_inductor_core.codegen.scheduled_kernel import FloatArgument
from lampwork_inductor_core.codegen.wrapper import print_wrapper
from lampwork_inductor_core.config import Config, ScheduleConfig
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.ir.buffer import ComputedBuffer, ExternBuffer, LoweredGraph
from lampwork_inductor_core.lowering.graph import LoweringError, lower
from lampwork_inductor_core.runtime.compiled_graph import load_wrapper
from lampwork_inductor_core.schedule.scheduler import schedule
from lampwork_symshape.scalar_expr import apply
from lampwork_symshape.sym_node import TorchShapeEnv
from torch._subclasses.fake_tensor import FakeTensorMode

aten = torch.ops.aten
X = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
VALUES = (0.3, 1.0, 0.0, -2.5, 1e-40, math.inf, math.nan)


class Graph:
    """An ATen graph with one tensor and float inputs, built call by call."""

    def __init__(self, x: torch.Tensor, *floats: str) -> None:
        self.env = TorchShapeEnv(duck_shaping=False, symbolic_floats=True)
        self.mode = FakeTensorMode(shape_env=self.env)
        self.graph = torch.fx.Graph()
        self.x = self.graph.placeholder("x")
        self.x.meta["val"] = self.mode.from_tensor(x, static_shapes=True)
        self.floats = [self.graph.placeholder(name) for name in floats]
        for node in self.floats:
            node.meta["val"] = self.env.sym_float(self.env.create_float(2.0, node.name))

    def call(self, op: Any, *args: Any, **kwargs: Any) -> torch.fx.Node:
        """A call; what it gives is described by running it on what its arguments were when traced."""
        node = self.graph.call_function(op, args, kwargs)
        values = torch.fx.node.map_arg(args, lambda n: n.meta["val"])
        if isinstance(op, torch._ops.OpOverload):
            plain = [2.0 if isinstance(v, torch.SymFloat) else v for v in values]
            with self.mode:
                node.meta["val"] = op(*plain, **kwargs)
        else:
            terms = [v.node.term if isinstance(v, torch.SymFloat) else v for v in values]
            made = not any(isinstance(v, torch.Tensor | tuple) for v in values)
            node.meta["val"] = self.env.sym_float(apply(op, *terms)) if made else op(*values)
        return node

    def lowered(self, *results: torch.fx.Node) -> LoweredGraph:
        self.graph.output(results)
        return lower(torch.fx.GraphModule(torch.nn.Module(), self.graph), config=Config(verify=True))


def compiled(graph: LoweredGraph) -> tuple[Callable[[Sequence[Any]], list[Any]], str, list[Any]]:
    """The graph as its wrapper runs it, over interpreted kernels; the wrapper's text; the kernels."""
    host = plan_host(graph, schedule(graph, ScheduleConfig()), ScheduleConfig())
    kernels = list(host.kernels())
    names = {kernel: f"kernel{k}" for k, kernel in enumerate(kernels)}
    text = print_wrapper(build_wrapper(host, names))
    run = {name: lambda *a, kernel=kernel: interpret_kernel(kernel, a) for kernel, name in names.items()}
    return load_wrapper(text.text, run, {}, text.externs), text.text, kernels


def calls_nothing(graph: LoweredGraph) -> None:
    assert not any(isinstance(b, ExternBuffer) for b in graph.buffers), graph.notes


def same(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def test_a_float_is_an_argument_of_the_kernel():
    g = Graph(X, "scale")
    lowered = g.lowered(g.call(aten.add.Tensor, g.call(aten.mul.Tensor, g.x, g.floats[0]), g.floats[0]))
    calls_nothing(lowered)
    call, text, (kernel,) = compiled(lowered)
    assert [a.name for a in kernel.arguments if isinstance(a, FloatArgument)] == ["f0"]
    assert "kernel0(x, buf0, scale)" in text
    for value in VALUES:
        same(call([X, value])[0], X * value + value)
        same(interpret(lowered, [X, value])[0], X * value + value)


def test_python_computes_what_is_made_of_floats_once():
    g = Graph(X, "a", "b")
    a, b = g.floats
    ratio = g.call(operator.truediv, a, b)
    squared = g.call(operator.mul, ratio, ratio)
    first = g.call(aten.sum.dim_IntList, g.call(aten.mul.Tensor, g.x, ratio), [1])
    second = g.call(aten.mm.default, g.call(aten.mul.Tensor, g.x, squared), g.call(aten.t.default, g.x))
    lowered = g.lowered(first, second)
    call, text, _ = compiled(lowered)
    assert text.count("a / b") == 1 and text.count(" * ") == 1, text
    for one, other in ((0.3, 0.7), (1e300, 1e-300), (-0.0, 3.0)):
        expected = [(X * (one / other)).sum(1), (X * ((one / other) * (one / other))) @ X.t()]
        for result, want in zip(call([X, one, other]), expected):
            torch.testing.assert_close(result, want, equal_nan=True)


@pytest.mark.parametrize(
    "function, operands",
    [(operator.pow, (-2.0, 0)), (operator.sub, (1.5, 0)), (operator.neg, (0,)), (min, (0, -1.0)), (float, (0,))],
)
def test_spelling_of_arithmetic(function, operands):
    g = Graph(X, "n")
    number = g.call(function, *(g.floats[0] if o == 0 and type(o) is int else o for o in operands))
    call, text, _ = compiled(g.lowered(g.call(aten.mul.Tensor, g.x, number)))
    for value in (2.0, 3.0):
        want = function(*(value if o == 0 and type(o) is int else o for o in operands))
        same(call([X, value])[0], X * want)


def test_layers_with_other_floats_share_a_kernel():
    g = Graph(X, "first", "second")
    value = g.call(aten.mm.default, g.x, g.call(aten.eye.default, 10))
    for scale in g.floats:
        value = g.call(aten.mm.default, g.call(aten.mul.Tensor, value, scale), g.call(aten.eye.default, 10))
    call, _, kernels = compiled(g.lowered(value))
    assert len([k for k in kernels if any(isinstance(a, FloatArgument) for a in k.arguments)]) == 1
    for one, other in ((0.5, 3.0), (2.0, 0.25)):
        same(call([X, one, other])[0], X * one * other)


def test_what_is_read_twice_is_computed_once():
    g = Graph(X, "a")
    number = g.floats[0]
    for _ in range(30):
        number = g.call(operator.mul, number, number)
    call, text, _ = compiled(g.lowered(g.call(aten.mul.Tensor, g.x, number)))
    assert text.count(" * ") == 30 and len(text) < 3000, text
    want = 1.0 + 2.0**-30
    for _ in range(30):
        want = want * want
    same(call([X, 1.0 + 2.0**-30])[0], X * want)


def test_keywords_of_a_computed_float_are_refused():
    g = Graph(X, "n")
    number = g.call(operator.mul, g.floats[0], 2.0)
    number.target, number.args, number.kwargs = math.log, (g.floats[0],), {"base": 2.0}
    product = g.call(aten.mul.Tensor, g.x, number)
    with pytest.raises(LoweringError, match="keywords"):
        g.lowered(product)


def test_names_of_inputs_and_computed_floats_do_not_clash():
    g = Graph(X, "f0", "f1")
    total = g.call(operator.add, *g.floats)
    call, _, _ = compiled(g.lowered(g.call(aten.mul.Tensor, g.call(aten.mul.Tensor, g.x, total), g.floats[0])))
    same(call([X, 2.0, 3.0])[0], X * 5.0 * 2.0)


def test_operators_that_are_called_get_a_python_float():
    g = Graph(X, "order")
    lowered = g.lowered(g.call(aten.linalg_vector_norm.default, g.x, g.floats[0]))
    assert "only a call knows" in "".join(lowered.notes)
    call, _, _ = compiled(lowered)
    for value in (1.5, 3.0):
        same(call([X, value])[0], torch.linalg.vector_norm(X, value))
        same(interpret(lowered, [X, value])[0], torch.linalg.vector_norm(X, value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_fill_that_does_not_fit_raises(dtype):
    g = Graph(X.to(dtype), "fill")
    lowered = g.lowered(g.call(aten.full_like.default, g.x, g.floats[0]))
    calls_nothing(lowered)
    call, _, _ = compiled(lowered)
    for value in VALUES:
        same(call([X, value])[0], torch.full_like(X.to(dtype), value))
    with pytest.raises(RuntimeError, match="without overflow"):
        call([X, 1e39])


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool], ids=str)
def test_integers_are_filled_by_the_operator(dtype):
    g = Graph(X.to(dtype), "fill")
    lowered = g.lowered(g.call(aten.full_like.default, g.x, g.floats[0]))
    assert any(isinstance(b, ExternBuffer) for b in lowered.buffers)
    same(compiled(lowered)[0]([X.to(dtype), 2.5])[0], torch.full_like(X.to(dtype), 2.5))


POINTWISE: dict[str, tuple[Callable[[Graph], torch.fx.Node], Callable[[torch.Tensor, float], torch.Tensor]]] = {
    "clamp": (lambda g: g.call(aten.clamp.default, g.x, g.floats[0], 0.5), lambda x, f: x.clamp(f, 0.5)),
    "compare": (lambda g: g.call(aten.gt.Scalar, g.x, g.floats[0]), lambda x, f: x > f),
    "leaky": (
        lambda g: g.call(aten.leaky_relu.default, g.x, g.floats[0]),
        lambda x, f: torch.nn.functional.leaky_relu(x, f),
    ),
    "elu": (lambda g: g.call(aten.elu.default, g.x, g.floats[0]), lambda x, f: torch.nn.functional.elu(x, f)),
    "pad": (
        lambda g: g.call(aten.constant_pad_nd.default, g.x, [1, 2], g.floats[0]),
        lambda x, f: torch.nn.functional.pad(x, [1, 2], value=f),
    ),
    "rsub": (lambda g: g.call(aten.rsub.Scalar, g.x, g.floats[0]), lambda x, f: f - x),
    "fill": (lambda g: g.call(aten.fill.Scalar, g.x, g.floats[0]), lambda x, f: torch.full_like(x, f)),
    "layer norm": (
        lambda g: g.call(operator.getitem, g.call(aten.native_layer_norm.default, g.x, [10], None, None, 0.5), 0),
        lambda x, f: torch.nn.functional.layer_norm(x, [10], eps=0.5),
    ),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_lowerings_take_floats(name):
    build, eager = POINTWISE[name]
    g = Graph(X, "number")
    lowered = g.lowered(build(g))
    calls_nothing(lowered)
    call, _, _ = compiled(lowered)
    for value in VALUES:
        torch.testing.assert_close(call([X, value])[0], eager(X, value), equal_nan=True)


def test_bounds_that_may_be_nan_do_not_cut_a_reduction():
    """What is made of floats alone stays in the loop that reads it: the kernel is as with literals."""
    g = Graph(X, "low")
    total = g.call(aten.sum.default, g.call(aten.clamp.default, g.x, g.floats[0]))
    _, _, (kernel,) = compiled(g.lowered(total))
    assert len(kernel.segments) == 1


def test_the_graph_keeps_only_floats_that_are_read():
    g = Graph(X, "used", "unused")
    lowered = g.lowered(g.call(aten.mul.Tensor, g.x, g.floats[0]))
    call, text, _ = compiled(lowered)
    assert "unused" not in text
    same(call([X, 2.0, 5.0])[0], X * 2.0)
    assert sum(isinstance(b, ComputedBuffer) for b in lowered.buffers) == 1
