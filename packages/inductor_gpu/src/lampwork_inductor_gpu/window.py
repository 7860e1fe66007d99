"""Windows: kernels that reduce over a window which slides along an image, read off a scheduled kernel.

Between the scheduled kernel and the window writer. A strip of neighbours along one loop is one thread's, so that it
reads an element once for all of them; of the two loops of the window one is written out, along the strip, and one
stays a loop. Invariant: what is said of a point holds for every strip, those that reach beyond the end included.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Dimension, InnerLoop, ScheduledKernel, Stage
from lampwork_inductor_core.ir.loop_body import Compute, IndexValue, Masked, Node, ops, rewrite, substitute, walk
from lampwork_symshape import IntExpr, Symbol, as_expr, ceil_div, integer, maximum, minimum, stride_of, symbol


def inside(index: IntExpr, size: IntExpr | int) -> Node:
    """Whether an index lies in [0, size)."""
    place, first, end = (ops.index_value(e, torch.int32) for e in (index, integer(0), as_expr(size)))
    return ops.logical_and(ops.ge(place, first), ops.lt(place, end))


@dataclass(frozen=True, slots=True)
class Window:
    """`stage` reduces `value` over the loops `rolled` (from `first` to before `end`) and `unrolled`, for every number
    of the loops `rows`, every strip of the loop `strip`, every one of `lanes`.

    The conditions that `first` and `end` stand for are not in `value` any more; these two are made of `rows`.
    """

    stage: Stage
    value: Node
    rows: tuple[Dimension, ...]
    strip: Dimension
    lanes: Dimension
    rolled: Dimension
    unrolled: Dimension
    first: IntExpr
    end: IntExpr

    @staticmethod
    def of(kernel: ScheduledKernel) -> Window | None:
        """The window of a kernel; None for any other kernel, and for what has lost the form."""
        first = kernel.segments[0]
        stage = first.stages[0]
        if stage.accumulate is None or not stage.accumulate.window or len(first.stages) != 1:
            return None
        if any(isinstance(s, InnerLoop) for s in kernel.segments[1:]):
            return None
        if len(kernel.inner) != 2 or len(kernel.outer) < 2 or not all(d.size.is_constant for d in kernel.outer[-2:]):
            return None
        *rows, strip, lanes = kernel.outer
        unrolled = next((d for d in kernel.inner if _go_together(stage.value, strip, d)), kernel.inner[-1])
        rolled = next(d for d in kernel.inner if d is not unrolled)
        if not rolled.size.is_constant or not unrolled.size.is_constant:
            return None
        bounds = _Bounds(frozenset(d.symbol for d in rows), rolled.symbol)
        value = bounds.taken_out_of(stage.value)
        start, end = bounds.of(rolled.size)
        return Window(stage, value, tuple(rows), strip, lanes, rolled, unrolled, start, end)

    def strips(self, length: int) -> Dimension:
        """The loop over strips of so many neighbours."""
        count = int(ceil_div(self.strip.size, length))
        return Dimension(symbol("strip", 0, max(count - 1, 0)), integer(count))

    def at(self, place: IntExpr, step: int) -> Node | None:
        """The value at a place along the strip's loop and at one step of the written-out loop, without conditions that
        always hold; None where one never does."""
        value = substitute(self.value, {self.strip.symbol: place, self.unrolled.symbol: integer(step)})
        left: dict[Node, Node] = {}
        for node in walk(value):
            if isinstance(node, Masked):
                open_questions: list[Node] = []
                for condition in conditions(node.condition):
                    answer = _answer(condition)
                    if answer is False:
                        return None
                    if answer is None:
                        open_questions.append(condition)
                left[node] = _masked(node, open_questions)
        return rewrite(value, left.get, lambda e: e)


def _masked(node: Masked, conditions: list[Node]) -> Node:
    if not conditions:
        return node.value
    return ops.masked(functools.reduce(ops.logical_and, conditions), node.value, node.otherwise)


def conditions(node: Node) -> Iterator[Node]:
    """The conditions that hold together."""
    if isinstance(node, Compute) and node.op == "logical_and":
        for argument in node.arguments:
            yield from conditions(argument)
    else:
        yield node


@dataclass(frozen=True, slots=True)
class Comparison:
    """`index >= limit`, or `index < limit`."""

    is_least: bool
    index: IntExpr
    limit: IntExpr

    @staticmethod
    def of(condition: Node) -> Comparison | None:
        if not isinstance(condition, Compute) or condition.op not in ("ge", "lt"):
            return None
        left, right = condition.arguments
        if not isinstance(left, IndexValue) or not isinstance(right, IndexValue):
            return None
        return Comparison(condition.op == "ge", left.expression, right.expression)


def _answer(condition: Node) -> bool | None:
    """Whether a comparison holds wherever its loops are; None where that depends."""
    comparison = Comparison.of(condition)
    if comparison is None:
        return None
    distance = (comparison.index - comparison.limit).value_range
    if distance.lower is not None and distance.lower >= 0:
        return comparison.is_least
    if distance.upper is not None and distance.upper < 0:
        return not comparison.is_least
    return None


def _go_together(value: Node, strip: Dimension, inner: Dimension) -> bool:
    """Whether some condition is on the sum of two loops."""
    both = {strip.symbol, inner.symbol}
    return any(isinstance(n, IndexValue) and both <= n.expression.free_symbols for n in walk(value))


class _Bounds:
    """The conditions of a value that say where a loop starts and ends."""

    def __init__(self, rows: frozenset[Symbol], rolled: Symbol) -> None:
        self.known = rows | {rolled}
        self.rolled = rolled
        self.starts: list[IntExpr] = []
        self.ends: list[IntExpr] = []

    def taken_out_of(self, value: Node) -> Node:
        """The value without them."""
        left: Mapping[Node, Node] = {
            node: _masked(node, [c for c in conditions(node.condition) if not self._take(c)])
            for node in walk(value)
            if isinstance(node, Masked)
        }
        return rewrite(value, left.get, lambda e: e)

    def _take(self, condition: Node) -> bool:
        comparison = Comparison.of(condition)
        if comparison is None:
            return False
        index, limit = comparison.index, comparison.limit
        if not (index.free_symbols | limit.free_symbols) <= self.known or self.rolled in limit.free_symbols:
            return False
        if stride_of(index, self.rolled) != 1:
            return False
        bound = limit - index.substitute({self.rolled: integer(0)})
        (self.starts if comparison.is_least else self.ends).append(bound)
        return True

    def of(self, size: IntExpr) -> tuple[IntExpr, IntExpr]:
        """Start and end of the loop."""
        start = functools.reduce(maximum, dict.fromkeys(self.starts), integer(0))
        return start, functools.reduce(minimum, dict.fromkeys(self.ends), size)
