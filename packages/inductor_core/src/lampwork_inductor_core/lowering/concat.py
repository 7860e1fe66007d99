"""Concatenation: `cat` and `stack` as one expression that picks its piece by index.

Each piece is loaded under a mask, so consumers inline the whole and no copy is made. Invariant: pieces are read only
inside their own range; many pieces, or dear ones, are the library's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr

from ..ir.loop_body import Node, ops
from ..ir.views import ZERO, canonical_indices
from .context import LoweringContext
from .elementwise import check_operands
from .promotion import is_supported, result_dtype
from .table import Lowering, Unsupported, lowers
from .values import TensorValue
from .view import normal_dim, unsqueeze_value

aten = torch.ops.aten
TABLE: dict[Any, Lowering] = {}


@lowers(TABLE, aten.cat.default, aten.concat.default)
def cat(context: LoweringContext, pieces: Sequence[TensorValue], dim: int = 0) -> TensorValue:
    """Pieces one after the other along a dimension."""
    check_operands(pieces)
    dtype = result_dtype(pieces)
    kept = [p for p in pieces if not (p.rank == 1 and p.sizes[0] == 0)]
    if not kept or len({p.rank for p in kept}) != 1 or not kept[0].rank:
        raise Unsupported("pieces of several ranks, or all empty")
    kept = [p for p in kept if p.sizes[normal_dim(dim, kept[0].rank)] != 0] or kept[:1]
    if len(kept) > context.config.max_concatenated:
        raise Unsupported(f"{len(kept)} pieces")
    if len({p.device for p in kept}) != 1 or not is_supported(dtype):
        raise Unsupported("several devices, or the dtype")
    return concatenated(context, kept, normal_dim(dim, kept[0].rank), dtype)


@lowers(TABLE, aten.stack.default)
def stack(context: LoweringContext, pieces: Sequence[TensorValue], dim: int = 0) -> TensorValue:
    """Pieces along a new dimension."""
    check_operands(pieces)
    axis = normal_dim(dim, pieces[0].rank + 1)
    return cat(context, [unsqueeze_value(p, axis) for p in pieces], axis)


def concatenated(context: LoweringContext, pieces: Sequence[TensorValue], dim: int, dtype: torch.dtype) -> TensorValue:
    """The expression; pieces of one rank and device, none unnecessary."""
    starts: list[IntExpr] = []
    total: IntExpr = ZERO
    for piece in pieces:
        starts.append(total)
        total = total + piece.sizes[dim]
    sizes = (*pieces[0].sizes[:dim], total, *pieces[0].sizes[dim + 1 :])
    indices = list(canonical_indices(sizes))
    index = indices[dim]
    elements: list[Node] = []
    body: Node | None = None
    for position in range(len(pieces) - 1, -1, -1):
        piece = pieces[position]
        context.prepare_substitution(piece)
        at = list(indices)
        at[dim] = ZERO if piece.sizes[dim] == 1 else index - starts[position]
        element = ops.to_dtype(piece.load(at), dtype)
        elements.append(element)
        if len(pieces) == 1:
            body = element
            break
        low = ops.ge(ops.index_value(index), ops.index_value(starts[position]))
        high = ops.lt(ops.index_value(index), ops.index_value(starts[position] + piece.sizes[dim]))
        if body is None:
            body = ops.masked(low, element, ops.constant(0, dtype).value)
        else:
            inside = high if position == 0 else ops.logical_and(low, high)
            body = ops.where(high, ops.masked(inside, element, ops.constant(0, dtype).value), body)
    assert body is not None
    return context.expression(pieces, elements, sizes, body)
