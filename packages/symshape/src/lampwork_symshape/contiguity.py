"""Contiguity: layouts of a strided tensor as conditions on its sizes and strides.

Asked by `sym_node` for torch's layout questions, and by whoever plans layouts. Invariant: each condition is exact, for
sizes of 0 and 1 too, where strides do not matter; on literal sizes and strides it is a literal.
"""

from __future__ import annotations

from collections.abc import Sequence

from .condition import BoolExpr, and_, boolean, eq, ge, gt, lt, ne, or_, where
from .expr import IntExpr, integer, maximum, product

CHANNELS_LAST_2D = (1, 3, 2, 0)
"""The dimensions of an NCHW tensor, innermost first, in the order that NHWC memory has them."""
CHANNELS_LAST_3D = (1, 4, 3, 2, 0)
"""The same for NCDHW and NDHWC."""


def is_row_major(sizes: Sequence[IntExpr], strides: Sequence[IntExpr]) -> BoolExpr:
    """Whether the last dimension is innermost and there are no gaps; true for a tensor without elements."""
    innermost_first = range(len(sizes) - 1, -1, -1)
    return or_(eq(product(sizes), 0), dense_in_order(sizes, strides, innermost_first))


def dense_in_order(sizes: Sequence[IntExpr], strides: Sequence[IntExpr], order: Sequence[int]) -> BoolExpr:
    """Whether the dimensions, innermost first as in `order`, follow each other without gaps.

    As torch has it: only dimensions of size 1 may have any stride.
    """
    expected: IntExpr = integer(1)
    parts: list[BoolExpr] = []
    for dim in order:
        parts.append(or_(eq(sizes[dim], 1), eq(strides[dim], expected)))
        expected = expected * sizes[dim]
    return and_(*parts)


def is_dense_by_stride(sizes: Sequence[IntExpr], strides: Sequence[IntExpr], order: Sequence[int]) -> BoolExpr:
    """Whether elements neither overlap nor leave gaps; `order` is by ascending stride, sizes below 2 are ignored."""
    expected: IntExpr = integer(1)
    parts: list[BoolExpr] = []
    for dim in order:
        parts.append(or_(lt(sizes[dim], 2), eq(strides[dim], expected)))
        expected = expected * maximum(sizes[dim], 1)
    return and_(*parts)


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
