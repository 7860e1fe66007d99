"""Splitting reductions: many elements into few results become parts that run in parallel, and a sum of the parts.

Between the lowering and the schedule: one buffer becomes two, the parts (in the accumulation type) and what is made of
them, so that both fuse as any reductions do. Invariant: the order of combination is fixed, so equal runs give equal
bits; whether and how finely to split is the device's to say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lampwork_symshape import IntExpr, Symbol, integer, lt, stride_of

from ..ir.buffer import Buffer, ComputedBuffer, LoweredGraph
from ..ir.layout import Layout, contiguous_strides
from ..ir.loop_body import Load, LoopBody, Node, index_variable, ops, reduction_variable, substitute, walk
from ..ir.loops import Reduction, ReductionKind

_IDENTITY: dict[ReductionKind, int] = {ReductionKind.SUM: 0, ReductionKind.XOR_SUM: 0, ReductionKind.PROD: 1}
"""What changes nothing, for the kinds that may be split where the parts are not all of one length; extrema, whose least
value depends on the type, are split where they divide."""
_KINDS = frozenset(
    (*_IDENTITY, ReductionKind.MAX, ReductionKind.MIN, ReductionKind.ANY, ReductionKind.ALL)
)  # positions of extrema are those in the whole


@dataclass(frozen=True, slots=True)
class ReductionShape:
    """What a device decides by: `results` of `elements` each, `itemsize` bytes an element; `rows`: whether neighbouring
    elements of one result are neighbours in memory (else those of neighbouring results are)."""

    results: int
    elements: int
    itemsize: int
    rows: bool


Choose = Callable[[torch.device, ReductionShape], int]


@dataclass(frozen=True, slots=True)
class _Cut:
    """How one reduced dimension is cut: `parts` outside, `length` inside; the last part may reach beyond the end."""

    parts: int
    length: int


def split_reductions(graph: LoweredGraph, choose: Choose) -> LoweredGraph:
    """The graph with those reductions split that `choose` wants in more than one part."""
    buffers: list[Buffer] = []
    for buffer in graph.buffers:
        buffers.extend(_split(buffer, choose) if isinstance(buffer, ComputedBuffer) else (buffer,))
    if len(buffers) == len(graph.buffers):
        return graph
    return dataclasses.replace(graph, buffers=tuple(buffers), by_name={b.name: b for b in buffers})


def _split(buffer: ComputedBuffer, choose: Choose) -> tuple[ComputedBuffer, ...]:
    loops = buffer.loops
    if not isinstance(loops, Reduction) or loops.kind not in _KINDS or loops.contraction or loops.window:
        return (buffer,)
    sizes = (*loops.sizes, *loops.reduction_sizes)
    if not all(size.is_constant and int(size) for size in sizes):
        return (buffer,)
    shape = _shape_of(loops)
    if shape is None:
        return (buffer,)
    wanted = choose(buffer.layout.device, shape)
    cuts = _cuts(loops, wanted) if wanted > 1 else {}
    return _parts_and_whole(buffer, loops, cuts) if cuts else (buffer,)


def _whole_reads(loops: Reduction) -> list[Load]:
    """The loads that differ for different elements."""
    inner = frozenset(loops.body.reduction_variables)
    return [n for n in walk(loops.body.value) if isinstance(n, Load) and not inner.isdisjoint(n.index.free_symbols)]


def _shape_of(loops: Reduction) -> ReductionShape | None:
    reads = _whole_reads(loops)
    if not reads:
        return None
    results = elements = 1
    for size in loops.sizes:
        results *= int(size)
    for size in loops.reduction_sizes:
        elements *= int(size)
    widest = max(reads, key=lambda n: len(n.index.free_symbols))
    rows = any(stride_of(widest.index, v) == 1 for v in loops.body.reduction_variables)
    return ReductionShape(results, elements, max(n.dtype.itemsize for n in reads), rows)


def _cuts(loops: Reduction, wanted: int) -> dict[int, _Cut]:
    """The dimensions to cut, of the largest strides first: parts are then stretches of memory. Empty: none fits."""
    widest = max(_whole_reads(loops), key=lambda n: len(n.index.free_symbols))
    variables = loops.body.reduction_variables
    strides = [stride_of(widest.index, v) for v in variables]
    known = [abs(int(s)) if s is not None and s.is_constant else -1 for s in strides]
    cuts: dict[int, _Cut] = {}
    for dim in sorted(range(len(variables)), key=lambda k: -known[k]):
        size = int(loops.reduction_sizes[dim])
        if size == 1:
            continue
        if size <= wanted:
            cuts[dim] = _Cut(size, 1)
            wanted = wanted // size
        else:
            cut = _cut(size, wanted, divided=loops.kind not in _IDENTITY)
            if cut is not None:
                cuts[dim] = cut
            break
        if wanted <= 1:
            break
    return cuts


def _cut(size: int, wanted: int, *, divided: bool) -> _Cut | None:
    """About `wanted` parts: of equal length where a near number divides, else (if it may be) the last one is short."""
    near = [parts for parts in range(max(2, wanted // 2), min(2 * wanted, size) + 1) if size % parts == 0]
    if near:
        parts = min(near, key=lambda p: abs(p - wanted))
        return _Cut(parts, size // parts)
    if divided:
        return None
    length = -(-size // wanted)
    return _Cut(-(-size // length), length)


def _parts_and_whole(
    buffer: ComputedBuffer, loops: Reduction, cuts: dict[int, _Cut]
) -> tuple[ComputedBuffer, ComputedBuffer]:
    part_sizes = tuple(integer(cuts[dim].parts) for dim in sorted(cuts))
    sizes = (*part_sizes, *loops.sizes)
    lengths = tuple(integer(cuts[d].length) if d in cuts else s for d, s in enumerate(loops.reduction_sizes))
    outer = tuple(index_variable(k, size) for k, size in enumerate(sizes))
    inner = tuple(reduction_variable(k, size) for k, size in enumerate(lengths))
    mapping: dict[Symbol, IntExpr] = dict(zip(loops.body.variables, outer[len(part_sizes) :]))
    ends: list[Node] = []
    for place, dim in enumerate(sorted(cuts)):
        cut, size = cuts[dim], int(loops.reduction_sizes[dim])
        index = outer[place] * cut.length + (inner[dim] if cut.length > 1 else 0)
        mapping[loops.body.reduction_variables[dim]] = index
        if cut.parts * cut.length > size:
            inside = lt(index, size)
            ends.append(ops.index_value(inside, torch.bool))  # pyright: ignore[reportArgumentType]
    for dim, variable in enumerate(loops.body.reduction_variables):
        if dim not in cuts:
            mapping[variable] = inner[dim]
    value = substitute(loops.body.value, mapping)
    for end in ends:
        value = ops.masked(end, value, _IDENTITY[loops.kind])
    layout = Layout(buffer.layout.device, loops.accumulate, sizes, contiguous_strides(sizes))
    body = LoopBody(outer, inner, value)
    parts = Reduction(sizes, lengths, loops.kind, body, loops.accumulate, loops.accumulate)
    first = ComputedBuffer(f"{buffer.name}_parts", layout, parts, buffer.origin)
    whole = dataclasses.replace(loops, reduction_sizes=part_sizes, body=_sum_of(first, layout, loops, part_sizes))
    return first, dataclasses.replace(buffer, loops=whole)


def _sum_of(first: ComputedBuffer, layout: Layout, loops: Reduction, part_sizes: Sequence[IntExpr]) -> LoopBody:
    variables = tuple(reduction_variable(k, size) for k, size in enumerate(part_sizes))
    index = layout.index([*variables, *loops.body.variables])
    return LoopBody(loops.body.variables, variables, ops.load(first.name, index, layout.dtype))
