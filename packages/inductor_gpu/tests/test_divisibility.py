"""For which sizes it matters that they are divided: no variants for the others."""

from __future__ import annotations

import pytest
import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Accumulate,
    Dimension,
    InnerLoop,
    OuterSegment,
    ScheduledKernel,
    SizeArgument,
    Stage,
    Store,
)
from lampwork_inductor_core.ir.loop_body import index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_inductor_gpu.backend import launch_spec
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.divisibility import dividing_sizes
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig, choose
from lampwork_inductor_gpu.kernel import write_kernel
from lampwork_symshape import IntExpr, as_expr, product, symbol
from triton_kernels import argument, scaled_rows

B, H, S, W = (symbol(name, 1) for name in "bhsw")
F32 = torch.float32
POINTWISE = LaunchConfig(KernelShape.POINTWISE, 256, 1, 4)


def sums(outer: list[IntExpr | int], inner: list[IntExpr | int], strides: list[IntExpr | int]) -> ScheduledKernel:
    """Sums over the inner dimensions; `strides` are those of the input, outer dimensions first."""
    rows = [index_variable(k, as_expr(size)) for k, size in enumerate(outer)]
    columns = [reduction_variable(k, as_expr(size)) for k, size in enumerate(inner)]
    index, at = as_expr(0), as_expr(0)
    for counter, stride in zip([*rows, *columns], strides, strict=True):
        index = index + counter * stride
    for row, size in zip(rows, outer):
        at = at * size + row
    stage = Stage(ops.load("in0", index, F32), Store("out0", at), Accumulate(ReductionKind.SUM, F32, F32))
    free = sorted({s for e in [*outer, *inner, *strides] for s in as_expr(e).free_symbols}, key=str)
    count = product([*outer, *inner])
    return ScheduledKernel(
        "sums",
        tuple(Dimension(c, as_expr(n)) for c, n in zip(rows, outer)),
        tuple(Dimension(c, as_expr(n)) for c, n in zip(columns, inner)),
        (InnerLoop((stage,)),),
        (argument("in0", F32, count), argument("out0", F32, product(outer)), *(SizeArgument(str(s), s) for s in free)),
    )


def names(kernel: ScheduledKernel, config: LaunchConfig | None = None) -> set[str]:
    sizes = [a.name for a in kernel.arguments if isinstance(a, SizeArgument)]
    return {sizes[k] for k in dividing_sizes(kernel, config or choose(kernel, H100))}


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (sums([B], [S], [S, 1]), "s"),
        (sums([B], [24], [24, 1]), ""),
        # rows of a view: the strides matter, the heads that number them do not
        (sums([B, H], [S], [W, 64, 1]), "sw"),
        (sums([B], [H, S], [W, S, 1]), "hsw"),
        # along columns: rows of the memory start where they say, and end
        (sums([S], [B], [1, S]), "s"),
        (sums([B, S], [H], [H * S, 1, S]), "bhs"),
        # short columns, many of them in one program
        (sums([S], [4], [1, S]), "s"),
    ],
    ids=["rows", "known rows", "rows of a view", "inner pairs", "columns", "batched columns", "short"],
)
def test_sizes_of_a_reduction(kernel: ScheduledKernel, expected: str) -> None:
    assert names(kernel) == set(expected)


def test_sizes_of_a_pointwise_kernel() -> None:
    assert names(scaled_rows(B, S), POINTWISE) == {"b", "s"}
    assert names(scaled_rows(B, 24), POINTWISE) == {"b"}


def test_an_int_that_is_only_data_does_not_matter() -> None:
    n, i = symbol("n", None), index_variable(0, S)
    value = ops.index_value(i * 3 + n)
    kernel = ScheduledKernel(
        "plus",
        (Dimension(i, S),),
        (),
        (OuterSegment((Stage(value, store=Store("out0", as_expr(i))),)),),
        (argument("out0", torch.int64, S), SizeArgument("n", n), SizeArgument("s", S)),
    )
    assert names(kernel, POINTWISE) == {"s"}
    spec = launch_spec(write_kernel(kernel, POINTWISE))
    assert spec.dividing == (1,)
    assert spec.divided_at((16, 32)) == (False, True) and spec.divided_at((16, 33)) == (False, False)
