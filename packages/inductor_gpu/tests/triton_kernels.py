"""Hand-made scheduled kernels, and a way to run one under the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Accumulate,
    ArgumentRole,
    BufferArgument,
    Dimension,
    InnerLoop,
    OuterSegment,
    Prefix,
    ScheduledKernel,
    SizeArgument,
    Stage,
    Store,
    forwarded,
)
from lampwork_inductor_core.ir.loop_body import Node, index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import ReductionKind, ScanKind
from lampwork_inductor_gpu.backend import import_source, launch_spec
from lampwork_inductor_gpu.heuristics import LaunchConfig
from lampwork_inductor_gpu.interpreted_launcher import InterpretedLauncher
from lampwork_inductor_gpu.kernel import write_kernel
from lampwork_symshape import IntExpr, Symbol, as_expr, integer


def argument(name: str, dtype: torch.dtype, count: IntExpr | int) -> BufferArgument:
    role = {"i": ArgumentRole.READ, "o": ArgumentRole.WRITE}[name[0]] if not name.startswith("inout") else None
    return BufferArgument(name, dtype, role or ArgumentRole.READ_WRITE, as_expr(count))


def run(kernel: ScheduledKernel, config: LaunchConfig, arguments: Sequence[torch.Tensor | float]) -> str:
    """Generate, import and launch a kernel; its text."""
    source = write_kernel(kernel, config)
    launcher = InterpretedLauncher(getattr(import_source(source), source.name), launch_spec(source))
    launcher(*arguments)
    return source.text


def pointwise(name: str, count: int, dtypes: Sequence[torch.dtype], build, out_dtype: torch.dtype) -> ScheduledKernel:
    """`out0[i] = build(in0[i], in1[i], ...)`."""
    i = index_variable(0, count)
    value: Node = build(*(ops.load(f"in{n}", i, dtype) for n, dtype in enumerate(dtypes)))
    inputs = [argument(f"in{n}", dtype, count) for n, dtype in enumerate(dtypes)]
    stage = Stage(value, store=Store("out0", i))
    return ScheduledKernel(
        name,
        (Dimension(i, integer(count)),),
        (),
        (OuterSegment((stage,)),),
        (*inputs, argument("out0", out_dtype, count)),
    )


def row_reduction(
    kind: ReductionKind, rows: int, columns: int, dtype: torch.dtype, accumulate: torch.dtype, result: torch.dtype
) -> ScheduledKernel:
    """`out0[i] = combine over r of in0[i, r]`."""
    i, r = index_variable(0, rows), reduction_variable(0, columns)
    stage = Stage(
        ops.load("in0", i * columns + r, dtype), store=Store("out0", i), accumulate=Accumulate(kind, accumulate, result)
    )
    return ScheduledKernel(
        kind.value,
        (Dimension(i, integer(rows)),),
        (Dimension(r, integer(columns)),),
        (InnerLoop((stage,)),),
        (argument("in0", dtype, rows * columns), argument("out0", result, rows)),
    )


def row_softmax(rows: int, columns: Symbol | int) -> ScheduledKernel:
    """Three passes over a row, as the schedule makes them."""
    f = torch.float32
    sizes = (SizeArgument(columns.name, columns),) if isinstance(columns, Symbol) else ()
    i, r = index_variable(0, rows), reduction_variable(0, columns)
    x = ops.load("in0", i * columns + r, f)
    largest = Stage(x, accumulate=Accumulate(ReductionKind.MAX, f, f), comment="amax: softmax, model.py:3")
    powers = ops.exp(ops.sub(x, forwarded(0, f)))
    total = Stage(powers, accumulate=Accumulate(ReductionKind.SUM, f, f))
    quotient = Stage(ops.truediv(powers, forwarded(1, f)), store=Store("out0", i * columns + r))
    return ScheduledKernel(
        "softmax",
        (Dimension(i, integer(rows)),),
        (Dimension(r, as_expr(columns)),),
        (InnerLoop((largest,)), InnerLoop((total,)), InnerLoop((quotient,))),
        (argument("in0", f, rows * columns), argument("out0", f, rows * columns), *sizes),
    )


def scaled_rows(rows: Symbol | int, columns: Symbol | int) -> ScheduledKernel:
    """`out0[i, j] = in0[i, j] * in1[j]`, over the flattened space."""
    f = torch.float32
    i, j = index_variable(0, rows), index_variable(1, columns)
    at = i * columns + j
    value = ops.mul(ops.load("in0", at, f), ops.load("in1", as_expr(j), f))
    count = as_expr(rows) * columns
    return ScheduledKernel(
        "scaled_rows",
        (Dimension(i, as_expr(rows)), Dimension(j, as_expr(columns))),
        (),
        (OuterSegment((Stage(value, store=Store("out0", at)),)),),
        (
            argument("in0", f, count),
            argument("in1", f, columns),
            argument("out0", f, count),
            *(SizeArgument(size.name, size) for size in (rows, columns) if isinstance(size, Symbol)),
        ),
    )


def row_scan(kind: ScanKind, rows: int, columns: int) -> ScheduledKernel:
    """`out0[i, r] = combine of in0[i, 0..r]`."""
    f = torch.float32
    i, r = index_variable(0, rows), reduction_variable(0, columns)
    at = i * columns + r
    stage = Stage(ops.load("in0", at, f), store=Store("out0", at), scan=Prefix(kind, f, f))
    return ScheduledKernel(
        f"scan_{kind.value}",
        (Dimension(i, integer(rows)),),
        (Dimension(r, integer(columns)),),
        (InnerLoop((stage,)),),
        (argument("in0", f, rows * columns), argument("out0", f, rows * columns)),
    )
