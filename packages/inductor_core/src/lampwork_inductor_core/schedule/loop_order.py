"""Loop order: the normal form of a node's loops, and the merging of loops once a kernel is whole.

Before fusion each node loses loops of size one, has loops split where its indices divide them (`i // 64`, `i % 64`),
and gets an order in which the last loop is unit-stride for most bytes. After fusion, neighbouring loops that every
access walks as one are merged. Invariant: the set of (index, value) pairs of a node never changes, only the order of
points; nodes for which the order is part of the meaning (argmax, scans) keep their inner order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lampwork_symshape import IntExpr, Symbol, integer, stride_of
from lampwork_symshape.kind import Kind

from ..ir.loop_body import index_variable, ops, reduction_variable, substitute
from .dependencies import Access, LoopNode, NodeKind, Space, accesses_of, is_empty, is_one, is_zero

TYPICAL_SIZE = 64
"""What a size that is not constant is taken for where loops are ordered."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One new loop, and which old loop's index it helps to make up: `index of old = sum(weight * axis)`."""

    size: IntExpr
    source: int
    weight: IntExpr


def normalise(node: LoopNode) -> LoopNode:
    """Drop loops of size one, split divided ones, order them. Scatters and scans only lose loops of size one."""
    if is_empty(node.space):
        return node
    outer = _split(node.space.outer, node.space.outer_symbols, node)
    if any(is_zero(size) for size in node.space.inner):
        nothing = ops.constant(0, node.value.dtype)  # the identity is stored, nothing may be read
        return _rebuilt(dataclasses.replace(node, value=nothing), outer, [Axis(integer(0), -1, integer(1))])
    if node.kind is NodeKind.SCAN:
        inner = [Axis(node.space.inner[0], 0, integer(1))]
    else:
        inner = _split(node.space.inner, node.space.inner_symbols, node)
        if node.space.inner and not inner:
            inner = [Axis(integer(1), 0, integer(1))]  # a reduction keeps a loop to accumulate in
    middle = _rebuilt(node, outer, inner)
    if node.kind is NodeKind.SCATTER:
        return middle
    outer_order = _outer_order(middle)
    inner_order = list(range(len(inner))) if node.order_matters else _inner_order(middle)
    if outer_order == list(range(len(outer))) and inner_order == list(range(len(inner))):
        return middle
    return _rebuilt(
        middle,
        [Axis(middle.space.outer[k], k, integer(1)) for k in outer_order],
        [Axis(middle.space.inner[k], k, integer(1)) for k in inner_order],
    )


def _split(sizes: Sequence[IntExpr], symbols: Sequence[Symbol], node: LoopNode) -> list[Axis]:
    boundaries = _boundaries(node) if node.kind in (NodeKind.POINTWISE, NodeKind.REDUCTION) else {}
    axes: list[Axis] = []
    for position, (size, symbol) in enumerate(zip(sizes, symbols)):
        if is_one(size):
            continue
        cuts = _chain(boundaries.get(symbol, ()), size)
        upper = size
        for cut in sorted(cuts, reverse=True):
            axes.append(Axis(upper // cut, position, integer(cut)))
            upper = integer(cut)
        axes.append(Axis(upper, position, integer(1)))
    return axes


def _chain(cuts: Sequence[int], size: IntExpr) -> list[int]:
    """The cuts if each divides the next and the last divides the size, else none."""
    if not cuts or not size.is_constant:
        return []
    ordered = sorted({c for c in cuts if 1 < c < int(size)})
    for small, large in zip(ordered, [*ordered[1:], int(size)]):
        if large % small:
            return []
    return ordered


def _boundaries(node: LoopNode) -> dict[Symbol, list[int]]:
    found: dict[Symbol, list[int]] = {}
    for access in (*node.reads, node.write):
        if access.index.free_symbols:
            for symbol, cut in _divisions(access.index):
                found.setdefault(symbol, []).append(cut)
    return found


def _divisions(expression: IntExpr) -> list[tuple[Symbol, int]]:
    """(symbol, k) for each division or remainder that splits the symbol's loop into blocks of k."""
    found: list[tuple[Symbol, int]] = []
    stack: list[object] = [expression]
    while stack:
        node = stack.pop()
        if not isinstance(node, IntExpr):
            continue
        stack.extend(node.children)
        if node.kind not in (Kind.FLOOR_DIV, Kind.MOD):
            continue
        left, right = node.children
        if not isinstance(left, IntExpr) or not isinstance(right, IntExpr) or not right.is_constant:
            continue
        divisor = int(right)
        if isinstance(left, Symbol):
            found.append((left, divisor))
        elif left.kind in (Kind.FLOOR_DIV, Kind.MOD) and left.kind is not node.kind:
            symbol, by = left.children
            if isinstance(symbol, Symbol) and isinstance(by, IntExpr) and by.is_constant:
                found.append((symbol, int(by)))
                found.append((symbol, divisor * int(by) if node.kind is Kind.MOD else divisor))
    return found


def _rebuilt(node: LoopNode, outer: Sequence[Axis], inner: Sequence[Axis]) -> LoopNode:
    """The node over new loops."""
    space = Space(tuple(a.size for a in outer), tuple(a.size for a in inner))
    if space == node.space and all(a.source == k for axes in (outer, inner) for k, a in enumerate(axes)):
        return node
    mapping: dict[Symbol, IntExpr] = {}
    for old, new, axes in (
        (node.space.outer_symbols, space.outer_symbols, outer),
        (node.space.inner_symbols, space.inner_symbols, inner),
    ):
        for position, symbol in enumerate(old):
            index: IntExpr = integer(0)
            for axis, variable in zip(axes, new):
                if axis.source == position:
                    index = index + variable * axis.weight
            mapping[symbol] = index
    value = substitute(node.value, mapping)
    write = Access(node.write.buffer, node.write.index.substitute(mapping), node.write.indirect)
    indirect = tuple((s, substitute(n, mapping)) for s, n in node.scatter_indirect)
    if node.kind is NodeKind.SCATTER:
        reads = [*accesses_of(value), *(a for _, n in indirect for a in accesses_of(n)), node.reads[-1]]
        read = tuple(dict.fromkeys(reads))
    else:
        read = accesses_of(value)
    return dataclasses.replace(node, space=space, value=value, reads=read, write=write, scatter_indirect=indirect)


def _constant_stride(index: IntExpr, symbol: Symbol) -> int | None:
    stride = stride_of(index, symbol)
    return abs(int(stride)) if stride is not None and stride.is_constant else None


def estimated_stride(index: IntExpr, symbol: Symbol) -> int | None:
    """By how much an affine index grows with a loop symbol; symbolic sizes count as `TYPICAL_SIZE`. For orders only."""
    stride = stride_of(index, symbol)
    if stride is None:
        return None
    if stride.is_constant:
        return abs(int(stride))
    return abs(int(stride.evaluate(dict.fromkeys(stride.free_symbols, TYPICAL_SIZE))))


def _unit_bytes(node: LoopNode, symbol: Symbol) -> int:
    """How many elements are accessed (a write counts twice) by accesses that step by one element along this loop."""
    loops = dict(zip(node.space.outer_symbols, node.space.outer))
    total = 0
    for access, weight in (*((read, 1) for read in node.reads), (node.write, 2)):
        if _constant_stride(access.index, symbol) == 1:
            sizes = (size for loop, size in loops.items() if loop in access.index.free_symbols)
            total += weight * math.prod(int(size) if size.is_constant else TYPICAL_SIZE for size in sizes)
    return total


def _outer_order(node: LoopNode) -> list[int]:
    """Descending strides of the write; the loop that is unit-stride for most bytes comes last."""
    symbols = node.space.outer_symbols
    strides = [estimated_stride(node.write.index, s) for s in symbols]
    if len(symbols) < 2 or any(stride is None for stride in strides):
        return list(range(len(symbols)))
    order = sorted(range(len(symbols)), key=lambda k: -(strides[k] or 0))
    if node.kind is NodeKind.POINTWISE:
        units = [_unit_bytes(node, s) for s in symbols]
        last = max(order, key=lambda k: (units[k], order.index(k)))
        if units[last] > units[order[-1]]:
            order.remove(last)
            order.append(last)
    return order


def _inner_order(node: LoopNode) -> list[int]:
    """Descending strides of the first read that steps along all inner loops, else as they are."""
    symbols = node.space.inner_symbols
    if len(symbols) < 2:
        return list(range(len(symbols)))
    for access in node.reads:
        strides = [estimated_stride(access.index, s) for s in symbols]
        if not access.indirect and all(strides):
            return sorted(range(len(symbols)), key=lambda k: -(strides[k] or 0))
    return list(range(len(symbols)))


# ------------------------------------------------------------------------------------------------- merging, after
# fusion


def _division_count(expressions: Sequence[IntExpr]) -> int:
    count = 0
    for expression in expressions:
        stack: list[object] = [expression]
        while stack:
            node = stack.pop()
            if isinstance(node, IntExpr):
                count += node.kind in (Kind.FLOOR_DIV, Kind.MOD)
                stack.extend(node.children)
    return count


def _walks_as_one(expressions: Sequence[IntExpr], high: Symbol, low: Symbol, low_size: IntExpr) -> bool:
    """Whether every expression sees `high` and `low` only as `high * low_size + low`."""
    hard: list[IntExpr] = []
    for expression in expressions:
        free = expression.free_symbols
        if high not in free and low not in free:
            continue
        stride_high, stride_low = stride_of(expression, high), stride_of(expression, low)
        if stride_high is None or stride_low is None:
            hard.append(expression)
        elif stride_high != stride_low * low_size:
            return False
    if not hard:
        return True
    probe = index_variable(10_000, high_size_of(high, low_size))
    merged = [e.substitute({high: probe // low_size, low: probe % low_size}) for e in hard]
    return _division_count(merged) <= _division_count(hard)


def high_size_of(high: Symbol, low_size: IntExpr) -> IntExpr:
    """The size of the merged loop, from the bound of the outer symbol."""
    upper = high.upper
    return low_size * (upper + 1) if upper is not None else low_size * (high + 1)


def merge_runs(sizes: Sequence[IntExpr], symbols: Sequence[Symbol], expressions: Sequence[IntExpr]) -> list[list[int]]:
    """Runs of neighbouring loops that may be walked as one."""
    runs: list[list[int]] = []
    for position in range(len(sizes)):
        if runs and _walks_as_one(expressions, symbols[runs[-1][-1]], symbols[position], sizes[position]):
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs


def merged_space(space: Space, expressions: Sequence[IntExpr]) -> tuple[Space, Mapping[Symbol, IntExpr]]:
    """The space with all mergeable loops merged, and the old symbols in terms of the new ones."""
    if any(is_zero(size) for size in (*space.outer, *space.inner)):
        return space, {}
    mapping: dict[Symbol, IntExpr] = {}
    parts: list[tuple[IntExpr, ...]] = []
    for sizes, symbols, make in (
        (space.outer, space.outer_symbols, index_variable),
        (space.inner, space.inner_symbols, reduction_variable),
    ):
        runs = merge_runs(sizes, symbols, expressions)
        merged: list[IntExpr] = []
        for number, run in enumerate(runs):
            size: IntExpr = integer(1)
            for position in run:
                size = size * sizes[position]
            variable: IntExpr = make(number, size)
            merged.append(size)
            if len(run) == 1:
                mapping[symbols[run[0]]] = variable
                continue
            rest = size
            for position in run:
                rest = rest // sizes[position]
                quotient = variable // rest
                mapping[symbols[position]] = quotient if position == run[0] else quotient % sizes[position]
        parts.append(tuple(merged))
    return Space(parts[0], parts[1]), mapping
