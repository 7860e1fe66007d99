"""Type promotion: the dtype an ATen operator computes in and the one it returns.

Written after the rules in PyTorch's documentation ("Tensor Attributes", type promotion): tensors with dimensions
decide, zero-dimensional tensors and Python numbers count only where they are of a higher category. Invariant: the same
result as `torch.result_type` and the operator's own kernel, for every supported dtype.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import torch
from lampwork_symshape import IntExpr

from ..ir.float_expr import FloatExpr
from ..ir.loops import ReductionKind
from .table import Unsupported
from .values import TensorValue

Number = bool | int | float | IntExpr | FloatExpr  # the last two are known when the graph is called

SUPPORTED = frozenset(
    {
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
    }
)
HALF = frozenset({torch.float16, torch.bfloat16})


class Promotion(enum.Enum):
    """How a pointwise operator's result dtype follows from its operands'."""

    DEFAULT = "the common dtype"
    INT_TO_FLOAT = "the common dtype; the default floating dtype for integers and booleans"
    ALWAYS_BOOL = "computed in the common dtype, result boolean"


def is_supported(dtype: torch.dtype) -> bool:
    """Whether the loop IR computes in this dtype (no complex, quantised or 8-bit floating types)."""
    return dtype in SUPPORTED


def _category(dtype: torch.dtype) -> int:
    if dtype == torch.bool:
        return 0
    return 2 if dtype.is_floating_point else 1


def _number_dtype(value: Number) -> torch.dtype:
    if isinstance(value, bool):
        return torch.bool
    return torch.int64 if isinstance(value, int | IntExpr) else torch.get_default_dtype()


def result_dtype(operands: Sequence[TensorValue | Number]) -> torch.dtype:
    """The common dtype of tensors and numbers."""
    groups: list[torch.dtype | None] = [None, None, None]  # with dimensions, zero-dimensional, numbers
    for operand in operands:
        if isinstance(operand, TensorValue):
            dtype, position = operand.dtype, 0 if operand.rank else 1
            if not is_supported(dtype):
                raise Unsupported(f"dtype {dtype}")
        else:
            if not isinstance(operand, (bool, int, float, IntExpr, FloatExpr)):
                raise Unsupported(f"a number of type {type(operand).__name__}")
            dtype, position = _number_dtype(operand), 2
        previous = groups[position]
        groups[position] = dtype if previous is None else torch.promote_types(previous, dtype)
    result: torch.dtype | None = None
    for dtype in groups:
        if dtype is None:
            continue
        if result is None or _category(dtype) > _category(result):
            result = dtype if result is None or _category(dtype) > _category(result) else result
    assert result is not None
    return result


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What arithmetic on this dtype is done in: float32 for half types."""
    return torch.float32 if dtype in HALF else dtype


def accumulate_dtype(dtype: torch.dtype, kind: ReductionKind) -> torch.dtype:
    """What a reduction of elements of this dtype accumulates in."""
    if kind in (ReductionKind.ANY, ReductionKind.ALL):
        return torch.bool
    if dtype in HALF:
        return torch.float32
    if kind in (ReductionKind.SUM, ReductionKind.PROD) and not dtype.is_floating_point:
        return torch.int64
    return dtype
