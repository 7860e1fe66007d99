"""Generated kernels against eager: shapes of kernels, sizes that hurt, and what a text must not contain."""

import dataclasses

import pytest
import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Dimension,
    FloatArgument,
    OuterSegment,
    ScheduledKernel,
    Stage,
    Store,
)
from lampwork_inductor_core.ir.float_expr import FloatInput
from lampwork_inductor_core.ir.loop_body import index_variable, ops
from lampwork_inductor_core.ir.loops import ReductionKind, ScanKind, ScatterMode
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig, choose
from lampwork_inductor_gpu.kernel import write_kernel
from lampwork_symshape import integer, lt, symbol
from triton_kernels import argument, pointwise, row_reduction, row_scan, row_softmax, run

PERSISTENT = LaunchConfig(KernelShape.PERSISTENT, 2, 64, 4)
LOOPED = LaunchConfig(KernelShape.LOOPED, 2, 16, 4)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_pointwise_sizes(count: int) -> None:
    x, y = torch.randn(count), torch.randn(count)
    kernel = pointwise("add_mul", count, [x.dtype, y.dtype], lambda a, b: ops.mul(ops.add(a, b), a), x.dtype)
    out = torch.full((count,), float("nan"))
    text = run(kernel, LaunchConfig(KernelShape.POINTWISE, 64, 1, 1), [x, y, out])
    assert torch.equal(out, (x + y) * x)
    assert ("x_mask" in text) == (count % 64 != 0)


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-40, 1e40, float("inf"), float("nan"), 1 + 2**-50])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_float_of_the_call_is_as_exact_as_a_literal(dtype: torch.dtype, value: float) -> None:
    def kernel(number) -> ScheduledKernel:
        return pointwise("sum", 70, [dtype], lambda x: ops.add(ops.mul(x, number), number), dtype)

    config = LaunchConfig(KernelShape.POINTWISE, 64, 1, 1)
    x, of_argument, of_literal = torch.randn(70).to(dtype), torch.empty(70, dtype=dtype), torch.empty(70, dtype=dtype)
    run(kernel(ops.constant(value, dtype)), config, [x, of_literal])
    with_float = kernel(ops.float_value(FloatInput("f0"), dtype))
    with_float = dataclasses.replace(with_float, arguments=(*with_float.arguments, FloatArgument("f0")))
    text = run(with_float, config, [x, of_argument, value])
    assert "in0, out0, f0, X_BLOCK" in text
    torch.testing.assert_close(of_argument, of_literal, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("config", [PERSISTENT, LOOPED], ids=["persistent", "looped"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 37), (5, 64), (4, 50)])
@pytest.mark.parametrize("kind", list(ReductionKind), ids=lambda k: k.value)
def test_row_reductions(config: LaunchConfig, shape: tuple[int, int], kind: ReductionKind) -> None:
    rows, columns = shape
    x = torch.randn(rows, columns)
    x[0, 0] = 2.0
    x[0, -1] = 2.0
    dtype = result = torch.float32
    if kind is ReductionKind.XOR_SUM:
        x, dtype, result = torch.randint(-9, 9, shape), torch.int64, torch.int64
        expected = x[:, 0].clone()
        for column in range(1, columns):
            expected ^= x[:, column]
    elif kind in (ReductionKind.ANY, ReductionKind.ALL):
        x, dtype, result = x > 0, torch.bool, torch.bool
        expected = x.any(1) if kind is ReductionKind.ANY else x.all(1)
    elif kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN):
        result = torch.int64
        if rows > 1:
            x[1, columns // 2 :] = float("nan")
        expected = x.argmax(1) if kind is ReductionKind.ARGMAX else x.argmin(1)
    else:
        reference = {"sum": torch.sum, "prod": torch.prod, "max": torch.amax, "min": torch.amin}[kind.value]
        if kind is ReductionKind.MAX and rows > 1:
            x[1, columns // 2] = float("nan")
        expected = reference(x, 1)
    out = torch.empty(rows, dtype=result)
    run(row_reduction(kind, rows, columns, dtype, dtype, result), config, [x, out])
    torch.testing.assert_close(out, expected, equal_nan=True)


@pytest.mark.parametrize("config", [PERSISTENT, LOOPED], ids=["persistent", "looped"])
def test_softmax_is_one_kernel(config: LaunchConfig) -> None:
    x = torch.randn(5, 37) * 10
    out = torch.empty_like(x)
    text = run(row_softmax(5, 37), config, [x, out])
    torch.testing.assert_close(out, torch.softmax(x, -1))
    assert "# amax: softmax, model.py:3" in text
    assert text.count("for r_start") == (0 if config is PERSISTENT else 2)


@pytest.mark.parametrize("config", [PERSISTENT, LOOPED], ids=["persistent", "looped"])
@pytest.mark.parametrize("kind", list(ScanKind), ids=lambda k: k.value)
def test_scans(config: LaunchConfig, kind: ScanKind) -> None:
    x = torch.rand(3, 37) + 0.5
    out = torch.empty_like(x)
    run(row_scan(kind, 3, 37), config, [x, out])
    reference = {
        "sum": lambda t: t.cumsum(1),
        "prod": lambda t: t.cumprod(1),
        "max": lambda t: t.cummax(1).values,
        "min": lambda t: t.cummin(1).values,
    }[kind.value]
    torch.testing.assert_close(out, reference(x))


def test_transposed_read_and_broadcast() -> None:
    i, j = index_variable(0, 6), index_variable(1, 10)
    f = torch.float32
    value = ops.add(ops.load("in0", j * 6 + i, f), ops.load("in1", j, f))
    kernel = ScheduledKernel(
        "transpose_add",
        (Dimension(i, integer(6)), Dimension(j, integer(10))),
        (),
        (OuterSegment((Stage(value, store=Store("out0", i * 10 + j)),)),),
        (argument("in0", f, 60), argument("in1", f, 10), argument("out0", f, 60)),
    )
    x, y, out = torch.randn(10, 6), torch.randn(10), torch.empty(6, 10)
    run(kernel, LaunchConfig(KernelShape.POINTWISE, 16, 1, 1), [x, y, out])
    assert torch.equal(out, x.t() + y)


def test_masked_load_stays_in_bounds() -> None:
    """A concatenation: each half reads its own input only where the index is inside it."""
    i = index_variable(0, 20)
    f = torch.float32
    first = ops.index_value(lt(i, 8), torch.bool)
    value = ops.where(
        first,
        ops.masked(first, ops.load("in0", i, f), 0.0),
        ops.masked(ops.logical_not(first), ops.load("in1", i - 8, f), 0.0),
    )
    kernel = ScheduledKernel(
        "cat",
        (Dimension(i, integer(20)),),
        (),
        (OuterSegment((Stage(value, store=Store("out0", i)),)),),
        (argument("in0", f, 8), argument("in1", f, 12), argument("out0", f, 20)),
    )
    x, y, out = torch.randn(8), torch.randn(12), torch.empty(20)
    text = run(kernel, LaunchConfig(KernelShape.POINTWISE, 32, 1, 1), [x, y, out])
    assert torch.equal(out, torch.cat([x, y]))
    assert all("x_mask &" in line or "& x_mask" in line for line in text.splitlines() if "tl.load" in line)


def test_indirect_load_wraps_and_scatter_adds() -> None:
    f, n = torch.float32, 9
    i = index_variable(0, n)
    at = symbol("tmp_row", 0, 3)
    index = ops.checked_index(ops.load("in1", i, torch.int64), integer(4))
    gathered = ops.load("in0", at, f, ((at, index),))
    kernel = ScheduledKernel(
        "gather_scatter",
        (Dimension(i, integer(n)),),
        (),
        (
            OuterSegment(
                (
                    Stage(gathered, store=Store("out0", i)),
                    Stage(gathered, store=Store("out1", at, ScatterMode.ADD, ((at, index),))),
                )
            ),
        ),
        (argument("in0", f, 4), argument("in1", torch.int64, n), argument("out0", f, n), argument("out1", f, 4)),
    )
    table, rows = torch.randn(4), torch.tensor([0, 1, -1, 3, 2, 2, -4, 0, 1])
    out, sums = torch.empty(n), torch.zeros(4)
    run(kernel, LaunchConfig(KernelShape.POINTWISE, 16, 1, 1), [table, rows, out, sums])
    assert torch.equal(out, table[rows])
    torch.testing.assert_close(sums, torch.zeros(4).index_add(0, rows % 4, table[rows]))


def test_equal_kernels_have_equal_text_and_empty_ones_launch_nothing() -> None:
    first, second = row_softmax(5, 37), row_softmax(5, 37)
    assert write_kernel(first, PERSISTENT) == write_kernel(second, PERSISTENT)
    x, out = torch.empty(0), torch.empty(0)
    run(pointwise("neg", 0, [x.dtype], ops.neg, x.dtype), LaunchConfig(KernelShape.POINTWISE, 64, 1, 1), [x, out])


def test_heuristics_pick_the_shape() -> None:
    assert choose(row_softmax(4096, 768), H100).shape is KernelShape.PERSISTENT
    assert choose(row_softmax(16, 100_000), H100).shape is KernelShape.LOOPED
    kernel = pointwise("neg", 10_000_000, [torch.float32], ops.neg, torch.float32)
    config = choose(kernel, H100)
    assert (config.shape, config.x_block, config.warps) == (KernelShape.POINTWISE, 1024, 4)
