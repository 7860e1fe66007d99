"""Whether a condition certainly holds, certainly does not, or cannot be told, given facts.

Asked by ShapeEnv before it records a guard, and by whoever wants a simplification that needs a fact (`j < s0`).
Invariants: TRUE and FALSE are certain for every assignment that satisfies the ranges and the facts; UNKNOWN is always
allowed. Facts that contradict each other prove anything. The search is bounded, so an answer takes microseconds to a
few milliseconds.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias, cast

from .condition import Boolean, BoolExpr, Connective, Relation, and_, as_condition, excess, gt, not_
from .expr import BinaryInt, IntExpr, MinMax, Symbol, combine, integer, product
from .kind import Kind
from .node import E, Expr, postorder
from .rules import factors_of
from .value_range import scale_bounds

Coefficients: TypeAlias = dict[IntExpr, int]

_SEARCH_STEPS = 300
_SEARCH_DEPTH = 6
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
    """Conditions known to hold, prepared for many questions. Immutable; `with_fact` gives a larger one."""

    __slots__ = ("bounds", "conditions", "equal", "held")

    def __init__(self, conditions: Iterable[BoolExpr] = ()) -> None:
        held: dict[BoolExpr, None] = {}
        for condition in conditions:
            for part in (
                condition.args if isinstance(condition, Connective) and condition.kind is Kind.AND else (condition,)
            ):
                held[part] = None
        self.conditions: tuple[BoolExpr, ...] = tuple(held)
        self.held: frozenset[BoolExpr] = frozenset(held)
        bounds: list[Bounded] = []
        equal: dict[Symbol, IntExpr] = {}
        for condition in held:
            if not isinstance(condition, Relation):
                continue
            if condition.kind is Kind.EQ:
                bounds.append(_bounded(condition.difference, 1))
                bounds.append(_bounded(condition.difference, -1))
                _note_equality(condition.difference, equal)
            elif condition.kind is not Kind.NE:
                bounds.append(_bounded(excess(condition), 1))
        self.bounds: tuple[Bounded, ...] = tuple(bounds)
        self.equal: Mapping[Symbol, IntExpr] = equal
        for condition in held:  # x <= y and x != y is x < y
            if isinstance(condition, Relation) and condition.kind is Kind.NE:
                for sign in (1, -1):
                    if _at_most_zero(condition.difference * sign, self):
                        self.bounds = (*self.bounds, _bounded(condition.difference * sign + 1, 1))

    def with_fact(self, condition: BoolExpr) -> Facts:
        """These facts and one more."""
        return Facts((*self.conditions, condition))

    def replaced(self, expr: E) -> E:
        """`expr` with symbols that a fact equates to something else replaced."""
        return expr.substitute(self.equal) if self.equal else expr


def _note_equality(difference: IntExpr, equal: dict[Symbol, IntExpr]) -> None:
    """Remember symbol == rest, the last symbol in canonical order first, never making a cycle."""
    for term, coefficient in reversed(difference.terms):
        if isinstance(term, Symbol) and abs(coefficient) == 1 and term not in equal:
            value = term - difference * coefficient
            value = value.substitute(equal)
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
    return _prove(as_condition(condition), known)


def _prove(condition: BoolExpr, facts: Facts) -> Truth:
    if isinstance(condition, Boolean):
        return Truth.TRUE if condition.value else Truth.FALSE
    if condition in facts.held:
        return Truth.TRUE
    if not_(condition) in facts.held:
        return Truth.FALSE
    if isinstance(condition, Connective):
        parts = [_prove(arg, facts) for arg in condition.args]
        deciding = Truth.FALSE if condition.kind is Kind.AND else Truth.TRUE
        if deciding in parts:
            return deciding
        return Truth.UNKNOWN if Truth.UNKNOWN in parts else ~deciding
    simpler = facts.replaced(condition)
    if simpler is not condition:
        return _prove(simpler, facts)
    relation = cast(Relation, condition)
    if relation.kind is Kind.EQ or relation.kind is Kind.NE:
        truth = _prove_zero(relation.difference, facts)
        return truth if relation.kind is Kind.EQ else ~truth
    difference = excess(relation)
    if _at_most_zero(difference, facts):
        return Truth.TRUE
    if _at_most_zero(1 - difference, facts):
        return Truth.FALSE
    return Truth.UNKNOWN


def _prove_zero(difference: IntExpr, facts: Facts) -> Truth:
    if _at_most_zero(difference + 1, facts) or _at_most_zero(1 - difference, facts):
        return Truth.FALSE
    if _at_most_zero(difference, facts) and _at_most_zero(-difference, facts):
        return Truth.TRUE
    return Truth.UNKNOWN


# ------------------------------------------------------------------------------------------------ linear reasoning


def _upper_bound(coefficients: Coefficients, constant: int) -> int | None:
    total = constant
    for term, coefficient in coefficients.items():
        high = scale_bounds(term.lower, term.upper, coefficient)[1]
        if high is None:
            return None
        total += high
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


def _cofactor(term: IntExpr, divisor: IntExpr) -> IntExpr | None:
    """The q of term == q * divisor for products of factors, else None."""
    left = list(factors_of(term))
    for factor in factors_of(divisor):
        if factor not in left:
            return None
        left.remove(factor)
    return product(left)


def _at_most_zero(difference: IntExpr, facts: Facts) -> bool:
    """Whether difference <= 0 follows from ranges, facts and what the operations imply."""
    if difference.upper is not None and difference.upper <= 0:
        return True
    known = [*facts.bounds, *_implied(difference)]
    for condition in facts.conditions:
        if not condition.free_symbols.isdisjoint(difference.free_symbols):
            known.extend(_implied(condition))
    known = list(dict.fromkeys(known))
    if not known:
        return False
    return _Search(known).run(dict(difference.terms), difference.constant)


class _Search:
    """Adds non-negative multiples of facts to a goal until its upper bound is at most zero.

    If goal*a <= fact*b for positive a, b and fact <= 0, then goal <= 0: so each step cancels one term of the goal
    against a fact, times a non-negative product where the fact's term only divides the goal's.
    """

    def __init__(self, facts: Sequence[Bounded]) -> None:
        self._facts = facts
        self._steps = 0
        self._seen: set[tuple[frozenset[tuple[IntExpr, int]], int]] = set()

    def run(self, coefficients: Coefficients, constant: int, depth: int = 0) -> bool:
        bound = _upper_bound(coefficients, constant)
        if bound is not None and bound <= 0:
            return True
        key = (frozenset(coefficients.items()), constant)
        if (
            depth >= _SEARCH_DEPTH
            or self._steps >= _SEARCH_STEPS
            or key in self._seen
            or len(coefficients) > _MAX_TERMS
        ):
            return False
        self._seen.add(key)
        # terms with no bound of their own first: without a fact for each of them there is no proof
        order = sorted(
            coefficients.items(),
            key=lambda item: (scale_bounds(item[0].lower, item[0].upper, item[1])[1] is not None, item[0].order),
        )
        for term, coefficient in order:
            for fact in self._facts:
                for known, scale in fact.coefficients:
                    if (scale > 0) != (coefficient > 0):
                        continue
                    by = _cofactor(term, known)
                    if by is None or by.lower is None or by.lower < 0:
                        continue
                    self._steps += 1
                    reduced = _subtract(coefficients, constant, abs(scale), fact, abs(coefficient), by)
                    if self.run(*reduced, depth + 1):
                        return True
            if scale_bounds(term.lower, term.upper, coefficient)[1] is None:
                return False
        return False


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
        truth = _prove(node, facts)
        return node if truth is Truth.UNKNOWN else as_condition(truth is Truth.TRUE)
    if node.kind is Kind.ADD or node.kind is Kind.MUL:
        return _decide_terms(cast(IntExpr, node), facts)
    if isinstance(node, BinaryInt):
        if _prove(and_(gt(node.rhs, node.lhs), gt(node.lhs, -1)), facts) is Truth.TRUE:
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
