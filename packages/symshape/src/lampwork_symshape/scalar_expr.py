"""Scalar expressions: what a program computes from the Python floats (and integers) that it was given.

Integers alone are `expr`; as soon as a float takes part, a value is a tree of the very functions that Python would
call, over float symbols, integer expressions and literals. Nothing is simplified: floats have no algebra that is exact.
Invariant: `evaluate` gives, bit for bit, what the program itself would compute, and raises what it would raise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, Union

from .condition import BoolExpr
from .expr import IntExpr, Symbol
from .kind import Kind
from .shape_symbol import UserFrame

LARGEST = 64
"""Function applications in one expression; a bigger one is decided instead of carried on."""

_TOTAL: frozenset[Callable[..., Any]] = frozenset(
    {operator.add, operator.sub, operator.mul, operator.neg, operator.pos, operator.abs, min, max,
     operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne, float.is_integer}
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class FloatSymbol:
    """A float of an input. `origin` names it for people; equal only to itself."""

    name: str
    origin: str
    frame: UserFrame | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False)
class ScalarExpr:
    """`function(*operands)`, for a pure function of Python that takes numbers."""

    function: Callable[..., Any]
    operands: tuple[ScalarTerm, ...]
    size: int = field(default=1)

    def __str__(self) -> str:
        name = getattr(self.function, "__name__", str(self.function))
        symbol = _SPELLING.get(self.function)
        texts = [str(operand) for operand in self.operands]
        if symbol is None or len(texts) != 2:
            return f"{name}({', '.join(texts)})"
        return f"({texts[0]} {symbol} {texts[1]})"


ScalarTerm: TypeAlias = Union[ScalarExpr, FloatSymbol, IntExpr, int, float]  # noqa: UP007 - names ScalarExpr early

_SPELLING: dict[Callable[..., Any], str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
    operator.eq: "==", operator.ne: "!=",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ScalarFact:
    """`expr` evaluates to exactly `value` (type and bits), and the user's line that relies on it."""

    expr: ScalarTerm
    value: Any
    frame: UserFrame | None


def apply(function: Callable[..., Any], *operands: ScalarTerm) -> ScalarExpr:
    """`function(*operands)`, not evaluated."""
    return ScalarExpr(function, operands, 1 + sum(o.size if isinstance(o, ScalarExpr) else 0 for o in operands))


def is_total(expr: ScalarExpr) -> bool:
    """Whether the outermost application certainly raises nothing, for floats and integers of moderate size."""
    for operand in expr.operands:
        if isinstance(operand, IntExpr) and operand.kind is not Kind.SYMBOL:
            return False  # as a float it may overflow
        if type(operand) is int and abs(operand) >= 1 << 63:
            return False
    return expr.function in _TOTAL


def structure_of(term: ScalarTerm) -> Hashable:
    """A key that is equal for terms that are one application of the same operands; 0.0, -0.0 and 0 differ."""
    if isinstance(term, ScalarExpr):
        return (term.function, *(repr(o) if isinstance(o, int | float) else o for o in term.operands))
    return repr(term) if isinstance(term, int | float) else term


def evaluate(term: ScalarTerm, ints: Mapping[Symbol, int], floats: Mapping[FloatSymbol, float]) -> Any:
    """The value for these values of the symbols. Raises KeyError for an unknown symbol, else what Python raises."""
    if isinstance(term, ScalarExpr):
        return term.function(*(evaluate(operand, ints, floats) for operand in term.operands))
    if isinstance(term, FloatSymbol):
        return floats[term]
    if isinstance(term, IntExpr):
        return term.evaluate(ints)
    return term


def integers_of(term: ScalarTerm) -> Iterator[IntExpr]:
    """The integer expressions that a number is made of."""
    if isinstance(term, ScalarExpr):
        for operand in term.operands:
            yield from integers_of(operand)
    elif isinstance(term, IntExpr):
        yield term


def select(condition: bool, if_true: int, if_false: int) -> int:
    """`if_true if condition else if_false`, as a function."""
    return if_true if condition else if_false


_APPLIED: dict[Kind, Callable[..., Any]] = {
    Kind.FLOOR_DIV: operator.floordiv,
    Kind.MOD: operator.mod,
    Kind.MIN: min,
    Kind.MAX: max,
    Kind.EQ: operator.eq,
    Kind.NE: operator.ne,
    Kind.LT: operator.lt,
    Kind.LE: operator.le,
    Kind.AND: operator.and_,
    Kind.OR: operator.or_,
}


def applied(term: ScalarTerm | BoolExpr) -> ScalarTerm:
    """A term as applications of Python's functions only, down to symbols and literals.

    What reads a term in order to run it (guards, graphs, bytecode) needs to know nothing else.
    """
    if isinstance(term, ScalarExpr):
        return apply(term.function, *(applied(operand) for operand in term.operands))
    if not isinstance(term, IntExpr | BoolExpr):
        return term
    node: Any = term
    if node.kind is Kind.INTEGER or node.kind is Kind.BOOLEAN:
        return node.value
    if node.kind is Kind.SYMBOL:
        return node
    if node.kind is Kind.WHERE:
        return apply(select, applied(node.condition), applied(node.if_true), applied(node.if_false))
    if node.kind is Kind.ADD:
        parts = [_scaled(applied(part), factor) for part, factor in node.terms]
        return _chain(operator.add, [*parts, node.constant] if node.constant else parts)
    if node.kind is Kind.MUL:
        product = _chain(operator.mul, [applied(factor) for factor in node.factors])
        return _scaled(product, node.scale)
    operands = node.args if hasattr(node, "args") else (node.lhs, node.rhs)
    return _chain(_APPLIED[node.kind], [applied(operand) for operand in operands])


def _scaled(term: ScalarTerm, factor: int) -> ScalarTerm:
    return term if factor == 1 else apply(operator.mul, term, factor)


def _chain(function: Callable[..., Any], terms: list[ScalarTerm]) -> ScalarTerm:
    result = terms[0]
    for term in terms[1:]:
        result = apply(function, result, term)
    return result
