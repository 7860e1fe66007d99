"""Sizes that are symbols flow through schedule, kernels and wrapper: one compile, several sizes."""

from __future__ import annotations

import pytest
import torch
from lampwork_inductor_core.codegen.interpret_kernel import interpret_kernel
from lampwork_inductor_core.codegen.program import build_wrapper, plan_host
from lampwork_inductor_core.codegen.scheduled_kernel import SizeArgument
from lampwork_inductor_core.codegen.wrapper import print_wrapper
from lampwork_inductor_core.config import ScheduleConfig
from lampwork_inductor_core.ir.buffer import ComputedBuffer, GraphOutput, InputBuffer, LoweredGraph, Origin
from lampwork_inductor_core.ir.layout import Layout, contiguous_strides
from lampwork_inductor_core.ir.loop_body import LoopBody, index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import Pointwise, Reduction, ReductionKind
from lampwork_inductor_core.runtime.compiled_graph import Form, load_wrapper
from lampwork_inductor_core.schedule.scheduler import schedule
from lampwork_symshape import integer, symbol

CPU, F32 = torch.device("cpu"), torch.float32


def _layout(*sizes) -> Layout:
    return Layout(CPU, F32, tuple(sizes), contiguous_strides(sizes))


def exp_over_its_sum() -> LoweredGraph:
    """e = exp(x); e / e.sum(-1, keepdim) for x of sizes (rows, columns)."""
    rows, columns = symbol("s0", 2, None), symbol("s1", 2, None)
    full, per_row = _layout(rows, columns), _layout(rows)
    i0, i1, r0 = index_variable(0, rows), index_variable(1, columns), reduction_variable(0, columns)
    x = InputBuffer("x", full, 0)
    exp = ops.compute("exp", ops.load("x", full.index((i0, i1)), F32))
    e = ComputedBuffer("e", full, Pointwise((rows, columns), LoopBody((i0, i1), (), exp)), Origin(("exp",)))
    body = LoopBody((i0,), (r0,), ops.load("e", full.index((i0, r0)), F32))
    total = ComputedBuffer(
        "total", per_row, Reduction((rows,), (columns,), ReductionKind.SUM, body, F32, F32), Origin(("sum",))
    )
    quotient = ops.compute("truediv", ops.load("e", full.index((i0, i1)), F32), ops.load("total", i0, F32))
    out = ComputedBuffer("out", full, Pointwise((rows, columns), LoopBody((i0, i1), (), quotient)), Origin(("div",)))
    return LoweredGraph((x, e, total, out), (GraphOutput("out", full),))


def test_one_kernel_serves_all_sizes():
    config = ScheduleConfig()
    graph = exp_over_its_sum()
    host = plan_host(graph, schedule(graph, config), config)
    (kernel,) = host.kernels()
    assert [a.name for a in kernel.arguments if isinstance(a, SizeArgument)] == ["s0", "s1"]
    text = print_wrapper(build_wrapper(host, {kernel: "kernel"})).text
    call = load_wrapper(text, {"kernel": lambda *a: interpret_kernel(kernel, a)}, {}, {})
    for rows, columns in ((2, 3), (5, 7), (16, 2)):
        x = torch.randn(rows, columns)
        torch.testing.assert_close(call([x])[0], torch.softmax(x, -1))


def test_memory_of_any_size_is_asked_for():
    graph, asked = exp_over_its_sum(), []

    def memory(number, sizes, strides, dtype, device):
        asked.append((number, sizes))
        return torch.full(sizes, float("nan"), dtype=dtype, device=device).as_strided(sizes, strides)

    host = plan_host(graph, schedule(graph, ScheduleConfig()), ScheduleConfig())
    (kernel,) = host.kernels()
    text = print_wrapper(build_wrapper(host, {kernel: "kernel"}), Form(given=True)).text
    call = load_wrapper(text, {"kernel": lambda *a: interpret_kernel(kernel, a)}, {}, {})
    for rows, columns in ((2, 3), (16, 2)):
        x = torch.randn(rows, columns)
        torch.testing.assert_close(call([x], memory)[0], torch.softmax(x, -1))
    assert asked == [(0, (2, 3)), (0, (16, 2))]


@pytest.mark.parametrize("name", ["s0", "s1"])
def test_sizes_are_read_off_the_input(name):
    graph = exp_over_its_sum()
    host = plan_host(graph, schedule(graph, ScheduleConfig()), ScheduleConfig())
    text = print_wrapper(build_wrapper(host, {k: "kernel" for k in host.kernels()})).text
    assert f"{name} = x.size({int(name[1])})" in text


def test_known_and_unknown_sizes_mix():
    rows = symbol("s0", 2, None)
    layout = _layout(rows, integer(8))
    i0, i1 = index_variable(0, rows), index_variable(1, integer(8))
    value = ops.add(ops.load("x", layout.index((i0, i1)), F32), ops.load("b", i1, F32))
    out = ComputedBuffer("out", layout, Pointwise(layout.sizes, LoopBody((i0, i1), (), value)), Origin(("add",)))
    graph = LoweredGraph(
        (InputBuffer("x", layout, 0), InputBuffer("b", _layout(integer(8)), 1), out), (GraphOutput("out", layout),)
    )
    host = plan_host(graph, schedule(graph, ScheduleConfig()), ScheduleConfig())
    (kernel,) = host.kernels()
    call = load_wrapper(
        print_wrapper(build_wrapper(host, {kernel: "kernel"})).text,
        {"kernel": lambda *a: interpret_kernel(kernel, a)},
        {},
        {},
    )
    for count in (2, 9):
        x, b = torch.randn(count, 8), torch.randn(8)
        torch.testing.assert_close(call([x, b])[0], x + b)
