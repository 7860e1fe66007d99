"""The engine under every pointwise lowering: promote, broadcast, convert, build, round.

Family files give a builder over body nodes; this module turns it into an expression exactly as ATen would compute it.
Invariant: arithmetic on half types is done in float32 and rounded to the half type once an operator, as eager does. A
Python number enters in float32: eager does so too, save for some of its CPU kernels, which round the number first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr

from ..ir.float_expr import FloatExpr, FloatOf
from ..ir.loop_body import Constant, FloatValue, Node, ops
from ..ir.views import Indices
from ..runtime.call_numbers import FITTING, nan_or_nothing
from .context import LoweringContext, broadcast_sizes
from .promotion import HALF, Number, Promotion, compute_dtype, is_supported, result_dtype
from .table import Unsupported
from .values import ExpressionValue, TensorValue

Builder = Callable[..., Node]
Operand = TensorValue | Number


def elementwise(
    context: LoweringContext,
    operands: Sequence[Operand],
    build: Builder,
    promotion: Promotion = Promotion.DEFAULT,
    *,
    result: torch.dtype | None = None,
) -> ExpressionValue:
    """Apply `build` to the operands' elements, converted to the dtype that the operator computes in.

    `result` overrides the dtype of the result (conversion included).
    """
    check_operands(operands)
    common = result_dtype(operands)
    if promotion is Promotion.INT_TO_FLOAT and not common.is_floating_point:
        common = torch.get_default_dtype()
    if not is_supported(common):
        raise Unsupported(f"dtype {common}")
    computed = compute_dtype(common)
    tensors = [o for o in operands if isinstance(o, TensorValue)]
    sizes = broadcast_sizes([t.sizes for t in tensors])
    if result is None and promotion is not Promotion.ALWAYS_BOOL:
        result = common

    def function(*elements: Node) -> Node:
        remaining = iter(elements)
        nodes: list[Node] = []
        for operand in operands:
            if isinstance(operand, TensorValue):
                element = next(remaining)
                if operand.rank:
                    element = ops.to_dtype(element, common)
                nodes.append(ops.to_dtype(element, computed))
            else:
                nodes.append(number(operand, computed))
        value = build(*nodes)
        return value if result is None else ops.to_dtype(value, result)

    return context.pointwise(tensors, sizes, function)


def check_operands(operands: Sequence[Any]) -> None:
    """Raise Unsupported for anything that is neither a tensor value nor a Python number."""
    if not any(isinstance(o, TensorValue) for o in operands):
        raise Unsupported("no tensor operand")
    for operand in operands:
        if not isinstance(operand, (TensorValue, bool, int, float, IntExpr, FloatExpr)):
            raise Unsupported(f"an operand of type {type(operand).__name__}")
        if isinstance(operand, TensorValue) and not is_supported(operand.dtype):
            raise Unsupported(f"dtype {operand.dtype}")


def number(value: Number, dtype: torch.dtype) -> Constant | Node:
    """A Python number as a constant; one that only a call knows as what computes it.

    Raises Unsupported where it does not fit (eager raises or wraps: ask it).
    """
    if isinstance(value, IntExpr | FloatExpr):
        return symbolic_number(value, dtype)
    if dtype.is_floating_point or dtype == torch.bool:
        return ops.constant(value, dtype)
    if isinstance(value, float):
        raise Unsupported("a floating number for an integer tensor")
    limits = torch.iinfo(dtype)
    if not limits.min <= int(value) <= limits.max:
        raise Unsupported(f"{value} does not fit {dtype}")
    return ops.constant(value, dtype)


def symbolic_number(value: IntExpr | FloatExpr, dtype: torch.dtype) -> Node:
    """A number that only a call knows. Raises Unsupported where it may not fit, or is asked to be a truth."""
    if isinstance(value, FloatExpr):
        if not dtype.is_floating_point:
            raise Unsupported("a float of the call, for integers or booleans")
        return ops.float_value(value, dtype)
    if value.is_constant:
        return number(int(value), dtype)
    if not dtype.is_floating_point and dtype != torch.bool:
        limits = torch.iinfo(dtype)
        fits = (
            value.lower is not None
            and value.lower >= limits.min
            and value.upper is not None
            and value.upper <= limits.max
        )
        if dtype != torch.int64 and not fits:
            raise Unsupported(f"{value}, which may not fit {dtype}")
    return ops.to_dtype(ops.index_value(value), dtype)


def like(value: Number, node: Node) -> Constant | Node:
    """A constant of a node's dtype."""
    return number(value, node.dtype)


def at_least(x: Node, bound: Node) -> Node:
    """`x` if it is not below the bound, as relu and clamp have it: nan of either stays, and so does a -0.0 of `x`."""
    return _bounded(ops.lt(x, bound), x, bound)


def at_most(x: Node, bound: Node) -> Node:
    """`x` if it is not above the bound; the rest as in `at_least`."""
    return _bounded(ops.gt(x, bound), x, bound)


def _bounded(outside: Node, x: Node, bound: Node) -> Node:
    if isinstance(bound, Constant):
        return bound if bound.value != bound.value else ops.where(outside, bound, x)
    if isinstance(bound, FloatValue):
        nothing = ops.float_value(FloatOf(nan_or_nothing, (bound.expression,)), bound.dtype)
        return ops.add(ops.where(outside, bound, x), nothing)
    if x.dtype.is_floating_point:
        outside = ops.logical_or(outside, ops.isnan(bound))
    return ops.where(outside, bound, x)


def fitting(value: Any, dtype: torch.dtype, *, dimensions: int = 1) -> Any:
    """A number that eager puts into a tensor of this dtype only if it fits: itself, or, if only a call knows it, the
    same with a check in the call. Raises Unsupported for one that does not fit; what is no number fits. Into halves
    without dimensions, as `x[0] = 1e6` fills them, eager puts an infinity."""
    if isinstance(value, FloatExpr) and dtype in FITTING and (dimensions or dtype not in HALF):
        return FloatOf(FITTING[dtype], (value,))
    _check_fits(value, dtype)
    return value


def _check_fits(value: object, dtype: torch.dtype) -> None:
    if not isinstance(value, bool | int | float) or dtype == torch.bool:
        return
    if dtype.is_floating_point:
        outside = math.isfinite(value) and abs(value) > torch.finfo(dtype).max
    else:
        limits = torch.iinfo(dtype)
        outside = not math.isfinite(value) or not limits.min <= value <= limits.max
    if outside:
        raise Unsupported(f"{value} does not fit {dtype}")


def convert(context: LoweringContext, value: TensorValue, dtype: torch.dtype) -> ExpressionValue:
    """A copy of the tensor in another dtype (or the same one)."""
    if not is_supported(value.dtype) or not is_supported(dtype):
        raise Unsupported(f"conversion from {value.dtype} to {dtype}")
    return context.pointwise([value], value.sizes, lambda x: ops.to_dtype(x, dtype))


def filled(context: LoweringContext, sizes: Indices, value: Number, dtype: torch.dtype, device: torch.device) -> Any:
    """A tensor that holds one number everywhere."""
    if not is_supported(dtype):
        raise Unsupported(f"dtype {dtype}")
    element = number_for_fill(value, dtype, dimensions=len(sizes))
    return context.expression([], [], sizes, element, device=device)


def number_for_fill(value: Number, dtype: torch.dtype, *, dimensions: int = 1) -> Constant | Node:
    """A fill value, converted as `torch.full` converts it."""
    value = fitting(value, dtype, dimensions=dimensions)
    if isinstance(value, IntExpr | FloatExpr):
        return symbolic_number(value, dtype)
    if not isinstance(value, (bool, int, float)):
        raise Unsupported(f"a fill value of type {type(value).__name__}")
    if dtype == torch.bool or dtype.is_floating_point:
        return ops.constant(value, dtype)
    if isinstance(value, float):
        value = int(value) if value == value and abs(value) < 2**62 else 2**63
    return number(value, dtype)
