"""Index width: whether the indices of a kernel fit in 32 bits, where division and remainder are several times as fast.

Between the scheduled kernel and its text: where the sizes of a call decide, the text leaves the width open (`INDEX`),
and the launcher chooses among two variants. Invariant: no flat index overflows in the width that is chosen, lanes
beyond the end included, and neither does any part of an index or of a number that is made of indices, in lanes of the
space.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lampwork_inductor_core.codegen.scheduled_kernel import ScheduledKernel, SizeArgument
from lampwork_inductor_core.ir.loop_body import CheckedIndex, IndexValue, Load, Node, walk
from lampwork_symshape import Expr, Symbol

from .heuristics import LARGEST_BLOCK, LaunchConfig
from .indexing import FlatSpace, flatten, is_local
from .range_program import RangeProgram
from .spaces import spaces_of

LIMIT = 2**31 - LARGEST_BLOCK  # the last block may reach so far beyond the end


class IndexWidth(enum.Enum):
    """How wide the indices of a kernel are."""

    NARROW = "32 bits"
    WIDE = "64 bits"
    BY_SIZES = "as the sizes of the call have it"


@dataclass(frozen=True, slots=True)
class IndexReach:
    """What the indices of a kernel reach: `expressions` are what its text computes, over the flat indices (`spaces`),
    the `sizes` that it is given, and values of 64 bits (`wide`: what indirect indices are)."""

    sizes: tuple[Symbol, ...]
    spaces: tuple[FlatSpace, ...]
    expressions: tuple[Expr, ...]
    wide: frozenset[Symbol]

    @staticmethod
    def of(kernel: ScheduledKernel, config: LaunchConfig | None = None) -> IndexReach:
        """What a kernel's text will compute with (None: in one space of its outer loops)."""
        if config is None:
            spaces = (flatten("x", kernel.outer), flatten("r", kernel.inner))
        else:
            found = spaces_of(kernel, config)
            spaces = (found.x, found.second, *([] if found.inner is None else [found.inner]))
        flat = {s: e for space in spaces for s, e in space.dimensions.items()}
        expressions: dict[Expr, None] = {}
        indirect: list[tuple[Symbol, Node]] = []
        for stage in kernel.stages():
            if stage.store is not None and not is_local(stage.store.argument):
                expressions[stage.store.index.substitute(flat)] = None
                indirect += stage.store.indirect
            for node in (n for root in stage.roots for n in walk(root)):
                if isinstance(node, Load) and not is_local(node.buffer):
                    expressions[node.index.substitute(flat)] = None
                    indirect += node.indirect
                elif isinstance(node, IndexValue) and not node.expression.is_constant:
                    expressions[node.expression.substitute(flat)] = None
                elif isinstance(node, CheckedIndex):
                    expressions[node.size] = None
        sizes = tuple(a.symbol for a in kernel.arguments if isinstance(a, SizeArgument))
        narrower = {s for s, node in indirect if node.dtype.itemsize < 8}
        return IndexReach(sizes, spaces, tuple(expressions), frozenset(s for s, _ in indirect) - narrower)

    @property
    def width(self) -> IndexWidth:
        """How wide the text makes them."""
        used = frozenset[Symbol]().union(
            *(e.free_symbols for e in self.expressions), *(space.size.free_symbols for space in self.spaces)
        )
        if not used <= {*self.sizes, *self.wide, *(space.flat for space in self.spaces)}:
            return IndexWidth.WIDE
        program = self._program()
        if not self.sizes:
            return IndexWidth.NARROW if program.function()(()) else IndexWidth.WIDE
        return IndexWidth.BY_SIZES if program.possible else IndexWidth.WIDE

    def fits(self) -> Callable[[Sequence[int]], bool]:
        """The function that tells of certain sizes (in the order of `sizes`) whether all fit in 32 bits."""
        return self._program().function()

    def _program(self) -> RangeProgram:
        program = RangeProgram(LIMIT, self.sizes, self.wide)
        program.counters({space.flat: space.size for space in self.spaces})
        for expression in self.expressions:
            program.bounded(expression)
        return program
