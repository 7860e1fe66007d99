"""Tensors made from nothing: fills, ranges, identities, triangles.

They are expressions of their index; nobody stores them unless memory is demanded. Invariant: `empty` is never left
uninitialised where its content could be read: it is filled with zeros, which eager allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr

from ..ir.float_expr import FloatExpr
from ..ir.loop_body import Node, ops
from ..ir.views import ONE, ZERO, Indices, canonical_indices, to_expr, to_exprs
from .context import LoweringContext
from .elementwise import filled, fitting, number
from .promotion import HALF, is_supported
from .table import Lowering, Unsupported, lowers
from .values import TensorValue
from .view import normal_dim, slice_bounds, unsqueeze_value, wrapped_index

aten = torch.ops.aten
prims = torch.ops.prims
TABLE: dict[Any, Lowering] = {}


def _like_meta(context: LoweringContext, value: Any, options: dict[str, Any]) -> Any:
    """A fill whose sizes, dtype and device are those of the node's fake result."""
    meta = context.meta
    if (
        options.get("layout") not in (None, torch.strided)
        or options.get("pin_memory")
        or not isinstance(meta, torch.Tensor)
    ):
        raise Unsupported("a layout other than strided, or pinned memory")
    return filled(context, to_exprs(meta.shape), value, meta.dtype, meta.device)


@lowers(TABLE, aten.full.default, aten.full_like.default)
def full(context: LoweringContext, _: Any, fill: Any, **options: Any) -> TensorValue:
    """One number everywhere."""
    if isinstance(fill, TensorValue):
        raise Unsupported("a fill value that is a tensor")
    return _like_meta(context, fill, options)


@lowers(TABLE, aten.new_full.default)
def new_full(context: LoweringContext, _: Any, sizes: Any, fill: Any, **options: Any) -> TensorValue:
    """One number everywhere."""
    return _like_meta(context, fill, options)


@lowers(TABLE, aten.scalar_tensor.default)
def scalar_tensor(context: LoweringContext, value: Any, **options: Any) -> TensorValue:
    """A number as a tensor without dimensions."""
    return _like_meta(context, value, options)


@lowers(TABLE, aten.ones.default, aten.ones_like.default, aten.new_ones.default)
def ones(context: LoweringContext, *_: Any, **options: Any) -> TensorValue:
    """Ones."""
    return _like_meta(context, 1, options)


@lowers(TABLE, aten.zeros.default, aten.zeros_like.default, aten.new_zeros.default,
        aten.empty.memory_format, aten.empty_like.default, aten.new_empty.default, aten.empty_strided.default,
        aten.new_empty_strided.default, aten.empty_permuted.default)  # fmt: skip
def zeros(context: LoweringContext, *_: Any, **options: Any) -> TensorValue:
    """Zeros."""
    return _like_meta(context, 0, options)


@lowers(TABLE, aten.arange.default, aten.arange.start, aten.arange.start_step)
def arange(context: LoweringContext, *bounds: Any, **options: Any) -> TensorValue:
    """Numbers in equal steps."""
    start, step = 0, 1
    if len(bounds) >= 2:
        start = bounds[0]
    if len(bounds) == 3:
        step = bounds[2]
    return _steps(context, start, step)


@lowers(TABLE, prims.iota.default)
def iota(context: LoweringContext, length: Any, *, start: Any, step: Any, **options: Any) -> TensorValue:
    """Integers in equal steps."""
    return _steps(context, start, step)


def _steps(context: LoweringContext, start: Any, step: Any) -> TensorValue:
    meta = context.meta
    if not isinstance(meta, torch.Tensor) or not is_supported(meta.dtype):
        raise Unsupported("dtype")
    sizes = to_exprs(meta.shape)
    (index,) = canonical_indices(sizes)
    if isinstance(start, int | IntExpr) and isinstance(step, int | IntExpr):
        body: Node = ops.to_dtype(ops.index_value(index * step + start), meta.dtype)
    else:
        # eager computes start + index * step in double, whatever it rounds to
        if meta.dtype.is_floating_point is False:
            raise Unsupported("integers from floating bounds")
        wide = torch.float32 if meta.dtype in HALF else torch.float64
        position = ops.to_dtype(ops.index_value(index), wide)
        if isinstance(start, IntExpr) or isinstance(step, IntExpr):
            raise Unsupported("a symbolic bound beside a floating one")
        steps = ops.mul(ops.constant(step, wide), position)
        body = ops.to_dtype(ops.add(ops.constant(start, wide), steps), meta.dtype)
    return context.expression([], [], sizes, body, device=meta.device)


def _where_index(
    context: LoweringContext,
    sizes: Indices,
    dtype: torch.dtype,
    device: torch.device,
    condition: Callable[[Indices], Node],
) -> TensorValue:
    body = ops.where(condition(canonical_indices(sizes)), ops.constant(1, dtype), ops.constant(0, dtype))
    return context.expression([], [], sizes, body, device=device)


@lowers(TABLE, aten.eye.default, aten.eye.m)
def eye(context: LoweringContext, *_: Any, **options: Any) -> TensorValue:
    """Ones on the diagonal."""
    meta = context.meta
    if not is_supported(meta.dtype) or options.get("pin_memory"):
        raise Unsupported("dtype")
    return _where_index(
        context,
        to_exprs(meta.shape),
        meta.dtype,
        meta.device,
        lambda i: ops.eq(ops.index_value(i[0]), ops.index_value(i[1])),
    )


def _triangle(context: LoweringContext, value: TensorValue, diagonal: int, upper: bool) -> TensorValue:
    if value.rank < 2 or not is_supported(value.dtype):
        raise Unsupported("fewer than two dimensions, or the dtype")
    row, column = canonical_indices(value.sizes)[-2:]
    keep = (ops.ge if upper else ops.le)(ops.index_value(column - row), ops.index_value(to_expr(diagonal)))
    return context.pointwise([value], value.sizes, lambda x: ops.where(keep, x, ops.constant(0, x.dtype)))


@lowers(TABLE, aten.triu.default)
def triu(context: LoweringContext, value: TensorValue, diagonal: int = 0) -> TensorValue:
    """On and above a diagonal; zero elsewhere."""
    return _triangle(context, value, diagonal, True)


@lowers(TABLE, aten.tril.default)
def tril(context: LoweringContext, value: TensorValue, diagonal: int = 0) -> TensorValue:
    """On and below a diagonal; zero elsewhere."""
    return _triangle(context, value, diagonal, False)


@lowers(TABLE, aten.constant_pad_nd.default)
def constant_pad_nd(context: LoweringContext, value: TensorValue, pads: Sequence[Any], fill: Any = 0) -> TensorValue:
    """Borders of one number (or, for negative widths, cut away)."""
    if len(pads) % 2 or not is_supported(value.dtype):
        raise Unsupported("widths that are not constant")
    if isinstance(fill, float | FloatExpr) and not value.dtype.is_floating_point:
        raise Unsupported("a floating fill of integers")
    fill = fitting(fill, value.dtype)
    sizes = list(value.sizes)
    before: list[IntExpr] = [ZERO] * value.rank
    for k in range(len(pads) // 2):
        dim = value.rank - 1 - k
        before[dim] = to_expr(pads[2 * k])
        sizes[dim] = sizes[dim] + before[dim] + to_expr(pads[2 * k + 1])
    result = tuple(sizes)
    if isinstance(context.meta, torch.Tensor) and len(context.meta.shape) == value.rank:
        result = to_exprs(context.meta.shape)
    if any(s.upper is not None and s.upper < 0 for s in result):
        raise Unsupported("a negative size")
    indices = tuple(i - b for i, b in zip(canonical_indices(result), before))
    conditions: list[Node] = []
    for index, size in zip(indices, value.sizes):
        if index.lower is None or index.lower < 0:
            conditions.append(ops.ge(ops.index_value(index), ops.index_value(to_expr(0))))
        if not _certainly_inside(index, size):
            conditions.append(ops.lt(ops.index_value(index), ops.index_value(size)))
    context.prepare_substitution(value)
    element = value.load(indices)
    if conditions:
        inside = conditions[0]
        for condition in conditions[1:]:
            inside = ops.logical_and(inside, condition)
        if isinstance(fill, FloatExpr):
            body: Node = ops.where(inside, ops.masked(inside, element, 0.0), number(fill, value.dtype))
        else:
            body = ops.masked(inside, element, ops.constant(fill, value.dtype).value)
    else:
        body = element
    return context.expression([value], [element], result, body)


def _certainly_inside(index: IntExpr, size: IntExpr) -> bool:
    """Whether an index that is not negative lies in a dimension: the dimension's own variable does."""
    if size.is_constant:
        return index.upper is not None and index.upper < int(size)
    return False


@lowers(TABLE, aten.slice_scatter.default)
def slice_scatter(
    context: LoweringContext, value: TensorValue, source: TensorValue, dim: int = 0, start: Any = None, end: Any = None,
    step: Any = 1,
) -> TensorValue:  # fmt: skip
    """A copy of `value` with `source` in part of a dimension."""
    dim = normal_dim(dim, value.rank)
    if source.dtype != value.dtype:
        raise Unsupported("a source of another dtype")
    first, length = slice_bounds(context, value.sizes[dim], start, end, step, dim)
    if not length.is_constant:
        length = source.sizes[dim]  # eager has checked that it is the same
    if source.sizes != (*value.sizes[:dim], length, *value.sizes[dim + 1 :]):
        raise Unsupported("a source of other sizes")
    return _replace(context, value, source, dim, first, length, step)


@lowers(TABLE, aten.select_scatter.default)
def select_scatter(
    context: LoweringContext, value: TensorValue, source: TensorValue, dim: int, index: int
) -> TensorValue:
    """A copy of `value` with `source` at one index of a dimension."""
    dim = normal_dim(dim, value.rank)
    if source.dtype != value.dtype or source.rank != value.rank - 1:
        raise Unsupported("a source of another dtype or rank")
    widened = unsqueeze_value(source, dim)
    return _replace(context, value, widened, dim, wrapped_index(index, value.sizes[dim]), ONE, 1)


def _replace(
    context: LoweringContext,
    value: TensorValue,
    source: TensorValue,
    dim: int,
    first: IntExpr,
    length: IntExpr,
    step: int,
) -> TensorValue:
    if not is_supported(value.dtype):
        raise Unsupported("dtype")
    if length == 0:
        return context.pointwise([value], value.sizes, lambda x: x)
    indices = list(canonical_indices(value.sizes))
    index = indices[dim]
    inside: Node = ops.ge(ops.index_value(index), ops.index_value(first))
    inside = ops.logical_and(inside, ops.lt(ops.index_value(index), ops.index_value(first + (length - 1) * step + 1)))
    if step != 1:
        inside = ops.logical_and(inside, ops.eq(ops.index_value((index - first) % step), ops.index_value(to_expr(0))))
    context.prepare_substitution(source)
    old = value.load(tuple(indices))
    indices[dim] = (index - first) // step
    new = source.load(tuple(indices))
    body = ops.where(inside, ops.masked(inside, new, ops.constant(0, new.dtype).value), old)
    return context.expression([value, source], [old, new], value.sizes, body)
