"""Tiling: which loop of a kernel becomes vectors, and how each access looks to it.

Decided once per kernel, before any text. Candidates are the last outer and the last inner dimension; the one whose
accesses are most often contiguous wins, and a kernel where gathers would outnumber them stays scalar. Invariant: along
the vector symbol, lane l of a vector that starts at a multiple of the lane count is the element at start + l.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd

from lampwork_inductor_core.codegen.scheduled_kernel import Forwarded, InnerLoop, ScheduledKernel, Stage
from lampwork_inductor_core.ir.loop_body import IndexValue, Load, Node, walk
from lampwork_inductor_core.ir.loops import ScatterMode
from lampwork_symshape import IntExpr, Kind, Symbol, stride_of


class VectorLevel(enum.Enum):
    """Which loop nest the vector symbol belongs to."""

    OUTER = "outer"
    INNER = "inner"


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """The vectorised dimension of a kernel."""

    symbol: Symbol
    size: IntExpr
    level: VectorLevel
    lanes: int

    @property
    def constant_size(self) -> int | None:
        """The extent when it is known."""
        return int(self.size) if self.size.is_constant else None

    @property
    def full_vectors(self) -> int | None:
        """How many vectors without a tail, when known."""
        size = self.constant_size
        return None if size is None else size // self.lanes

    @property
    def tail(self) -> int | None:
        """Elements after the last full vector; None when not known."""
        size = self.constant_size
        if size is not None:
            return size % self.lanes
        return 0 if _divides(self.lanes, self.size) else None


def _divides(number: int, size: IntExpr) -> bool:
    """Whether a number divides a size whatever its symbols are."""
    return size.constant % number == 0 and all(coefficient % number == 0 for _, coefficient in size.terms)


def stage_nodes(stage: Stage) -> Iterator[Node]:
    """Every node that a stage evaluates, the indices of its store included."""
    yield from walk(stage.value)
    if stage.store is not None:
        for _, node in stage.store.indirect:
            yield from walk(node)


def _known_multiple(expr: IntExpr, symbol: Symbol, lanes: int) -> int:
    """A number that divides the value of `expr` whenever `symbol` is a multiple of `lanes`; 0 for the value 0."""
    result = abs(expr.constant)
    for term, coefficient in expr.terms:
        factor = lanes if term is symbol else 1
        if term.kind is Kind.MUL:
            factor = lanes if symbol in term.children else 1
        result = gcd(result, abs(coefficient) * factor)
    return result


def lane_stride(expr: IntExpr, symbol: Symbol, lanes: int) -> IntExpr | None:
    """By how much `expr` grows from lane to lane, where vectors start at multiples of `lanes`; None when not uniformly.

    Floor divisions and remainders by a multiple of the lane count neither step nor wrap inside a vector.
    """
    stride = stride_of(expr, symbol)
    if stride is not None:
        return stride
    total: IntExpr | None = None
    for term, coefficient in expr.terms:
        step = _term_stride(term, symbol, lanes)
        if step is None:
            return None
        total = step * coefficient if total is None else total + step * coefficient
    return total


def _term_stride(term: IntExpr, symbol: Symbol, lanes: int) -> IntExpr | None:
    simple = stride_of(term, symbol)
    if simple is not None:
        return simple
    if term.kind not in (Kind.FLOOR_DIV, Kind.MOD):
        return None
    lhs, rhs = term.lhs, term.rhs  # pyright: ignore[reportAttributeAccessIssue]
    if not rhs.is_constant or int(rhs) <= 0:
        return None
    inner = lane_stride(lhs, symbol, lanes)
    if inner is None or not inner.is_constant or int(inner) <= 0:
        return None
    step, divisor = int(inner), int(rhs)
    span = step * lanes
    start = _known_multiple(lhs, symbol, lanes)
    if divisor % span or start % span:
        return None
    return inner if term.kind is Kind.MOD else inner * 0


def _indirect_depends(indirect: Iterable[tuple[Symbol, Node]], index: IntExpr, symbol: Symbol) -> bool:
    return any(name in index.free_symbols and depends_on(node, symbol) for name, node in indirect)


def depends_on(root: Node, symbol: Symbol) -> bool:
    """Whether a node's value changes with a loop symbol, by its own index expressions (not through `Forwarded`)."""
    for node in walk(root):
        if isinstance(node, Load) and symbol in node.index.free_symbols:
            return True
        if isinstance(node, IndexValue) and symbol in node.expression.free_symbols:
            return True
    return False


def _access_score(index: IntExpr, indirect: tuple[tuple[Symbol, Node], ...], symbol: Symbol, lanes: int) -> float:
    if _indirect_depends(indirect, index, symbol):
        return -2.0
    stride = lane_stride(index, symbol, lanes)
    if stride is None:
        return -2.0
    if stride.is_constant and int(stride) == 1:
        return 2.0
    if stride.is_constant and int(stride) == 0:
        return 0.25
    return -1.5


def scatter_is_private(stage: Stage, symbol: Symbol) -> bool:
    """Whether different values of a symbol are sure to hit different elements of a scattering store."""
    store = stage.store
    if store is None or not store.indirect:
        return True
    stride = stride_of(store.index, symbol)
    if stride is None or (stride.is_constant and int(stride) == 0):
        return False
    return not any(depends_on(node, symbol) for _, node in store.indirect)


def _may_vectorise(kernel: ScheduledKernel, symbol: Symbol, level: VectorLevel) -> bool:
    for segment in kernel.segments:
        for stage in segment.stages:
            if stage.scan is not None and level is VectorLevel.INNER:
                return False
            if (
                stage.store is not None
                and (stage.store.scatter is ScatterMode.ADD or stage.store.indirect)
                and not scatter_is_private(stage, symbol)
            ):
                return False
    return True


def _score(kernel: ScheduledKernel, symbol: Symbol, size: IntExpr, level: VectorLevel, lanes: int) -> float:
    local_names = {local.name for local in kernel.locals}
    total, seen = 0.0, set[Node]()
    for segment in kernel.segments:
        if level is VectorLevel.INNER and not isinstance(segment, InnerLoop):
            continue
        for stage in segment.stages:
            for node in stage_nodes(stage):
                if isinstance(node, Load) and node not in seen and node.buffer not in local_names:
                    seen.add(node)
                    total += _access_score(node.index, node.indirect, symbol, lanes)
                elif isinstance(node, (IndexValue, Forwarded)) and not seen:
                    total += 0.01  # generated from indices alone: vectors are fine
            if stage.store is not None and stage.store.argument not in local_names:
                once = stage.accumulate is not None and level is VectorLevel.INNER
                if not once:
                    total += _access_score(stage.store.index, stage.store.indirect, symbol, lanes)
    if size.is_constant and int(size) < lanes:
        total = total * int(size) / lanes if int(size) * 2 > lanes else min(total * 0.25, 0.1)
    return total


def plan_vectors(kernel: ScheduledKernel, lanes: int) -> VectorPlan | None:
    """The dimension to vectorise, or None for a scalar kernel."""
    candidates: list[tuple[float, VectorPlan]] = []
    nests = ((VectorLevel.INNER, kernel.inner), (VectorLevel.OUTER, kernel.outer))
    for level, dimensions in nests:
        if not dimensions:
            continue
        last = dimensions[-1]
        if last.size.is_constant and int(last.size) <= 1:
            continue
        if not _may_vectorise(kernel, last.symbol, level):
            continue
        score = _score(kernel, last.symbol, last.size, level, lanes)
        candidates.append((score, VectorPlan(last.symbol, last.size, level, lanes)))
    if not candidates:
        return None
    score, plan = max(candidates, key=lambda c: c[0])
    return plan if score > 0 else None
