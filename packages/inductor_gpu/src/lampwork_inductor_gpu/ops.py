"""Scalar operations as Triton: one row for every row of the core's table.

The kernel writer formats a row with its operands' texts. Invariant: every row of `SCALAR_OPS` has one here (a test
holds it), and means what the table's reference function means; operands are names or literals, never bare sums.
"""

from __future__ import annotations

import torch

TRITON_TYPES: dict[torch.dtype, str] = {
    torch.bool: "tl.int1",
    torch.uint8: "tl.uint8",
    torch.int8: "tl.int8",
    torch.int16: "tl.int16",
    torch.int32: "tl.int32",
    torch.int64: "tl.int64",
    torch.float16: "tl.float16",
    torch.bfloat16: "tl.bfloat16",
    torch.float32: "tl.float32",
    torch.float64: "tl.float64",
}

_SAME = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "truncdiv": "{0} // {1}",
    "floordiv": "floor_div({0}, {1})",
    "remainder": "floor_mod({0}, {1})",
    "fmod": "{0} % {1}",
    "neg": "-{0}",
    "abs": "tl.abs({0})",
    "sign": "({0} > 0).to({type}) - ({0} < 0).to({type})",
    "maximum": "maximum({0}, {1})",
    "minimum": "minimum({0}, {1})",
    "pow": "integer_pow({0}, {1})",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "logical_not": "{0} == 0",
    "logical_and": "({0} != 0) & ({1} != 0)",
    "logical_or": "({0} != 0) | ({1} != 0)",
    "logical_xor": "({0} != 0) ^ ({1} != 0)",
    "bitwise_not": "~{0}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
    "shift_left": "tl.where(({1} < 0) | ({1} >= {bits}), 0, {0} << {1})",
    "shift_right": "{0} >> tl.where(({1} < 0) | ({1} >= {bits}), {bits} - 1, {1})",
    "where": "tl.where({0}, {1}, {2})",
    "signbit": "{0} < 0",
    "to_dtype": "{0}.to({type})",
    "bitcast": "{0}.to({type}, bitcast=True)",
}

# Rows that differ for booleans.
_BOOL = {
    "add": "{0} | {1}",
    "mul": "{0} & {1}",
    "maximum": "{0} | {1}",
    "minimum": "{0} & {1}",
    "logical_not": "~{0}",
    "logical_and": "{0} & {1}",
    "logical_or": "{0} | {1}",
    "logical_xor": "{0} ^ {1}",
    "bitwise_not": "~{0}",
    "abs": "{0}",
    "sign": "{0}",
}

# Rows that differ for, or exist only for, floating types.
_FLOAT = {
    "truediv": "tl.div_rn({0}, {1})",
    "roughsigmoid": "rough_sigmoid({0})",  # not of the table: for factors that are rounded to halves
    "rougherf": "rough_erf({0})",  # not of the table: within 4e-6
    "roughdiv": "{0} / {1}",  # not of the table: of two units in the last place of float32
    "floordiv": "float_floor_div({0}, {1})",
    "truncdiv": "trunc(tl.div_rn({0}, {1}))",
    "remainder": "float_remainder({0}, {1})",
    "fmod": "fmod({0}, {1})",
    "fma": "tl.fma({0}, {1}, {2})",
    "pow": "pow({0}, {1})",
    "atan2": "atan2({0}, {1})",
    "hypot": "hypot({0}, {1})",
    "copysign": "copysign({0}, {1})",
    "nextafter": "nextafter({0}, {1})",
    "sqrt": "tl.sqrt_rn({0})",
    "rsqrt": "tl.rsqrt({0})",
    "reciprocal": "tl.div_rn(tl.full([], 1.0, {type}), {0})",
    "floor": "tl.floor({0})",
    "ceil": "tl.ceil({0})",
    "trunc": "trunc({0})",
    "round": "round_half_even({0})",
    "frac": "{0} - trunc({0})",
    "sigmoid": "tl.sigmoid({0})",
    "exp": "tl.exp({0})",
    "exp2": "tl.exp2({0})",
    "log": "tl.log({0})",
    "log2": "tl.log2({0})",
    "sin": "tl.sin({0})",
    "cos": "tl.cos({0})",
    "erf": "tl.erf({0})",
    "isnan": "{0} != {0}",
    "isinf": 'tl.abs({0}) == float("inf")',
    "signbit": "{0}.to({integer}, bitcast=True) < 0",
    **{
        name: f"{name}({{0}})"
        for name in (
            "expm1", "log10", "log1p", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh",
            "erfc", "erfinv", "lgamma",
        )
    },
}  # fmt: skip

# torch computes these for floating types only, and Triton has no function for them: such nodes stay with eager.
NOT_GENERATED = frozenset({"digamma"})

# The types for which Triton's and libdevice's functions exist; narrower ones are widened to float32 first.
_MATH_TYPES = (torch.float32, torch.float64)
_EXACT_IN_HALF = frozenset({"where", "to_dtype", "bitcast", "abs", "signbit"})
# Rows of float64, whose plain operations are correctly rounded already.
_DOUBLE = {
    "truediv": "{0} / {1}",
    "truncdiv": "trunc({0} / {1})",
    "sqrt": "tl.sqrt({0})",
    "reciprocal": "tl.full([], 1.0, {type}) / {0}",
}
_LEAST_NORMAL = torch.finfo(torch.float32).tiny
_INTEGER_OF_WIDTH = {2: "tl.int16", 4: "tl.int32", 8: "tl.int64"}


def is_generated(op: str) -> bool:
    """Whether Triton text exists for a scalar operation."""
    return op not in NOT_GENERATED


def format_op(op: str, operands: list[str], operand_type: torch.dtype, result_type: torch.dtype) -> str:
    """The Triton expression of `op`; `operand_type` is the last operand's dtype, `result_type` the node's."""
    if operand_type.is_floating_point and operand_type not in _MATH_TYPES and op not in _EXACT_IN_HALF:
        wide = [f"{o}.to(tl.float32)" for o in operands]
        if result_type != operand_type:
            return format_op(op, wide, torch.float32, result_type)
        return f"({format_op(op, wide, torch.float32, torch.float32)}).to({TRITON_TYPES[result_type]})"
    if op == "to_dtype" and result_type == torch.bool:
        return f"{operands[0]} != 0"
    if operand_type == torch.bool and op in _BOOL:
        row = _BOOL[op]
    elif operand_type == torch.float64 and op in _DOUBLE:
        row = _DOUBLE[op]
    elif operand_type.is_floating_point and op in _FLOAT:
        row = _FLOAT[op]
    else:
        row = _SAME[op]
    return row.format(
        *operands,
        type=TRITON_TYPES[result_type],
        bits=8 * operand_type.itemsize,
        integer=_INTEGER_OF_WIDTH.get(operand_type.itemsize, "tl.int8"),
    )


def reciprocal(divisor: float | int | bool, dtype: torch.dtype) -> float | None:
    """What a division by a literal multiplies with instead, as eager's kernels on GPUs do; None where it divides.

    Halves are divided in float32, so theirs has the precision of float32. Not where a rounded reciprocal would lose
    more than its last bit.
    """
    if not dtype.is_floating_point or dtype == torch.float64:
        return None
    value = float(torch.tensor(divisor, dtype=dtype).to(torch.float32).reciprocal())
    return value if value == value and _LEAST_NORMAL <= abs(value) < float("inf") else None


def literal(value: float | int | bool, dtype: torch.dtype) -> str:
    """A constant as Triton reads it; typed explicitly, so that float64 keeps its digits and an integer its width."""
    if isinstance(value, bool):
        text = "1" if value else "0"
    elif value != value:
        text = 'float("nan")'
    elif value in (float("inf"), float("-inf")):
        text = f'float("{value}")'
    else:
        text = repr(float(value) if dtype.is_floating_point else value)
    return f"tl.full([], {text}, {TRITON_TYPES[dtype]})"
