"""Fusion profit: the bytes of memory traffic that running two nodes as one kernel saves.

The scheduler asks for the score of every legal-looking pair and fuses in order of it. Invariant: a pair without shared
data scores nothing; thresholds come from the config, never from the environment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lampwork_symshape import stride_of

from ..config import ScheduleConfig
from .dependencies import Access, product_of
from .fusion import FusedNode, Member
from .loop_order import TYPICAL_SIZE


def shared_bytes(a: FusedNode, b: FusedNode, sizes: Mapping[str, int]) -> int:
    """Bytes that both nodes touch: each needs to be moved only once (written and read: twice) when they are one
    kernel."""
    total = 0
    for name in a.writes.keys() & b.reads.keys():
        total += 2 * sizes[name]
    for name in a.reads.keys() & b.writes.keys():
        total += 2 * sizes[name]
    for name in a.reads.keys() & b.reads.keys():
        if name not in a.writes and name not in b.writes:
            total += sizes[name]
    return total


def traffic(node: FusedNode, sizes: Mapping[str, int]) -> int:
    """Bytes that a node reads and writes."""
    return sum(sizes[name] for name in node.reads.keys() | node.writes.keys())


def argument_count(a: FusedNode, b: FusedNode) -> int:
    """How many buffers a kernel of both would name."""
    return len(a.reads.keys() | b.reads.keys() | a.writes.keys() | b.writes.keys())


def worth_sharing(a: FusedNode, b: FusedNode, score: int, sizes: Mapping[str, int], config: ScheduleConfig) -> bool:
    """Whether a horizontal fusion pays: what is shared is a good part of the smaller node's traffic, or both are so
    small that a launch costs more than either."""
    first, second = traffic(a, sizes), traffic(b, sizes)
    small = max(first, second) <= config.small_traffic
    return score > 0 and (small or score * config.horizontal_share >= min(first, second))


def walks_alike(a: FusedNode, b: FusedNode, fused: FusedNode) -> bool:
    """Whether independent nodes step through memory along the same loops of their common space.

    The rows of one as the columns of another share no access: each is read in the order that suits the other.
    """
    if not fused.has_inner:
        return True
    most = max(_points(access, fused) for m in fused.members for access in (*m.reads, m.write))
    first = _unit_loops([m for m in fused.members if m.node.name in a.writes], fused, most)
    second = _unit_loops([m for m in fused.members if m.node.name in b.writes], fused, most)
    return not first or not second or not first.isdisjoint(second)


def _points(access: Access, fused: FusedNode) -> int:
    """How many elements an access touches; symbolic sizes count as TYPICAL_SIZE."""
    space, free = fused.space, access.index.free_symbols
    loops = zip((*space.outer_symbols, *space.inner_symbols), (*space.outer, *space.inner))
    return math.prod(int(n) if n.is_constant else TYPICAL_SIZE for s, n in loops if s in free)


def _unit_loops(members: Sequence[Member], fused: FusedNode, most: int) -> set[bool]:
    """Where accesses to whole tensors step by one element: along an inner loop (True), or along an outer one."""
    outer, inner = frozenset(fused.space.outer_symbols), frozenset(fused.space.inner_symbols)
    found: set[bool] = set()
    for member in members:
        for access in (*member.reads, member.write):
            if 2 * _points(access, fused) > most:
                loops = access.index.free_symbols & (outer | inner)
                found.update(s in inner for s in loops if stride_of(access.index, s) == 1)
    return found


def keeps_parallelism(a: FusedNode, b: FusedNode, fused: FusedNode, config: ScheduleConfig) -> bool:
    """Whether enough independent outer points remain.

    Pointwise work over N x D that joins a reduction over D runs on N points only; with few of them and long rows that
    would leave cores idle.
    """
    if a.has_inner == b.has_inner:
        return True
    outer, inner = product_of(fused.space.outer), product_of(fused.space.inner)
    if not outer.is_constant or not inner.is_constant:
        return True
    return int(outer) >= config.parallel_rows or int(inner) <= config.serial_row_elements
