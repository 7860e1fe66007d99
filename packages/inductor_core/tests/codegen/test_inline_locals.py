"""Kernels without local rows: equal to those with them, also where a store's index is computed from one."""

import torch
from lampwork_inductor_core.codegen.interpret_kernel import interpret_kernel
from lampwork_inductor_core.codegen.kernel import inline_locals
from lampwork_inductor_core.codegen.scheduled_kernel import (
    ArgumentRole,
    BufferArgument,
    Dimension,
    Forwarded,
    InnerLoop,
    LocalBuffer,
    ScheduledKernel,
    Stage,
    Store,
    forwarded,
)
from lampwork_inductor_core.ir.loop_body import Load, index_variable, ops, reduction_variable, walk
from lampwork_inductor_core.ir.loops import ScatterMode
from lampwork_symshape import integer, symbol

ROWS, COLUMNS = 3, 4
I64 = torch.int64


def scatter() -> ScheduledKernel:
    """`out0[(in0[i, r] + 1) * 2 - 1] = in0[i, r]`, by way of a row of `in0 + 1`."""
    i, r = index_variable(0, ROWS), reduction_variable(0, COLUMNS)
    x = ops.load("in0", i * COLUMNS + r, I64)
    at = symbol("at", 0, 2 * ROWS * COLUMNS)
    row = Stage(ops.add(x, ops.constant(1, I64)), store=Store("local0", r + 0))
    twice = Stage(ops.mul(ops.load("local0", r + 0, I64), ops.constant(2, I64)))
    size = integer(2 * ROWS * COLUMNS)
    where_to = ops.checked_index(ops.sub(forwarded(1, I64), ops.constant(1, I64)), size)
    stored = Stage(x, store=Store("out0", at, ScatterMode.ASSIGN, ((at, where_to),)))
    return ScheduledKernel(
        "scatter",
        (Dimension(i, integer(ROWS)),),
        (Dimension(r, integer(COLUMNS)),),
        (InnerLoop((row,)), InnerLoop((twice, stored))),
        (
            BufferArgument("in0", I64, ArgumentRole.READ, integer(ROWS * COLUMNS)),
            BufferArgument("out0", I64, ArgumentRole.READ_WRITE, size),
        ),
        (LocalBuffer("local0", I64, integer(COLUMNS)),),
    )


def test_the_index_of_a_store_is_computed_again_too() -> None:
    x = torch.randperm(ROWS * COLUMNS)
    expected = torch.zeros(2 * ROWS * COLUMNS, dtype=I64)
    expected[2 * x + 1] = x
    kernel = scatter()
    without = inline_locals(kernel)
    assert not without.locals and len(without.stages()) == 2
    nodes = [n for stage in without.stages() for root in stage.roots for n in walk(root)]
    assert {n.buffer for n in nodes if isinstance(n, Load)} == {"in0"}
    assert {n.stage for n in nodes if isinstance(n, Forwarded)} == {0}
    for each in (kernel, without):
        out = torch.zeros(2 * ROWS * COLUMNS, dtype=I64)
        interpret_kernel(each, (x, out))
        assert torch.equal(out, expected)
