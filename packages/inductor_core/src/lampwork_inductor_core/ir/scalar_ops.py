"""Scalar operations: the closed table of what a loop body may compute on one element.

Lowerings build bodies from these names, the interpreter runs their reference functions, and every code generator must
implement each of them. Invariant: an operation is pure; its result dtype follows from its operands' dtypes by the named
rule; its reference function on tensors defines its meaning, special values (nan, inf, -0.0, overflow) included.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


class DtypeRule(enum.Enum):
    """How an operation's result dtype follows from its operands. Operands of SAME operations already agree."""

    SAME = "the operands' dtype"
    BOOL = "torch.bool"
    LAST = "the dtype of the last operand"
    EXPLICIT = "given by the node (`to_dtype`, `bitcast`)"


@dataclass(frozen=True, slots=True)
class ScalarOp:
    """One row of the table. `reference` takes torch tensors (broadcast together) and returns one."""

    name: str
    arity: int
    rule: DtypeRule
    reference: Callable[..., Any]
    floating_only: bool = False
    cheap: bool = True  # whether recomputing it in several consumers costs less than storing its result


_TRANSCENDENTAL = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "erf", "erfc", "erfinv", "lgamma", "digamma",
)  # fmt: skip
_FLOAT_UNARY = ("sqrt", "rsqrt", "reciprocal", "floor", "ceil", "trunc", "round", "frac")

_ROWS: tuple[ScalarOp, ...] = (
    # arithmetic
    ScalarOp("add", 2, DtypeRule.SAME, torch.add),
    ScalarOp("sub", 2, DtypeRule.SAME, torch.sub),
    ScalarOp("mul", 2, DtypeRule.SAME, torch.mul),
    ScalarOp("truediv", 2, DtypeRule.SAME, torch.true_divide, floating_only=True),
    ScalarOp("floordiv", 2, DtypeRule.SAME, lambda a, b: torch.div(a, b, rounding_mode="floor")),
    ScalarOp("truncdiv", 2, DtypeRule.SAME, lambda a, b: torch.div(a, b, rounding_mode="trunc")),
    ScalarOp("remainder", 2, DtypeRule.SAME, torch.remainder),  # sign of the divisor
    ScalarOp("fmod", 2, DtypeRule.SAME, torch.fmod),  # sign of the dividend
    ScalarOp("neg", 1, DtypeRule.SAME, torch.neg),
    ScalarOp("abs", 1, DtypeRule.SAME, torch.abs),
    ScalarOp("sign", 1, DtypeRule.SAME, torch.sign),
    ScalarOp("fma", 3, DtypeRule.SAME, lambda a, b, c: torch.add(torch.mul(a, b), c), floating_only=True),
    ScalarOp("maximum", 2, DtypeRule.SAME, torch.maximum),  # nan wins
    ScalarOp("minimum", 2, DtypeRule.SAME, torch.minimum),  # nan wins
    ScalarOp("pow", 2, DtypeRule.SAME, torch.pow, cheap=False),
    ScalarOp("atan2", 2, DtypeRule.SAME, torch.atan2, floating_only=True, cheap=False),
    ScalarOp("hypot", 2, DtypeRule.SAME, torch.hypot, floating_only=True, cheap=False),
    ScalarOp("copysign", 2, DtypeRule.SAME, torch.copysign, floating_only=True),
    ScalarOp("nextafter", 2, DtypeRule.SAME, torch.nextafter, floating_only=True),
    *(ScalarOp(n, 1, DtypeRule.SAME, getattr(torch, n), floating_only=True) for n in _FLOAT_UNARY),
    *(ScalarOp(n, 1, DtypeRule.SAME, getattr(torch, n), floating_only=True, cheap=False) for n in _TRANSCENDENTAL),
    # comparison and logic
    ScalarOp("eq", 2, DtypeRule.BOOL, torch.eq),
    ScalarOp("ne", 2, DtypeRule.BOOL, torch.ne),
    ScalarOp("lt", 2, DtypeRule.BOOL, torch.lt),
    ScalarOp("le", 2, DtypeRule.BOOL, torch.le),
    ScalarOp("gt", 2, DtypeRule.BOOL, torch.gt),
    ScalarOp("ge", 2, DtypeRule.BOOL, torch.ge),
    ScalarOp("isnan", 1, DtypeRule.BOOL, torch.isnan, floating_only=True),
    ScalarOp("isinf", 1, DtypeRule.BOOL, torch.isinf, floating_only=True),
    ScalarOp("signbit", 1, DtypeRule.BOOL, torch.signbit),
    ScalarOp("logical_not", 1, DtypeRule.BOOL, torch.logical_not),
    ScalarOp("logical_and", 2, DtypeRule.BOOL, torch.logical_and),
    ScalarOp("logical_or", 2, DtypeRule.BOOL, torch.logical_or),
    ScalarOp("logical_xor", 2, DtypeRule.BOOL, torch.logical_xor),
    ScalarOp("bitwise_not", 1, DtypeRule.SAME, torch.bitwise_not),
    ScalarOp("bitwise_and", 2, DtypeRule.SAME, torch.bitwise_and),
    ScalarOp("bitwise_or", 2, DtypeRule.SAME, torch.bitwise_or),
    ScalarOp("bitwise_xor", 2, DtypeRule.SAME, torch.bitwise_xor),
    ScalarOp("shift_left", 2, DtypeRule.SAME, torch.bitwise_left_shift),
    ScalarOp("shift_right", 2, DtypeRule.SAME, torch.bitwise_right_shift),
    ScalarOp("where", 3, DtypeRule.LAST, torch.where),  # condition, if true, if false
    # conversion (target dtype on the node)
    ScalarOp("to_dtype", 1, DtypeRule.EXPLICIT, lambda x, dtype: x.to(dtype)),
    ScalarOp("bitcast", 1, DtypeRule.EXPLICIT, lambda x, dtype: x.view(dtype)),
)

SCALAR_OPS: dict[str, ScalarOp] = {row.name: row for row in _ROWS}
