"""Whether a condition certainly holds, certainly does not, or cannot be told, given facts.

Asked by ShapeEnv before it records a guard, and by whoever wants a simplification that needs a fact (`j < s0`).
Invariants: TRUE and FALSE are certain for every assignment that satisfies the ranges and the facts; UNKNOWN is always
allowed. Facts that contradict each other prove anything. The search is bounded, so an answer takes microseconds to a
few milliseconds.
"""

from __future__ import annotations

import enum
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias, cast

from .condition import Boolean, BoolExpr, Connective, Relation, and_, as_condition, excess, gt, not_
from .expr import BinaryInt, IntExpr, MinMax, Symbol, combine, integer, product, scaled
from .kind import Kind
from .node import E, Expr, postorder
from .rules import factors_of

Coefficients: TypeAlias = dict[IntExpr, int]

_SEARCH_STEPS = 150
_MAX_TERMS = 12


class Truth(enum.Enum):
    """What can be said about a condition."""

    TRUE = "true"
    FALSE = "false"
    UNKNOWN = "unknown"

    def __invert__(self) -> Truth:
        return _OPPOSITE[self]


_OPPOSITE = {Truth.TRUE: Truth.FALSE, Truth.FALSE: Truth.TRUE, Truth.UNKNOWN: Truth.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Bounded:
    """The linear fact `sum of coefficient * term + constant <= 0`."""

    coefficients: tuple[tuple[IntExpr, int], ...]
    constant: int


class Facts:
    """Conditions known to hold, prepared for many questions. Immutable; `with_facts` gives a larger one."""

    __slots__ = ("_by_term", "_strongest", "_unequal", "conditions", "decided", "equal")

    conditions: dict[BoolExpr, None]
    """The facts, conjunctions split, in order."""
    equal: dict[Symbol, IntExpr]
    """What symbols are equated to; no key occurs in a value."""
    decided: dict[BoolExpr, bool]
    """Whether these facts prove a condition, as `holds` found: each layer of a model asks the same."""

    def __init__(self, conditions: Iterable[BoolExpr] = ()) -> None:
        self.conditions = {}
        self.equal = {}
        self._by_term: dict[IntExpr, tuple[tuple[Bounded, int], ...]] = {}
        self._strongest: dict[tuple[tuple[IntExpr, int], ...], int] = {}
        self._unequal: set[Bounded] = set()  # sums that are not zero, in both signs
        self.decided = {}
        for condition in conditions:
            self._add(condition)

    def with_facts(self, conditions: Iterable[BoolExpr]) -> Facts:
        """These facts and more."""
        larger = Facts()
        larger.conditions = dict(self.conditions)
        larger.equal = dict(self.equal)
        larger._by_term = dict(self._by_term)
        larger._strongest = dict(self._strongest)
        larger._unequal = set(self._unequal)
        for condition in conditions:
            larger._add(condition)
        return larger

    def replaced(self, expr: E) -> E:
        """`expr` with symbols that a fact equates to something else replaced."""
        return expr.substitute(self.equal) if self.equal else expr

    def about(self, term: IntExpr) -> tuple[tuple[Bounded, int], ...]:
        """The linear facts in which a term occurs, each with its coefficient there."""
        return self._by_term.get(term, ())

    def _add(self, condition: BoolExpr) -> None:
        if condition in self.conditions:
            return
        if isinstance(condition, Connective) and condition.kind is Kind.AND:
            for part in condition.args:
                self._add(part)
            return
        self.conditions[condition] = None
        for bound in _implied(condition):
            self._note(bound)
        if not isinstance(condition, Relation):
            return
        if condition.kind is Kind.EQ:
            self._note(_bounded(condition.difference, 1))
            self._note(_bounded(condition.difference, -1))
            _note_equality(condition.difference, self.equal)
        elif condition.kind is Kind.NE:
            self._note_unequal(condition.difference)
        else:
            self._note(_bounded(excess(condition), 1))

    def _note_unequal(self, difference: IntExpr) -> None:
        for sign in (1, -1):
            bound = _bounded(difference, sign)
            self._unequal.add(bound)
            limit = scaled(difference, sign).upper
            if limit == 0 or self._strongest.get(bound.coefficients) == bound.constant:
                self._note(Bounded(bound.coefficients, bound.constant + 1))

    def _note(self, bound: Bounded) -> None:
        known = self._strongest.get(bound.coefficients)
        if known is not None and known >= bound.constant:
            return
        while bound in self._unequal:  # x <= y and x != y is x < y, in whichever order they came
            bound = Bounded(bound.coefficients, bound.constant + 1)
        self._strongest[bound.coefficients] = bound.constant
        for term, coefficient in bound.coefficients:
            self._by_term[term] = (*self._by_term.get(term, ()), (bound, coefficient))


def _note_equality(difference: IntExpr, equal: dict[Symbol, IntExpr]) -> None:
    """Remember symbol == rest, the last symbol in canonical order first, never making a cycle."""
    for term, coefficient in reversed(difference.terms):
        if isinstance(term, Symbol) and abs(coefficient) == 1 and term not in equal:
            value = (term - difference * coefficient).substitute(equal)
            if term in value.free_symbols:
                continue
            for known, meaning in list(equal.items()):
                equal[known] = meaning.substitute({term: value})
            equal[term] = value
            return


def _bounded(expr: IntExpr, sign: int) -> Bounded:
    return Bounded(tuple((t, c * sign) for t, c in expr.terms), expr.constant * sign)


def prove(condition: BoolExpr | bool, facts: Facts | Sequence[BoolExpr] = ()) -> Truth:
    """Whether `condition` holds for all values of its symbols that are in range and satisfy `facts`."""
    known = facts if isinstance(facts, Facts) else Facts(facts)
    condition = as_condition(condition)
    if holds(condition, known):
        return Truth.TRUE
    return Truth.FALSE if holds(not_(condition), known) else Truth.UNKNOWN


def holds(condition: BoolExpr, facts: Facts) -> bool:
    """Whether `condition` is proven; half the work of `prove`, for who knows that it cannot be false."""
    if isinstance(condition, Boolean):
        return condition.value
    if condition in facts.conditions:
        return True
    found = facts.decided.get(condition)
    if found is None:
        found = facts.decided[condition] = _follows(condition, facts)
    return found


def _follows(condition: BoolExpr, facts: Facts) -> bool:
    if isinstance(condition, Connective):
        decide = all if condition.kind is Kind.AND else any
        return decide(holds(arg, facts) for arg in condition.args)
    simpler = facts.replaced(condition)
    if simpler is not condition:
        return holds(simpler, facts)
    relation = cast(Relation, condition)
    difference = relation.difference
    if relation.kind is Kind.EQ:
        return _at_most_zero(difference, facts) and _at_most_zero(-difference, facts)
    if relation.kind is Kind.NE:
        return _at_most_zero(difference + 1, facts) or _at_most_zero(1 - difference, facts)
    return _at_most_zero(excess(relation), facts)


# ------------------------------------------------------------------------------------------------ linear reasoning


def _unbounded(term: IntExpr, coefficient: int) -> bool:
    return (term.upper if coefficient > 0 else term.lower) is None


def _upper_bound(coefficients: Coefficients, constant: int) -> int | None:
    total = constant
    for term, coefficient in coefficients.items():
        bound = term.upper if coefficient > 0 else term.lower
        if bound is None:
            return None
        total += bound * coefficient
    return total


def _implied(expr: Expr) -> list[Bounded]:
    """What holds of divisions, remainders, minima and maxima inside `expr` by their meaning alone."""
    found: list[Bounded] = []

    def at_most(low: IntExpr, high: IntExpr, extra: Sequence[tuple[IntExpr, int]] = ()) -> None:
        coefficients: Coefficients = {}
        total = low.constant - high.constant
        for term, c in (*low.terms, *((t, -c) for t, c in high.terms), *extra):
            coefficients[term] = coefficients.get(term, 0) + c
        found.append(Bounded(tuple((t, c) for t, c in coefficients.items() if c), total))

    for node in postorder(expr):
        if isinstance(node, MinMax):
            for arg in node.args:
                at_most(*((node, arg) if node.kind is Kind.MIN else (arg, node)))
        elif isinstance(node, BinaryInt) and node.rhs.lower is not None and node.rhs.lower >= 1:
            if node.kind is Kind.FLOOR_DIV:
                whole = node * node.rhs
                at_most(whole, node.lhs)
                at_most(node.lhs + 1, whole + node.rhs)
            else:
                at_most(node + 1, node.rhs)
                # written term by term, for as an expression y*(x // y) + x % y is x at once
                whole = (node.lhs // node.rhs) * node.rhs
                at_most(node.lhs, whole, [(node, -1)])
                at_most(whole, node.lhs, [(node, 1)])
                if node.lhs.lower is not None and node.lhs.lower >= 0:
                    at_most(node, node.lhs)
    return found


def _at_most_zero(difference: IntExpr, facts: Facts) -> bool:
    """Whether difference <= 0 follows from ranges, facts and what the operations imply.

    Adds non-negative multiples of facts to the goal until its upper bound is at most zero: if a*goal <= b*fact for
    positive a, b and fact <= 0, then goal <= 0. Each step cancels one term of the goal against a fact, times a
    non-negative product where the fact's term only divides the goal's. The most promising goal goes first: few terms
    without a bound, then few terms.
    """
    if difference.upper is not None:
        if difference.upper <= 0:
            return True
        if difference.lower == difference.upper:
            return False
    own: dict[IntExpr, list[tuple[Bounded, int]]] = {}
    for bound in _implied(difference):
        for term, coefficient in bound.coefficients:
            own.setdefault(term, []).append((bound, coefficient))
    counter = itertools.count()
    queue: list[tuple[int, int, int, Coefficients, int]] = [
        (0, 0, next(counter), dict(difference.terms), difference.constant)
    ]
    seen: set[tuple[frozenset[tuple[IntExpr, int]], int]] = set()
    steps = 0
    while queue:
        _, _, _, goal, constant = heapq.heappop(queue)
        for reduced, rest in _steps(goal, constant, facts, own):
            steps += 1
            bound = _upper_bound(reduced, rest)
            if bound is not None and bound <= 0:
                return True
            if steps >= _SEARCH_STEPS:
                return False
            key = (frozenset(reduced.items()), rest)
            if len(reduced) <= _MAX_TERMS and key not in seen:
                seen.add(key)
                open_terms = sum(_unbounded(t, c) for t, c in reduced.items())
                heapq.heappush(queue, (open_terms, len(reduced), next(counter), reduced, rest))
    return False


def _steps(
    goal: Coefficients, constant: int, facts: Facts, own: Mapping[IntExpr, list[tuple[Bounded, int]]]
) -> Iterator[tuple[Coefficients, int]]:
    """Every goal that is one fact away."""
    order = sorted(goal.items(), key=lambda item: (not _unbounded(*item), item[0].order))
    for term, coefficient in order:
        factors = factors_of(term)
        for known in dict.fromkeys((term, *factors)):
            by = integer(1) if known is term else _cofactor(factors, known)
            if by.lower is None or by.lower < 0:
                continue
            for fact, scale in (*facts.about(known), *own.get(known, ())):
                if (scale > 0) == (coefficient > 0):
                    yield _subtract(goal, constant, abs(scale), fact, abs(coefficient), by)
        if _unbounded(term, coefficient):
            return  # without a fact for this term there is no proof, so nothing else need be tried first


def _cofactor(factors: tuple[IntExpr, ...], factor: IntExpr) -> IntExpr:
    left = list(factors)
    left.remove(factor)
    return product(left)


def _subtract(
    goal: Coefficients, constant: int, times: int, fact: Bounded, fact_times: int, by: IntExpr
) -> tuple[Coefficients, int]:
    """times * goal - fact_times * by * fact, divided by its content."""
    result = {term: c * times for term, c in goal.items()}
    constant *= times
    if by.is_constant:
        constant -= fact.constant * fact_times * by.constant
        shifted = [(t, c * by.constant) for t, c in fact.coefficients]
    else:
        whole = combine(0, [*((t * by, c) for t, c in fact.coefficients), (by, fact.constant)])
        constant -= whole.constant * fact_times
        shifted = list(whole.terms)
    for term, c in shifted:
        result[term] = result.get(term, 0) - c * fact_times
    result = {t: c for t, c in result.items() if c}
    content = gcd(*result.values()) if result else 0
    if content > 1:
        # g*t + k <= 0 over the integers is t + ceil(k / g) <= 0
        result = {t: c // content for t, c in result.items()}
        constant = -(-constant // content)
    return result, constant


# ------------------------------------------------------------------------------------ simplification with facts


def simplify(expr: IntExpr, facts: Facts | Sequence[BoolExpr]) -> IntExpr:
    """`expr` with divisions, remainders, minima, maxima and choices that the facts decide replaced.

    For example (s0*i + j) // s0 is i when a fact says j < s0.
    """
    known = facts if isinstance(facts, Facts) else Facts(facts)
    results: dict[Expr, Expr] = {}
    for node in postorder(expr):
        children = [results[c] for c in node.children]
        rebuilt = node if all(a is b for a, b in zip(children, node.children)) else node._rebuild(children)
        results[node] = _decide(rebuilt, known)
    return cast(IntExpr, results[expr])


def _decide(node: Expr, facts: Facts) -> Expr:
    if isinstance(node, BoolExpr):
        truth = prove(node, facts)
        return node if truth is Truth.UNKNOWN else as_condition(truth is Truth.TRUE)
    if node.kind is Kind.ADD or node.kind is Kind.MUL:
        return _decide_terms(cast(IntExpr, node), facts)
    if isinstance(node, BinaryInt):
        if holds(and_(gt(node.rhs, node.lhs), gt(node.lhs, -1)), facts):
            return integer(0) if node.kind is Kind.FLOOR_DIV else node.lhs
    elif isinstance(node, MinMax):
        least = node.kind is Kind.MIN
        for arg in node.args:
            others = [o for o in node.args if o is not arg]
            if all(_at_most_zero(arg - o if least else o - arg, facts) for o in others):
                return arg
    return node


def _decide_terms(node: IntExpr, facts: Facts) -> IntExpr:
    """Rebuilding a sum may have built new divisions: decide those too."""
    parts: list[tuple[IntExpr, int]] = []
    for term, coefficient in node.terms:
        decided = _decide(term, facts) if isinstance(term, BinaryInt | MinMax) else term
        parts.append((cast(IntExpr, decided), coefficient))
    if all(new is old for (new, _), (old, _) in zip(parts, node.terms)):
        return node
    return combine(node.constant, parts)
