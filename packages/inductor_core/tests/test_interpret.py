"""The reference interpreter on hand-made loops: masks, checked indices, every reduction kind, scans, scatters."""

from __future__ import annotations

import math

import pytest
import torch
from lampwork_inductor_core.interpret import InterpreterError, evaluate, run_loops
from lampwork_inductor_core.ir.buffer import ComputedBuffer, Origin
from lampwork_inductor_core.ir.layout import Layout, contiguous_strides
from lampwork_inductor_core.ir.loop_body import LoopBody, index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import Pointwise, Reduction, ReductionKind, Scan, ScanKind, Scatter, ScatterMode
from lampwork_inductor_core.ir.views import canonical_variables, to_exprs
from lampwork_symshape import minimum, symbol

F32 = torch.float32


def run(loops, sizes, values, dtype=F32):
    sizes = to_exprs(sizes)
    layout = Layout(torch.device("cpu"), dtype, sizes, contiguous_strides(sizes))
    return run_loops(ComputedBuffer("out", layout, loops, Origin(())), values, {})


def pointwise(sizes, value):
    exprs = to_exprs(sizes)
    return Pointwise(exprs, LoopBody(canonical_variables(exprs), (), value))


I = index_variable(0, 4)  # noqa: E741


def test_a_load_outside_raises():
    with pytest.raises(InterpreterError, match="reads outside"):
        run(pointwise((4,), ops.load("x", I + 1, F32)), (4,), {"x": torch.arange(4.0)})


def test_a_masked_load_outside_does_not():
    inside = ops.lt(ops.index_value(I), ops.constant(3, torch.int64))
    body = ops.masked(inside, ops.load("x", I + 1, F32), -1.0)
    result = run(pointwise((4,), body), (4,), {"x": torch.arange(4.0)})
    assert result.tolist() == [1, 2, 3, -1]


def test_checked_indices_wrap_and_raise():
    t = symbol("t0", 0, 4)
    index = ops.checked_index(ops.load("i", I, torch.int64), to_exprs((5,))[0])
    loops = pointwise((4,), ops.load("x", t, F32, ((t, index),)))
    x = torch.arange(5.0)
    assert run(loops, (4,), {"x": x, "i": torch.tensor([0, -1, 4, -5])}).tolist() == [0, 4, 4, 0]
    with pytest.raises(IndexError):
        run(loops, (4,), {"x": x, "i": torch.tensor([0, 0, 5, 0])})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ReductionKind.SUM, lambda x: x.sum(1)),
        (ReductionKind.PROD, lambda x: x.prod(1)),
        (ReductionKind.MAX, lambda x: x.amax(1)),
        (ReductionKind.MIN, lambda x: x.amin(1)),
        (ReductionKind.ARGMAX, lambda x: x.argmax(1)),
        (ReductionKind.ARGMIN, lambda x: x.argmin(1)),
        (ReductionKind.ANY, lambda x: x.bool().any(1)),
        (ReductionKind.ALL, lambda x: x.bool().all(1)),
    ],
)
def test_reductions(kind, expected):
    x = torch.tensor([[1.0, 3.0, 3.0], [0.0, math.nan, 2.0], [-2.0, -2.0, 0.0], [1.0, 1.0, 1.0]])
    r = reduction_variable(0, 3)
    value = ops.load("x", I * 3 + r, F32)
    accumulate = torch.bool if kind in (ReductionKind.ANY, ReductionKind.ALL) else F32
    result = expected(x)
    loops = Reduction(to_exprs((4,)), to_exprs((3,)), kind, LoopBody((I,), (r,), value), result.dtype, accumulate)
    torch.testing.assert_close(run(loops, (4,), {"x": x}, result.dtype), result, equal_nan=True)


@pytest.mark.parametrize(
    ("kind", "identity"),
    [
        (ReductionKind.SUM, 0.0),
        (ReductionKind.PROD, 1.0),
        (ReductionKind.MAX, -math.inf),
        (ReductionKind.MIN, math.inf),
    ],
)
def test_an_empty_reduction_gives_the_identity(kind, identity):
    r = reduction_variable(0, 0)
    body = LoopBody((I,), (r,), ops.load("x", r, F32))
    loops = Reduction(to_exprs((4,)), to_exprs((0,)), kind, body, F32, F32)
    assert run(loops, (4,), {"x": torch.empty(0)}).tolist() == [identity] * 4


def test_half_types_accumulate_wide():
    x = torch.full((4, 4096), 0.1, dtype=torch.bfloat16)
    r = reduction_variable(0, 4096)
    body = LoopBody((I,), (r,), ops.load("x", I * 4096 + r, torch.bfloat16))
    loops = Reduction(to_exprs((4,)), to_exprs((4096,)), ReductionKind.SUM, body, torch.bfloat16, F32)
    result = run(loops, (4,), {"x": x}, torch.bfloat16)
    assert abs(float(result[0]) - 4096 * float(x[0, 0])) < 4


@pytest.mark.parametrize("kind", ScanKind)
def test_scans(kind):
    x = torch.tensor([2.0, -1.0, 3.0, 0.5])
    loops = Scan(to_exprs((4,)), kind, LoopBody((I,), (), ops.load("x", I, F32)), F32)
    expected = {
        ScanKind.SUM: x.cumsum(0),
        ScanKind.PROD: x.cumprod(0),
        ScanKind.MAX: x.cummax(0).values,
        ScanKind.MIN: x.cummin(0).values,
    }[kind]
    torch.testing.assert_close(run(loops, (4,), {"x": x}), expected)


@pytest.mark.parametrize(("mode", "expected"), [(ScatterMode.ADD, [10, 15, 10]), (ScatterMode.ASSIGN, [0, 2, 10])])
def test_scatters(mode, expected):
    t = symbol("t0", 0, 2)
    node = ops.load("i", I, torch.int64)
    body = LoopBody((I,), (), ops.load("x", I, F32))
    loops = Scatter(to_exprs((4,)), body, t, ((t, node),), mode, "first")
    index = torch.tensor([1, 0, 1, 1] if mode is ScatterMode.ADD else [1, 0, 0, 1])
    x = torch.tensor([1.0, 0.0, 2.0, 2.0]) if mode is ScatterMode.ADD else torch.tensor([2.0, 0.0, 0.0, 2.0])
    result = run(loops, (3,), {"x": x, "i": index, "first": torch.full((3,), 10.0)})
    assert result.tolist() == expected


def test_index_expressions_over_tensors():
    i = index_variable(0, 10)
    grid = torch.arange(10)
    assert torch.equal(
        evaluate(minimum(i * 2 % 7, 5) + i // 3, {i: grid}), torch.minimum(grid * 2 % 7, torch.tensor(5)) + grid // 3
    )
