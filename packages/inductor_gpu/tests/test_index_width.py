"""How wide the indices of a kernel are, and that the launcher's choice computes the same."""

import dataclasses

import pytest
import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Dimension, OuterSegment, ScheduledKernel, Stage, Store
from lampwork_inductor_core.ir.loop_body import index_variable, ops
from lampwork_inductor_gpu.backend import import_source, launch_spec
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig
from lampwork_inductor_gpu.index_width import LIMIT, IndexReach, IndexWidth
from lampwork_inductor_gpu.kernel import write_kernel
from lampwork_inductor_gpu.launcher import InterpretedLauncher
from lampwork_symshape import IntExpr, symbol
from triton_kernels import argument, pointwise, row_softmax, scaled_rows

ROWS, COLUMNS = symbol("s0", 1), symbol("s1", 1)


def test_known_sizes_decide_when_the_text_is_written() -> None:
    small = pointwise("small", 1000, [torch.float32], lambda a: a, torch.float32)
    large = pointwise("large", LIMIT + 1, [torch.float32], lambda a: a, torch.float32)
    assert IndexReach.of(small).width is IndexWidth.NARROW
    assert IndexReach.of(large).width is IndexWidth.WIDE
    assert IndexReach.of(row_softmax(3, COLUMNS)).width is IndexWidth.BY_SIZES


@pytest.mark.parametrize(
    ("rows", "columns", "fits"),
    [(3, 5, True), (1 << 15, 1 << 15, True), (1 << 16, 1 << 15, False), (1, LIMIT, True), (1, LIMIT + 1, False)],
)
def test_sizes_of_a_call_decide_where_they_are_symbols(rows: int, columns: int, fits: bool) -> None:
    assert IndexReach.of(scaled_rows(ROWS, COLUMNS)).fits({ROWS: rows, COLUMNS: columns}) is fits


def numbers(expression: IntExpr) -> ScheduledKernel:
    """`out0[i] = expression`."""
    i = index_variable(0, ROWS)
    return ScheduledKernel(
        "numbers",
        (Dimension(i, ROWS),),
        (),
        (OuterSegment((Stage(ops.index_value(expression), store=Store("out0", i)),)),),
        (argument("out0", torch.int64, ROWS), *scaled_rows(ROWS, 1).arguments[3:]),
    )


def test_numbers_made_of_indices_count_too() -> None:
    i = index_variable(0, ROWS)
    squares = IndexReach.of(numbers(i * i - ROWS * 7))
    assert squares.fits({ROWS: 1000}) and not squares.fits({ROWS: 1 << 16})
    assert not IndexReach.of(numbers(i * (1 << 40))).fits({ROWS: 2})


def test_a_size_that_the_kernel_is_not_given_is_wide() -> None:
    i = index_variable(0, 8)
    stage = Stage(ops.load("in0", i, torch.float32), store=Store("out0", i))
    buffers = (argument("in0", torch.float32, ROWS), argument("out0", torch.float32, 8))
    kernel = ScheduledKernel("part", (Dimension(i, ROWS - ROWS + 8),), (), (OuterSegment((stage,)),), buffers)
    assert IndexReach.of(kernel).width is IndexWidth.WIDE


@pytest.mark.parametrize("shape", [(3, 16), (5, 7), (1, 1), (0, 4)])
def test_both_widths_compute_the_same(shape: tuple[int, int]) -> None:
    kernel = scaled_rows(ROWS, COLUMNS)
    source = write_kernel(kernel, LaunchConfig(KernelShape.POINTWISE, 32, 1, 1))
    assert "INDEX: tl.constexpr" in source.text and ".to(INDEX)" in source.text
    spec = launch_spec(source)
    assert spec.narrow_at(shape)
    x, w = torch.randn(shape), torch.randn(shape[1])
    for fits in (True, False):
        out = torch.full(shape, float("nan"))
        chosen = dataclasses.replace(spec, fits_narrow=lambda _, fits=fits: fits)
        InterpretedLauncher(getattr(import_source(source), source.name), chosen)(x, w, out, *shape)
        assert torch.equal(out, x * w)
