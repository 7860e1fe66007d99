"""verify() finds each broken invariant; the printed graph is stable."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.ir.buffer import ComputedBuffer, GraphOutput, LoweredGraph
from lampwork_inductor_core.ir.loop_body import LoopBody, index_variable, ops
from lampwork_inductor_core.ir.printer import print_graph
from lampwork_inductor_core.ir.verify import InvalidGraph, verify
from lampwork_inductor_core.lowering.graph import lower
from lampwork_symshape import integer
from torch.fx.experimental.proxy_tensor import make_fx


def sample() -> LoweredGraph:
    graph = make_fx(lambda x, y: torch.mm(torch.exp(x) + 1, y).sum(1), tracing_mode="fake")(
        torch.randn(3, 4), torch.randn(4, 5)
    )
    return lower(graph, config=Config())


def with_buffer(graph: LoweredGraph, position: int, **changes) -> LoweredGraph:
    buffers = list(graph.buffers)
    buffers[position] = dataclasses.replace(buffers[position], **changes)
    return dataclasses.replace(graph, buffers=tuple(buffers))


def with_body(graph: LoweredGraph, value) -> LoweredGraph:
    position = next(k for k, b in enumerate(graph.buffers) if isinstance(b, ComputedBuffer))
    loops = graph.buffers[position].loops
    body = LoopBody(loops.body.variables, (), value)
    return with_buffer(graph, position, loops=dataclasses.replace(loops, body=body))


def test_a_good_graph_passes():
    verify(sample())


I0, I1 = index_variable(0, 3), index_variable(1, 4)
BROKEN = {
    "not defined before": lambda g: dataclasses.replace(g, buffers=g.buffers[::-1]),
    "defined twice": lambda g: dataclasses.replace(g, buffers=(*g.buffers, g.buffers[0])),
    "returned but not defined": lambda g: dataclasses.replace(g, outputs=(GraphOutput("nobody"),)),
    "do not bind": lambda g: with_body(g, ops.load("x_1", index_variable(2, 7), torch.float32)),
    "outside": lambda g: with_body(g, ops.load("x_1", I0 * 4 + I1 + 12, torch.float32)),
    "which holds": lambda g: with_body(g, ops.to_dtype(ops.load("x_1", I0 * 4 + I1, torch.int64), torch.float32)),
    "in a buffer of": lambda g: with_body(
        g, ops.load("x_1", I0 * 4 + I1, torch.float32) and ops.constant(1, torch.int64)
    ),
    "fill a layout": lambda g: with_buffer(
        g, 2, layout=dataclasses.replace(g.buffers[2].layout, sizes=(integer(4), integer(3)))
    ),
}


@pytest.mark.parametrize("problem", BROKEN)
def test_each_broken_invariant_is_found(problem):
    with pytest.raises(InvalidGraph, match=problem):
        verify(BROKEN[problem](sample()))


def test_text():
    assert print_graph(sample()) == (
        "x_1 = input 0: float32[3, 4] strides [4, 1] on cpu\n"
        "y_1 = input 1: float32[4, 5] strides [5, 1] on cpu\n"
        "buf0 = pointwise over [3, 4]: float32[3, 4] strides [4, 1] on cpu  # exp, add\n"
        "    v0 = x_1[4*i0 + i1]\n"
        "    -> add(exp(v0), 1.0)\n"
        "buf1 = aten.mm.default(buf0[3, 4], y_1[4, 5]): float32[3, 5] strides [5, 1] on cpu\n"
        "buf2 = reduce sum over [3] x [5] in float32: float32[3] strides [1] on cpu  # sum_1\n"
        "    -> buf1[5*i0 + r0]\n"
        "return buf2: float32[3] strides [1] on cpu\n"
    )
