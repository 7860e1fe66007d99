"""Interned conditions over integer expressions: comparisons, conjunctions, disjunctions, and the choice `where`.

Guards, facts and masks are conditions. Built from `expr`, decided from value ranges where they can be.
Invariants: a comparison is kept as one normal form of `lhs - rhs` (so `x < y + 1` and `x <= y` are one object, and
common factors are gone); conditions are in negation normal form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import gcd
from typing import Any

from . import rules
from .expr import IntExpr, Symbol, as_expr, integer, sum_node
from .kind import Kind
from .node import Expr, SymbolicValueError, interned, remember
from .value_range import union_bounds


class BoolExpr(Expr):
    """A condition. In negation normal form: `not_` swaps the relations and never leaves a node of its own."""

    __slots__ = ()

    @property
    def constant_value(self) -> bool:
        """The value of a literal; raises SymbolicValueError for any other condition."""
        raise SymbolicValueError(self, "constant value", "ask `prove`, or let a ShapeEnv evaluate it.")

    def __and__(self, other: BoolExpr | bool) -> BoolExpr:
        return and_(self, other)

    def __or__(self, other: BoolExpr | bool) -> BoolExpr:
        return or_(self, other)

    def __invert__(self) -> BoolExpr:
        return not_(self)

    def __bool__(self) -> bool:
        return self.constant_value


class Boolean(BoolExpr):
    """True or false. It equals the Python boolean of the same value, and hashes alike."""

    __slots__ = ("value",)
    kind = Kind.BOOLEAN
    value: bool

    @property
    def is_constant(self) -> bool:
        return True

    @property
    def constant_value(self) -> bool:
        return self.value

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, bool) and other == self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> bool:
        return self.value

    def __reduce__(self) -> tuple[object, ...]:
        return boolean, (self.value,)


class Relation(BoolExpr):
    """A comparison `lhs ? rhs`; both sides have positive coefficients only. `difference` is lhs - rhs."""

    __slots__ = ("difference", "lhs", "rhs")
    lhs: IntExpr
    rhs: IntExpr
    difference: IntExpr

    def __reduce__(self) -> tuple[object, ...]:
        return relation_node, (type(self), self.lhs, self.rhs, self.difference)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> bool:
        lhs, rhs = children
        if self.kind is Kind.EQ:
            return lhs == rhs
        if self.kind is Kind.NE:
            return lhs != rhs
        return lhs < rhs if self.kind is Kind.LT else lhs <= rhs

    def _rebuild(self, children: Sequence[Any]) -> BoolExpr:
        build = {Kind.EQ: eq, Kind.NE: ne, Kind.LT: lt, Kind.LE: le}[self.kind]
        return build(children[0], children[1])


class Eq(Relation):
    """`lhs == rhs`."""

    __slots__ = ()
    kind = Kind.EQ


class Ne(Relation):
    """`lhs != rhs`."""

    __slots__ = ()
    kind = Kind.NE


class Lt(Relation):
    """`lhs < rhs`."""

    __slots__ = ()
    kind = Kind.LT


class Le(Relation):
    """`lhs <= rhs`."""

    __slots__ = ()
    kind = Kind.LE


class Connective(BoolExpr):
    """A conjunction or disjunction of two or more conditions."""

    __slots__ = ("args",)
    args: tuple[BoolExpr, ...]

    def __reduce__(self) -> tuple[object, ...]:
        return connective_node, (type(self), self.args)


class And(Connective):
    """All of `args`."""

    __slots__ = ()
    kind = Kind.AND

    def _rebuild(self, children: Sequence[Any]) -> BoolExpr:
        return and_(*children)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> bool:
        return all(children)


class Or(Connective):
    """Any of `args`."""

    __slots__ = ()
    kind = Kind.OR

    def _rebuild(self, children: Sequence[Any]) -> BoolExpr:
        return or_(*children)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> bool:
        return any(children)


class Where(IntExpr):
    """`if_true` where `condition` holds, else `if_false`."""

    __slots__ = ("condition", "if_false", "if_true")
    kind = Kind.WHERE
    condition: BoolExpr
    if_true: IntExpr
    if_false: IntExpr

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        return where(*children)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return children[1] if children[0] else children[2]

    def __reduce__(self) -> tuple[object, ...]:
        return where, (self.condition, self.if_true, self.if_false)


# ---------------------------------------------------------------------------------------------------------- building


def boolean(value: bool) -> Boolean:
    """The literal true or false."""
    return TRUE if value else FALSE


def _literal(value: bool) -> Boolean:
    node = Boolean()
    node.value = value
    node.seal((), int(value))
    return interned.setdefault((Boolean, value), node)


TRUE = _literal(True)
FALSE = _literal(False)


def relation_node(cls: type[Relation], lhs: IntExpr, rhs: IntExpr, difference: IntExpr) -> Relation:
    """The comparison node, as it is. For unpickling and this module."""
    key = (cls, lhs, rhs)
    found = interned.get(key)
    if found is not None:
        return found
    node = cls()
    node.lhs, node.rhs, node.difference = lhs, rhs, difference
    node.seal((lhs, rhs))
    return interned.setdefault(key, node)


_equal: dict[tuple[Any, Any], BoolExpr] = {}
_ordered: dict[tuple[Any, Any], BoolExpr] = {}


def _sides(difference: IntExpr) -> tuple[IntExpr, IntExpr]:
    """The positive and the negated negative terms of a difference, without its constant."""
    positive = tuple((t, c) for t, c in difference.terms if c > 0)
    negative = tuple((t, -c) for t, c in difference.terms if c < 0)
    return sum_node(0, positive), sum_node(0, negative)


def _divide_exactly(expr: IntExpr, divisor: IntExpr) -> IntExpr | None:
    quotient, rest = rules.split_by_divisor(expr, divisor)
    return quotient if quotient is not None and rest == 0 else None


def _without_common_factor(difference: IntExpr) -> IntExpr:
    """Cancel factors that every term has and that are positive."""
    if difference.constant or len(difference.terms) < 2:
        return difference
    first = difference.terms[0][0]
    for factor in rules.factors_of(first):
        if rules.positive(factor):
            quotient = _divide_exactly(difference, factor)
            if quotient is not None:
                return _without_common_factor(quotient)
    return difference


def _equality(a: IntExpr, b: IntExpr | int) -> BoolExpr:
    difference = _without_common_factor(a - b)
    low, high = difference.lower, difference.upper
    if low == high == 0:
        return TRUE
    if (low is not None and low > 0) or (high is not None and high < 0):
        return FALSE
    content = gcd(*(c for _, c in difference.terms))
    if difference.constant % content:
        return FALSE
    # either sign says the same: the leading term is positive
    content = content if difference.terms[0][1] > 0 else -content
    difference = sum_node(difference.constant // content, tuple((t, c // content) for t, c in difference.terms))
    lhs, rhs = _sides(difference)
    constant = difference.constant
    if constant < 0 or not rhs.terms:
        rhs = rhs - constant
    else:
        lhs = lhs + constant
    return relation_node(Eq, lhs, rhs, difference)


def eq(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """The condition a == b."""
    found = _equal.get((a, b))
    return remember(_equal, (a, b), _equality(as_expr(a), b)) if found is None else found


def ne(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """The condition a != b."""
    return not_(eq(a, b))


def le(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """The condition a <= b."""
    found = _ordered.get((a, b))
    return remember(_ordered, (a, b), _at_most(as_expr(a), b)) if found is None else found


def _at_most(a: IntExpr, b: IntExpr | int) -> BoolExpr:
    difference = _without_common_factor(a - b)
    if difference.upper is not None and difference.upper <= 0:
        return TRUE
    if difference.lower is not None and difference.lower > 0:
        return FALSE
    content = gcd(*(c for _, c in difference.terms))
    # g*t + k <= 0 over the integers is t + ceil(k / g) <= 0
    constant = -(-difference.constant // content)
    terms = tuple((t, c // content) for t, c in difference.terms)
    difference = sum_node(constant, terms)
    lhs, rhs = _sides(difference)
    if not rhs.terms:  # lhs <= -constant; of the two spellings, the one with the even number
        cls, rhs, constant = (Lt, integer(1 - constant), 0) if constant % 2 else (Le, integer(-constant), 0)
    elif not lhs.terms:  # constant <= rhs
        cls, lhs, constant = (Lt, integer(constant - 1), 0) if constant % 2 else (Le, integer(constant), 0)
    elif constant > 0:  # lhs + constant <= rhs
        cls, lhs = Lt, lhs + (constant - 1)
    else:
        cls, rhs = Le, rhs - constant
    return relation_node(cls, lhs, rhs, difference - 1 if cls is Lt else difference)


def lt(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """The condition a < b."""
    return le(as_expr(a) + 1, b)


def ge(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """The condition a >= b."""
    return le(b, a)


def gt(a: IntExpr | int, b: IntExpr | int) -> BoolExpr:
    """The condition a > b."""
    return lt(b, a)


def excess(condition: Relation) -> IntExpr:
    """For an ordering, the d of the equivalent `d <= 0`."""
    return condition.difference + 1 if condition.kind is Kind.LT else condition.difference


def as_condition(value: BoolExpr | bool) -> BoolExpr:
    """`value` as a condition; raises TypeError for anything but truth values."""
    if isinstance(value, BoolExpr):
        return value
    if isinstance(value, bool):
        return boolean(value)
    raise TypeError(f"expected a condition or a bool, got {type(value).__name__}: {value!r}")


def connective_node(cls: type[Connective], args: tuple[BoolExpr, ...]) -> BoolExpr:
    """The conjunction or disjunction of sorted arguments, as it is."""
    key = (cls, args)
    found = interned.get(key)
    if found is not None:
        return found
    node = cls()
    node.args = args
    node.seal(args)
    return interned.setdefault(key, node)


def _connect(cls: type[Connective], values: Iterable[BoolExpr | bool], decides: Boolean) -> BoolExpr:
    kept: dict[BoolExpr, None] = {}
    for value in map(as_condition, values):
        for arg in value.args if isinstance(value, cls) else (value,):
            if arg is decides:
                return decides
            if not isinstance(arg, Boolean):
                kept[arg] = None
    if any(not_(arg) in kept for arg in kept):
        return decides
    if len(kept) < 2:
        return next(iter(kept), boolean(not decides.value))
    return connective_node(cls, tuple(sorted(kept, key=lambda e: e.order)))


def and_(*conditions: BoolExpr | bool) -> BoolExpr:
    """All of the conditions; true for none."""
    return _connect(And, conditions, FALSE)


def or_(*conditions: BoolExpr | bool) -> BoolExpr:
    """Any of the conditions; false for none."""
    return _connect(Or, conditions, TRUE)


def not_(condition: BoolExpr | bool) -> BoolExpr:
    """The opposite condition."""
    condition = as_condition(condition)
    if isinstance(condition, Boolean):
        return boolean(not condition.value)
    if isinstance(condition, Connective):
        args = tuple(sorted((not_(a) for a in condition.args), key=lambda e: e.order))
        return connective_node(Or if isinstance(condition, And) else And, args)
    assert isinstance(condition, Relation)
    if condition.kind is Kind.EQ or condition.kind is Kind.NE:
        opposite = Ne if condition.kind is Kind.EQ else Eq
        return relation_node(opposite, condition.lhs, condition.rhs, condition.difference)
    return gt(excess(condition), 0)


def where(condition: BoolExpr | bool, if_true: IntExpr | int, if_false: IntExpr | int) -> IntExpr:
    """`if_true` where the condition holds, else `if_false`."""
    condition, a, b = as_condition(condition), as_expr(if_true), as_expr(if_false)
    if isinstance(condition, Boolean):
        return a if condition.value else b
    if a is b:
        return a
    key = (Where, condition, a, b)
    found = interned.get(key)
    if found is not None:
        return found
    node = Where()
    node.condition, node.if_true, node.if_false = condition, a, b
    node.lower, node.upper = union_bounds(a.lower, a.upper, b.lower, b.upper)
    node.constant, node.terms = 0, ((node, 1),)
    node.seal((condition, a, b))
    return interned.setdefault(key, node)
