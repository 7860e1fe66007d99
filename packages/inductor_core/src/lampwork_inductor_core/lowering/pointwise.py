"""Pointwise operators, as a table: ATen name, promotion rule, builder over body nodes.

Builders see their operands already converted to the dtype that the operator computes in. Invariant: what a builder
computes agrees with eager on special values (nan, infinities, signed zeros) and on integer overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr

from ..ir.float_expr import FloatExpr
from ..ir.loop_body import Constant, IndexValue, Node, ops
from .context import LoweringContext, broadcast_sizes
from .elementwise import Builder, at_least, at_most, check_operands, convert, elementwise, fitting, like, number
from .promotion import HALF, Promotion, is_supported, result_dtype
from .table import Lowering, Unsupported, lowers
from .values import TensorValue, Value

aten = torch.ops.aten
TABLE: dict[Any, Lowering] = {}

DEFAULT, INT_TO_FLOAT, ALWAYS_BOOL = Promotion.DEFAULT, Promotion.INT_TO_FLOAT, Promotion.ALWAYS_BOOL


def _arithmetic(boolean: str | None, name: str) -> Builder:
    """The scalar operation `name`; `boolean` is what it is called on booleans (None: eager has none)."""

    def build(*nodes: Node) -> Node:
        if nodes[0].dtype == torch.bool:
            if boolean is None:
                raise Unsupported(f"{name} on booleans")
            return ops.compute(boolean, *nodes)
        if nodes[0].dtype.is_floating_point and name in _OF_BITS:
            raise Unsupported(f"{name} on floating numbers")
        return ops.compute(name, *nodes)

    return build


def _floating(name: str, build: Builder) -> Builder:
    """For operators that have no kernel for integers in eager: it raises, so it is asked."""

    def checked(*nodes: Node) -> Node:
        if not nodes[0].dtype.is_floating_point:
            raise Unsupported(f"{name} on integers")
        return build(*nodes)

    return checked


def _floating_identity(name: str) -> Builder:
    """Rounding functions: integers are their own result."""

    def build(x: Node) -> Node:
        if x.dtype == torch.bool:
            raise Unsupported(f"{name} on booleans")
        return ops.compute(name, x) if x.dtype.is_floating_point else x

    return build


def _false_for_integers(build: Builder) -> Builder:
    return lambda x: build(x) if x.dtype.is_floating_point else ops.constant(False, torch.bool)


def _boolean(name: str) -> Builder:
    return lambda *nodes: ops.compute(name, *(ops.to_dtype(n, torch.bool) for n in nodes))


def _sign(x: Node) -> Node:
    return x if x.dtype == torch.bool else ops.sign(x)


def _abs(x: Node) -> Node:
    return x if x.dtype in (torch.bool, torch.uint8) else ops.abs(x)


def _square(x: Node) -> Node:
    return _arithmetic("logical_and", "mul")(x, x)


def _relu(x: Node) -> Node:
    if x.dtype == torch.bool:
        raise Unsupported("relu on booleans")
    return at_least(x, like(0, x))


def _silu(x: Node) -> Node:
    return ops.truediv(x, ops.add(like(1, x), ops.exp(ops.neg(x))))


def _hardswish(x: Node) -> Node:
    return ops.truediv(ops.mul(x, _between(ops.add(x, like(3, x)), 0, 6)), like(6, x))


def _hardsigmoid(x: Node) -> Node:
    return ops.truediv(_between(ops.add(x, like(3, x)), 0, 6), like(6, x))


def _between(x: Node, low: float, high: float) -> Node:
    return at_most(at_least(x, like(low, x)), like(high, x))


def _softplus_of(x: Node) -> Node:
    return ops.where(ops.gt(x, like(20, x)), x, ops.log1p(ops.exp(x)))


def _fmax(pick: str) -> Builder:
    def build(a: Node, b: Node) -> Node:
        if not a.dtype.is_floating_point:
            return _arithmetic("logical_or" if pick == "maximum" else "logical_and", pick)(a, b)
        return ops.where(ops.isnan(a), b, ops.where(ops.isnan(b), a, ops.compute(pick, a, b)))

    return build


def _heaviside(x: Node, values: Node) -> Node:
    if x.dtype == torch.bool:
        raise Unsupported("heaviside on booleans")
    zero, one = like(0, x), like(1, x)
    return ops.where(ops.eq(x, zero), values, ops.where(ops.gt(x, zero), one, zero))


def _xlogy(x: Node, y: Node) -> Node:
    product = ops.where(ops.eq(x, like(0, x)), like(0, x), ops.mul(x, ops.log(y)))
    return ops.where(ops.isnan(y), y, product)


def _xlog1py(x: Node, y: Node) -> Node:
    product = ops.where(ops.eq(x, like(0, x)), like(0, x), ops.mul(x, ops.log1p(y)))
    return ops.where(ops.isnan(y), y, product)


def _logaddexp(exp: str, log: Callable[[Node], Node]) -> Builder:
    def build(a: Node, b: Node) -> Node:
        if not a.dtype.is_floating_point:
            raise Unsupported("logaddexp on integers")
        high = ops.maximum(a, b)
        inner = log(ops.compute(exp, ops.neg(ops.abs(ops.sub(a, b)))))
        same = ops.logical_and(ops.isinf(a), ops.eq(a, b))
        return ops.where(same, a, ops.add(high, inner))

    return build


def _log1p_base2(x: Node) -> Node:
    return ops.mul(ops.log1p(x), like(1 / math.log(2), x))


def _checked_division(name: str) -> Builder:
    """Integer division raises on zero in eager: generated code divides integers only by constants that are not."""

    def build(a: Node, b: Node) -> Node:
        if a.dtype == torch.bool:
            raise Unsupported(f"{name} on booleans")
        if not a.dtype.is_floating_point and not _is_not_zero(b):
            raise Unsupported("integer division by a tensor (or zero) may raise")
        return ops.compute(name, a, b)

    return build


def _is_not_zero(divisor: Node) -> bool:
    if isinstance(divisor, IndexValue):  # a number that depends on sizes
        low, high = divisor.expression.lower, divisor.expression.upper
        return (low is not None and low > 0) or (high is not None and high < 0)
    return isinstance(divisor, Constant) and divisor.value != 0


_OF_BITS = frozenset({"bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"})
_FLOAT_UNARY = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "erf", "erfc", "erfinv", "lgamma", "digamma", "sqrt", "rsqrt",
    "reciprocal",
)  # fmt: skip
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")

_UNARY: tuple[tuple[Any, Builder, Promotion], ...] = (
    *((getattr(aten, name), (lambda n: lambda x: ops.compute(n, x))(name), INT_TO_FLOAT) for name in _FLOAT_UNARY),
    *((getattr(aten, name), _floating_identity(name), DEFAULT) for name in ("floor", "ceil", "trunc", "round")),
    (aten.abs, _abs, DEFAULT),
    (aten.neg, _arithmetic(None, "neg"), DEFAULT),
    (aten.sign, _sign, DEFAULT),
    (aten.sgn, _sign, DEFAULT),
    (aten.square, _square, DEFAULT),
    (aten.frac, _floating("frac", lambda x: ops.frac(x)), DEFAULT),
    (aten.relu, _relu, DEFAULT),
    (aten.relu6, lambda x: _between(x, 0, 6), DEFAULT),
    (aten.silu, _floating("silu", _silu), DEFAULT),
    (aten.mish, _floating("mish", lambda x: ops.mul(x, ops.tanh(_softplus_of(x)))), DEFAULT),
    (aten.hardswish, _floating("hardswish", _hardswish), DEFAULT),
    (aten.hardsigmoid, _floating("hardsigmoid", _hardsigmoid), DEFAULT),
    (aten.deg2rad, lambda x: ops.mul(x, like(math.pi / 180, x)), INT_TO_FLOAT),
    (aten.rad2deg, lambda x: ops.mul(x, like(180 / math.pi, x)), INT_TO_FLOAT),
    (aten.isnan, _false_for_integers(lambda x: ops.isnan(x)), ALWAYS_BOOL),
    (aten.isinf, _false_for_integers(lambda x: ops.isinf(x)), ALWAYS_BOOL),
    (aten.isposinf, _false_for_integers(lambda x: ops.eq(x, like(math.inf, x))), ALWAYS_BOOL),
    (aten.isneginf, _false_for_integers(lambda x: ops.eq(x, like(-math.inf, x))), ALWAYS_BOOL),
    (
        aten.isfinite,
        lambda x: (
            ops.lt(ops.abs(x), like(math.inf, x)) if x.dtype.is_floating_point else ops.constant(True, torch.bool)
        ),
        ALWAYS_BOOL,
    ),
    (
        aten.signbit,
        lambda x: ops.constant(False, torch.bool) if x.dtype in (torch.bool, torch.uint8) else ops.signbit(x),
        ALWAYS_BOOL,
    ),
    (aten.logical_not, _boolean("logical_not"), ALWAYS_BOOL),
    (aten.bitwise_not, _arithmetic("logical_not", "bitwise_not"), DEFAULT),
)

_BINARY: tuple[tuple[Any, Builder, Promotion], ...] = (
    (aten.mul, _arithmetic("logical_and", "mul"), DEFAULT),
    (aten.maximum, _arithmetic("logical_or", "maximum"), DEFAULT),
    (aten.minimum, _arithmetic("logical_and", "minimum"), DEFAULT),
    (aten.fmax, _fmax("maximum"), DEFAULT),
    (aten.fmin, _fmax("minimum"), DEFAULT),
    (aten.div, lambda a, b: ops.truediv(a, b), INT_TO_FLOAT),
    (aten.true_divide, lambda a, b: ops.truediv(a, b), INT_TO_FLOAT),
    (aten.floor_divide, _checked_division("floordiv"), DEFAULT),
    (aten.remainder, _checked_division("remainder"), DEFAULT),
    (aten.fmod, _checked_division("fmod"), DEFAULT),
    (aten.atan2, lambda a, b: ops.atan2(a, b), INT_TO_FLOAT),
    (aten.hypot, _floating("hypot", lambda a, b: ops.hypot(a, b)), DEFAULT),
    (aten.copysign, lambda a, b: ops.copysign(a, b), INT_TO_FLOAT),
    (aten.heaviside, _heaviside, DEFAULT),
    (aten.xlogy, _xlogy, INT_TO_FLOAT),
    (aten.special_xlog1py, _xlog1py, INT_TO_FLOAT),
    (aten.logaddexp, _logaddexp("exp", lambda x: ops.log1p(x)), DEFAULT),
    (aten.logaddexp2, _logaddexp("exp2", _log1p_base2), DEFAULT),
    *((getattr(aten, name), (lambda n: lambda a, b: ops.compute(n, a, b))(name), ALWAYS_BOOL) for name in _COMPARISONS),
    (aten.logical_and, _boolean("logical_and"), ALWAYS_BOOL),
    (aten.logical_or, _boolean("logical_or"), ALWAYS_BOOL),
    (aten.logical_xor, _boolean("logical_xor"), ALWAYS_BOOL),
    (aten.bitwise_and, _arithmetic("logical_and", "bitwise_and"), DEFAULT),
    (aten.bitwise_or, _arithmetic("logical_or", "bitwise_or"), DEFAULT),
    (aten.bitwise_xor, _arithmetic("logical_xor", "bitwise_xor"), DEFAULT),
    (aten.bitwise_left_shift, _arithmetic(None, "shift_left"), DEFAULT),
    (aten.bitwise_right_shift, _arithmetic(None, "shift_right"), DEFAULT),
)
_TENSOR_OVERLOADS = (
    "default",
    "Tensor",
    "Scalar",
    "Scalar_Tensor",
    "Tensor_Scalar",
    "self",
    "Scalar_Self",
    "Scalar_Other",
)
_FLOAT_ONLY = frozenset({aten.frac, aten.silu, aten.mish, aten.hardswish, aten.hardsigmoid, aten.hypot})


def overloads_of(packet: Any, names: Sequence[str]) -> list[Any]:
    """The overloads of an operator that exist among `names`."""
    present = packet.overloads()
    return [getattr(packet, name) for name in names if name in present]


def _enter(packet: Any, build: Builder, promotion: Promotion, arity: int) -> None:
    def lowering(context: LoweringContext, *operands: Any) -> TensorValue:
        if len(operands) != arity:
            raise Unsupported("further arguments")
        if packet in _FLOAT_ONLY and not result_dtype(operands).is_floating_point:
            raise Unsupported("integers")
        return elementwise(context, operands, build, promotion)

    for overload in overloads_of(packet, _TENSOR_OVERLOADS):
        TABLE[overload] = lowering


for _packet, _build, _promotion in _UNARY:
    _enter(_packet, _build, _promotion, 1)
for _packet, _build, _promotion in _BINARY:
    _enter(_packet, _build, _promotion, 2)


# ------------------------------------------------------------------------------------------------ with more parameters


def _scaled(node: Node, alpha: Any) -> Node:
    if not isinstance(alpha, FloatExpr) and alpha == 1 and not isinstance(alpha, bool):
        return node
    return ops.mul(node, like(alpha, node))


@lowers(TABLE, aten.add.Tensor, aten.add.Scalar)
def add(context: LoweringContext, a: Any, b: Any, alpha: Any = 1) -> TensorValue:
    """`a + alpha * b`."""

    def build(x: Node, y: Node) -> Node:
        if x.dtype == torch.bool:
            if alpha != 1:
                raise Unsupported("scaled addition of booleans")
            return ops.logical_or(x, y)
        return ops.add(x, _scaled(y, alpha))

    return elementwise(context, (a, b), build)


def _subtract(context: LoweringContext, a: Any, b: Any, alpha: Any) -> TensorValue:
    def build(x: Node, y: Node) -> Node:
        if x.dtype == torch.bool:
            raise Unsupported("subtraction of booleans")
        return ops.sub(x, _scaled(y, alpha))

    if any(isinstance(o, bool) or (isinstance(o, TensorValue) and o.dtype == torch.bool) for o in (a, b)):
        raise Unsupported("subtraction of booleans")
    return elementwise(context, (a, b), build)


@lowers(TABLE, aten.sub.Tensor, aten.sub.Scalar)
def sub(context: LoweringContext, a: Any, b: Any, alpha: Any = 1) -> TensorValue:
    """`a - alpha * b`."""
    return _subtract(context, a, b, alpha)


@lowers(TABLE, aten.rsub.Tensor, aten.rsub.Scalar)
def rsub(context: LoweringContext, a: Any, b: Any, alpha: Any = 1) -> TensorValue:
    """`b - alpha * a`."""
    return _subtract(context, b, a, alpha)


@lowers(TABLE, aten.div.Tensor_mode, aten.div.Scalar_mode)
def div_mode(context: LoweringContext, a: Any, b: Any, *, rounding_mode: str | None = None) -> TensorValue:
    """Division, rounded as asked."""
    if rounding_mode is None:
        return elementwise(context, (a, b), lambda x, y: ops.truediv(x, y), INT_TO_FLOAT)
    if rounding_mode == "floor":
        return elementwise(context, (a, b), _checked_division("floordiv"))
    dtype = result_dtype((a, b))
    if dtype in HALF:  # eager rounds the quotient to the half type before it truncates

        def build(x: Node, y: Node) -> Node:
            quotient = ops.to_dtype(ops.truediv(x, y), dtype)
            return ops.trunc(ops.to_dtype(quotient, x.dtype))

        return elementwise(context, (a, b), build)
    return elementwise(context, (a, b), _checked_division("truncdiv"))


@lowers(TABLE, aten.pow.Tensor_Scalar)
def pow_scalar(context: LoweringContext, base: Any, exponent: Any) -> TensorValue:
    """A power by a number; small integer exponents become products, as in eager's own fast paths."""

    def build(x: Node, y: Node) -> Node:
        if x.dtype == torch.bool:
            raise Unsupported("powers of booleans")
        if isinstance(exponent, FloatExpr):
            raise Unsupported("some powers are products or roots")
        if isinstance(exponent, IntExpr):
            if not x.dtype.is_floating_point:
                raise Unsupported("a power of integers that depends on sizes")
            return ops.compute("pow", x, y)
        whole = float(exponent).is_integer()
        if not x.dtype.is_floating_point and (not whole or exponent < 0):
            raise Unsupported("a negative power of integers")
        if whole and 0 <= exponent <= 8:
            return _power(x, int(exponent))
        if whole and exponent in (-1, -2):
            return ops.reciprocal(_power(x, -int(exponent)))
        if exponent == 0.5:
            return ops.sqrt(x)
        if exponent == -0.5:
            return ops.rsqrt(x)
        return ops.compute("pow", x, y)

    return elementwise(context, (base, exponent), build)


def _power(x: Node, exponent: int) -> Node:
    if exponent == 0:
        return like(1, x)
    result: Node | None = None
    while exponent:
        if exponent & 1:
            result = x if result is None else ops.mul(result, x)
        exponent >>= 1
        if exponent:
            x = ops.mul(x, x)
    assert result is not None
    return result


@lowers(TABLE, aten.pow.Tensor_Tensor, aten.pow.Scalar)
def pow_tensor(context: LoweringContext, base: Any, exponent: Any) -> TensorValue:
    """A power by a tensor."""
    if not result_dtype((base, exponent)).is_floating_point:
        raise Unsupported("powers of integers by a tensor")
    return elementwise(context, (base, exponent), lambda x, y: ops.compute("pow", x, y))


@lowers(TABLE, aten.where.self, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar)
def where(context: LoweringContext, condition: TensorValue, a: Any, b: Any) -> TensorValue:
    """A choice by a condition."""
    if condition.dtype not in (torch.bool, torch.uint8):
        raise Unsupported("a condition that is not boolean")
    check_operands((condition, a, b))
    dtype = result_dtype((a, b))
    return _select(context, condition, a, b, dtype)


def _select(context: LoweringContext, condition: TensorValue, a: Any, b: Any, dtype: torch.dtype) -> TensorValue:
    def build(c: Node, x: Node, y: Node) -> Node:
        return ops.where(ops.to_dtype(c, torch.bool), ops.to_dtype(x, dtype), ops.to_dtype(y, dtype))

    return mixed(context, (condition, a, b), dtype, build)


def mixed(context: LoweringContext, operands: Sequence[Any], dtype: torch.dtype, build: Builder) -> TensorValue:
    """Pointwise without promotion: tensors arrive in their own dtypes, numbers in `dtype`."""
    check_operands(operands)
    tensors = [o for o in operands if isinstance(o, TensorValue)]

    def function(*elements: Node) -> Node:
        remaining = iter(elements)
        return build(*(next(remaining) if isinstance(o, TensorValue) else _constant(o, dtype) for o in operands))

    return context.pointwise(tensors, broadcast_of(tensors), function)


def _constant(value: Any, dtype: torch.dtype) -> Node:
    return number(value, dtype) if isinstance(value, IntExpr | FloatExpr) else ops.constant(value, dtype)


@lowers(TABLE, aten.masked_fill.Scalar, aten.masked_fill.Tensor)
def masked_fill(context: LoweringContext, value: TensorValue, mask: TensorValue, fill: Any) -> TensorValue:
    """`value` where the mask does not hold, else `fill`."""
    if mask.dtype != torch.bool:
        raise Unsupported("a mask that is not boolean")
    if isinstance(fill, float | FloatExpr) and not value.dtype.is_floating_point:
        raise Unsupported("a floating fill of integers")
    return _select(context, mask, fitting(fill, value.dtype), value, value.dtype)


@lowers(TABLE, aten.clamp.default, aten.clamp.Tensor, aten.clip.default, aten.clip.Tensor)
def clamp(context: LoweringContext, value: TensorValue, min: Any = None, max: Any = None) -> TensorValue:
    """Between bounds; nan stays nan, and the upper bound wins where they cross."""
    bounds = [b for b in (min, max) if b is not None]
    if not bounds or value.dtype == torch.bool:
        raise Unsupported("no bounds, or booleans")

    def build(x: Node, *limits: Node) -> Node:
        remaining = iter(limits)
        if min is not None:
            x = at_least(x, next(remaining))
        return at_most(x, next(remaining)) if max is not None else x

    return elementwise(context, (value, *bounds), build)


@lowers(TABLE, aten.clamp_min.default, aten.clamp_min.Tensor)
def clamp_min(context: LoweringContext, value: TensorValue, bound: Any) -> TensorValue:
    """At least `bound`."""
    return clamp(context, value, bound, None)


@lowers(TABLE, aten.clamp_max.default, aten.clamp_max.Tensor)
def clamp_max(context: LoweringContext, value: TensorValue, bound: Any) -> TensorValue:
    """At most `bound`."""
    return clamp(context, value, None, bound)


@lowers(TABLE, aten.lerp.Scalar, aten.lerp.Tensor)
def lerp(context: LoweringContext, start: TensorValue, end: TensorValue, weight: Any) -> TensorValue:
    """Linear interpolation, by the formula that is exact at the nearer end."""

    def build(a: Node, b: Node, w: Node) -> Node:
        difference = ops.sub(b, a)
        near = ops.add(a, ops.mul(w, difference))
        far = ops.sub(b, ops.mul(difference, ops.sub(like(1, w), w)))
        return ops.where(ops.lt(ops.abs(w), like(0.5, w)), near, far)

    if not start.dtype.is_floating_point:
        raise Unsupported("integers")
    return elementwise(context, (start, end, weight), build)


@lowers(TABLE, aten.addcmul.default, aten.addcdiv.default)
def addcmul(context: LoweringContext, base: Any, a: Any, b: Any, *, value: Any = 1) -> TensorValue:
    """`base + value * a * b`, or with a division."""
    divide = context.target is aten.addcdiv.default
    if not result_dtype((base, a, b)).is_floating_point and (divide or isinstance(value, float | FloatExpr)):
        raise Unsupported("integers")

    def build(x: Node, y: Node, z: Node) -> Node:
        if x.dtype == torch.bool:
            raise Unsupported("booleans")
        scaled = _scaled(y, value)
        return ops.add(x, ops.truediv(scaled, z) if divide else ops.mul(scaled, z))

    return elementwise(context, (base, a, b), build)


def broadcast_of(tensors: Sequence[TensorValue]) -> Any:
    """The common sizes of some values."""
    return broadcast_sizes([t.sizes for t in tensors])


@lowers(TABLE, aten.nan_to_num.default)
def nan_to_num(
    context: LoweringContext, value: TensorValue, nan: Any = None, posinf: Any = None, neginf: Any = None
) -> TensorValue:
    """Replace nan and the infinities."""
    if not value.dtype.is_floating_point:
        return convert(context, value, value.dtype)
    limits = torch.finfo(value.dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf

    def build(x: Node) -> Node:
        finite = ops.where(ops.eq(x, like(-math.inf, x)), like(low, x), x)
        finite = ops.where(ops.eq(x, like(math.inf, x)), like(high, x), finite)
        return ops.where(ops.isnan(x), like(0.0 if nan is None else nan, x), finite)

    return elementwise(context, (value,), build)


@lowers(TABLE, aten.fill.Scalar, aten.fill.Tensor)
def fill(context: LoweringContext, value: TensorValue, fill: Any) -> TensorValue:
    """The same number everywhere."""
    if isinstance(fill, float | FloatExpr) and not value.dtype.is_floating_point:
        raise Unsupported("a floating fill of integers")
    fill = fitting(fill, value.dtype, dimensions=len(value.sizes))
    return mixed(context, (value, fill), value.dtype, lambda x, y: ops.to_dtype(y, x.dtype))


# --------------------------------------------------------------------------------------------------------- conversions


@lowers(TABLE, aten._to_copy.default)
def to_copy(context: LoweringContext, value: TensorValue, **options: Any) -> TensorValue:
    """A copy in another dtype or memory format; between devices it is the library's."""
    device = options.get("device")
    if (device is not None and torch.device(device) != value.device and torch.device(device).type != "cpu") or (
        device is not None and torch.device(device).type != value.device.type
    ):
        raise Unsupported("a copy between devices")
    if options.get("layout") not in (None, torch.strided) or options.get("pin_memory"):
        raise Unsupported("a layout other than strided, or pinned memory")
    return convert(context, value, options.get("dtype") or value.dtype)


@lowers(TABLE, aten.clone.default, aten.lift_fresh_copy.default)
def clone(context: LoweringContext, value: TensorValue, *, memory_format: Any = None) -> TensorValue:
    """A copy. Read by generated code it costs nothing: only what needs the memory makes one."""
    return convert(context, value, value.dtype)


@lowers(TABLE, torch.ops.prims.convert_element_type.default)
def convert_element_type(context: LoweringContext, value: TensorValue, dtype: torch.dtype) -> TensorValue:
    """A copy in another dtype."""
    return convert(context, value, dtype)


@lowers(TABLE, aten.to.dtype, aten.to.other, aten.type_as.default)
def to_dtype(context: LoweringContext, value: TensorValue, target: Any, *further: Any, **options: Any) -> Value:
    """Another dtype; the tensor itself when it has it already."""
    dtype = target.dtype if isinstance(target, TensorValue) else target
    if any(further) or any(v for v in options.values()):
        raise Unsupported("a copy or memory format asked for")
    if isinstance(target, TensorValue) and target.device != value.device:
        raise Unsupported("a copy between devices")
    return value if dtype == value.dtype else convert(context, value, dtype)


@lowers(TABLE, aten.copy.default)
def copy(context: LoweringContext, value: TensorValue, source: TensorValue, non_blocking: bool = False) -> TensorValue:
    """The source's elements in the dtype and sizes of `value`."""
    if source.device != value.device or not is_supported(value.dtype):
        raise Unsupported("a copy between devices, or an unsupported dtype")
    if source.rank > value.rank:
        raise Unsupported("a source of higher rank")
    return context.pointwise([source], value.sizes, lambda x: ops.to_dtype(x, value.dtype), device=value.device)
