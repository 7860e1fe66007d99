"""Pairs of reductions that one loop computes: found where they are exact, and right for values that hurt."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Accumulate,
    Dimension,
    InnerLoop,
    OuterSegment,
    ScheduledKernel,
    Stage,
    Store,
    forwarded,
)
from lampwork_inductor_core.ir.loop_body import index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig
from lampwork_inductor_gpu.one_pass import PairKind, left_out, pairs_of
from lampwork_symshape import integer
from triton_kernels import argument, row_softmax, run

F32 = torch.float32
SUM, MAX = Accumulate(ReductionKind.SUM, F32, F32), Accumulate(ReductionKind.MAX, F32, F32)
LOOPED = LaunchConfig(KernelShape.LOOPED, 2, 16, 4)


def moments(rows: int, columns: int, *, divisor: float | None = None) -> ScheduledKernel:
    """`out0[i]` the mean of a row, `out1[i]` the sum of its squared deviations."""
    i, r = index_variable(0, rows), reduction_variable(0, columns)
    x = ops.load("in0", i * columns + r, F32)
    total = Stage(x, accumulate=SUM)
    mean = Stage(
        ops.truediv(forwarded(0, F32), ops.constant(columns if divisor is None else divisor, F32)),
        store=Store("out0", i),
    )
    distance = ops.sub(x, forwarded(1, F32))
    squares = Stage(ops.mul(distance, distance), accumulate=SUM, store=Store("out1", i))
    return ScheduledKernel(
        "moments",
        (Dimension(i, integer(rows)),),
        (Dimension(r, integer(columns)),),
        (InnerLoop((total,)), OuterSegment((mean,)), InnerLoop((squares,))),
        (argument("in0", F32, rows * columns), argument("out0", F32, rows), argument("out1", F32, rows)),
    )


def softmax_parts(rows: int, columns: int) -> ScheduledKernel:
    """`out0[i]` the greatest of a row, `out1[i]` the sum of exponentials of differences to it."""
    whole = row_softmax(rows, columns)
    i = whole.outer[0].symbol
    first, second, _ = whole.segments
    stages = (
        dataclasses.replace(first.stages[0], store=Store("out0", i * 1)),
        dataclasses.replace(second.stages[0], store=Store("out1", i * 1)),
    )
    arguments = (argument("in0", F32, rows * columns), argument("out0", F32, rows), argument("out1", F32, rows))
    return dataclasses.replace(whole, segments=tuple(InnerLoop((s,)) for s in stages), arguments=arguments)


@pytest.mark.parametrize("columns", [1, 15, 16, 37, 64])
def test_moments(columns: int) -> None:
    torch.manual_seed(columns)
    x = torch.randn(6, columns) * torch.tensor([1.0, 1e-2, 1e3, 1, 1, 1])[:, None] + 1000
    x[3, columns // 2] = float("inf")
    x[4, 0] = float("nan")
    x[5, 0] = 1e6  # far from all the others
    mean, squares = torch.empty(6), torch.empty(6)
    text = run(moments(6, columns), LOOPED, [x, mean, squares])
    assert text.count("for r_start") == 1 and ("tl.where(r_mask" in text) == (columns % 16 != 0)
    wide = x.double()
    torch.testing.assert_close(mean, wide.mean(1).float(), rtol=1e-6, atol=0, equal_nan=True)
    expected = ((wide - wide.mean(1, keepdim=True)) ** 2).sum(1).float()
    # the error grows with the ratio of mean and deviation (1e5 in one row), not with its square
    torch.testing.assert_close(squares, expected, rtol=2e-2, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("columns", [1, 15, 16, 37, 64])
def test_powers(columns: int) -> None:
    torch.manual_seed(columns)
    low, high = float("-inf"), float("inf")
    x = torch.randn(8, columns) * 30
    x[1] = low
    x[2, 0] = low
    x[3, -1] = high
    x[4] = high
    x[5, columns // 2] = float("nan")
    x[6] = -1e30
    x[7, 0], x[7, -1] = low, high
    best, total = torch.empty(8), torch.empty(8)
    text = run(softmax_parts(8, columns), LOOPED, [x, best, total])
    assert text.count("for r_start") == 1
    expected = x.amax(1)
    torch.testing.assert_close(best, expected, rtol=0, atol=0, equal_nan=True)
    sums = torch.exp(x.double() - expected.double()[:, None]).sum(1).float()
    torch.testing.assert_close(total, sums, rtol=1e-5, atol=0, equal_nan=True)


def test_what_is_a_pair() -> None:
    kernel = row_softmax(4, 64)
    (pair,) = pairs_of(kernel)
    assert (pair.kind, pair.first, pair.second) == (PairKind.POWERS, 0, 1)
    assert left_out(kernel, (pair,)) == {1}
    (pair,) = pairs_of(moments(4, 64))
    assert (pair.kind, pair.first, pair.second) == (PairKind.MOMENTS, 0, 2)


def test_what_is_no_pair() -> None:
    """Deviations from anything but the mean, other powers, sums in another type, a greatest value that was rounded."""
    assert not pairs_of(moments(4, 64, divisor=63))
    kernel = row_softmax(4, 64)
    first, second, third = kernel.segments
    (largest,), (total,) = first.stages, second.stages

    def changed(before: Stage, after: Stage) -> ScheduledKernel:
        return dataclasses.replace(kernel, segments=(InnerLoop((before,)), InnerLoop((after,)), third))

    x = largest.value
    assert pairs_of(changed(largest, total))
    twice = ops.exp(ops.sub(ops.mul(x, ops.constant(2.0, F32)), forwarded(0, F32)))
    assert not pairs_of(changed(largest, dataclasses.replace(total, value=twice)))
    assert not pairs_of(changed(dataclasses.replace(largest, accumulate=SUM), total))
    exact = Accumulate(ReductionKind.SUM, torch.float64, torch.float64)
    assert not pairs_of(changed(largest, dataclasses.replace(total, accumulate=exact)))
    rounded = Accumulate(ReductionKind.MAX, F32, torch.float16)
    assert not pairs_of(changed(dataclasses.replace(largest, accumulate=rounded), total))
