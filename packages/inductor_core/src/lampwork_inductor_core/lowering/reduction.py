"""Reductions: sums, products, extrema, their positions, logical ones, variances, norms.

A reduction is always realised; what it reads is inlined into its body. Invariant: half types accumulate in float32,
integers sum in int64, nan wins extrema, an empty reduction gives the identity or is left to eager, which raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr

from ..ir.loop_body import Node, ops
from ..ir.loops import ReductionKind
from ..ir.views import element_count
from .context import LoweringContext
from .elementwise import convert, elementwise, like, number
from .promotion import Promotion, compute_dtype, is_supported
from .table import Lowering, Unsupported, lowers
from .values import BufferValue, TensorValue
from .view import normal_dim, normal_dims, reshape_value, unsqueeze_value

aten = torch.ops.aten
TABLE: dict[Any, Lowering] = {}
Dims = Sequence[int] | int | None


def keep_dims(value: TensorValue, dims: Sequence[int]) -> TensorValue:
    """Put the reduced dimensions back, with size one."""
    for dim in sorted(dims):
        value = unsqueeze_value(value, dim)
    return value


def reduced_strides(context: LoweringContext, dims: Sequence[int], keepdim: bool, position: int | None = None) -> Any:
    """Eager's strides of the result without the reduced dimensions."""
    strides = context.result_strides(position)
    if strides is None or not keepdim:
        return strides
    gone = set(dims)
    return tuple(s for k, s in enumerate(strides) if k not in gone)


def reduce_over(
    context: LoweringContext,
    value: TensorValue,
    dims: Sequence[int],
    keepdim: bool,
    kind: ReductionKind,
    dtype: torch.dtype,
    function: Any = None,
    position: int | None = None,
) -> TensorValue:
    """A reduction with eager's strides where it is the node's result; `dims` normal."""
    strides = reduced_strides(context, dims, keepdim, position)
    if strides is not None and len(strides) != value.rank - len(dims):
        strides = None
    result = context.reduce(value, dims, kind, dtype, function, strides)
    return keep_dims(result, dims) if keepdim else result


def count_of(value: TensorValue, dims: Sequence[int]) -> IntExpr:
    """How many elements each result is made of."""
    return element_count([value.sizes[d] for d in dims])


def count_node(count: IntExpr, dtype: torch.dtype) -> Node:
    """A count as a body node."""
    return number(int(count), dtype) if count.is_constant else ops.to_dtype(ops.index_value(count), dtype)


def _check(value: TensorValue) -> None:
    if not is_supported(value.dtype):
        raise Unsupported(f"dtype {value.dtype}")


def _sum_like(
    context: LoweringContext,
    value: TensorValue,
    dims: Dims,
    keepdim: bool,
    dtype: torch.dtype | None,
    kind: ReductionKind,
) -> TensorValue:
    _check(value)
    result = dtype or (value.dtype if value.dtype.is_floating_point else torch.int64)
    if not is_supported(result):
        raise Unsupported(f"dtype {result}")
    wide = compute_dtype(result) if result.is_floating_point else result
    axes = normal_dims(dims, value.rank)
    return reduce_over(context, value, axes, keepdim, kind, result, lambda x: ops.to_dtype(x, wide))


@lowers(TABLE, aten.sum.default)
def sum_all(context: LoweringContext, value: TensorValue, *, dtype: torch.dtype | None = None) -> TensorValue:
    """The sum of all."""
    return _sum_like(context, value, None, False, dtype, ReductionKind.SUM)


@lowers(TABLE, aten.sum.dim_IntList)
def sum_dims(
    context: LoweringContext, value: TensorValue, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TensorValue:
    """The sum over dimensions."""
    return _sum_like(context, value, dims, keepdim, dtype, ReductionKind.SUM)


@lowers(TABLE, aten.prod.default)
def prod_all(context: LoweringContext, value: TensorValue, *, dtype: torch.dtype | None = None) -> TensorValue:
    """The product of all."""
    return _sum_like(context, value, None, False, dtype, ReductionKind.PROD)


@lowers(TABLE, aten.prod.dim_int)
def prod_dim(
    context: LoweringContext, value: TensorValue, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TensorValue:
    """The product over a dimension."""
    return _sum_like(context, value, dim, keepdim, dtype, ReductionKind.PROD)


@lowers(TABLE, aten.count_nonzero.default, aten.count_nonzero.dim_IntList)
def count_nonzero(context: LoweringContext, value: TensorValue, dims: Dims = None) -> TensorValue:
    """How many are not zero."""
    _check(value)
    axes = normal_dims(dims, value.rank)
    return reduce_over(
        context, value, axes, False, ReductionKind.SUM, torch.int64,
        lambda x: ops.to_dtype(ops.to_dtype(x, torch.bool), torch.int64),
    )  # fmt: skip


def mean_value(
    context: LoweringContext, value: TensorValue, dims: Sequence[int], keepdim: bool, dtype: torch.dtype
) -> TensorValue:
    """The mean over `dims` in `dtype`; summed and divided in the computation dtype."""
    wide = compute_dtype(dtype)
    total = reduce_over(context, value, dims, keepdim, ReductionKind.SUM, wide, lambda x: ops.to_dtype(x, wide))
    count = count_node(count_of(value, dims), wide)
    return context.pointwise([total], total.sizes, lambda x: ops.to_dtype(ops.truediv(x, count), dtype))


@lowers(TABLE, aten.mean.default)
def mean_all(context: LoweringContext, value: TensorValue, *, dtype: torch.dtype | None = None) -> TensorValue:
    """The mean of all."""
    return mean_dims(context, value, None, False, dtype=dtype)


@lowers(TABLE, aten.mean.dim)
def mean_dims(
    context: LoweringContext, value: TensorValue, dims: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> TensorValue:
    """The mean over dimensions."""
    _check(value)
    result = dtype or value.dtype
    if not result.is_floating_point or not is_supported(result):
        raise Unsupported("the mean of integers")
    return mean_value(context, value, normal_dims(dims, value.rank), keepdim, result)


# -------------------------------------------------------------------------------------------------------------- extrema


def _extremum(
    context: LoweringContext,
    value: TensorValue,
    dims: Dims,
    keepdim: bool,
    kind: ReductionKind,
    position: int | None = None,
) -> TensorValue:
    _check(value)
    axes = normal_dims(dims, value.rank)
    if any(context.may_be_zero(value.sizes[d]) for d in axes):
        raise Unsupported("an extremum of nothing")
    return reduce_over(context, value, axes, keepdim, kind, value.dtype, None, position)


@lowers(TABLE, aten.amax.default)
def amax(context: LoweringContext, value: TensorValue, dims: Dims = (), keepdim: bool = False) -> TensorValue:
    """The greatest over dimensions."""
    return _extremum(context, value, dims, keepdim, ReductionKind.MAX)


@lowers(TABLE, aten.amin.default)
def amin(context: LoweringContext, value: TensorValue, dims: Dims = (), keepdim: bool = False) -> TensorValue:
    """The least over dimensions."""
    return _extremum(context, value, dims, keepdim, ReductionKind.MIN)


@lowers(TABLE, aten.max.default)
def max_all(context: LoweringContext, value: TensorValue) -> TensorValue:
    """The greatest of all."""
    return _extremum(context, value, None, False, ReductionKind.MAX)


@lowers(TABLE, aten.min.default)
def min_all(context: LoweringContext, value: TensorValue) -> TensorValue:
    """The least of all."""
    return _extremum(context, value, None, False, ReductionKind.MIN)


def _with_position(
    context: LoweringContext, value: TensorValue, dim: int, keepdim: bool, kind: ReductionKind, position: ReductionKind
) -> list[TensorValue]:
    axis = normal_dim(dim, value.rank)
    if not value.rank:
        raise Unsupported("no dimension")
    context.prepare_users(value)
    best = _extremum(context, value, axis, keepdim, kind, 0)
    return [best, _position(context, value, (axis,), keepdim, position, 1)]


@lowers(TABLE, aten.max.dim)
def max_dim(context: LoweringContext, value: TensorValue, dim: int, keepdim: bool = False) -> list[TensorValue]:
    """The greatest over a dimension and where it is."""
    return _with_position(context, value, dim, keepdim, ReductionKind.MAX, ReductionKind.ARGMAX)


@lowers(TABLE, aten.min.dim)
def min_dim(context: LoweringContext, value: TensorValue, dim: int, keepdim: bool = False) -> list[TensorValue]:
    """The least over a dimension and where it is."""
    return _with_position(context, value, dim, keepdim, ReductionKind.MIN, ReductionKind.ARGMIN)


def _position(
    context: LoweringContext,
    value: TensorValue,
    dims: Sequence[int],
    keepdim: bool,
    kind: ReductionKind,
    result: int | None,
) -> TensorValue:
    _check(value)
    if any(context.may_be_zero(value.sizes[d]) for d in dims):
        raise Unsupported("an extremum of nothing")
    if value.dtype == torch.bool:  # compared as numbers, as generators have no registers of truth values to compare
        value = context.pointwise([value], value.sizes, lambda x: ops.to_dtype(x, torch.int32))
    return reduce_over(context, value, dims, keepdim, kind, torch.int64, None, result)


def _arg(
    context: LoweringContext, value: TensorValue, dim: int | None, keepdim: bool, kind: ReductionKind
) -> TensorValue:
    if dim is None:
        if keepdim and value.rank:
            raise Unsupported("kept dimensions of a flattened search")
        flat = reshape_value(value, (element_count(value.sizes),))
        return _position(context, flat, (0,), False, kind, None)
    axis = normal_dim(dim, value.rank)
    if not value.rank:
        return _position(context, value, (), False, kind, None)
    return _position(context, value, (axis,), keepdim, kind, None)


@lowers(TABLE, aten.argmax.default)
def argmax(context: LoweringContext, value: TensorValue, dim: int | None = None, keepdim: bool = False) -> TensorValue:
    """Where the greatest is."""
    return _arg(context, value, dim, keepdim, ReductionKind.ARGMAX)


@lowers(TABLE, aten.argmin.default)
def argmin(context: LoweringContext, value: TensorValue, dim: int | None = None, keepdim: bool = False) -> TensorValue:
    """Where the least is."""
    return _arg(context, value, dim, keepdim, ReductionKind.ARGMIN)


def _logical(
    context: LoweringContext, value: TensorValue, dims: Dims, keepdim: bool, kind: ReductionKind
) -> TensorValue:
    _check(value)
    axes = normal_dims(dims, value.rank)
    result = torch.uint8 if value.dtype == torch.uint8 else torch.bool
    found = reduce_over(context, value, axes, keepdim, kind, torch.bool, lambda x: ops.to_dtype(x, torch.bool))
    return found if result == torch.bool else convert(context, found, result)


@lowers(TABLE, aten.any.default, aten.any.dim, aten.any.dims)
def any_(context: LoweringContext, value: TensorValue, dims: Dims = None, keepdim: bool = False) -> TensorValue:
    """Whether any holds."""
    if dims == [] or dims == ():
        raise Unsupported("an empty list of dimensions")
    return _logical(context, value, dims, keepdim, ReductionKind.ANY)


@lowers(TABLE, aten.all.default, aten.all.dim, aten.all.dims)
def all_(context: LoweringContext, value: TensorValue, dims: Dims = None, keepdim: bool = False) -> TensorValue:
    """Whether all hold."""
    if dims == [] or dims == ():
        raise Unsupported("an empty list of dimensions")
    return _logical(context, value, dims, keepdim, ReductionKind.ALL)


# ------------------------------------------------------------------------------------------------------------- variance


def variance(
    context: LoweringContext, value: TensorValue, dims: Sequence[int], correction: float, position: int | None = None
) -> tuple[TensorValue, TensorValue]:
    """The variance and the mean over `dims`, kept with size one, in the computation dtype. Two passes."""
    _check(value)
    if not value.dtype.is_floating_point:
        raise Unsupported("the variance of integers")
    wide = compute_dtype(value.dtype)
    context.prepare_users(value)
    mean = mean_value(context, value, dims, True, wide)
    deviation = elementwise(context, (value, mean), lambda x, m: ops.mul(ops.sub(x, m), ops.sub(x, m)), result=wide)
    total = reduce_over(context, deviation, dims, True, ReductionKind.SUM, wide, None, position)
    count = count_of(value, dims)
    if count.is_constant:
        divisor: Node = ops.constant(max(float(int(count)) - correction, 0.0), wide)
    else:
        divisor = ops.maximum(ops.sub(count_node(count, wide), ops.constant(correction, wide)), ops.constant(0, wide))
    result = context.pointwise([total], total.sizes, lambda x: ops.truediv(x, divisor))
    return result, mean


def _without(value: TensorValue, dims: Sequence[int], keepdim: bool) -> TensorValue:
    if keepdim:
        return value
    return reshape_value(value, tuple(s for k, s in enumerate(value.sizes) if k not in set(dims)))


def _variances(
    context: LoweringContext,
    value: TensorValue,
    dims: Dims,
    correction: Any,
    keepdim: bool,
    root: bool,
    with_mean: bool,
) -> Any:
    axes = normal_dims(dims, value.rank)
    amount = 1.0 if correction is None else float(correction)
    found, mean = variance(context, value, axes, amount, 0 if with_mean else None)
    dtype = value.dtype
    spread = context.pointwise([found], found.sizes, lambda x: ops.to_dtype(ops.sqrt(x) if root else x, dtype))
    result = _without(spread, axes, keepdim)
    if not with_mean:
        return result
    return [result, _without(convert(context, mean, dtype), axes, keepdim)]


@lowers(TABLE, aten.var.correction)
def var(
    context: LoweringContext, value: TensorValue, dims: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> TensorValue:
    """The variance."""
    return _variances(context, value, dims, correction, keepdim, False, False)


@lowers(TABLE, aten.std.correction)
def std(
    context: LoweringContext, value: TensorValue, dims: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> TensorValue:
    """The standard deviation."""
    return _variances(context, value, dims, correction, keepdim, True, False)


@lowers(TABLE, aten.var_mean.correction)
def var_mean(
    context: LoweringContext, value: TensorValue, dims: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> list[TensorValue]:
    """The variance and the mean."""
    return _variances(context, value, dims, correction, keepdim, False, True)


@lowers(TABLE, aten.std_mean.correction)
def std_mean(
    context: LoweringContext, value: TensorValue, dims: Dims = None, *, correction: Any = None, keepdim: bool = False
) -> list[TensorValue]:
    """The standard deviation and the mean."""
    return _variances(context, value, dims, correction, keepdim, True, True)


# ---------------------------------------------------------------------------------------------------------------- norms


@lowers(TABLE, aten.linalg_vector_norm.default)
def vector_norm(
    context: LoweringContext, value: TensorValue, order: Any = 2, dims: Dims = None, keepdim: bool = False, *,
    dtype: torch.dtype | None = None,
) -> TensorValue:  # fmt: skip
    """The vector norms of order 1, 2 and the infinities."""
    _check(value)
    result = dtype or value.dtype
    axes = normal_dims(dims, value.rank)
    empty = any(value.sizes[d] == 0 for d in axes)
    if not result.is_floating_point or not value.dtype.is_floating_point or not is_supported(result):
        raise Unsupported("integers")
    if order not in (1, 2, float("inf"), float("-inf")) or (empty and abs(order) == float("inf")):
        raise Unsupported(f"order {order}")
    wide = compute_dtype(result)
    if order == 2:
        total = reduce_over(
            context, value, axes, keepdim, ReductionKind.SUM, wide, lambda x: _squared(ops.to_dtype(x, wide))
        )
        return context.pointwise([total], total.sizes, lambda x: ops.to_dtype(ops.sqrt(x), result))
    kind = {1: ReductionKind.SUM, float("inf"): ReductionKind.MAX, float("-inf"): ReductionKind.MIN}[order]
    return reduce_over(context, value, axes, keepdim, kind, result, lambda x: ops.abs(ops.to_dtype(x, wide)))


def _squared(x: Node) -> Node:
    return ops.mul(x, x)


@lowers(TABLE, aten.logsumexp.default)
def logsumexp(context: LoweringContext, value: TensorValue, dims: Dims, keepdim: bool = False) -> TensorValue:
    """The logarithm of the sum of exponentials, safe from overflow."""
    _check(value)
    axes = normal_dims(dims, value.rank)
    if not value.dtype.is_floating_point or any(s == 0 for s in value.sizes) or not value.rank:
        raise Unsupported("integers or nothing")
    dtype, wide = value.dtype, compute_dtype(value.dtype)
    context.prepare_users(value)
    best = context.pointwise(
        [keep_dims(context.reduce(value, axes, ReductionKind.MAX, dtype), axes)],
        tuple(s if k not in axes else like_one() for k, s in enumerate(value.sizes)),
        lambda m: finite_or_zero(ops.to_dtype(m, wide)),
    )
    shifted = context.pointwise([value, best], value.sizes, lambda x, m: ops.exp(ops.sub(ops.to_dtype(x, wide), m)))
    total = keep_dims(context.reduce(shifted, axes, ReductionKind.SUM, wide), axes)
    result = context.pointwise([total, best], total.sizes, lambda s, m: ops.to_dtype(ops.add(ops.log(s), m), dtype))
    return _without(result, axes, keepdim)


def like_one() -> IntExpr:
    """The size one."""
    return element_count(())


def finite_or_zero(x: Node) -> Node:
    """Zero in place of an infinity, so that inf - inf never arises."""
    return ops.where(ops.isinf(x), like(0, x), x)


__all__ = ["TABLE", "BufferValue", "Promotion", "keep_dims", "mean_value", "reduce_over", "variance"]
