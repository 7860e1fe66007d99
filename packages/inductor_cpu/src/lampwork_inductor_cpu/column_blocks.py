"""Column blocks: reductions down the columns of a matrix take several vectors of columns at a time.

One vector of columns is a cache line a row, and the next row lies elsewhere: memory comes in larger pieces if a block
of neighbouring vectors goes down the rows together. Each has its own accumulators, in registers. Invariant: every
column is added up in the order of its rows, however many are in a block.
"""

from __future__ import annotations

from lampwork_inductor_core.codegen.scheduled_kernel import InnerLoop, OuterSegment, ScheduledKernel
from lampwork_inductor_core.ir.loops import ReductionKind

from .tiling import VectorLevel, VectorPlan

_WIDTHS = (4, 3, 2)
_LEAST_BLOCKS = 8
"""Blocks that must be left to share out among threads."""
_MOST_ACCUMULATORS = 16
"""Vectors of them, which with what an iteration computes are to stay in registers."""


def column_block(kernel: ScheduledKernel, vector: VectorPlan | None) -> int:
    """How many vectors of columns are in a block; 1 for kernels of another form.

    The form: one inner loop of sums, products or extrema, and what is computed of these; only whole vectors.
    """
    if vector is None or vector.level is not VectorLevel.OUTER or vector.tail != 0 or not vector.full_vectors:
        return 1
    if kernel.locals or not kernel.inner or not isinstance(kernel.segments[0], InnerLoop):
        return 1
    if not all(isinstance(segment, OuterSegment) for segment in kernel.segments[1:]):
        return 1
    stages = kernel.segments[0].stages
    kinds = [stage.accumulate.kind for stage in stages if stage.accumulate is not None]
    positions = (ReductionKind.ARGMAX, ReductionKind.ARGMIN)
    if not kinds or any(kind in positions for kind in kinds) or any(stage.scan is not None for stage in stages):
        return 1
    rows = 1
    for dimension in kernel.outer[:-1]:
        rows *= int(dimension.size) if dimension.size.is_constant else _LEAST_BLOCKS
    for width in _WIDTHS:
        blocks = rows * vector.full_vectors // width
        if vector.full_vectors % width == 0 and blocks >= _LEAST_BLOCKS and width * len(kinds) <= _MOST_ACCUMULATORS:
            return width
    return 1
