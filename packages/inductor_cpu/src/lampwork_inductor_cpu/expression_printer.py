"""Index expressions as C++ text.

Between symshape and the body of a kernel: sizes, strides and offsets become int64_t arithmetic. Invariant: C++ rounds
division towards zero, so `/` and `%` are printed only where ranges show both operands to be non-negative.
"""

from __future__ import annotations

from typing import Any

from lampwork_symshape import Expr, Kind, Precedence, Printer

_INT_MAX = 2**31 - 1


class CppPrinter(Printer):
    """Prints int64_t and bool expressions."""

    def print_integer(self, expr: Any) -> str:
        value = int(expr)
        if value == -(2**63):
            return "INT64_MIN"
        return str(value) if abs(value) <= _INT_MAX else f"INT64_C({value})"

    def print_boolean(self, expr: Any) -> str:
        return "true" if expr.value else "false"

    def print_floor_div(self, expr: Any) -> str:
        return self._division(expr, "/", "floordiv")

    def print_mod(self, expr: Any) -> str:
        return self._division(expr, "%", "remainder")

    def _division(self, expr: Any, operator: str, function: str) -> str:
        if _at_least(expr.lhs, 0) and _at_least(expr.rhs, 1):
            return f"{self.child(expr.lhs, Precedence.UNARY)} {operator} {self.child(expr.rhs, Precedence.UNARY)}"
        return f"lw::{function}<int64_t>({self(expr.lhs)}, {self(expr.rhs)})"

    def print_min(self, expr: Any) -> str:
        return self._nested("lw::minimum<int64_t>", expr.args)

    def print_max(self, expr: Any) -> str:
        return self._nested("lw::maximum<int64_t>", expr.args)

    def _nested(self, function: str, arguments: tuple[Expr, ...]) -> str:
        text = self(arguments[-1])
        for argument in reversed(arguments[:-1]):
            text = f"{function}({self(argument)}, {text})"
        return text

    def print_where(self, expr: Any) -> str:
        condition = self.child(expr.condition, Precedence.OR)
        return f"{condition} ? {self.child(expr.if_true, Precedence.OR)} : {self.child(expr.if_false, Precedence.OR)}"

    def print_and(self, expr: Any) -> str:
        return " && ".join(self.child(a, Precedence.COMPARISON) for a in expr.args)

    def print_or(self, expr: Any) -> str:
        return " || ".join(self.child(a, Precedence.COMPARISON) for a in expr.args)


def _at_least(expr: Expr, bound: int) -> bool:
    if expr.kind is Kind.INTEGER:
        return int(expr) >= bound  # pyright: ignore[reportArgumentType]
    lower = getattr(expr, "lower", None)
    return lower is not None and lower >= bound
