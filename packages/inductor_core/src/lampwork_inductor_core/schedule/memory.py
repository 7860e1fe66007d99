"""Memory planning: where each buffer lies, when it may be overwritten, and when it is free.

Runs on the ordered steps once it is known which buffers the kernels store. A buffer takes over the memory of a dead one
of the same kind and size, or of one that dies in the very kernel that writes it if that kernel may work in place.
Buffers that live inside one kernel get no memory. Invariant: two buffers that are live at one step never share
memory, unless one is a view of the other; constants are never written, and of the graph's inputs only one whose new
value it is (`new_values`), once nothing reads the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from lampwork_symshape import IntExpr

from ..ir.buffer import Buffer, ComputedBuffer, ExternBuffer
from ..ir.layout import Layout
from ..ir.views import span_of
from .dependencies import byte_count
from .new_values import Overwrites

MayOverwrite = Callable[[int, str, str], bool]  # (step, dying source, written target)


_PEAK_SLACK = 1.02  # how far reuse may raise the peak above that of freeing everything at once


_NO_INPUTS = Overwrites()


@dataclass(frozen=True, slots=True)
class StepAccess:
    """What one step does to memory. `written` are buffers that the step itself needs allocated before it runs; `made`
    are results that the step brings along (extern calls that allocate)."""

    reads: tuple[str, ...]
    written: tuple[str, ...]
    made: tuple[str, ...] = ()
    scatter_initial: str | None = None  # the buffer whose contents the (only) written one starts from


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a written buffer lies: in new memory, or in that of `source`. `in_place`: the step reads it there, too."""

    name: str
    source: str | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`placements[k]` before step k, `frees[k]` after it: buffers whose memory nobody takes over or needs again."""

    placements: tuple[tuple[Placement, ...], ...]
    frees: tuple[tuple[str, ...], ...]
    roots: Mapping[str, str]  # buffer -> the buffer whose memory it lies in
    made: tuple[tuple[str, ...], ...]  # what step k allocates by itself

    def peak_bytes(self, sizes: Mapping[str, int], others: Sequence[int] = ()) -> int:
        """The most bytes live at once, inputs and constants apart. `others`: what else each step holds."""
        live = peak = 0
        held: set[str] = set()
        for number, (placed, made, freed) in enumerate(zip(self.placements, self.made, self.frees)):
            new = [p.name for p in placed if p.source is None]
            for name in (*new, *made):
                live += sizes[name]
                held.add(name)
            peak = max(peak, live + (others[number] if others else 0))
            for name in freed:
                root = self.roots.get(name, name)
                if root in held:
                    held.discard(root)
                    live -= sizes[root]
        return peak


@dataclass(frozen=True, slots=True)
class _Kind:
    """Buffers of one kind can take over each other's memory."""

    device: torch.device
    dtype: torch.dtype
    span: IntExpr


def _last_uses(steps: Sequence[StepAccess], outputs: frozenset[str]) -> dict[str, int]:
    """The last step that touches each buffer; the number of steps for what is returned."""
    last: dict[str, int] = {}
    for number, step in enumerate(steps):
        for name in (*step.reads, *step.written, *step.made, *_initial(step)):
            last[name] = number
    for name in outputs:
        last[name] = len(steps)
    return last


def _viewed(buffers: Mapping[str, Buffer]) -> set[str]:
    """Buffers of which some operator's result is a view, and these results: their memory is never given away."""
    found: set[str] = set()
    for name, buffer in buffers.items():
        if isinstance(buffer, ExternBuffer) and buffer.aliases is not None:
            found.update((name, buffer.aliases))
    return found


def plan(
    steps: Sequence[StepAccess],
    buffers: Mapping[str, Buffer],
    outputs: frozenset[str],
    may_overwrite: MayOverwrite,
    *,
    reuse: bool = True,
    in_place: bool = True,
    inputs: Overwrites = _NO_INPUTS,
    handed_over: frozenset[str] | None = None,
) -> MemoryPlan:
    """Place every written buffer. `may_overwrite` is asked only for buffers of one kind of which the source dies there.
    `inputs`: which of them may be written over. `handed_over`: where the peak matters more than time, the inputs that
    are freed behind their last reader.

    Memory that waits for its next user is not free meanwhile, so reuse reaches only as far ahead as it does not raise
    the peak above that of freeing everything at once; by little, where the peak does not matter more than time.
    """
    last = _last_uses(steps, outputs)
    viewed = _viewed(buffers)
    sizes = {n: byte_count(b.layout) if isinstance(b.layout, Layout) else 0 for n, b in buffers.items()}

    def planned(window: int) -> MemoryPlan:
        planner = _Planner(buffers, last, viewed, may_overwrite, window, in_place, inputs)
        for number, step in enumerate(steps):
            planner.step(number, step)
        return planner.result(len(steps))

    frugal = planned(0)
    others = [] if handed_over is None else _other_bytes(steps, last, sizes, handed_over)
    highest = frugal.peak_bytes(sizes, others) * (_PEAK_SLACK if handed_over is None else 1)
    for window in (len(steps), 64, 16, 4, 1) if reuse else ():
        reusing = planned(window)
        if reusing.peak_bytes(sizes, others) <= highest:
            return reusing
    return frugal


def _other_bytes(
    steps: Sequence[StepAccess], last: Mapping[str, int], sizes: Mapping[str, int], handed_over: frozenset[str]
) -> list[int]:
    """What each step holds beside planned buffers: inputs not yet freed, and what a library call may need inside, taken
    to be copies of all that it reads."""
    dying = [0] * (len(steps) + 1)
    for name in handed_over:
        dying[last.get(name, 0)] += sizes.get(name, 0)
    held = sum(dying)
    found: list[int] = []
    for number, step in enumerate(steps):
        found.append(held + (sum(sizes.get(name, 0) for name in step.reads) if step.made else 0))
        held -= dying[number]
    return found


class _Planner:
    """The state of one run of planning. `window`: how many steps dead memory may wait for its next user."""

    def __init__(
        self,
        buffers: Mapping[str, Buffer],
        last: Mapping[str, int],
        viewed: set[str],
        may_overwrite: MayOverwrite,
        window: int,
        in_place: bool,
        inputs: Overwrites,
    ) -> None:
        self.buffers, self.last, self.viewed = buffers, last, viewed
        self.may_overwrite, self.window, self.in_place = may_overwrite, window, in_place
        self.inputs = inputs
        self.free: dict[_Kind, list[tuple[int, str]]] = {}  # dead memory: when it died, and whose it was
        self.roots: dict[str, str] = {}
        self.placements: list[tuple[Placement, ...]] = []
        self.made: list[tuple[str, ...]] = []
        self.pending: dict[int, list[str]] = {}  # step -> buffers that die after it
        self.taken: set[str] = set()  # buffers whose memory has gone on to another

    def _kind(self, name: str) -> _Kind | None:
        layout = self.buffers[name].layout
        if not isinstance(layout, Layout) or layout.offset != 0:
            return None
        return _Kind(layout.device, layout.dtype, span_of(layout))

    def _owned(self, name: str) -> bool:
        """Whether the memory is ours to give away: made by this graph and no view involved."""
        buffer = self.buffers[name]
        if name in self.viewed:
            return False
        if isinstance(buffer, ExternBuffer):
            # one of several results may share memory with the others; the first call checks that a single one does not
            return buffer.out_variant is not None or buffer.result_index is None
        return isinstance(buffer, ComputedBuffer)

    def step(self, number: int, step: StepAccess) -> None:
        """Place what a step writes; then give back what dies with it."""
        placed: list[Placement] = []
        dying = [n for n in (*_initial(step), *step.reads) if self.last[n] == number and self._owned(n)]
        for name in step.written:
            placed.append(self._place(number, name, step, dying))
        self.placements.append(tuple(placed))
        self.made.append(step.made)
        for name in dict.fromkeys((*step.reads, *step.written, *step.made, *_initial(step))):
            if self.last[name] == number and name not in self.taken:
                self._release(number, name)

    def _place(self, number: int, name: str, step: StepAccess, dying: list[str]) -> Placement:
        kind = self._kind(name)
        self.roots[name] = name
        if kind is None:
            return Placement(name)
        if self.in_place:
            of_caller = self._input_for(number, name)
            if of_caller is not None:
                is_read = of_caller in step.reads or of_caller == step.scatter_initial
                if not is_read or self._works_in_place(number, name, step, of_caller):
                    return self._take(name, of_caller, in_place=is_read)
            for source in dying:
                if source in self.taken or source in step.written or self._kind(source) != kind:
                    continue
                if self._works_in_place(number, name, step, source):
                    return self._take(name, source, in_place=True)
        waiting = self.free.get(kind, [])
        if waiting and number - waiting[-1][0] <= self.window:
            return self._take(name, waiting.pop()[1], in_place=False)
        return Placement(name)

    def _take(self, name: str, source: str, *, in_place: bool) -> Placement:
        self.taken.add(source)
        self.roots[name] = self.roots.get(source, source)
        return Placement(name, source, in_place)

    def _works_in_place(self, number: int, name: str, step: StepAccess, source: str) -> bool:
        """Whether a step that reads `source` may write over it."""
        if step.scatter_initial is not None:
            return source == step.scatter_initial and source not in step.reads
        return self.may_overwrite(number, source, name)

    def _input_for(self, number: int, name: str) -> str | None:
        """The input of which a buffer is the new value, if nothing behind this step reads the old one."""
        found = self.inputs.inputs.get(name)
        return None if found is None or number < self.inputs.first or self.last.get(found, -1) > number else found

    def _release(self, number: int, name: str) -> None:
        if not isinstance(self.buffers[name], ComputedBuffer | ExternBuffer):
            return
        self.pending.setdefault(number, []).append(name)
        kind = self._kind(name)
        if self.window and self._owned(name) and kind is not None:
            self.free.setdefault(kind, []).append((number, name))

    def result(self, count: int) -> MemoryPlan:
        """Freed right after its last use is what no later buffer takes over."""
        frees = tuple(tuple(n for n in self.pending.get(k, ()) if n not in self.taken) for k in range(count))
        return MemoryPlan(tuple(self.placements), frees, self.roots, tuple(self.made))


def _initial(step: StepAccess) -> tuple[str, ...]:
    return (step.scatter_initial,) if step.scatter_initial is not None else ()
