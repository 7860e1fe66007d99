"""Index expressions as Triton text, and what masks they need.

Between the scheduled kernel and its text. A Triton program works on a block of the flattened outer space (`x`) and, in
reductions, a block of the flattened inner space (`r`); the kernel's loop symbols are functions of these two. Invariant:
integer division in the text rounds down, as symshape's does, although Triton's own truncates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lampwork_inductor_core.codegen.scheduled_kernel import Dimension
from lampwork_symshape import IntExpr, Precedence, Printer, Symbol, integer, product, symbol

if TYPE_CHECKING:
    from lampwork_symshape.condition import And, Or, Where
    from lampwork_symshape.expr import BinaryInt, MinMax


def is_local(name: str) -> bool:
    """Whether a name is that of a local row: its index is not part of the text."""
    return name.startswith("local")


def _is_nonnegative(expr: IntExpr) -> bool:
    lower = expr.value_range.lower
    return lower is not None and lower >= 0


class TritonPrinter(Printer):
    """symshape expressions as Triton."""

    def print_floor_div(self, expr: BinaryInt) -> str:
        if _is_nonnegative(expr.lhs) and _is_nonnegative(expr.rhs):
            return super().print_floor_div(expr)
        return f"floor_div({self(expr.lhs)}, {self(expr.rhs)})"

    def print_mod(self, expr: BinaryInt) -> str:
        if _is_nonnegative(expr.lhs) and _is_nonnegative(expr.rhs):
            return super().print_mod(expr)
        return f"floor_mod({self(expr.lhs)}, {self(expr.rhs)})"

    def _folded(self, function: str, arguments: Sequence[IntExpr]) -> str:
        text = self(arguments[0])
        for argument in arguments[1:]:
            text = f"{function}({text}, {self(argument)})"
        return text

    def print_min(self, expr: MinMax) -> str:
        return self._folded("tl.minimum", expr.args)

    def print_max(self, expr: MinMax) -> str:
        return self._folded("tl.maximum", expr.args)

    def print_where(self, expr: Where) -> str:
        return f"tl.where({self(expr.condition)}, {self(expr.if_true)}, {self(expr.if_false)})"

    def print_and(self, expr: And) -> str:
        return " & ".join(f"({self(a)})" for a in expr.args)

    def print_or(self, expr: Or) -> str:
        return " | ".join(f"({self(a)})" for a in expr.args)


@dataclass(frozen=True, slots=True)
class BlockedSpace:
    """A flat space by blocks within its last loop, of `size` points: `high` numbers the others and is one number for a
    program, `low` is the last one."""

    high: Symbol
    low: Symbol
    size: int
    dimensions: dict[Symbol, IntExpr]


@dataclass(frozen=True, slots=True)
class FlatSpace:
    """A block-wise walked, flattened iteration space: `name` runs over [0, size)."""

    name: str
    size: IntExpr
    dimensions: dict[Symbol, IntExpr]  # each loop symbol as a function of the flat index
    sizes: dict[Symbol, IntExpr]  # of each loop, in order

    @property
    def loops(self) -> tuple[Symbol, ...]:
        """The loop symbols, the last one fastest."""
        return tuple(self.sizes)

    def in_blocks_of(self, block: int) -> BlockedSpace | None:
        """The space where no block crosses the end of the last loop; None where one does, or there is one loop only."""
        if block == 1 or len(self.sizes) < 2 or not all(size.is_constant for size in self.sizes.values()):
            return None
        last, *others = self.loops[::-1]
        size = int(self.sizes[last])
        if not size or size % block:
            return None
        high = symbol(f"{self.name}_high", 0, None)
        low = symbol(f"{self.name}_low", 0, size - 1)
        dimensions: dict[Symbol, IntExpr] = {last: low}
        stride: IntExpr = integer(1)
        for loop in others:
            index = high // stride
            dimensions[loop] = index if loop is self.loops[0] else index % self.sizes[loop]
            stride = stride * self.sizes[loop]
        return BlockedSpace(high, low, size, dimensions)

    @property
    def flat(self) -> Symbol:
        return _flat_symbol(self.name, self.size)


def _flat_symbol(name: str, size: IntExpr) -> Symbol:
    upper = size.value_range.upper
    return symbol(name, 0, None if upper is None else max(upper - 1, 0))


def flatten(name: str, dimensions: Sequence[Dimension]) -> FlatSpace:
    """Flatten loop dimensions, the last one fastest."""
    size = product([d.size for d in dimensions]) if dimensions else integer(1)
    flat = _flat_symbol(name, size)
    result: dict[Symbol, IntExpr] = {}
    stride: IntExpr = integer(1)
    for position, dimension in reversed(list(enumerate(dimensions))):
        index = flat // stride
        result[dimension.symbol] = index if position == 0 else index % dimension.size
        stride = stride * dimension.size
    return FlatSpace(name, size, result, {d.symbol: d.size for d in dimensions})


__all__ = ["FlatSpace", "Precedence", "TritonPrinter", "flatten"]
