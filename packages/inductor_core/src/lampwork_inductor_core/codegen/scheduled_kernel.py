"""ScheduledKernel: one kernel, fully decided, as a device's code generator gets it.

Between the schedule and the text: iteration space, segments in order, arguments. Loads of values that the same kernel
made at the same point are already replaced by `Forwarded`; loop dimensions are already merged and ordered so that the
last one is the one to vectorise. Invariant: names inside are canonical (`in0`, `out0`, `local0`), so two kernels that
do the same are equal data and get one text.

    for outer point:                    (parallel)
        OuterSegment: stages once per outer point
        InnerLoop:    for inner point: stages; reductions accumulate here
        OuterSegment: finish with the reduction results
        InnerLoop:    e.g. the normalisation that needed the mean
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lampwork_symshape import IntExpr, Symbol

from ..ir.loop_body import Node
from ..ir.loops import ReductionKind, ScatterMode


@dataclass(frozen=True, slots=True, eq=False)
class Forwarded(Node):
    """In a stage's value: the value of an earlier stage of this kernel at the same point (`stage` is its position in
    `ScheduledKernel.stages()`); for a reduction stage, its finished result."""

    stage: int


class ArgumentRole(enum.Enum):
    """What a kernel does with a buffer argument."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read and write"


@dataclass(frozen=True, slots=True)
class BufferArgument:
    """A pointer to a buffer's first element (its data pointer: indices include the layout's offset already)."""

    name: str
    dtype: torch.dtype
    role: ArgumentRole
    element_count: IntExpr  # of the underlying span, for 32-bit indexing decisions
    alignment: int = 1  # bytes that the pointer is known to be aligned to


@dataclass(frozen=True, slots=True)
class SizeArgument:
    """An integer (int64) that is not constant: the value of a symbol."""

    name: str
    symbol: Symbol


KernelArgument = BufferArgument | SizeArgument


@dataclass(frozen=True, slots=True)
class Dimension:
    """One loop of the iteration space: `symbol` runs over [0, size)."""

    symbol: Symbol
    size: IntExpr


@dataclass(frozen=True, slots=True)
class Store:
    """Write a stage's value to an argument at a flat element offset. `ATOMIC` adds where several points may meet."""

    argument: str
    index: IntExpr
    scatter: ScatterMode | None = None
    indirect: tuple[tuple[Symbol, Node], ...] = ()


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Combine a stage's value over the inner loop; the result is what later segments see as `Forwarded(stage)`."""

    kind: ReductionKind
    accumulate: torch.dtype
    result: torch.dtype


@dataclass(frozen=True, slots=True)
class Stage:
    """One value of the kernel: computed, then stored, accumulated, both forwarded only, or stored and forwarded."""

    value: Node
    store: Store | None = None
    accumulate: Accumulate | None = None  # its `store`, if any, then happens once per outer point, after the loop
    comment: str = ""  # ATen node and the user's line


@dataclass(frozen=True, slots=True)
class OuterSegment:
    """Stages run once per outer point."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class InnerLoop:
    """Stages run for every inner point of an outer point, in one loop."""

    stages: tuple[Stage, ...]


Segment = OuterSegment | InnerLoop


@dataclass(frozen=True, slots=True)
class ScheduledKernel:
    """One kernel. Pointwise kernels have no inner dimensions and one OuterSegment.

    `arguments` are in call order: buffers read, buffers written, then sizes. `buffers` maps argument names to the graph's
    buffer names for this one use; it is no part of the kernel's identity.
    """

    name: str  # what it does, e.g. "add_gelu" (without a number)
    outer: tuple[Dimension, ...]
    inner: tuple[Dimension, ...]
    segments: tuple[Segment, ...]
    arguments: tuple[KernelArgument, ...]

    def stages(self) -> tuple[Stage, ...]:
        return tuple(s for segment in self.segments for s in segment.stages)


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """One call of a kernel: which graph buffers (or symbols) stand for its arguments, in order."""

    kernel: ScheduledKernel
    buffers: tuple[str, ...]
    sizes: tuple[IntExpr, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelSource:
    """The text that a device backend generated for a kernel.

    `name` is the entry point, unique by content (a digest is part of it), so equal kernels share one. `launch` is whatever
    the backend needs again at compile or launch time, as plain data (block sizes, grid formula, ...).
    """

    name: str
    text: str
    arguments: tuple[KernelArgument, ...]
    launch: Mapping[str, object]
