"""Hand-made scheduled kernels and a way to run many of them after one build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Accumulate,
    ArgumentRole,
    BufferArgument,
    Dimension,
    InnerLoop,
    LocalBuffer,
    OuterSegment,
    ScheduledKernel,
    Stage,
    Store,
)
from lampwork_inductor_core.ir.loop_body import Node, index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_symshape import IntExpr, integer

f32 = torch.float32


def read(name: str, dtype: torch.dtype, count: int) -> BufferArgument:
    return BufferArgument(name, dtype, ArgumentRole.READ, integer(count))


def write(name: str, dtype: torch.dtype, count: int) -> BufferArgument:
    return BufferArgument(name, dtype, ArgumentRole.WRITE, integer(count))


def pointwise(
    name: str,
    sizes: Sequence[int],
    body: object,
    arguments: Sequence[BufferArgument],
    out_index: IntExpr | None = None,
) -> ScheduledKernel:
    """`body(*symbols)` gives the value (or several, for out0, out1, ...) at a point; outputs are row-major."""
    symbols = [index_variable(k, size) for k, size in enumerate(sizes)]
    values = body(*symbols)  # type: ignore[operator]
    values = values if isinstance(values, tuple) else (values,)
    flat: IntExpr = integer(0)
    for symbol, size in zip(symbols, sizes):
        flat = flat * size + symbol
    stages = tuple(Stage(v, Store(f"out{k}", flat if out_index is None else out_index)) for k, v in enumerate(values))
    dims = tuple(Dimension(s, integer(n)) for s, n in zip(symbols, sizes))
    return ScheduledKernel(name, dims, (), (OuterSegment(stages),), tuple(arguments))


def reduction(
    name: str,
    kept: Sequence[int],
    reduced: Sequence[int],
    strides: tuple[Sequence[int], Sequence[int]],
    kind: ReductionKind,
    dtype: torch.dtype,
    accumulate: torch.dtype,
    result: torch.dtype,
    value: object = None,
) -> ScheduledKernel:
    """A reduction of in0, addressed by strides of kept and reduced dimensions, into a row-major out0."""
    outer = [index_variable(k, n) for k, n in enumerate(kept)]
    inner = [reduction_variable(k, n) for k, n in enumerate(reduced)]
    index: IntExpr = integer(0)
    for symbol, stride in zip([*outer, *inner], [*strides[0], *strides[1]]):
        index = index + symbol * stride
    flat: IntExpr = integer(0)
    total = 1
    for symbol, size in zip(outer, kept):
        flat = flat * size + symbol
        total *= size
    node: Node = ops.load("in0", index, dtype)
    node = node if value is None else value(node)  # type: ignore[operator]
    stage = Stage(node, Store("out0", flat), Accumulate(kind, accumulate, result))
    span = 1 + sum((n - 1) * s for n, s in zip([*kept, *reduced], [*strides[0], *strides[1]]))
    return ScheduledKernel(
        name,
        tuple(Dimension(s, integer(n)) for s, n in zip(outer, kept)),
        tuple(Dimension(s, integer(n)) for s, n in zip(inner, reduced)),
        (InnerLoop((stage,)),),
        (read("in0", dtype, span), write("out0", result, total)),
    )


__all__ = [
    "Accumulate",
    "ArgumentRole",
    "BufferArgument",
    "Dimension",
    "InnerLoop",
    "LocalBuffer",
    "OuterSegment",
    "ScheduledKernel",
    "Stage",
    "Store",
    "f32",
    "pointwise",
    "read",
    "reduction",
    "write",
]


@dataclass
class Case:
    """One run of a kernel: what it is called with and what must come out."""

    kernel: ScheduledKernel
    arguments: list[object]
    outputs: list[torch.Tensor]
    expected: list[torch.Tensor]
    label: str
    rtol: float = 0.0
    atol: float = 0.0
