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

What a stage's value may read:
  - `Load(name, index)` of a buffer argument, or of a local row (`local0`) that an earlier InnerLoop filled. A WRITE
    argument may be loaded too, after the stage that stored it, and only at the same point (same outer and inner).
  - `Forwarded(stage)`: a stage of an earlier OuterSegment; an earlier stage of the *same* segment; or the finished
    result of an accumulating stage of an earlier InnerLoop. Never a plain stage of another InnerLoop: whatever has to
    cross from one inner loop to the next goes through a local row, a buffer, or is recomputed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from lampwork_symshape import IntExpr, Symbol

from ..ir.float_expr import FloatExpr
from ..ir.loop_body import Node, _intern
from ..ir.loops import ReductionKind, ScanKind, ScatterMode


@dataclass(frozen=True, slots=True, eq=False)
class Forwarded(Node):
    """In a stage's value: the value of an earlier stage of this kernel at the same point (`stage` is its position in
    `ScheduledKernel.stages()`); for a reduction stage, its finished result. Make one with `forwarded`."""

    stage: int


def forwarded(stage: int, dtype: torch.dtype) -> Forwarded:
    """The node that stands for an earlier stage's value; equal ones are the same object."""
    return _intern((Forwarded, dtype, stage), lambda: Forwarded(dtype, stage))


class ArgumentRole(enum.Enum):
    """What a kernel does with a buffer argument."""

    READ = "read"
    WRITE = "write"
    READ_WRITE = "read and write"


@dataclass(frozen=True, slots=True)
class BufferArgument:
    """A pointer to a buffer's first element (its data pointer: indices include the layout's offset already)."""

    name: str  # in0.. (READ), out0.. (WRITE), inout0.. (READ_WRITE: contents on entry matter, updated in place)
    dtype: torch.dtype
    role: ArgumentRole
    element_count: IntExpr  # of the underlying span, for 32-bit indexing decisions
    alignment: int = 1  # bytes that the pointer is known to be aligned to


@dataclass(frozen=True, slots=True)
class SizeArgument:
    """An integer (int64) that is not constant: the value of a symbol."""

    name: str
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class FloatArgument:
    """A Python float (float64). The nodes that read it are `FloatValue`s of the `FloatInput` of this name."""

    name: str  # f0, f1, ... in order of first use


KernelArgument = BufferArgument | SizeArgument | FloatArgument


@dataclass(frozen=True, slots=True)
class LocalBuffer:
    """A scratch row of one outer point: filled by one InnerLoop, read by later ones, gone after the outer point.

    No argument: the generated code owns it (a stack or per-thread array on a CPU, registers or shared memory on a GPU).
    A stage fills it by `Store(name, index)`, later stages `Load(name, index)`; `index` is the same in all of them and
    runs over the inner symbols only, densely, in [0, element_count). A device that cannot afford it recomputes instead:
    `codegen.kernel.inline_locals(kernel)` gives the equal kernel without local rows. A device that holds the whole
    inner space at once (persistent reductions) may treat a load as the value itself.
    """

    name: str  # local0, local1, ...
    dtype: torch.dtype
    element_count: IntExpr


@dataclass(frozen=True, slots=True)
class Dimension:
    """One loop of the iteration space: `symbol` runs over [0, size)."""

    symbol: Symbol
    size: IntExpr


@dataclass(frozen=True, slots=True)
class Store:
    """Write a stage's value to an argument or a local row at a flat element offset.

    `scatter` ADD: several points may hit one element and add up. ASSIGN: several may hit one element, any of them wins.
    """

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
    contraction: bool = False
    """The value is a product that a device sums on its matrix units; no other stage is in the loop."""
    window: bool = False
    """The loop runs over a window (see `Reduction`); no other stage is in it."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Combine a stage's value with those of all earlier inner points of the same outer point, in order (a scan).

    The stage's value, as stored and forwarded, is the running combination in `accumulate`, converted to `result`. Scans
    stand in kernels with exactly one inner dimension.
    """

    kind: ScanKind
    accumulate: torch.dtype
    result: torch.dtype


@dataclass(frozen=True, slots=True)
class Stage:
    """One value of the kernel: computed, then forwarded, stored, accumulated, or several of these.

    `comment` is no part of the stage's identity: it is the first user's line of a text that others may share.
    """

    value: Node
    store: Store | None = None
    accumulate: Accumulate | None = None  # its `store`, if any, then happens once per outer point, after the loop
    comment: str = field(default="", compare=False)  # ATen node and the user's line
    scan: Prefix | None = None

    @property
    def roots(self) -> tuple[Node, ...]:
        """All values that the stage computes: its own, and the indices of its store."""
        return (self.value, *(n for _, n in self.store.indirect)) if self.store is not None else (self.value,)


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

    `arguments` are in call order: buffers read, buffers updated in place, buffers written, sizes, floats. No two
    arguments of one call overlap when one of them is written. `KernelLaunch` says which graph buffers stand for them
    in one use.
    """

    name: str  # what it does, e.g. "add_gelu" (without a number)
    outer: tuple[Dimension, ...]
    inner: tuple[Dimension, ...]
    segments: tuple[Segment, ...]
    arguments: tuple[KernelArgument, ...]
    locals: tuple[LocalBuffer, ...] = ()

    def stages(self) -> tuple[Stage, ...]:
        return tuple(s for segment in self.segments for s in segment.stages)


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """One call of a kernel: which graph buffers (or numbers) stand for its arguments, in order."""

    kernel: ScheduledKernel
    buffers: tuple[str, ...]
    sizes: tuple[IntExpr, ...] = ()
    floats: tuple[FloatExpr, ...] = ()


@dataclass(frozen=True, slots=True)
class KernelSource:
    """The text that a device backend generated for a kernel.

    `name` is the entry point, unique by content (a digest is part of it), so equal kernels share one. `launch` is
    whatever the backend needs again at compile or launch time, as plain data (block sizes, grid formula, ...).
    """

    name: str
    text: str
    arguments: tuple[KernelArgument, ...]
    launch: Mapping[str, object]
