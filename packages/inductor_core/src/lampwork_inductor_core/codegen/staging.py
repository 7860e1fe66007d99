"""Staging: the values of a fused node, placed into outer segments and inner loops.

First half of building a kernel; the second (`kernel`) names arguments. A value goes into the earliest inner loop after
the reductions that it needs, and sinks to the first loop that reads it. What has to cross from one inner loop to a
later one is reloaded if it is in memory anyway, recomputed if that is cheap, else kept in a local row. Invariant:
stages read only earlier stages, and buffers still carry the graph's names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from lampwork_symshape import IntExpr, Symbol, integer

from ..config import ScheduleConfig
from ..ir.buffer import Origin
from ..ir.loop_body import (
    Compute,
    Constant,
    FloatValue,
    IndexValue,
    Load,
    Masked,
    Node,
    operands,
    ops,
    rewrite,
    substitute,
    walk,
)
from ..ir.loops import Reduction, Scan, Scatter
from ..ir.scalar_ops import SCALAR_OPS
from ..schedule.dependencies import NodeKind, Space, index_expressions, loop_result_dtype, product_of
from ..schedule.fusion import FusedNode, Level, Member
from ..schedule.loop_order import merged_space
from .scheduled_kernel import Accumulate, LocalBuffer, Prefix, Stage, Store, forwarded

_TRACEBACK_LINE = re.compile(r'File "(?:.*[/\\\\])?(?P<file>[^"]+)", line (?P<line>\d+), in (?P<where>.*)')


@dataclass(slots=True)
class Part:
    """One value on its way to become a stage. Mutable while this module works; nobody else sees it."""

    name: str
    value: Node
    inner: bool
    dtype: torch.dtype
    index: IntExpr
    phase: int = 0
    accumulate: Accumulate | None = None
    scan: Prefix | None = None
    store: Store | None = None
    comment: str = ""
    users: list[Part] = field(default_factory=list)
    local: LocalBuffer | None = None
    recompute: bool = False
    stage: int = -1


@dataclass(frozen=True, slots=True)
class StagedKernel:
    """A kernel but for the names of its arguments. `segments` alternate outer, inner, outer, inner ...; some are
    empty."""

    space: Space
    segments: tuple[tuple[Stage, ...], ...]
    locals: tuple[LocalBuffer, ...]
    origins: tuple[Origin, ...]
    stored: tuple[str, ...]  # graph buffers that the kernel writes

    def stages(self) -> Iterator[Stage]:
        for segment in self.segments:
            yield from segment


def stage(fused: FusedNode, needed: Collection[str], config: ScheduleConfig) -> StagedKernel:
    """Place the members of a fused node. `needed` are the buffers that others read and so must be stored."""
    space, parts = _parts(fused)
    by_name = {part.name: part for part in parts}
    _link(parts, by_name)
    _place(parts, by_name)
    for part in parts:
        if part.store is not None and part.name not in needed:
            part.store = None
    locals_ = _bridge_loops(parts, by_name, space, config)
    hoisted = _hoist_invariants(parts, by_name, space) if space.inner else {}
    ordered = sorted([*parts, *hoisted.values()], key=lambda p: (p.phase, p.inner))
    for number, part in enumerate(ordered):
        part.stage = number
    resolve = _Resolver(by_name, hoisted)
    last = max(part.phase for part in ordered)
    segments: list[tuple[Stage, ...]] = []
    for phase in range(last + 1):
        for inner in (False, True):
            chosen = [p for p in ordered if p.phase == phase and p.inner is inner]
            segments.append(tuple(_stage_of(p, resolve) for p in chosen))
    stored = tuple(p.store.argument for p in ordered if p.store is not None and p.local is None)
    return StagedKernel(
        space, tuple(segments), tuple(locals_), tuple(m.node.buffer.origin for m in fused.members), stored
    )


def comment_of(origin: Origin) -> str:
    """`add_3, gelu  |  model.py:12, Block.forward`: the ATen nodes and the user's line."""
    nodes = ", ".join(origin.nodes)
    return f"{nodes}  |  {short_line(origin.user_line)}" if origin.user_line else nodes


def short_line(user_line: object) -> str:
    """A traceback's line without the folders, which differ between machines and say little."""
    first = str(user_line).splitlines()[0].strip()  # capture gives an object that prints as such a line
    found = _TRACEBACK_LINE.match(first)
    if found is None:
        return first
    return f"{found['file']}:{found['line']}, {found['where']}"


def _parts(fused: FusedNode) -> tuple[Space, list[Part]]:
    """The members as parts over the merged space."""
    expressions: dict[IntExpr, None] = {}
    for member in fused.members:
        expressions[member.write.index] = None
        for access in member.reads:
            expressions[access.index] = None
        for expression in index_expressions(member.node.value):
            expressions[expression.substitute(member.values)] = None
    space, merged = merged_space(fused.space, list(expressions))
    return space, [_part(member, merged) for member in fused.members]


def _part(member: Member, merged: Mapping[Symbol, IntExpr]) -> Part:
    node = member.node
    values: dict[Symbol, IntExpr] = dict(merged)
    values.update({s: e.substitute(merged) for s, e in member.values.items()})
    value = substitute(node.value, values)
    dtype = loop_result_dtype(node)
    index = member.write.index.substitute(merged)
    part = Part(node.name, value, member.level is Level.INNER, dtype, index, comment=comment_of(node.buffer.origin))
    part.store = Store(node.name, index)
    loops = node.buffer.loops
    if isinstance(loops, Reduction):
        part.accumulate = Accumulate(loops.kind, loops.accumulate, loops.dtype, loops.contraction, loops.window)
    elif isinstance(loops, Scan):
        part.scan = Prefix(loops.kind, loops.accumulate, dtype)
    else:
        part.value = ops.to_dtype(value, dtype)
    if isinstance(loops, Scatter):
        target = node.write.index.substitute(values)
        pairs = tuple((s, substitute(n, values)) for s, n in node.scatter_indirect)
        part.store = Store(node.name, target, loops.mode, pairs)
        part.index = target
    assert node.kind is not NodeKind.SCATTER or isinstance(loops, Scatter)
    return part


def _sources(part: Part, by_name: Mapping[str, Part]) -> list[Part]:
    found: dict[str, Part] = {}
    for node in walk(part.value):
        if isinstance(node, Load) and node.buffer in by_name and node.buffer != part.name:
            found[node.buffer] = by_name[node.buffer]
    return list(found.values())


def _link(parts: Sequence[Part], by_name: Mapping[str, Part]) -> None:
    for part in parts:
        for source in _sources(part, by_name):
            source.users.append(part)


def _place(parts: Sequence[Part], by_name: Mapping[str, Part]) -> None:
    """Phases: as early as the reductions allow, then plain inner values sink to their first reader."""
    for part in parts:
        for source in _sources(part, by_name):
            part.phase = max(part.phase, source.phase + (source.accumulate is not None))
    for part in reversed(parts):
        if part.inner and part.accumulate is None and part.scan is None and part.users:
            part.phase = min(user.phase for user in part.users)


def _has(expression: IntExpr, symbols: frozenset[Symbol]) -> bool:
    return not symbols.isdisjoint(expression.free_symbols)


# ------------------------------------------------------------------------------------- values that cross between loops


def _bridge_loops(
    parts: Sequence[Part], by_name: Mapping[str, Part], space: Space, config: ScheduleConfig
) -> list[LocalBuffer]:
    row = product_of(space.inner)
    row_index: IntExpr = integer(0)
    for size, symbol in zip(space.inner, space.inner_symbols):
        row_index = row_index * size + symbol
    locals_: list[LocalBuffer] = []
    for part in parts:
        crosses = part.inner and part.accumulate is None and any(user.phase > part.phase for user in part.users)
        if not crosses or part.store is not None:
            continue
        if _cheap_again(part, by_name, frozenset(space.inner_symbols), config):
            part.recompute = True
        elif not row.is_constant or int(row) * part.dtype.itemsize <= config.local_row_bytes:
            part.local = LocalBuffer(f"local{len(locals_)}", part.dtype, row)
            part.store = Store(part.local.name, row_index)
            part.index = row_index
            locals_.append(part.local)
        else:
            part.store = Store(part.name, part.index)
    return locals_


def _cheap_again(part: Part, by_name: Mapping[str, Part], inner: frozenset[Symbol], config: ScheduleConfig) -> bool:
    count = reads = 0
    for node in walk(part.value):
        if isinstance(node, Compute):
            count += 1
            if not SCALAR_OPS[node.op].cheap:
                return False
        elif isinstance(node, Load):
            source = by_name.get(node.buffer)
            if node.indirect:
                return False
            if source is not None and source.inner and source.accumulate is None:
                if source.store is None:
                    return False  # lives only inside its own loop
                reads += 1
            else:
                reads += _has(node.index, inner)
    return reads <= 1 and count <= config.recompute_operations


# ----------------------------------------------------------------------------------- what does not change in a loop


def _hoist_invariants(parts: Sequence[Part], by_name: Mapping[str, Part], space: Space) -> dict[Node, Part]:
    """Maximal subexpressions of inner values that are the same at every inner point, as outer parts."""
    inner = frozenset(space.inner_symbols)
    hoisted: dict[Node, Part] = {}
    for part in parts:
        if not part.inner:
            continue
        fixed: dict[Node, bool] = {}
        plain: dict[Node, bool] = {}  # made of literals and numbers of the call alone: stays where it is
        for node in walk(part.value):
            fixed[node] = all(fixed[n] for n in operands(node)) and not _varies(node, by_name, inner)
            plain[node] = isinstance(node, Constant | FloatValue | Compute) and all(plain[n] for n in operands(node))
        for node in _maximal(part.value, fixed, plain):
            if isinstance(node, Load) and node.buffer in by_name:
                continue  # a finished value of this kernel is already there
            if node not in hoisted:
                hoisted[node] = _outer_part(node, by_name, len(hoisted))
            hoisted[node].users.append(part)
    return hoisted


def _varies(node: Node, by_name: Mapping[str, Part], inner: frozenset[Symbol]) -> bool:
    if isinstance(node, Load):
        source = by_name.get(node.buffer)
        plain_inner = source is not None and source.inner and source.accumulate is None
        return plain_inner or _has(node.index, inner)
    if isinstance(node, IndexValue):
        return _has(node.expression, inner)
    return False


def _maximal(root: Node, fixed: Mapping[Node, bool], plain: Mapping[Node, bool]) -> Iterator[Node]:
    """The topmost invariant computations and loads; not inside a mask, where loads may be out of bounds."""
    stack = [root]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if fixed[node] and not plain[node] and not isinstance(node, IndexValue):
            if node is not root or isinstance(node, Compute):
                yield node
            continue
        stack.extend(operands(node)[:1] if isinstance(node, Masked) else operands(node))


def _outer_part(node: Node, by_name: Mapping[str, Part], number: int) -> Part:
    part = Part(f"%{number}", node, False, node.dtype, integer(0))
    for source in _sources(part, by_name):
        part.phase = max(part.phase, source.phase + (source.accumulate is not None))
    return part


# ---------------------------------------------------------------------------------------------------------- resolving


class _Resolver:
    """Replaces loads of the kernel's own values by what a part in a given place may read."""

    def __init__(self, by_name: Mapping[str, Part], hoisted: Mapping[Node, Part]) -> None:
        self.by_name = by_name
        self.hoisted = hoisted
        self.again: dict[tuple[str, int], Node] = {}

    def __call__(self, value: Node, reader: Part) -> Node:
        return rewrite(value, lambda node: self._leaf(node, reader), lambda index: index)

    def _leaf(self, node: Node, reader: Part) -> Node | None:
        if reader.inner and node in self.hoisted:
            return forwarded(self.hoisted[node].stage, node.dtype)
        if not isinstance(node, Load):
            return None
        source = self.by_name.get(node.buffer)
        if source is None or source is reader:
            return None
        if not source.inner or source.accumulate is not None or source.phase == reader.phase:
            return forwarded(source.stage, node.dtype)
        if source.recompute:
            return self._again(source, reader)
        assert source.store is not None, f"{source.name} crosses between loops but is kept nowhere"
        return ops.load(source.store.argument, source.store.index, node.dtype)

    def _again(self, source: Part, reader: Part) -> Node:
        key = (source.name, reader.phase)
        if key not in self.again:
            self.again[key] = self(source.value, Part("", source.value, True, source.dtype, source.index, reader.phase))
        return self.again[key]


def _stage_of(part: Part, resolve: _Resolver) -> Stage:
    store = part.store
    if store is not None and store.indirect:
        pairs = tuple((s, resolve(n, part)) for s, n in store.indirect)
        store = Store(store.argument, store.index, store.scatter, pairs)
    return Stage(resolve(part.value, part), store, part.accumulate, part.comment, part.scan)
