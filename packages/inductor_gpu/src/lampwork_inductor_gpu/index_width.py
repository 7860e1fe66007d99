"""Index width: whether the indices of a kernel fit in 32 bits, where division and remainder are several times as fast.

Between the scheduled kernel and its text: where only the sizes of a call decide, the text leaves the width open
(`INDEX`), and the launcher chooses among two variants. Invariant: no index, no part of one, and no value that is made
of indices overflows in the width that is chosen, lanes beyond the end included.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from lampwork_inductor_core.codegen.scheduled_kernel import BufferArgument, Dimension, ScheduledKernel, SizeArgument
from lampwork_inductor_core.ir.loop_body import IndexValue, walk
from lampwork_symshape import Expr, IntExpr, Kind, Symbol, integer, product, symbol

LARGEST_BLOCK = 1 << 16  # lanes: how far the last block may reach beyond the end
LIMIT = 2**31 - LARGEST_BLOCK


class IndexWidth(enum.Enum):
    """How wide the indices of a kernel are."""

    NARROW = "32 bits"
    WIDE = "64 bits"
    BY_SIZES = "as the sizes of the call have it"


@dataclass(frozen=True, slots=True)
class IndexReach:
    """What the indices of a kernel reach: `extents` bounds all that are in bounds; `values` become numbers of the
    program, whatever their range."""

    sizes: tuple[Symbol, ...]
    dimensions: tuple[Dimension, ...]
    extents: tuple[IntExpr, ...]
    values: tuple[IntExpr, ...]

    @staticmethod
    def of(kernel: ScheduledKernel) -> IndexReach:
        """What a kernel's text will compute with."""
        counts = (a.element_count for a in kernel.arguments if isinstance(a, BufferArgument))
        spaces = (product([d.size for d in dims]) for dims in (kernel.outer, kernel.inner) if dims)
        values = (n.expression for stage in kernel.stages() for n in walk(stage.value) if isinstance(n, IndexValue))
        return IndexReach(
            tuple(a.symbol for a in kernel.arguments if isinstance(a, SizeArgument)),
            (*kernel.outer, *kernel.inner),
            tuple(dict.fromkeys((*counts, *spaces))),
            tuple(dict.fromkeys(values)),
        )

    @property
    def width(self) -> IndexWidth:
        """How wide the text makes them."""
        free = frozenset[Symbol]().union(*(e.free_symbols for e in self.extents))
        if not free:
            return IndexWidth.NARROW if self.fits({}) else IndexWidth.WIDE
        return IndexWidth.BY_SIZES if free <= set(self.sizes) else IndexWidth.WIDE

    def fits(self, sizes: Mapping[Symbol, int]) -> bool:
        """Whether all fit in 32 bits for certain sizes; those of all size arguments are needed."""
        if any(sizes[s] > LIMIT for s in self.sizes):
            return False
        if any(int(extent.evaluate(sizes)) > LIMIT for extent in self.extents):
            return False
        known: dict[Symbol, IntExpr] = {s: integer(sizes[s]) for s in self.sizes}
        for dimension in self.dimensions:
            last = max(int(dimension.size.evaluate(sizes)) - 1, 0)
            known[dimension.symbol] = symbol(dimension.symbol.name, 0, last)
        return all(_magnitude(value.substitute(known)) <= LIMIT for value in self.values)


def _magnitude(expression: Expr) -> float:
    """A bound of every partial sum and product in an index expression; infinite where a range is open."""
    if not isinstance(expression, IntExpr):
        return max((_magnitude(child) for child in expression.children), default=0.0)
    span = expression.value_range
    if span.lower is None or span.upper is None:
        return float("inf")
    own = max(abs(span.lower), abs(span.upper))
    if expression.kind is Kind.ADD:  # a sum's parts may be larger than the sum
        parts = (abs(coefficient) * _magnitude(term) for term, coefficient in expression.terms)
        return sum(parts) + abs(expression.constant)
    return max([float(own), *(_magnitude(child) for child in expression.children)])
