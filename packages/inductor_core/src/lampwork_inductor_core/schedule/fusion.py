"""Fusion legality: when two nodes may run as one kernel, and over which common iteration space.

A fused node is a list of members over one space (`outer` points, each with `inner` points). Pointwise members run once
per outer or once per inner point; reductions run over the inner points and are read afterwards at the outer one. Two
nodes fit when their loops have a common refinement in which every value that passes between them is written and read
at the same point. Invariant: a fused node computes what its members compute one after the other.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from lampwork_symshape import IntExpr, Symbol, integer, stride_of

from .dependencies import Access, LoopNode, NodeKind, Space, is_zero, product_of
from .loop_order import estimated_stride


class Level(enum.Enum):
    """How often a member runs: once per outer point, or once per inner point of it."""

    OUTER = "outer"
    INNER = "inner"


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A loop node inside a fused node. `values` are the node's own loop variables over the fused space."""

    node: LoopNode
    position: int  # in program order
    level: Level
    values: Mapping[Symbol, IntExpr]  # only where they differ from the variable itself
    reads: tuple[Access, ...]
    write: Access

    @property
    def reduces(self) -> bool:
        return self.node.kind is NodeKind.REDUCTION


@dataclass(frozen=True, slots=True, eq=False)
class FusedNode:
    """Members that run as one kernel, in program order. A single loop node is a fused node of one member."""

    members: tuple[Member, ...]
    space: Space
    device: torch.device
    positions: int  # bit set of the members' positions in the program
    reads: Mapping[str, tuple[Access, ...]]
    writes: Mapping[str, Member]
    fusible: bool = True  # no scan or scatter, and something to compute

    @property
    def name(self) -> str:
        return "+".join(m.node.name for m in self.members)

    @property
    def has_inner(self) -> bool:
        return bool(self.space.inner)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why two nodes do not fit, for `explain`."""

    reason: str


def single(node: LoopNode, position: int) -> FusedNode:
    """A loop node as a fused node of its own."""
    level = Level.OUTER if node.kind in (NodeKind.POINTWISE, NodeKind.SCATTER) else Level.INNER
    member = Member(node, position, level, {}, node.reads, node.write)
    reads, writes = _reads_by_buffer((member,)), {node.name: member}
    fusible = node.kind in (NodeKind.POINTWISE, NodeKind.REDUCTION) and not any(
        is_zero(size) for size in (*node.space.outer, *node.space.inner)
    )
    return FusedNode((member,), node.space, node.buffer.layout.device, 1 << position, reads, writes, fusible)


def _reads_by_buffer(members: Sequence[Member]) -> dict[str, tuple[Access, ...]]:
    found: dict[str, dict[Access, None]] = {}
    for member in members:
        for access in member.reads:
            found.setdefault(access.buffer, {})[access] = None
    return {name: tuple(accesses) for name, accesses in found.items()}


# ------------------------------------------------------------------------------------------------------- common spaces


@dataclass(frozen=True, slots=True)
class Refinement:
    """Row-major loops that refine two lists of loops; each old loop is a run of the new ones."""

    sizes: tuple[IntExpr, ...]
    first: tuple[tuple[int, ...], ...]
    second: tuple[tuple[int, ...], ...]


def _quotient(larger: IntExpr, smaller: IntExpr) -> IntExpr | None:
    if larger.is_constant and smaller.is_constant:
        a, b = int(larger), int(smaller)
        return integer(a // b) if b and a % b == 0 else None
    quotient = larger // smaller
    return quotient if quotient * smaller is larger else None


@lru_cache(maxsize=4096)
def refine(first: tuple[IntExpr, ...], second: tuple[IntExpr, ...]) -> Refinement | None:
    """The coarsest common refinement of two loop nests of equally many points, None when there is none."""
    sizes: list[IntExpr] = []
    runs: tuple[list[list[int]], list[list[int]]] = ([[] for _ in first], [[] for _ in second])
    i, j = len(first) - 1, len(second) - 1
    left = first[i] if i >= 0 else None
    right = second[j] if j >= 0 else None
    while left is not None and right is not None:
        if left is right:
            size, rest_left, rest_right = left, None, None
        elif (quotient := _quotient(left, right)) is not None:
            size, rest_left, rest_right = right, quotient, None
        elif (quotient := _quotient(right, left)) is not None:
            size, rest_left, rest_right = left, None, quotient
        else:
            return None
        sizes.append(size)
        runs[0][i].append(len(sizes) - 1)
        runs[1][j].append(len(sizes) - 1)
        if rest_left is None:
            i -= 1
            rest_left = first[i] if i >= 0 else None
        if rest_right is None:
            j -= 1
            rest_right = second[j] if j >= 0 else None
        left, right = rest_left, rest_right
    if left is not None or right is not None:
        return None
    last = len(sizes) - 1
    flipped = [tuple(tuple(last - k for k in reversed(run)) for run in side) for side in runs]
    return Refinement(tuple(reversed(sizes)), flipped[0], flipped[1])


def _index_of_run(run: Sequence[int], sizes: Sequence[IntExpr], symbols: Sequence[IntExpr]) -> IntExpr:
    index: IntExpr = integer(0)
    for k in run:
        index = index * sizes[k] + symbols[k]
    return index


@dataclass(frozen=True, slots=True)
class Alignment:
    """Two nodes over one space: the old loop symbols of each in terms of the new ones, and the level of a pure node."""

    space: Space
    first: Mapping[Symbol, IntExpr]
    second: Mapping[Symbol, IntExpr]
    first_inner: bool = False  # the first node was pure pointwise and now runs once per inner point
    second_inner: bool = False


def _mapping(
    old: Sequence[Symbol], runs: Sequence[Sequence[int]], sizes: Sequence[IntExpr], new: Sequence[IntExpr]
) -> dict[Symbol, IntExpr]:
    result: dict[Symbol, IntExpr] = {}
    for symbol, run in zip(old, runs):
        index = _index_of_run(run, sizes, new)
        if index is not symbol:
            result[symbol] = index
    return result


def _align_alike(a: Space, b: Space) -> Alignment | None:
    """Both have inner loops, or neither has: refine outer with outer and inner with inner."""
    outer, inner = refine(a.outer, b.outer), refine(a.inner, b.inner)
    if outer is None or inner is None:
        return None
    space = Space(outer.sizes, inner.sizes)
    i, r = space.outer_symbols, space.inner_symbols
    first = _mapping(a.outer_symbols, outer.first, outer.sizes, i) | _mapping(
        a.inner_symbols, inner.first, inner.sizes, r
    )
    second = _mapping(b.outer_symbols, outer.second, outer.sizes, i) | _mapping(
        b.inner_symbols, inner.second, inner.sizes, r
    )
    return Alignment(space, first, second)


def _align_ordered(
    pure: Space, order: Sequence[int], target: Space, target_order: Sequence[int], whole: bool
) -> Alignment | None:
    """A pure pointwise space (its loops taken in `order`) onto a target's loops (taken in `target_order`).

    `whole`: onto outer and inner loops, else onto the outer ones only. The target keeps the order of its own loops.
    """
    loops = target.outer + target.inner if whole else target.outer
    refined = refine(tuple(pure.outer[k] for k in order), tuple(loops[k] for k in target_order))
    if refined is None:
        return None
    run_of = {loop: refined.second[n] for n, loop in enumerate(target_order)}
    # new loops, in the order of the target's own
    sequence = [k for loop in range(len(loops)) for k in run_of[loop]]
    split = sum(len(run_of[loop]) for loop in range(len(target.outer)))
    outer_sizes = tuple(refined.sizes[k] for k in sequence[:split])
    inner_sizes = tuple(refined.sizes[k] for k in sequence[split:]) if whole else target.inner
    space = Space(outer_sizes, inner_sizes)
    new: tuple[Symbol, ...] = space.outer_symbols + (space.inner_symbols if whole else ())
    symbols: list[IntExpr] = [integer(0)] * len(sequence)
    for place, k in enumerate(sequence):
        symbols[k] = new[place]
    pure_symbols = pure.outer_symbols
    first = _mapping([pure_symbols[k] for k in order], refined.first, refined.sizes, symbols)
    old = target.outer_symbols + (target.inner_symbols if whole else ())
    second = _mapping([old[k] for k in target_order], refined.second, refined.sizes, symbols)
    return Alignment(space, first, second, first_inner=whole and bool(target.inner))


def _descending(index: IntExpr, symbols: Sequence[Symbol]) -> list[int] | None:
    """Loops by descending stride of an affine index in which each has a positive stride."""
    strides: list[int] = []
    for symbol in symbols:
        stride = stride_of(index, symbol)
        if stride is None or stride.lower is None or stride.lower <= 0:
            return None
        strides.append(estimated_stride(index, symbol) or 0)
    return sorted(range(len(symbols)), key=lambda k: -strides[k])


def _swapped(alignment: Alignment) -> Alignment:
    return Alignment(alignment.space, alignment.second, alignment.first, alignment.second_inner, alignment.first_inner)


def _pure_onto(pure: FusedNode, target: FusedNode, shared: tuple[IntExpr, IntExpr] | None) -> Iterator[Alignment]:
    """The ways to lay a pure pointwise node onto another; `shared` are indices of one buffer in both."""
    points = product_of(pure.space.outer)
    choices: list[bool] = []
    if target.has_inner and product_of(target.space.outer + target.space.inner) is points:
        choices.append(True)
    if product_of(target.space.outer) is points:
        choices.append(False)
    for whole in choices:
        loops = target.space.outer + target.space.inner if whole else target.space.outer
        direct = _align_ordered(pure.space, range(len(pure.space.outer)), target.space, range(len(loops)), whole)
        if direct is not None:
            yield direct
        if shared is not None:
            symbols = target.space.outer_symbols + (target.space.inner_symbols if whole else ())
            mine = _descending(shared[0], pure.space.outer_symbols)
            theirs = _descending(shared[1], symbols)
            if mine is not None and theirs is not None and (mine != sorted(mine) or theirs != sorted(theirs)):
                turned = _align_ordered(pure.space, mine, target.space, theirs, whole)
                if turned is not None:
                    yield turned


def alignments(a: FusedNode, b: FusedNode) -> Iterator[Alignment]:
    """Common spaces to try, best first."""
    if a.space == b.space:
        yield Alignment(a.space, {}, {})
        if not a.has_inner:
            yield from _pure_onto(a, b, _shared_pair(a, b))
    elif a.has_inner and b.has_inner:
        alike = _align_alike(a.space, b.space)
        if alike is not None:
            yield alike
    elif a.has_inner:
        for found in _pure_onto(b, a, _shared_pair(b, a)):
            yield _swapped(found)
    else:
        yield from _pure_onto(a, b, _shared_pair(a, b))


# -------------------------------------------------------------------------------------------------------------- fusing


def _moved(node: FusedNode, mapping: Mapping[Symbol, IntExpr], inner: bool) -> tuple[Member, ...]:
    """The members over a new space."""
    if not mapping and not inner:
        return node.members
    moved: list[Member] = []
    for member in node.members:
        values = {s: e.substitute(mapping) for s, e in member.values.items()}
        for symbol in (*member.node.space.outer_symbols, *member.node.space.inner_symbols):
            if symbol not in values and symbol in mapping:
                values[symbol] = mapping[symbol]
        moved.append(
            Member(
                member.node,
                member.position,
                Level.INNER if inner else member.level,
                values,
                tuple([Access(a.buffer, a.index.substitute(mapping), a.indirect) for a in member.reads]),
                Access(member.write.buffer, member.write.index.substitute(mapping)),
            )
        )
    return tuple(moved)


def _shared_pair(a: FusedNode, b: FusedNode) -> tuple[IntExpr, IntExpr] | None:
    """The indices at which a value passes between two nodes: that of the write and that of the first read."""
    for writer, reader, flip in ((a, b, False), (b, a, True)):
        for name, member in writer.writes.items():
            for access in reader.reads.get(name, ()):
                write, read = member.write.index, access.index
                return (read, write) if flip else (write, read)
    return None


def _passes_values(writer: Sequence[Member], reader: Sequence[Member]) -> bool:
    """Whether all that `reader` reads of `writer`'s results it reads at the point where it was written."""
    written = {m.write.buffer: m for m in writer}
    for member in reader:
        for access in member.reads:
            source = written.get(access.buffer)
            if source is None:
                continue
            if access.indirect or access.index is not source.write.index:
                return False
            if source.level is Level.INNER and not source.reduces and member.level is Level.OUTER:
                return False
    return True


def fuse(a: FusedNode, b: FusedNode) -> FusedNode | Refusal:
    """The two nodes as one, or why not. Says nothing of cycles (the scheduler knows) or of profit (`score`)."""
    if not a.fusible or not b.fusible:
        return Refusal("scans, scatters and empty loops run alone")
    if a.device != b.device:
        return Refusal("on different devices")
    for alignment in alignments(a, b):
        if (alignment.first or alignment.second) and not _keeps_inner_order(a, b, alignment):
            continue
        first = _moved(a, alignment.first, alignment.first_inner)
        second = _moved(b, alignment.second, alignment.second_inner)
        if _passes_values(first, second) and _passes_values(second, first):
            members = tuple(sorted((*first, *second), key=lambda m: m.position))
            return FusedNode(
                members,
                alignment.space,
                a.device,
                a.positions | b.positions,
                _reads_by_buffer(members),
                {m.write.buffer: m for m in members},
            )
    return Refusal("no common loops in which each value is read where it is written")


def _keeps_inner_order(a: FusedNode, b: FusedNode, alignment: Alignment) -> bool:
    """Row-major refinements keep the order of inner points; only a node with inner loops of its own could lose it."""
    for node, mapping in ((a, alignment.first), (b, alignment.second)):
        if not any(m.node.order_matters for m in node.members):
            continue
        running: IntExpr = integer(0)
        for size, symbol in zip(node.space.inner, node.space.inner_symbols):
            running = running * size + mapping.get(symbol, symbol)
        expected: IntExpr = integer(0)
        for size, symbol in zip(alignment.space.inner, alignment.space.inner_symbols):
            expected = expected * size + symbol
        if running is not expected:
            return False
    return True
