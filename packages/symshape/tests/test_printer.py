"""The printer base class: another language overrides only what it spells differently."""

from __future__ import annotations

from lampwork_symshape import Kind, Precedence, Printer, PythonPrinter, eq, ge, lt, maximum, minimum, or_, symbol, where
from lampwork_symshape.condition import And, Or, Where
from lampwork_symshape.expr import BinaryInt, MinMax

x, y = symbol("x", 0), symbol("y", 1)


class CPrinter(Printer):
    """Enough of C++ for this test."""

    precedences = {**Printer.precedences, Kind.FLOOR_DIV: Precedence.ATOM}  # noqa: RUF012

    def print_floor_div(self, expr: BinaryInt) -> str:
        return f"floor_div({self(expr.lhs)}, {self(expr.rhs)})"

    def print_min(self, expr: MinMax) -> str:
        first, *rest = expr.args
        text = self(first)
        for arg in rest:
            text = f"std::min<int64_t>({text}, {self(arg)})"
        return text

    def print_where(self, expr: Where) -> str:
        return f"{self.child(expr.condition, Precedence.OR)} ? {self(expr.if_true)} : {self(expr.if_false)}"

    def print_and(self, expr: And) -> str:
        return " && ".join(self.child(a, Precedence.COMPARISON) for a in expr.args)

    def print_or(self, expr: Or) -> str:
        return " || ".join(self.child(a, Precedence.AND) for a in expr.args)


def test_subclasses_override_only_what_differs() -> None:
    c = CPrinter()
    assert c((x + 3) // y * 2 + 1) == "2*floor_div(x + 3, y) + 1"
    assert c(minimum(x, y, 9)) == "std::min<int64_t>(std::min<int64_t>(x, y), 9)"
    assert c(where(lt(x, y), x, y) + 1) == "(x < y ? x : y) + 1"
    assert c(or_(lt(x, y) & ge(x, 3), eq(x, 9))) == "x == 9 || x < y && x > 2"
    assert c(7) == "7"


def test_symbols_can_be_renamed() -> None:
    assert PythonPrinter(rename=lambda s: f"args[{s.name!r}]")(x + 2) == "args['x'] + 2"


def test_every_parenthesis_is_needed() -> None:
    for built, text in [
        (x * (y // 2), "x*(y // 2)"),
        ((x % y) % 5, "(x % y) % 5"),
        ((x - 3) % 5, "(x + 2) % 5"),
        (-x % 5, "(-x) % 5"),
        (maximum(x // 2, y) - (x // 3), "-(x // 3) + max(x // 2, y)"),
        (-(x // 3) + y, "-(x // 3) + y"),
    ]:
        assert str(built) == text
        for values in ({x: 3, y: 2}, {x: 11, y: 7}):
            assert eval(text, {"max": max}, {s.name: v for s, v in values.items()}) == built.evaluate(values)
