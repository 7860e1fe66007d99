"""Traffic: what a kernel moves between memory and registers, and in which order.

Between the scheduled kernel and its launch configuration: heuristics decide by these facts and by nothing else.
Invariant: a pure function of the kernel; symbolic sizes count as `UNKNOWN_SIZE`, for choices only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    BufferArgument,
    Dimension,
    InnerLoop,
    ScheduledKernel,
    Segment,
    Stage,
)
from lampwork_inductor_core.ir.loop_body import Load, walk
from lampwork_symshape import IntExpr, Symbol, stride_of

from .indexing import is_local

UNKNOWN_SIZE = 1 << 20  # what a symbolic size is taken for: small kernels cost a launch, whatever their blocks


@dataclass(frozen=True, slots=True)
class Access:
    """One access to memory: `points` elements of `itemsize` bytes, neighbours along the loop `fast` (None: none)."""

    buffer: str
    index: IntExpr
    itemsize: int
    writes: bool
    points: int
    fast: Symbol | None
    segment: int

    @property
    def bytes(self) -> int:
        return self.points * self.itemsize


def size_of(dimensions: Sequence[Dimension]) -> int:
    """The points of a nest of loops."""
    total = 1
    for dimension in dimensions:
        total *= int(dimension.size) if dimension.size.is_constant else UNKNOWN_SIZE
        if not dimension.size.is_constant:
            return UNKNOWN_SIZE
    return total


def accesses(kernel: ScheduledKernel) -> tuple[Access, ...]:
    """Every different access, in order of the segments."""
    found: dict[tuple[str, IntExpr, bool, int], Access] = {}
    dtypes = {a.name: a.dtype for a in kernel.arguments if isinstance(a, BufferArgument)}
    for number, segment in enumerate(kernel.segments):
        for buffer, index, writes in _of_segment(segment):
            key = (buffer, index, writes, number)
            if key not in found:
                found[key] = _access(kernel, dtypes[buffer], buffer, index, writes=writes, segment=number)
    return tuple(found.values())


def _of_segment(segment: Segment) -> Iterator[tuple[str, IntExpr, bool]]:
    for stage in segment.stages:
        for load in loads_of(stage):
            yield load.buffer, load.index, False
        if stage.store is not None and not is_local(stage.store.argument):
            yield stage.store.argument, stage.store.index, True


def loads_of(stage: Stage) -> Iterator[Load]:
    """The loads from memory of a stage."""
    for root in stage.roots:
        for node in walk(root):
            if isinstance(node, Load) and not is_local(node.buffer):
                yield node


def _access(
    kernel: ScheduledKernel, dtype: torch.dtype, buffer: str, index: IntExpr, *, writes: bool, segment: int
) -> Access:
    dimensions = (*kernel.outer, *kernel.inner)
    free = index.free_symbols
    used = [d for d in dimensions if d.symbol in free]
    fast = next((d.symbol for d in reversed(used) if stride_of(index, d.symbol) == 1), None)
    if fast is None:  # merged loops: the remainder by the last part's size steps by one
        fast = next((d.symbol for d in reversed(used) if stride_of(index, d.symbol) is None), None)
    return Access(buffer, index, dtype.itemsize, writes, size_of(used), fast, segment)


@dataclass(frozen=True, slots=True)
class Traffic:
    """A kernel's accesses, and those `whole` ones that make up its time."""

    all: tuple[Access, ...]
    whole: tuple[Access, ...]

    @staticmethod
    def of(kernel: ScheduledKernel) -> Traffic:
        """What a kernel moves."""
        found = accesses(kernel)
        most = max((a.points for a in found), default=0)
        return Traffic(found, tuple(a for a in found if 2 * a.points > most))

    @property
    def itemsize(self) -> int:
        """Bytes of the widest element among the whole accesses."""
        return max((a.itemsize for a in self.whole), default=4)

    @property
    def loaded(self) -> int:
        """Bytes that are loaded a point."""
        once = {(a.buffer, a.index): a.itemsize for a in self.whole if not a.writes}
        return sum(once.values())

    def bytes_along(self, symbol: Symbol | None) -> int:
        """Bytes of the whole accesses whose neighbours lie along a loop."""
        return sum(a.bytes for a in self.whole if a.fast is symbol)


def held_words(kernel: ScheduledKernel) -> int:
    """How many values of 4 bytes a point a program must hold at once if it keeps whole rows: what is read or computed
    in one inner loop and used in a later one. Rows that all programs share (weights) are held within what they make."""
    first: dict[object, int] = {}
    last: dict[object, int] = {}
    words: dict[object, int] = {}
    inner, outer = frozenset(d.symbol for d in kernel.inner), frozenset(d.symbol for d in kernel.outer)
    sizes = {b.name: b.dtype.itemsize for b in kernel.locals}
    for number, segment in enumerate(kernel.segments):
        if not isinstance(segment, InnerLoop):
            continue
        for stage in segment.stages:
            for node in (n for root in stage.roots for n in walk(root) if isinstance(n, Load)):
                free = node.index.free_symbols
                if not is_local(node.buffer) and (inner.isdisjoint(free) or (outer and outer.isdisjoint(free))):
                    continue
                key = node.buffer if is_local(node.buffer) else (node.buffer, node.index)
                first.setdefault(key, number)
                last[key] = number
                words[key] = max(1, sizes.get(node.buffer, node.dtype.itemsize) // 4)
            store = stage.store
            if store is not None and stage.accumulate is None:
                key = store.argument if is_local(store.argument) else (store.argument, store.index)
                first.setdefault(key, number)
                last.setdefault(key, number)
                words.setdefault(key, max(1, stage.value.dtype.itemsize // 4))
    boundaries = range(len(kernel.segments))
    return max((sum(words[k] for k in first if first[k] <= b < last[k]) for b in boundaries), default=0)
