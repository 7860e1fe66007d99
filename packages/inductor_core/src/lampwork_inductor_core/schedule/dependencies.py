"""Dependencies: what each node of the schedule reads and writes, and where.

First stage after the lowering: every computed buffer becomes one loop node, every extern call one extern node. An
access is a buffer and a flat element index over the node's loop variables. Invariant: the program is functional, so
only read-after-write edges order nodes; the one write-after-read hazard (a scatter that takes over the memory it was
copied from) is decided by the memory planner after all readers have run.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from lampwork_symshape import IntExpr, Symbol, integer

from ..ir.buffer import Buffer, BufferView, ComputedBuffer, ExternBuffer, LoweredGraph, symbols_of
from ..ir.layout import Layout
from ..ir.loop_body import CheckedIndex, IndexValue, Load, Node, index_variable, reduction_variable, substitute, walk
from ..ir.loops import Reduction, ReductionKind, Scan, Scatter

_CHECK = torch.ops.aten._assert_scalar.default


class NodeKind(enum.Enum):
    """The shape of a loop node; it decides how the node may fuse."""

    POINTWISE = "pointwise"
    REDUCTION = "reduction"
    SCAN = "scan"
    SCATTER = "scatter"


class ScheduleError(RuntimeError):
    """The lowered graph breaks a rule that scheduling relies on. A defect of the lowering, never of the user's
    program."""


@lru_cache(maxsize=4096)
def _outer_symbols(sizes: tuple[IntExpr, ...]) -> tuple[Symbol, ...]:
    return tuple([index_variable(k, size) for k, size in enumerate(sizes)])


@lru_cache(maxsize=4096)
def _inner_symbols(sizes: tuple[IntExpr, ...]) -> tuple[Symbol, ...]:
    return tuple([reduction_variable(k, size) for k, size in enumerate(sizes)])


@dataclass(frozen=True, slots=True)
class Access:
    """One read or write: `buffer` at the flat element offset `index` over the variables of its space."""

    buffer: str
    index: IntExpr
    indirect: bool = False


@dataclass(frozen=True, slots=True)
class Space:
    """An iteration space: for every outer point, all inner points. Row-major; the symbols are canonical (`i0`,
    `r0`)."""

    outer: tuple[IntExpr, ...]
    inner: tuple[IntExpr, ...] = ()

    @property
    def outer_symbols(self) -> tuple[Symbol, ...]:
        return _outer_symbols(self.outer)

    @property
    def inner_symbols(self) -> tuple[Symbol, ...]:
        return _inner_symbols(self.inner)


@dataclass(frozen=True, slots=True, eq=False)
class LoopNode:
    """One computed buffer as the scheduler sees it: a space, a value at each point, accesses."""

    buffer: ComputedBuffer
    kind: NodeKind
    space: Space
    value: Node
    reads: tuple[Access, ...]
    write: Access
    order_matters: bool = False  # positions in the inner space are part of the result (argmax, scans)
    scatter_indirect: tuple[tuple[Symbol, Node], ...] = ()

    @property
    def name(self) -> str:
        return self.buffer.name


@dataclass(frozen=True, slots=True, eq=False)
class ExternNode:
    """One call of an operator that is not generated, with all buffers that are its results."""

    call: str
    results: tuple[ExternBuffer, ...]

    @property
    def name(self) -> str:
        return self.call

    @property
    def read_buffers(self) -> tuple[str, ...]:
        first = self.results[0]
        found: dict[str, None] = {}
        for argument in [*first.arguments, *first.keywords.values()]:
            for view in views_in(argument):
                found[view.buffer] = None
        return tuple(found)


ScheduleNode = LoopNode | ExternNode


def views_in(argument: Any) -> list[BufferView]:
    """Every BufferView inside an extern call's argument, nested lists included."""
    if isinstance(argument, BufferView):
        return [argument]
    if isinstance(argument, dict):
        argument = list(argument.values())
    elif isinstance(argument, slice):
        argument = [argument.start, argument.stop, argument.step]
    if isinstance(argument, list | tuple):
        return [view for item in argument for view in views_in(item)]
    return []


@lru_cache(maxsize=4096)
def product_of(sizes: tuple[IntExpr, ...]) -> IntExpr:
    """The number of points of a nest of loops."""
    count: IntExpr = integer(1)
    for size in sizes:
        count = count * size
    return count


def is_zero(size: IntExpr) -> bool:
    """Whether a size is certainly zero."""
    return size.is_constant and int(size) == 0


def is_empty(space: Space) -> bool:
    """Whether a space certainly has no outer point: nothing is computed and nothing stored."""
    return any(is_zero(size) for size in space.outer)


def is_one(size: IntExpr) -> bool:
    """Whether a size is certainly one."""
    return size.is_constant and int(size) == 1


def byte_count(layout: Layout) -> int:
    """Bytes of a dense buffer of this layout, for scores; symbolic sizes count as 64 each."""
    count = layout.dtype.itemsize
    for size in layout.sizes:
        count *= int(size) if size.is_constant else 64
    return count


def store_index(layout: Layout, variables: Sequence[IntExpr], sizes: Sequence[IntExpr]) -> IntExpr:
    """Where the value of one point goes; dimensions of size one may be missing on either side."""
    strides = [stride for stride, size in zip(layout.strides, layout.sizes) if not is_one(size)]
    kept = [variable for variable, size in zip(variables, sizes) if not is_one(size)]
    if len(strides) != len(kept):
        raise ScheduleError(f"loops of sizes {tuple(sizes)} do not fill a layout of sizes {layout.sizes}")
    flat = layout.offset
    for variable, stride in zip(kept, strides):
        flat = flat + variable * stride
    return flat


def accesses_of(value: Node) -> tuple[Access, ...]:
    """The loads of a value, equal ones once."""
    found: dict[Access, None] = {}
    for node in walk(value):
        if isinstance(node, Load):
            found[Access(node.buffer, node.index, bool(node.indirect))] = None
    return tuple(found)


def index_expressions(value: Node) -> list[IntExpr]:
    """Every index expression inside a value: of loads, and of indices used as data."""
    found: dict[IntExpr, None] = {}
    for node in walk(value):
        if isinstance(node, Load):
            found[node.index] = None
        elif isinstance(node, IndexValue):
            found[node.expression] = None
        elif isinstance(node, CheckedIndex):
            found[node.size] = None
    return list(found)


def _indirect_reads(pairs: Sequence[tuple[Symbol, Node]]) -> tuple[Access, ...]:
    return tuple(dict.fromkeys(access for _, node in pairs for access in accesses_of(node)))


def loop_node(buffer: ComputedBuffer) -> LoopNode:
    """The schedule's view of one computed buffer, in its own loop order."""
    loops = buffer.loops
    body = loops.body
    if isinstance(loops, Reduction):
        space = Space(loops.sizes, loops.reduction_sizes)
        value = _in_canonical_symbols(body.value, body.variables + body.reduction_variables, space)
        write = Access(buffer.name, store_index(buffer.layout, space.outer_symbols, space.outer))
        ordered = loops.kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN)
        return LoopNode(buffer, NodeKind.REDUCTION, space, value, accesses_of(value), write, ordered)
    if isinstance(loops, Scan):
        space = Space(loops.sizes[:-1], loops.sizes[-1:])
        value = _in_canonical_symbols(body.value, body.variables, space)
        index = store_index(buffer.layout, space.outer_symbols + space.inner_symbols, loops.sizes)
        return LoopNode(buffer, NodeKind.SCAN, space, value, accesses_of(value), Access(buffer.name, index), True)
    space = Space(loops.sizes)
    value = _in_canonical_symbols(body.value, body.variables, space)
    if isinstance(loops, Scatter):
        mapping = _canonical(body.variables, space)
        pairs = tuple((s, substitute(n, mapping)) for s, n in loops.indirect)
        reads = tuple(
            dict.fromkeys((*accesses_of(value), *_indirect_reads(pairs), Access(loops.initial, integer(0), True)))
        )
        write = Access(buffer.name, loops.target.substitute(mapping), True)
        return LoopNode(buffer, NodeKind.SCATTER, space, value, reads, write, True, pairs)
    write = Access(buffer.name, store_index(buffer.layout, space.outer_symbols, space.outer))
    return LoopNode(buffer, NodeKind.POINTWISE, space, value, accesses_of(value), write)


def _canonical(variables: Sequence[Symbol], space: Space) -> Mapping[Symbol, IntExpr]:
    symbols = space.outer_symbols + space.inner_symbols
    if len(symbols) != len(variables):
        raise ScheduleError(f"a body over {tuple(variables)} does not fit the loop sizes {space.outer}, {space.inner}")
    return cast("Mapping[Symbol, IntExpr]", dict(zip(variables, symbols)))


def _in_canonical_symbols(value: Node, variables: Sequence[Symbol], space: Space) -> Node:
    return substitute(value, _canonical(variables, space))


def loop_result_dtype(node: LoopNode) -> torch.dtype:
    """The element type that a loop node stores."""
    loops = node.buffer.loops
    if isinstance(loops, Reduction):
        return loops.dtype
    return node.buffer.layout.dtype


@dataclass(frozen=True, slots=True)
class DependencyGraph:
    """All nodes in program order. `predecessors[k]` are positions of nodes whose results node k reads."""

    nodes: tuple[ScheduleNode, ...]
    predecessors: tuple[frozenset[int], ...]
    producer: Mapping[str, int]  # buffer name -> position of the node that computes it
    outputs: frozenset[str]  # buffers that must exist in memory at the end


def reads_of(node: ScheduleNode) -> tuple[str, ...]:
    """The buffers that a node reads, once each."""
    if isinstance(node, ExternNode):
        return node.read_buffers
    return tuple(dict.fromkeys(access.buffer for access in node.reads))


def writes_of(node: ScheduleNode) -> tuple[str, ...]:
    """The buffers that a node defines."""
    return tuple(r.name for r in node.results) if isinstance(node, ExternNode) else (node.name,)


def keeps_order(node: ExternNode) -> bool:
    """Whether a call must stay in program order with its like: it draws random numbers, or may have an effect.

    Only operators with a schema that says otherwise are known to have none.
    """
    target = node.results[0].target
    if target is operator.getitem:
        return False
    schema = getattr(target, "_schema", None)
    return schema is None or schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags


def build_dependencies(nodes: Sequence[ScheduleNode], outputs: frozenset[str]) -> DependencyGraph:
    """Edges from the accesses, from sizes that depend on data, and between calls that keep their order.

    A check of such sizes comes before whatever mentions them, or reads what has them. Raises ScheduleError when a node
    reads what only a later one writes.
    """
    nodes, checks = checks_early(nodes)
    producer: dict[str, int] = {}
    predecessors: list[frozenset[int]] = []
    last_ordered: int | None = None
    sized_by = {s: r.name for n in nodes if isinstance(n, ExternNode) for r in n.results for s in _defined(r)}
    tells: dict[str, set[Symbol]] = {}
    for sym, name in sized_by.items():
        tells.setdefault(name, set()).add(sym)
    checked: list[tuple[int, Set[Symbol]]] = []  # the checks so far, and the symbols of data that they are about
    defined_later = {name for node in nodes for name in writes_of(node)}
    for position, node in enumerate(nodes):
        before: set[int] = set()
        for name in reads_of(node):
            if name in producer:
                before.add(producer[name])
            elif name in defined_later:
                raise ScheduleError(f"{node.name} reads {name}, which is defined later")
        if isinstance(node, ExternNode) and keeps_order(node):
            if last_ordered is not None:
                before.add(last_ordered)
            last_ordered = position
        if sized_by:
            of_node = _symbols_of(node)
            before |= {producer[sized_by[s]] for s in of_node if s in sized_by and sized_by[s] in producer}
            mentioned = of_node | {s for name in reads_of(node) for s in tells.get(name, ())}
            before |= {p for p, symbols in checked if not symbols.isdisjoint(mentioned)}
            if position in checks:
                checked.append((position, of_node & sized_by.keys()))
        predecessors.append(frozenset(before))
        for name in writes_of(node):
            producer[name] = position
            defined_later.discard(name)
    return DependencyGraph(tuple(nodes), tuple(predecessors), producer, outputs)


def _defined(result: ExternBuffer) -> frozenset[Symbol]:
    return frozenset(s for number, _ in result.defines for s in number.free_symbols)


def _symbols_of(node: ScheduleNode) -> frozenset[Symbol]:
    buffers = node.results if isinstance(node, ExternNode) else (node.buffer,)
    return frozenset(s for buffer in buffers for s in symbols_of(buffer))


def checks_early(nodes: Sequence[ScheduleNode]) -> tuple[Sequence[ScheduleNode], frozenset[int]]:
    """The nodes with each check of sizes that depend on data right behind the last call that it needs; where they are.

    What is known from a check is used for sizes everywhere, in front of the check as well.
    """
    place = {s: k for k, n in enumerate(nodes) if isinstance(n, ExternNode) for r in n.results for s in _defined(r)}
    behind: dict[int, list[ScheduleNode]] = {}
    moved: set[int] = set()
    for position, node in enumerate(nodes) if place else ():
        if isinstance(node, ExternNode) and node.results[0].target is _CHECK:
            needed = [place[s] for s in _symbols_of(node) if s in place]
            if needed and not node.read_buffers:
                behind.setdefault(max(needed), []).append(node)
                moved.add(position)
    if not moved:
        return nodes, frozenset()
    ordered: list[ScheduleNode] = []
    checks: set[int] = set()
    for position, node in enumerate(nodes):
        if position not in moved:
            ordered.append(node)
        for check in behind.get(position, ()):
            checks.add(len(ordered))
            ordered.append(check)
    return ordered, frozenset(checks)


def graph_nodes(graph: LoweredGraph) -> tuple[ScheduleNode, ...]:
    """The nodes of a lowered graph in program order; extern results of one call are one node."""
    calls: dict[str, list[ExternBuffer]] = {}
    for buffer in graph.buffers:
        if isinstance(buffer, ExternBuffer):
            calls.setdefault(buffer.call, []).append(buffer)
    nodes: list[ScheduleNode] = []
    seen: set[str] = set()
    for buffer in graph.buffers:
        if isinstance(buffer, ComputedBuffer):
            nodes.append(loop_node(buffer))
        elif isinstance(buffer, ExternBuffer) and buffer.call not in seen:
            seen.add(buffer.call)
            nodes.append(ExternNode(buffer.call, tuple(calls[buffer.call])))
    return tuple(nodes)


def buffers_by_name(graph: LoweredGraph) -> dict[str, Buffer]:
    """All buffers of a graph by name."""
    return {buffer.name: buffer for buffer in graph.buffers}


def live_nodes(nodes: Sequence[ScheduleNode], outputs: frozenset[str]) -> tuple[ScheduleNode, ...]:
    """Without the loops whose results nobody reads. Lowering kept the calls it kept for what they do, or may raise."""
    wanted = set(outputs)
    kept: list[ScheduleNode] = []
    for node in reversed(nodes):
        if isinstance(node, ExternNode) or any(name in wanted for name in writes_of(node)):
            kept.append(node)
            wanted.update(reads_of(node))
    return tuple(reversed(kept))
