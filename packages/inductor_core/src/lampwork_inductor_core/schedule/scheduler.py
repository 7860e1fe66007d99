"""The scheduler: a lowered graph in, an ordered list of fused nodes and extern calls out.

Pairs that share data wait in a queue ordered by the bytes that fusing them saves; a fused pair re-enters the queue with
its new neighbours. Cycles are impossible by construction: every node carries the bit sets of all it depends on and of
all that depends on it, kept up to date at each fusion. Invariant: the order is topological; 1,000 nodes take < 0.1 s.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..backend import Verdict
from ..config import ScheduleConfig
from ..ir.buffer import Buffer, ComputedBuffer, ExternBuffer, LoweredGraph
from ..ir.layout import Layout
from .dependencies import (
    DependencyGraph,
    ExternNode,
    LoopNode,
    NodeKind,
    buffers_by_name,
    build_dependencies,
    byte_count,
    graph_nodes,
    is_empty,
    live_nodes,
    reads_of,
    writes_of,
)
from .fusion import FusedNode, Refusal, fuse, single
from .loop_order import normalise
from .score import argument_count, keeps_parallelism, shared_bytes, walks_alike, worth_sharing

_MAX_REFUSALS = 256
CanFuse = Callable[[FusedNode, FusedNode], Verdict]
Tuned = Callable[[torch.device], ScheduleConfig]
Step = FusedNode | ExternNode


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps in order. `buffers` are all of the graph's by name; `empty` are buffers without elements: nothing fills
    them."""

    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    outputs: frozenset[str]
    readers: Mapping[str, tuple[int, ...]]  # buffer -> positions of the steps that read it
    empty: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()  # why pairs that share data were left apart, for `explain`

    def __str__(self) -> str:
        return "\n".join(_step_lines(self.steps))


def _step_lines(steps: Sequence[Step]) -> Iterator[str]:
    for number, step in enumerate(steps):
        if isinstance(step, ExternNode):
            reads = ", ".join(step.read_buffers)
            yield f"{number:4d}  extern {', '.join(writes_of(step))} = {step.results[0].target}({reads})"
            continue
        space = " x ".join(map(str, step.space.outer)) or "1"
        inner = " x ".join(map(str, step.space.inner))
        yield f"{number:4d}  kernel over {space}" + (f", each with {inner}" if inner else "")
        for member in step.members:
            origin = ", ".join(member.node.buffer.origin.nodes)
            reads = ", ".join(dict.fromkeys(access.buffer for access in member.reads))
            kind, level = member.node.kind.value, member.level.value
            yield f"        {member.node.name} = {kind} ({level}) of {reads or 'nothing'}  # {origin}"


def step_reads(step: Step) -> tuple[str, ...]:
    """The buffers from outside that a step reads."""
    if isinstance(step, ExternNode):
        return step.read_buffers
    return tuple(name for name in step.reads if name not in step.writes)


def step_writes(step: Step) -> tuple[str, ...]:
    """The buffers that a step defines."""
    return writes_of(step) if isinstance(step, ExternNode) else tuple(step.writes)


def schedule(
    graph: LoweredGraph, config: ScheduleConfig, can_fuse: CanFuse | None = None, tuned: Tuned | None = None
) -> Schedule:
    """Dependencies, normal loops, fusion, order. `tuned`: a device's own configuration, where that is another. Raises
    ScheduleError on a malformed graph."""
    outputs = frozenset(o.buffer for o in graph.outputs if o.buffer is not None)
    buffers = buffers_by_name(graph)
    nodes = live_nodes(graph_nodes(graph), outputs)
    # a scatter of nothing still copies what it would have changed
    fills_nothing = (n for n in nodes if isinstance(n, LoopNode) and n.kind is not NodeKind.SCATTER)
    empty = tuple(n.name for n in fills_nothing if is_empty(n.space))
    kept = [normalise(n) if isinstance(n, LoopNode) else n for n in nodes if n.name not in empty]
    dependencies = build_dependencies(kept, outputs)
    fusing = _Fusing(dependencies, buffers, config, can_fuse, tuned or (lambda _: config))
    fusing.run()
    steps = fusing.ordered()
    readers: dict[str, list[int]] = {}
    for number, step in enumerate(steps):
        for name in step_reads(step):
            readers.setdefault(name, []).append(number)
    frozen = {name: tuple(numbers) for name, numbers in readers.items()}
    return Schedule(tuple(steps), buffers, outputs, frozen, empty, tuple(fusing.refusals()))


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Fusing:
    """The state of one run of fusion; thrown away afterwards. Groups are numbered; -1 never occurs."""

    def __init__(
        self,
        graph: DependencyGraph,
        buffers: Mapping[str, Buffer],
        config: ScheduleConfig,
        can_fuse: CanFuse | None,
        tuned: Tuned,
    ) -> None:
        self.config = config
        self.tuned = tuned
        self.can_fuse = can_fuse
        self.buffers = buffers
        self.outputs = graph.outputs
        self.predecessors = graph.predecessors
        self.refused: dict[tuple[int, int], str] = {}  # positions of both sides -> why
        self.sizes = {n: byte_count(b.layout) if isinstance(b.layout, Layout) else 0 for n, b in buffers.items()}
        self.groups: dict[int, Step] = {}
        self.group_of: list[int] = list(range(len(graph.nodes)))  # by program position
        self.masks: dict[int, int] = {}
        self.ancestors: dict[int, int] = {}
        self.descendants: dict[int, int] = {}
        self.touching: dict[str, set[int]] = {}  # buffer -> groups that read or write it
        self.queue: list[tuple[int, int, int, int]] = []
        self.next_group = len(graph.nodes)
        for position, node in enumerate(graph.nodes):
            self.groups[position] = node if isinstance(node, ExternNode) else single(node, position)
            self.masks[position] = 1 << position
            above = 0
            for before in graph.predecessors[position]:
                above |= self.ancestors[before] | 1 << before
            self.ancestors[position] = above
            for name in (*reads_of(node), *writes_of(node)):
                self.touching.setdefault(name, set()).add(position)
        below = [0] * len(graph.nodes)
        for position in reversed(range(len(graph.nodes))):
            for before in graph.predecessors[position]:
                below[before] |= below[position] | 1 << position
        self.descendants = dict(enumerate(below))

    # ------------------------------------------------------------------------------------------------- candidate pairs

    def run(self) -> None:
        """Fuse until no pair is left that may and pays."""
        for name, touching in self.touching.items():
            self._push_neighbours(name, sorted(touching))
        while self.queue:
            score, _, first, second = heapq.heappop(self.queue)
            if first in self.groups and second in self.groups:
                self._try(first, second, -score)

    def _push_neighbours(self, name: str, touching: Sequence[int]) -> None:
        """Pairs of all that touch a buffer; a buffer that very many touch pairs each with its next few only."""
        fusible = [g for g in touching if isinstance(self.groups.get(g), FusedNode)]
        reach = self.config.horizontal_reach
        writer = next((g for g in fusible if name in self._fused(g).writes), None)
        for k, group in enumerate(fusible):
            for other in fusible[k + 1 : k + 1 + reach]:
                self._push(group, other)
            if writer is not None and group != writer:
                self._push(writer, group)

    def _fused(self, group: int) -> FusedNode:
        node = self.groups[group]
        assert isinstance(node, FusedNode)
        return node

    def _push(self, first: int, second: int) -> None:
        a, b = self._fused(first), self._fused(second)
        if not a.fusible or not b.fusible:
            return
        if not self.config.fuse_with_reductions and a.has_inner != b.has_inner:
            return
        score = shared_bytes(a, b, self.sizes)
        if score <= 0:
            return
        distance = abs(a.positions.bit_length() - b.positions.bit_length())
        heapq.heappush(self.queue, (-score, distance, min(first, second), max(first, second)))

    def _cycle(self, first: int, second: int) -> bool:
        """Whether something outside the pair depends on one of them and is needed by the other."""
        inside = self.masks[first] | self.masks[second]
        between = (self.descendants[first] & self.ancestors[second]) | (
            self.descendants[second] & self.ancestors[first]
        )
        return bool(between & ~inside)

    def _dependent(self, first: int, second: int) -> bool:
        return bool(self.descendants[first] & self.masks[second] or self.descendants[second] & self.masks[first])

    def _try(self, first: int, second: int, score: int) -> None:
        if self._cycle(first, second):
            return
        a, b = self._fused(first), self._fused(second)
        config = self.tuned(a.device)
        if len(a.members) + len(b.members) > config.max_fused or argument_count(a, b) > config.max_arguments:
            return
        if not self._dependent(first, second):
            far = abs(a.positions.bit_length() - b.positions.bit_length()) > config.horizontal_distance
            if far or not worth_sharing(a, b, score, self.sizes, config):
                return
        fused = fuse(a, b)
        if isinstance(fused, Refusal):
            self._refuse(a, b, fused.reason)
            return
        if not self._dependent(first, second) and not walks_alike(a, b, fused):
            self._refuse(a, b, "they walk memory in different orders")
            return
        if not keeps_parallelism(a, b, fused, config):
            self._refuse(a, b, "too few rows would be left to run in parallel")
            return
        if self.can_fuse is not None:
            verdict = self.can_fuse(a, b)
            if not verdict.allowed:
                self._refuse(a, b, verdict.reason)
                return
        self._replace(first, second, fused)

    def _refuse(self, a: FusedNode, b: FusedNode, reason: str) -> None:
        self.refused[a.positions, b.positions] = f"{a.name} | {b.name}: {reason}"

    def refusals(self) -> list[str]:
        """Why pairs that share data are apart; what was fused later after all is left out."""
        kept: list[str] = []
        for (first, second), text in self.refused.items():
            if self.group_of[first.bit_length() - 1] != self.group_of[second.bit_length() - 1]:
                kept.append(text)
        return kept[:_MAX_REFUSALS]

    # --------------------------------------------------------------------------------------------------- fusing a pair

    def _replace(self, first: int, second: int, fused: FusedNode) -> None:
        group, self.next_group = self.next_group, self.next_group + 1
        inside = fused.positions
        above_a, above_b = self.ancestors.pop(first), self.ancestors.pop(second)
        below_a, below_b = self.descendants.pop(first), self.descendants.pop(second)
        above, below = (above_a | above_b) & ~inside, (below_a | below_b) & ~inside
        del self.groups[first], self.groups[second]
        self.masks[group] = inside
        self.groups[group], self.ancestors[group], self.descendants[group] = fused, above, below
        for position in _bits(inside):
            self.group_of[position] = group
        # only what hung on exactly one of the two learns of the other
        for other in {self.group_of[p] for p in _bits((below_a ^ below_b) & ~inside)}:
            self.ancestors[other] |= above | inside
        for other in {self.group_of[p] for p in _bits((above_a ^ above_b) & ~inside)}:
            self.descendants[other] |= below | inside
        for name in fused.reads.keys() | fused.writes.keys():
            touching = self.touching[name]
            touching.discard(first)
            touching.discard(second)
            touching.add(group)
        self._push_all(group, fused)

    def _push_all(self, group: int, fused: FusedNode) -> None:
        neighbours: dict[int, None] = {}
        for name in sorted(fused.reads.keys() | fused.writes.keys()):
            near = [g for g in self.touching[name] if g != group and isinstance(self.groups.get(g), FusedNode)]
            if name not in fused.writes and len(near) > self.config.horizontal_reach:
                here = fused.positions.bit_length()
                near.sort(key=lambda g: (abs(self._fused(g).positions.bit_length() - here), g))
                near = near[: self.config.horizontal_reach]
            neighbours.update(dict.fromkeys(sorted(near)))
        for other in neighbours:
            self._push(group, other)

    # -------------------------------------------------------------------------------------------------------- the order

    def ordered(self) -> list[Step]:
        """Of a few topological orders the one with the lowest peak of live bytes; program order on ties."""
        read = {name for step in self.groups.values() for name in step_reads(step)}
        for step in self.groups.values():
            for name in step_writes(step):
                if name not in read and name not in self.outputs:
                    self.sizes[name] = 0  # lives inside one kernel, needs no memory
        candidates = [self._topological(by_memory=False), self._topological(by_memory=True)]
        return min(candidates, key=self._peak)

    def _topological(self, by_memory: bool) -> list[Step]:
        direct: dict[int, set[int]] = {g: set() for g in self.groups}
        users: dict[int, set[int]] = {g: set() for g in self.groups}
        for position, before in enumerate(self.predecessors):
            group = self.group_of[position]
            for other in {self.group_of[p] for p in before} - {group}:
                direct[group].add(other)
                users[other].add(group)
        writer = {name: g for g, step in self.groups.items() for name in step_writes(step)}
        remaining: dict[str, int] = {}
        for step in self.groups.values():
            for name in step_reads(step):
                remaining[name] = remaining.get(name, 0) + 1
        ready: list[int] = [g for g, before in direct.items() if not before]
        heap = [(self.masks[g].bit_length(), g) for g in ready]
        heapq.heapify(heap)
        order: list[Step] = []
        while heap:
            if by_memory:
                window = heapq.nsmallest(16, heap)
                item = min(window, key=lambda entry: (self._growth(entry[1], remaining, writer), entry))
                heap.remove(item)
                heapq.heapify(heap)
            else:
                item = heapq.heappop(heap)
            group = item[1]
            step = self.groups[group]
            order.append(step)
            for name in step_reads(step):
                remaining[name] -= 1
            for user in users[group]:
                direct[user].discard(group)
                if not direct[user]:
                    heapq.heappush(heap, (self.masks[user].bit_length(), user))
        assert len(order) == len(self.groups), "the fused graph has a cycle"
        return order

    def _growth(self, group: int, remaining: Mapping[str, int], writer: Mapping[str, int]) -> int:
        step = self.groups[group]
        made = sum(self.sizes[name] for name in step_writes(step))
        freed = sum(self.sizes[name] for name in step_reads(step) if remaining[name] == 1 and name in writer)
        return made - freed

    def _peak(self, order: Sequence[Step]) -> int:
        last: dict[str, int] = {}
        for number, step in enumerate(order):
            for name in step_reads(step):
                last[name] = number
        computed = {n for n, b in self.buffers.items() if isinstance(b, ComputedBuffer | ExternBuffer)}
        live = peak = 0
        for number, step in enumerate(order):
            live += sum(self.sizes[name] for name in step_writes(step))
            peak = max(peak, live)
            live -= sum(self.sizes[n] for n in step_reads(step) if last[n] == number and n in computed)
        return peak
