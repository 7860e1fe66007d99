"""What is chosen for which kernel: shapes, bytes a thread, parts."""

from __future__ import annotations

import pytest
import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Dimension, OuterSegment, ScheduledKernel, Stage, Store
from lampwork_inductor_core.ir.loop_body import index_variable, ops
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_inductor_core.schedule.split_reductions import ReductionShape
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig, choose, parts_of
from lampwork_inductor_gpu.traffic import Traffic, held_words
from lampwork_symshape import integer
from triton_kernels import argument, pointwise, row_reduction, row_softmax, run

F32 = torch.float32


def transposed(rows: int, columns: int, dtype: torch.dtype = F32) -> ScheduledKernel:
    """`out0[i, j] = in0[j, i] + in1[i]`."""
    i, j = index_variable(0, rows), index_variable(1, columns)
    value = ops.add(ops.load("in0", j * rows + i, dtype), ops.load("in1", i * 1, dtype))
    return ScheduledKernel(
        "transposed",
        (Dimension(i, integer(rows)), Dimension(j, integer(columns))),
        (),
        (OuterSegment((Stage(value, store=Store("out0", i * columns + j)),)),),
        (argument("in0", dtype, rows * columns), argument("in1", dtype, rows), argument("out0", dtype, rows * columns)),
    )


@pytest.mark.parametrize("shape", [(64, 64), (70, 130), (16, 500)])
def test_tiles(shape: tuple[int, int]) -> None:
    rows, columns = shape
    kernel = transposed(rows, columns)
    config = choose(kernel, H100)
    assert config.shape is KernelShape.TILED and config.across == 0
    x, y, out = torch.randn(columns, rows), torch.randn(rows), torch.empty(rows, columns)
    text = run(kernel, config, [x, y, out])
    assert torch.equal(out, x.t() + y[:, None])
    assert ("y_mask" in text) == (rows % config.r_block != 0) and ("x_mask" in text) == (columns % config.x_block != 0)


def test_short_sides_are_no_tiles() -> None:
    assert choose(transposed(3, 4096), H100).shape is KernelShape.POINTWISE
    assert choose(transposed(4096, 8), H100).shape is KernelShape.POINTWISE


@pytest.mark.parametrize(
    ("kernel", "shape"),
    [
        (row_softmax(4096, 768), KernelShape.PERSISTENT),
        (row_softmax(4096, 32_768), KernelShape.PERSISTENT),
        (row_softmax(4096, 40_000), KernelShape.LOOPED),
        # nothing is read twice: nothing to hold
        (row_reduction(ReductionKind.SUM, 4096, 32_768, F32, F32, F32), KernelShape.LOOPED),
        (row_reduction(ReductionKind.SUM, 4096, 4096, F32, F32, F32), KernelShape.PERSISTENT),
    ],
)
def test_rows_are_held_where_they_fit(kernel: ScheduledKernel, shape: KernelShape) -> None:
    assert choose(kernel, H100).shape is shape


def test_what_a_kernel_holds_and_loads() -> None:
    assert held_words(row_softmax(8, 64)) == 1
    assert held_words(row_reduction(ReductionKind.SUM, 8, 64, F32, F32, F32)) == 0
    assert Traffic.of(row_softmax(8, 64)).loaded == 4
    half = row_reduction(ReductionKind.SUM, 8, 64, torch.bfloat16, F32, F32)
    assert Traffic.of(half).loaded == 2 and Traffic.of(half).itemsize == 2


@pytest.mark.parametrize("columns", [64, 512, 768, 1024, 4096, 16_384, 32_768])
def test_threads_of_a_row_ask_for_64_bytes(columns: int) -> None:
    config = choose(row_softmax(8192, columns), H100)
    a_thread = config.x_block * config.r_block / (32 * config.warps)
    assert 4 <= a_thread <= 32 and (config.warps in (1, 32) or 8 <= a_thread <= 32)


def test_pointwise_threads_have_16_bytes() -> None:
    for dtype in (torch.bfloat16, F32):
        config = choose(pointwise("neg", 1 << 24, [dtype], ops.neg, dtype), H100)
        assert (config.x_block, config.warps) == (1024, 4)
    assert choose(pointwise("neg", 1000, [F32], ops.neg, F32), H100).x_block == 256


def test_parts() -> None:
    # columns: so many parts that all multiprocessors have some, each of 32 rows at least; of halves as of floats
    assert parts_of(ReductionShape(768, 16_384, 4, rows=False), H100) == 66
    assert parts_of(ReductionShape(768, 16_384, 2, rows=False), H100) == 66
    assert parts_of(ReductionShape(768, 1024, 2, rows=False), H100) == 32
    assert parts_of(ReductionShape(65_536, 1024, 2, rows=False), H100) == 1
    assert parts_of(ReductionShape(768, 256, 2, rows=False), H100) == 1  # too little
    # rows: only where there are very few
    assert parts_of(ReductionShape(1, 1 << 24, 4, rows=True), H100) == 528
    assert parts_of(ReductionShape(64, 1 << 20, 4, rows=True), H100) == 1
    assert parts_of(ReductionShape(1, 4096, 4, rows=True), H100) == 1


def test_blocks_are_powers_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        LaunchConfig(KernelShape.POINTWISE, 96, 1, 1)
