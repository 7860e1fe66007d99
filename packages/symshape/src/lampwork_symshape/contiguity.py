"""Contiguity: layouts of a strided tensor as conditions on its sizes and strides.

Asked by `sym_node` for torch's layout questions, and by whoever plans layouts. Invariant: each condition is exact, for
sizes of 0 and 1 too, where strides do not matter; on literal sizes and strides it is a literal.
"""

from __future__ import annotations

from collections.abc import Sequence

from .condition import BoolExpr, and_, boolean, eq, ge, gt, ne, or_, where
from .expr import IntExpr, integer

CHANNELS_LAST_2D = (1, 3, 2, 0)
"""The dimensions of an NCHW tensor, innermost first, in the order that NHWC memory has them."""
CHANNELS_LAST_3D = (1, 4, 3, 2, 0)
"""The same for NCDHW and NDHWC."""


def dense_in_order(sizes: Sequence[IntExpr], strides: Sequence[IntExpr], order: Sequence[int]) -> BoolExpr:
    """Whether the dimensions, innermost first as in `order`, follow each other without gaps; true when empty."""
    expected: IntExpr = integer(1)
    parts: list[BoolExpr] = []
    for dim in order:
        parts.append(or_(eq(sizes[dim], 1), eq(strides[dim], expected)))
        expected = expected * sizes[dim]
    return or_(and_(*parts), eq(expected, 0))


def has_channels_last_strides(sizes: Sequence[IntExpr], strides: Sequence[IntExpr], order: Sequence[int]) -> BoolExpr:
    """Strides ascend in channels-last order, and an N111 tensor (or one of 1-element channels) is not taken for one."""
    if len(sizes) != len(order):
        return boolean(False)
    parts: list[BoolExpr] = [ne(strides[1], 0)]
    least: IntExpr = integer(0)
    for dim in order:
        parts += [ne(sizes[dim], 0), ge(strides[dim], least)]
        if dim == 0:
            parts.append(ne(least, strides[1]))
        least = where(gt(sizes[dim], 1), strides[dim] * sizes[dim], strides[dim])
    return and_(*parts)
