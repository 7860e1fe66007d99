"""Expressions to text: a base class with one method an operation, and the Python printer.

Code generators subclass `Printer` for C++ and Triton and override the operations whose spelling differs; precedence and
sums are handled here, once. Invariant: the Python printer's text evaluates (with `min`, `max` and the symbols' names
bound) to what the expression evaluates to.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

from .kind import Kind

if TYPE_CHECKING:
    from .condition import And, Boolean, Or, Relation, Where
    from .expr import Add, BinaryInt, Integer, IntExpr, MinMax, Mul, Symbol
    from .node import Expr


class Precedence(IntEnum):
    """How tightly the outermost operator of a printed expression binds."""

    CONDITIONAL = 0
    OR = 1
    AND = 2
    COMPARISON = 3
    SUM = 4
    PRODUCT = 5
    UNARY = 6
    ATOM = 7


class Printer:
    """Prints an expression; subclass it and override `print_*` methods for another language.

    Each `print_*` method returns text without outer parentheses; `precedence_of` says how tightly that text binds and
    `child` adds parentheses where they are needed.
    """

    precedences: ClassVar[dict[Kind, Precedence]] = {
        Kind.INTEGER: Precedence.ATOM,
        Kind.SYMBOL: Precedence.ATOM,
        Kind.ADD: Precedence.SUM,
        Kind.MUL: Precedence.PRODUCT,
        Kind.FLOOR_DIV: Precedence.PRODUCT,
        Kind.MOD: Precedence.PRODUCT,
        Kind.MIN: Precedence.ATOM,
        Kind.MAX: Precedence.ATOM,
        Kind.WHERE: Precedence.CONDITIONAL,
        Kind.BOOLEAN: Precedence.ATOM,
        Kind.EQ: Precedence.COMPARISON,
        Kind.NE: Precedence.COMPARISON,
        Kind.LT: Precedence.COMPARISON,
        Kind.LE: Precedence.COMPARISON,
        Kind.AND: Precedence.AND,
        Kind.OR: Precedence.OR,
    }

    def __init__(self, rename: Callable[[Symbol], str] | None = None) -> None:
        self._rename = rename
        self._methods: dict[Kind, Callable[[Any], str]] = {k: getattr(self, f"print_{k.value}") for k in Kind}

    def __call__(self, expr: Expr | int) -> str:
        """The text of `expr`."""
        return str(expr) if isinstance(expr, int) else self._methods[expr.kind](expr)

    def precedence_of(self, expr: Expr) -> Precedence:
        """How tightly the text of `expr` binds."""
        if expr.kind is Kind.INTEGER and (expr.lower or 0) < 0:  # type: ignore[attr-defined]
            return Precedence.UNARY
        return self.precedences[expr.kind]

    def child(self, expr: Expr, at_least: Precedence) -> str:
        """The text of `expr`, in parentheses unless it binds at least as tightly as `at_least`."""
        text = self(expr)
        return text if self.precedence_of(expr) >= at_least else f"({text})"

    def print_integer(self, expr: Integer) -> str:
        """An integer literal."""
        return str(expr.value)

    def print_symbol(self, expr: Symbol) -> str:
        """A symbol: its name, or what the printer's `rename` gives."""
        return expr.name if self._rename is None else self._rename(expr)

    def print_boolean(self, expr: Boolean) -> str:
        """True or false."""
        return str(expr.value)

    def print_add(self, expr: Add) -> str:
        """A sum: terms in canonical order, the constant last."""
        parts: list[str] = []
        for term, coefficient in expr.terms:
            text = self._term(term, abs(coefficient), negated_first=coefficient < 0 and not parts)
            if parts:
                parts.append(" - " if coefficient < 0 else " + ")
                parts.append(text)
            else:
                parts.append(f"-{text}" if coefficient < 0 else text)
        if expr.constant:
            parts.append(f" - {-expr.constant}" if expr.constant < 0 else f" + {expr.constant}")
        return "".join(parts)

    def _term(self, term: IntExpr, coefficient: int, *, negated_first: bool) -> str:
        if coefficient == 1:
            # a leading minus binds tighter than // and %, so those need their parentheses
            return self.child(term, Precedence.UNARY if negated_first else Precedence.PRODUCT)
        return f"{coefficient}*{self._factors(term)}"

    def _factors(self, term: IntExpr) -> str:
        factors = term.factors if term.kind is Kind.MUL else (term,)  # type: ignore[attr-defined]
        return "*".join(self.child(f, Precedence.UNARY) for f in factors)

    def print_mul(self, expr: Mul) -> str:
        """A product: coefficient first, then factors in canonical order."""
        text = "*".join(self.child(f, Precedence.UNARY) for f in expr.factors)
        if expr.scale == 1:
            return text
        return f"-{text}" if expr.scale == -1 else f"{expr.scale}*{text}"

    def print_floor_div(self, expr: BinaryInt) -> str:
        """Division rounding down."""
        return f"{self.child(expr.lhs, Precedence.UNARY)} // {self.child(expr.rhs, Precedence.UNARY)}"

    def print_mod(self, expr: BinaryInt) -> str:
        """Remainder with the sign of the divisor."""
        return f"{self.child(expr.lhs, Precedence.UNARY)} % {self.child(expr.rhs, Precedence.UNARY)}"

    def print_min(self, expr: MinMax) -> str:
        """The least of the arguments."""
        return f"min({', '.join(self(a) for a in expr.args)})"

    def print_max(self, expr: MinMax) -> str:
        """The greatest of the arguments."""
        return f"max({', '.join(self(a) for a in expr.args)})"

    def print_where(self, expr: Where) -> str:
        """A choice by a condition."""
        condition = self.child(expr.condition, Precedence.OR)
        return f"{self.child(expr.if_true, Precedence.OR)} if {condition} else {self(expr.if_false)}"

    def _relation(self, expr: Relation, operator: str) -> str:
        return f"{self.child(expr.lhs, Precedence.SUM)} {operator} {self.child(expr.rhs, Precedence.SUM)}"

    def print_eq(self, expr: Relation) -> str:
        """Equality."""
        return self._relation(expr, "==")

    def print_ne(self, expr: Relation) -> str:
        """Inequality."""
        return self._relation(expr, "!=")

    def print_lt(self, expr: Relation) -> str:
        """Less than; a constant on the left is printed on the right."""
        return self._ordered(expr, "<", ">")

    def print_le(self, expr: Relation) -> str:
        """Less than or equal; a constant on the left is printed on the right."""
        return self._ordered(expr, "<=", ">=")

    def _ordered(self, expr: Relation, operator: str, reversed_operator: str) -> str:
        if expr.lhs.kind is Kind.INTEGER:
            lhs, rhs = self.child(expr.rhs, Precedence.SUM), self.child(expr.lhs, Precedence.SUM)
            return f"{lhs} {reversed_operator} {rhs}"
        return self._relation(expr, operator)

    def print_and(self, expr: And) -> str:
        """Conjunction."""
        return " and ".join(self.child(a, Precedence.COMPARISON) for a in expr.args)

    def print_or(self, expr: Or) -> str:
        """Disjunction."""
        return " or ".join(self.child(a, Precedence.AND) for a in expr.args)


class PythonPrinter(Printer):
    """Python source text: what `str(expr)` gives."""
