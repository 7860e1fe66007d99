"""Scalar operations in C++: one row for each operation of the IR's closed table.

The vocabulary of kernel bodies: a row is a text template over operand texts, for scalars and for vectors; functions
live in `lampwork_cpu.h`. Invariant: every name of `SCALAR_OPS` has a row (a test asserts it), and both spellings mean
what the IR's reference function does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

CPP_TYPES: dict[torch.dtype, str] = {
    torch.float32: "float",
    torch.float64: "double",
    torch.float16: "lw::half",
    torch.bfloat16: "lw::bfloat16",
    torch.int64: "int64_t",
    torch.int32: "int32_t",
    torch.int16: "int16_t",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
    torch.uint16: "uint16_t",
    torch.uint32: "uint32_t",
    torch.uint64: "uint64_t",
    torch.bool: "bool",
}
HALF_TYPES = (torch.float16, torch.bfloat16)


class UnsupportedDtype(TypeError):
    """An element type that generated C++ does not handle; the graph's operator must run as a library call."""

    def __init__(self, dtype: torch.dtype, where: str) -> None:
        super().__init__(f"no C++ type for {dtype} in {where}. Hint: keep the operator out of generated kernels")


def storage_type(dtype: torch.dtype) -> str:
    """The C++ type of an element in memory. Raises UnsupportedDtype."""
    if dtype not in CPP_TYPES:
        raise UnsupportedDtype(dtype, "a kernel")
    return CPP_TYPES[dtype]


def register_type(dtype: torch.dtype) -> str:
    """The C++ type of a scalar value in a body: half types are computed on as float."""
    return "float" if dtype in HALF_TYPES else storage_type(dtype)


def vector_type(dtype: torch.dtype) -> str:
    """The C++ type of a vector value in a body."""
    return "lw::mask" if dtype == torch.bool else f"lw::vec<{register_type(dtype)}>"


@dataclass(frozen=True, slots=True)
class Spelling:
    """How an operation is written. `{0}`, `{1}`.. are operands, `{T}` is the (scalar or vector) type of the result.

    `operator` says that vectors mix with scalars as they are (C++ operators); functions get them splatted. `exact`
    results are representable in the operands' half type, so need no rounding. `cost` is in additions, for the decision
    to parallelise.
    """

    text: str
    operator: bool = False
    exact: bool = False
    cost: int = 1
    checks_divisor: bool = False  # for integers: the second operand is checked against zero


def _function(name: str, arity: int, cost: int = 1, exact: bool = False, checks_divisor: bool = False) -> Spelling:
    operands = ", ".join(f"{{{k}}}" for k in range(arity))
    return Spelling(f"lw::{name}({operands})", exact=exact, cost=cost, checks_divisor=checks_divisor)


def _infix(symbol: str, exact: bool = False, cost: int = 1) -> Spelling:
    return Spelling(f"{{0}} {symbol} {{1}}", operator=True, exact=exact, cost=cost)


SPELLINGS: dict[str, Spelling] = {
    # arithmetic
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "truediv": _infix("/", cost=4),
    "floordiv": _function("floordiv", 2, cost=20, checks_divisor=True),
    "truncdiv": _function("truncdiv", 2, cost=8, checks_divisor=True),
    "remainder": _function("remainder", 2, cost=20, checks_divisor=True),
    "fmod": _function("modulo", 2, cost=20, checks_divisor=True),
    "neg": Spelling("-{0}", operator=True, exact=True),
    "abs": _function("abs", 1, exact=True),
    "sign": _function("sign", 1, exact=True),
    "fma": _function("fma", 3),
    "maximum": _function("maximum", 2, exact=True),
    "minimum": _function("minimum", 2, exact=True),
    "pow": _function("pow", 2, cost=40),
    "atan2": _function("atan2", 2, cost=40),
    "hypot": _function("hypot", 2, cost=20),
    "copysign": _function("copysign", 2, exact=True),
    "nextafter": _function("nextafter", 2, cost=10),
    # floating point, one register instruction or a few
    "sqrt": _function("sqrt", 1, cost=4),
    "rsqrt": _function("rsqrt", 1, cost=8),
    "reciprocal": Spelling("{T}(1) / {0}", operator=True, cost=4),
    "floor": _function("floor", 1, exact=True),
    "ceil": _function("ceil", 1, exact=True),
    "trunc": _function("trunc", 1, exact=True),
    "round": _function("round", 1, exact=True),
    "frac": _function("frac", 1, cost=2),
    # transcendental: own code for float
    "exp": _function("exp", 1, cost=12),
    "exp2": _function("exp2", 1, cost=12),
    "expm1": _function("expm1", 1, cost=16),
    "log": _function("log", 1, cost=16),
    "log2": _function("log2", 1, cost=16),
    "log10": _function("log10", 1, cost=16),
    "log1p": _function("log1p", 1, cost=24),
    "sin": _function("sin", 1, cost=16),
    "cos": _function("cos", 1, cost=16),
    "tanh": _function("tanh", 1, cost=20),
    "sigmoid": _function("sigmoid", 1, cost=16),
    "erf": _function("erf", 1, cost=24),
    # transcendental: the C library
    "tan": _function("tan", 1, cost=60),
    "asin": _function("asin", 1, cost=60),
    "acos": _function("acos", 1, cost=60),
    "atan": _function("atan", 1, cost=60),
    "sinh": _function("sinh", 1, cost=60),
    "cosh": _function("cosh", 1, cost=60),
    "asinh": _function("asinh", 1, cost=60),
    "acosh": _function("acosh", 1, cost=60),
    "atanh": _function("atanh", 1, cost=60),
    "erfc": _function("erfc", 1, cost=60),
    "erfinv": _function("erfinv", 1, cost=100),
    "lgamma": _function("lgamma", 1, cost=100),
    "digamma": _function("digamma", 1, cost=100),
    # comparison and logic
    "eq": _infix("==", exact=True),
    "ne": _infix("!=", exact=True),
    "lt": _infix("<", exact=True),
    "le": _infix("<=", exact=True),
    "gt": _infix(">", exact=True),
    "ge": _infix(">=", exact=True),
    "isnan": _function("isnan", 1, exact=True),
    "isinf": _function("isinf", 1, exact=True),
    "signbit": _function("signbit", 1, exact=True),
    "logical_not": Spelling("!lw::truth({0})", operator=True, exact=True),
    "logical_and": Spelling("lw::truth({0}) & lw::truth({1})", operator=True, exact=True),
    "logical_or": Spelling("lw::truth({0}) | lw::truth({1})", operator=True, exact=True),
    "logical_xor": Spelling("lw::truth({0}) ^ lw::truth({1})", operator=True, exact=True),
    "bitwise_not": _function("invert", 1, exact=True),
    "bitwise_and": _infix("&", exact=True),
    "bitwise_or": _infix("|", exact=True),
    "bitwise_xor": _infix("^", exact=True),
    "shift_left": _function("shift_left", 2, exact=True),
    "shift_right": _function("shift_right", 2, exact=True),
    "where": _function("where", 3, exact=True),
    # conversion: written by `convert` and `bitcast`
    "to_dtype": Spelling("{0}", exact=True),
    "bitcast": Spelling("{0}", exact=True),
}

_BOOL_SPELLINGS: dict[str, str] = {  # logic instead of arithmetic where the operands are booleans
    "logical_not": "!{0}",
    "logical_and": "{0} & {1}",
    "logical_or": "{0} | {1}",
    "logical_xor": "{0} ^ {1}",
}


def spell(op: str, operand_dtype: torch.dtype) -> Spelling:
    """The row for an operation on operands of this dtype."""
    row = SPELLINGS[op]
    if operand_dtype == torch.bool and op in _BOOL_SPELLINGS:
        return Spelling(_BOOL_SPELLINGS[op], operator=True, exact=True)
    return row


def literal(value: float | int | bool, dtype: torch.dtype) -> str:
    """A constant of a dtype as C++ text, by bit pattern (nan, infinities and -0.0 included)."""
    if dtype == torch.bool:
        return "true" if value else "false"
    if not dtype.is_floating_point:
        number = int(value)
        if dtype == torch.int64 and number == -(2**63):
            return "INT64_MIN"
        return f"{register_type(dtype)}({number}{'' if abs(number) < 2**31 else 'LL' if dtype.is_signed else 'ULL'})"
    if dtype in HALF_TYPES:
        value = torch.tensor(float(value), dtype=torch.float64).to(dtype).item()
    single = dtype != torch.float64
    number = float(value)
    if number != number:
        return '__builtin_nanf("")' if single else '__builtin_nan("")'
    if single:
        number = torch.tensor(number, dtype=torch.float64).to(torch.float32).item()
    if number in (float("inf"), float("-inf")):
        text = "__builtin_inff()" if single else "__builtin_inf()"
        return text if number > 0 else f"-{text}"
    text = _shortest(number, single)
    return f"{text}f" if single else text


def _shortest(number: float, single: bool) -> str:
    text = repr(number)
    if single:
        for digits in range(1, 10):
            text = f"{number:.{digits}g}"
            if torch.tensor(float(text), dtype=torch.float64).to(torch.float32).item() == number:
                break
    return text if any(c in text for c in ".e") else f"{text}.0"


def convert(text: str, source: torch.dtype, target: torch.dtype) -> str:
    """A value of one dtype as another; the same text where registers already agree."""
    if source == target:
        return text
    if target == torch.bool:
        return f"lw::truth({text})"
    if target in HALF_TYPES:
        wide = text if register_type(source) == "float" else f"lw::convert<float>({text})"
        return f"lw::round_to<{storage_type(target)}>({wide})"
    if register_type(source) == register_type(target):
        return text
    return f"lw::convert<{register_type(target)}>({text})"
