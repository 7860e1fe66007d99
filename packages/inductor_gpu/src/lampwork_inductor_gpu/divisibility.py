"""Which sizes it matters for that they are multiples of 16: those that say where contiguous accesses start and end.

Beside the kernel's text, for the launcher, which makes machine code of its own where such sizes are divided. Invariant:
only speed depends on the answer; a size that is left out makes no variants.
"""

from __future__ import annotations

from collections.abc import Iterator

from lampwork_inductor_core.codegen.scheduled_kernel import InnerLoop, ScheduledKernel, SizeArgument
from lampwork_inductor_core.ir.loop_body import Load, walk
from lampwork_symshape import Expr, IntExpr, Kind, Symbol
from lampwork_symshape.expr import stride_of

from .heuristics import LaunchConfig
from .indexing import FlatSpace, is_local
from .spaces import spaces_of


def dividing_sizes(kernel: ScheduledKernel, config: LaunchConfig) -> tuple[int, ...]:
    """The positions among the size arguments of the sizes that matter.

    An access that is contiguous along a space is wide where its rows start aligned (the sizes in its index) and where
    its mask is one for whole accesses (the sizes of the space). Others are as narrow for any sizes.
    """
    spaces = spaces_of(kernel, config)
    x, r = spaces.x, spaces.second
    flat = {**x.dimensions, **r.dimensions}
    found: set[Symbol] = set()
    for index in _accesses(kernel):
        for space in (r, x):
            blocked = config.x_block if space is x else config.r_block
            loops = space.loops
            if not loops or blocked == 1 or stride_of(index, loops[-1]) not in (1, None):
                continue
            found |= space.size.free_symbols
            found |= _of_starts(index.substitute(flat), x if space is r else None)
            break
    sizes = [a.symbol for a in kernel.arguments if isinstance(a, SizeArgument)]
    return tuple(position for position, size in enumerate(sizes) if size in found)


def _accesses(kernel: ScheduledKernel) -> Iterator[IntExpr]:
    """The index of each access to memory; in a reduction only of those that happen for every inner point."""
    for segment in kernel.segments:
        if kernel.inner and not isinstance(segment, InnerLoop):
            continue
        for stage in segment.stages:
            if stage.store is not None and stage.accumulate is None and not is_local(stage.store.argument):
                yield stage.store.index
            for node in (n for root in stage.roots for n in walk(root)):
                if isinstance(node, Load) and not is_local(node.buffer):
                    yield node.index


def _of_starts(index: IntExpr, rows: FlatSpace | None) -> set[Symbol]:
    """The sizes that say where the rows of an access start. What a division of the row's own number gives may be any
    number, so the sizes in it do not matter."""
    found: set[Symbol] = set()
    pending: list[Expr] = [index]
    while pending:
        node = pending.pop()
        divides = node.kind in (Kind.FLOOR_DIV, Kind.MOD)
        if divides and rows is not None and rows.flat in node.free_symbols:
            continue
        if isinstance(node, Symbol):
            found.add(node)
        pending.extend(node.children)
    return found
