"""Normalisations and softmax that arrive whole.

Usually decomposed before us; here they become the same reductions and pointwise expressions. Invariant: statistics are
computed in float32 for half types, two passes, and results are rounded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..ir.loop_body import Node, ops
from ..ir.loops import ReductionKind
from ..ir.views import to_expr
from .context import LoweringContext
from .elementwise import convert, like, number
from .promotion import compute_dtype, is_supported
from .reduction import keep_dims, variance
from .table import Lowering, Unsupported, lowers
from .values import TensorValue
from .view import normal_dim, reshape_value, unsqueeze_value

aten = torch.ops.aten
TABLE: dict[Any, Lowering] = {}


def _softmax_parts(
    context: LoweringContext, value: TensorValue, dim: int, half_to_float: bool
) -> tuple[TensorValue, TensorValue, int, torch.dtype]:
    """The value shifted by its greatest (in the computation dtype), and the greatest; for a softmax over `dim`."""
    if not value.dtype.is_floating_point or not is_supported(value.dtype) or any(s == 0 for s in value.sizes):
        raise Unsupported("integers or nothing")
    if not value.rank:
        raise Unsupported("no dimension")
    axis = normal_dim(dim, value.rank)
    wide = compute_dtype(value.dtype)
    context.prepare_users(value)
    best = keep_dims(context.reduce(value, (axis,), ReductionKind.MAX, value.dtype), (axis,))
    shifted = context.pointwise(
        [value, best], value.sizes, lambda x, m: ops.sub(ops.to_dtype(x, wide), ops.to_dtype(m, wide))
    )
    return shifted, best, axis, torch.float32 if half_to_float else value.dtype


@lowers(TABLE, aten._softmax.default)
def softmax(context: LoweringContext, value: TensorValue, dim: int, half_to_float: bool) -> TensorValue:
    """Exponentials that sum to one over a dimension."""
    shifted, _, axis, dtype = _softmax_parts(context, value, dim, half_to_float)
    exponential = context.pointwise([shifted], value.sizes, lambda x: ops.exp(x))
    context.prepare_users(exponential)
    total = keep_dims(context.reduce(exponential, (axis,), ReductionKind.SUM, exponential.dtype), (axis,))
    return context.pointwise([exponential, total], value.sizes, lambda e, s: ops.to_dtype(ops.truediv(e, s), dtype))


@lowers(TABLE, aten._log_softmax.default)
def log_softmax(context: LoweringContext, value: TensorValue, dim: int, half_to_float: bool) -> TensorValue:
    """The logarithm of the softmax."""
    shifted, _, axis, dtype = _softmax_parts(context, value, dim, half_to_float)
    total = keep_dims(context.reduce(shifted, (axis,), ReductionKind.SUM, shifted.dtype, lambda x: ops.exp(x)), (axis,))
    return context.pointwise([shifted, total], value.sizes, lambda x, s: ops.to_dtype(ops.sub(x, ops.log(s)), dtype))


def _scale_and_shift(
    context: LoweringContext, value: TensorValue, mean: TensorValue, inverse: TensorValue, weight: Any, bias: Any
) -> TensorValue:
    wide, dtype = mean.dtype, value.dtype
    inputs = [value, mean, inverse] + [t for t in (weight, bias) if t is not None]

    def build(x: Node, m: Node, r: Node, *affine: Node) -> Node:
        remaining = iter(affine)
        result = ops.mul(ops.sub(ops.to_dtype(x, wide), m), r)
        if weight is not None:
            result = ops.mul(result, ops.to_dtype(next(remaining), wide))
        if bias is not None:
            result = ops.add(result, ops.to_dtype(next(remaining), wide))
        return ops.to_dtype(result, dtype)

    return context.pointwise(inputs, value.sizes, build)


def _inverse_deviation(context: LoweringContext, spread: TensorValue, eps: float) -> TensorValue:
    inverse = context.pointwise([spread], spread.sizes, lambda v: ops.rsqrt(ops.add(v, like(eps, v))))
    context.realise(inverse)
    return inverse


@lowers(TABLE, aten.native_layer_norm.default)
def layer_norm(
    context: LoweringContext, value: TensorValue, shape: Sequence[Any], weight: Any, bias: Any, eps: float
) -> list[TensorValue]:
    """Normalise the last dimensions; also the mean and the inverse deviation."""
    if any(s == 0 for s in value.sizes):
        raise Unsupported("nothing")
    dims = tuple(range(value.rank - len(shape), value.rank))
    spread, mean = variance(context, value, dims, 0.0)
    inverse = _inverse_deviation(context, spread, eps)
    result = _scale_and_shift(context, value, mean, inverse, weight, bias)
    expected = context.meta[1].dtype if isinstance(context.meta, (tuple, list)) else mean.dtype
    return [result, convert(context, mean, expected), convert(context, inverse, expected)]


@lowers(TABLE, aten.native_group_norm.default)
def group_norm(
    context: LoweringContext,
    value: TensorValue,
    weight: Any,
    bias: Any,
    n: Any,
    c: Any,
    hw: Any,
    groups: int,
    eps: float,
) -> list[TensorValue]:
    """Normalise groups of channels."""
    if any(s == 0 for s in value.sizes) or not is_supported(value.dtype):
        raise Unsupported("nothing")
    batch, channels = value.sizes[0], value.sizes[1]
    context.prepare_users(value)
    count = to_expr(n) * to_expr(c) * to_expr(hw) // batch // groups
    grouped = reshape_value(value, (batch, to_expr(groups), count))
    spread, mean = variance(context, grouped, (2,), 0.0)
    inverse = _inverse_deviation(context, spread, eps)
    normal = _scale_and_shift(context, grouped, mean, inverse, None, None)
    result = reshape_value(normal, value.sizes)

    def per_channel(tensor: TensorValue) -> TensorValue:
        for _ in range(value.rank - 2):
            tensor = unsqueeze_value(tensor, tensor.rank)
        return tensor

    wide, dtype = mean.dtype, value.dtype
    if dtype != wide:
        raise Unsupported("half types")
    if weight is not None:
        result = context.pointwise([result, per_channel(weight)], value.sizes, lambda x, w: ops.mul(x, w))
    if bias is not None:
        result = context.pointwise([result, per_channel(bias)], value.sizes, lambda x, b: ops.add(x, b))
    if weight is None and bias is None:
        result = convert(context, result, dtype)
    assert channels is not None
    flat = (batch, to_expr(groups))
    return [
        result,
        convert(context, reshape_value(mean, flat), dtype),
        convert(context, reshape_value(inverse, flat), dtype),
    ]


@lowers(TABLE, aten._native_batch_norm_legit_no_training.default)
def batch_norm_inference(
    context: LoweringContext, value: TensorValue, weight: Any, bias: Any, mean: TensorValue, spread: TensorValue,
    momentum: float, eps: float,
) -> list[TensorValue]:  # fmt: skip
    """Normalise channels by given statistics."""
    if not is_supported(value.dtype) or not value.dtype.is_floating_point or value.rank < 2:
        raise Unsupported("dtype")
    wide = compute_dtype(value.dtype)

    def per_channel(tensor: TensorValue) -> TensorValue:
        for _ in range(value.rank - 2):
            tensor = unsqueeze_value(tensor, tensor.rank)
        return unsqueeze_value(tensor, 0)

    center = convert(context, mean, wide)
    inverse = context.pointwise(
        [spread], spread.sizes, lambda v: ops.rsqrt(ops.add(ops.to_dtype(v, wide), number(eps, wide)))
    )
    context.realise(inverse)
    result = _scale_and_shift(
        context, value, per_channel(center), per_channel(inverse),
        None if weight is None else per_channel(weight), None if bias is None else per_channel(bias),
    )  # fmt: skip
    device, dtype = value.device, context.meta[1].dtype
    empty = [context.expression([], [], (to_expr(0),), ops.constant(0, dtype), device=device) for _ in range(2)]
    return [result, *empty]


@lowers(TABLE, aten.native_batch_norm.default)
def batch_norm(
    context: LoweringContext, value: TensorValue, weight: Any, bias: Any, mean: Any, spread: Any, training: bool,
    momentum: float, eps: float,
) -> list[TensorValue]:  # fmt: skip
    """Normalise channels; only by given statistics."""
    if training or mean is None or spread is None:
        raise Unsupported("training")
    return batch_norm_inference(context, value, weight, bias, mean, spread, momentum, eps)
