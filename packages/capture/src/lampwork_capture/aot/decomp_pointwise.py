"""Decompositions of pointwise operators: activations, fused arithmetic, fills and masks.

Each becomes the few scalar operators that a fusing lowering knows. Invariant: 16-bit inputs are computed in float32 and
rounded once, as eager's kernels do, so a fused chain is at least as exact as eager.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import SymFloat, Tensor

from .decomp_registry import Registry, aten, cast_to, widen

registry = Registry()
Number = int | float | bool | complex


@registry.of(aten.gelu.default)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    v = widen(x)
    half = aten.mul.Tensor(v, 0.5)
    if approximate == "tanh":
        cubed = aten.mul.Tensor(aten.mul.Tensor(v, v), v)
        inner = aten.mul.Tensor(aten.add.Tensor(v, aten.mul.Tensor(cubed, 0.044715)), math.sqrt(2.0 / math.pi))
        gate = aten.tanh.default(inner)
    else:
        gate = aten.erf.default(aten.mul.Tensor(v, math.sqrt(0.5)))
    return cast_to(aten.mul.Tensor(half, aten.add.Tensor(gate, 1)), x.dtype)


@registry.of(aten.silu.default)
def silu(x: Tensor) -> Tensor:
    v = widen(x)
    return cast_to(aten.mul.Tensor(v, aten.sigmoid.default(v)), x.dtype)


@registry.of(aten.mish.default)
def mish(x: Tensor) -> Tensor:
    v = widen(x)
    return cast_to(aten.mul.Tensor(v, aten.tanh.default(softplus(v))), x.dtype)


@registry.of(aten.softplus.default)
def softplus(x: Tensor, beta: Number = 1, threshold: Number = 20) -> Tensor:
    v = widen(x)
    scaled = v if beta == 1 else aten.mul.Tensor(v, beta)
    soft = aten.log1p.default(aten.exp.default(scaled))
    if beta != 1:
        soft = aten.div.Tensor(soft, beta)
    return cast_to(aten.where.self(aten.gt.Scalar(scaled, threshold), v, soft), x.dtype)


@registry.of(aten.hardsigmoid.default)
def hardsigmoid(x: Tensor) -> Tensor:
    v = widen(x)
    return cast_to(aten.div.Tensor(aten.clamp.default(aten.add.Tensor(v, 3), 0, 6), 6), x.dtype)


@registry.of(aten.hardswish.default)
def hardswish(x: Tensor) -> Tensor:
    v = widen(x)
    gate = aten.clamp.default(aten.add.Tensor(v, 3), 0, 6)
    return cast_to(aten.div.Tensor(aten.mul.Tensor(v, gate), 6), x.dtype)


@registry.of(aten.hardtanh.default)
def hardtanh(x: Tensor, low: Number = -1, high: Number = 1) -> Tensor:
    if not x.is_floating_point():
        return NotImplemented
    return aten.clamp.default(x, low, high)


@registry.of(aten.leaky_relu.default)
def leaky_relu(x: Tensor, slope: Number = 0.01) -> Tensor:
    v = widen(x)
    return cast_to(aten.where.self(aten.gt.Scalar(v, 0), v, aten.mul.Tensor(v, slope)), x.dtype)


@registry.of(aten._prelu_kernel.default)
def prelu(x: Tensor, weight: Tensor) -> Tensor:
    return aten.where.self(aten.gt.Scalar(x, 0), x, aten.mul.Tensor(weight, x))


@registry.of(aten.elu.default)
def elu(x: Tensor, alpha: Number = 1, scale: Number = 1, input_scale: Number = 1) -> Tensor:
    v = widen(x)
    scaled = v if input_scale == 1 else aten.mul.Tensor(v, input_scale)
    low = aten.mul.Tensor(aten.expm1.default(scaled), alpha * scale)
    high = v if scale == 1 else aten.mul.Tensor(v, scale)
    return cast_to(aten.where.self(aten.gt.Scalar(v, 0), high, low), x.dtype)


@registry.of(aten.celu.default)
def celu(x: Tensor, alpha: float = 1.0) -> Tensor:
    return elu(x, alpha, 1, 1.0 / alpha)


@registry.of(aten.selu.default)
def selu(x: Tensor) -> Tensor:
    return elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)


@registry.of(aten.hardshrink.default)
def hardshrink(x: Tensor, lambd: Number = 0.5) -> Tensor:
    return aten.where.self(aten.le.Scalar(aten.abs.default(x), lambd), _scalar(x, 0), x)


@registry.of(aten.softshrink.default)
def softshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
    v = widen(x)
    high = aten.sub.Tensor(v, lambd)
    low = aten.add.Tensor(v, lambd)
    inside = aten.where.self(aten.lt.Scalar(v, -lambd), low, aten.mul.Tensor(v, 0))  # keeps NaN
    return cast_to(aten.where.self(aten.gt.Scalar(v, lambd), high, inside), x.dtype)


@registry.of(aten.threshold.default)
def threshold(x: Tensor, limit: Number, value: Number) -> Tensor:
    return aten.where.self(aten.le.Scalar(x, limit), _scalar(x, value), x)


@registry.of(aten.log_sigmoid_forward.default)
def log_sigmoid_forward(x: Tensor) -> tuple[Tensor, Tensor]:
    v = widen(x)
    small = aten.exp.default(aten.neg.default(aten.abs.default(v)))
    out = aten.sub.Tensor(aten.clamp.default(v, None, 0), aten.log1p.default(small))
    if x.device.type == "cpu":
        buffer = cast_to(small, x.dtype)
    else:
        buffer = aten.full.default([0], 0, dtype=x.dtype, device=x.device)
    return cast_to(out, x.dtype), buffer


@registry.of(aten.glu.default)
def glu(x: Tensor, dim: int = -1) -> Tensor:
    size = x.shape[dim]
    if size % 2:
        return NotImplemented
    left = widen(aten.slice.Tensor(x, dim, 0, size // 2))
    right = widen(aten.slice.Tensor(x, dim, size // 2, size))
    return cast_to(aten.mul.Tensor(left, aten.sigmoid.default(right)), x.dtype)


@registry.of(aten.addcmul.default)
def addcmul(x: Tensor, a: Tensor, b: Tensor, *, value: Number = 1) -> Tensor:
    if isinstance(value, (float, SymFloat)) and not (x.is_floating_point() or x.is_complex()):
        return NotImplemented  # eager takes the integer that it is, or raises
    return _fused(x, aten.mul.Tensor, a, b, value)


@registry.of(aten.addcdiv.default)
def addcdiv(x: Tensor, a: Tensor, b: Tensor, *, value: Number = 1) -> Tensor:
    return _fused(x, aten.div.Tensor, a, b, value)


def _fused(x: Tensor, combine: Any, a: Tensor, b: Tensor, value: Number) -> Tensor:
    if not x.dtype == a.dtype == b.dtype:
        return NotImplemented  # eager's own promotion
    term = combine(widen(a), widen(b))
    if value != 1:
        term = aten.mul.Tensor(term, value)
    return cast_to(aten.add.Tensor(widen(x), term), x.dtype)


@registry.of(aten.lerp.Scalar)
def lerp_scalar(start: Tensor, end: Tensor, weight: Number) -> Tensor:
    if isinstance(weight, complex) or not start.is_floating_point():
        return NotImplemented
    a, b = widen(start), widen(end)
    difference = aten.sub.Tensor(b, a)
    if abs(weight) < 0.5:
        out = aten.add.Tensor(a, aten.mul.Tensor(difference, weight))
    else:
        out = aten.sub.Tensor(b, aten.mul.Tensor(difference, 1 - weight))
    return cast_to(out, start.dtype)


@registry.of(aten.lerp.Tensor)
def lerp_tensor(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    if start.is_complex() or weight.is_complex():
        return NotImplemented
    a, b, w = widen(start), widen(end), widen(weight)
    difference = aten.sub.Tensor(b, a)
    near = aten.add.Tensor(a, aten.mul.Tensor(difference, w))
    far = aten.sub.Tensor(b, aten.mul.Tensor(difference, aten.rsub.Scalar(w, 1)))
    return cast_to(aten.where.self(aten.lt.Scalar(aten.abs.default(w), 0.5), near, far), start.dtype)


@registry.of(aten.rsub.Scalar)
def rsub_scalar(x: Tensor, other: Number, alpha: Number = 1) -> Tensor:
    if isinstance(other, bool) or x.dtype == torch.bool:
        return NotImplemented  # eager's error
    scaled = x if alpha == 1 else aten.mul.Tensor(x, alpha)
    dtype = torch.result_type(x, other)
    return aten.sub.Tensor(aten.full.default([], other, dtype=dtype, device=x.device), cast_to(scaled, dtype))


@registry.of(aten.rsub.Tensor)
def rsub_tensor(x: Tensor, other: Tensor, *, alpha: Number = 1) -> Tensor:
    return aten.sub.Tensor(other, x, alpha=alpha)


@registry.of(aten.masked_fill.Scalar)
def masked_fill_scalar(x: Tensor, mask: Tensor, value: Number) -> Tensor:
    sizes = [1] * min(x.dim(), 1)  # eager raises for a number that does not fit, but where a half has no dimensions
    number = aten.full.default(sizes, value, dtype=x.dtype, device=x.device)
    return aten.where.self(mask, number, x)


@registry.of(aten.masked_fill.Tensor)
def masked_fill_tensor(x: Tensor, mask: Tensor, value: Tensor) -> Tensor:
    if value.device != x.device:
        return NotImplemented
    return aten.where.self(mask, cast_to(value, x.dtype), x)


@registry.of(aten.nan_to_num.default)
def nan_to_num(x: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    if x.is_complex():
        return NotImplemented
    if not x.is_floating_point():
        return aten.clone.default(x)
    limits = torch.finfo(x.dtype)
    out = aten.where.self(aten.isnan.default(x), _scalar(x, 0.0 if nan is None else nan), x)
    high, low = limits.max if posinf is None else posinf, limits.min if neginf is None else neginf
    out = aten.where.self(aten.eq.Scalar(out, math.inf), _scalar(x, high), out)
    return aten.where.self(aten.eq.Scalar(x, -math.inf), _scalar(x, low), out)


@registry.of(aten.frac.default)
def frac(x: Tensor) -> Tensor:
    return aten.sub.Tensor(x, aten.trunc.default(x))


@registry.of(aten.deg2rad.default)
def deg2rad(x: Tensor) -> Tensor:
    return aten.mul.Tensor(x, math.pi / 180.0)


@registry.of(aten.rad2deg.default)
def rad2deg(x: Tensor) -> Tensor:
    return aten.mul.Tensor(x, 180.0 / math.pi)


@registry.of(aten.floor_divide.default)
def floor_divide(x: Tensor, other: Tensor) -> Tensor:
    return aten.div.Tensor_mode(x, other, rounding_mode="floor")


@registry.of(aten.clamp_min.default)
def clamp_min(x: Tensor, low: Number) -> Tensor:
    return aten.clamp.default(x, low, None)


@registry.of(aten.clamp_max.default)
def clamp_max(x: Tensor, high: Number) -> Tensor:
    return aten.clamp.default(x, None, high)


@registry.of(aten.native_dropout.default)
def native_dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    if train is not False:
        return NotImplemented  # random: stays one operator, so that it draws as eager does
    return aten.clone.default(x), aten.full.default(list(x.shape), True, dtype=torch.bool, device=x.device)


def _scalar(like: Tensor, value: Number) -> Tensor:
    return aten.full.default([], value, dtype=like.dtype, device=like.device)


@registry.of(aten.pow.Tensor_Scalar)
def pow_by_number(x: Tensor, exponent: Number | SymFloat) -> Tensor:
    """By a varying number that is neither whole nor a half, which eager computes by products and roots."""
    if not isinstance(exponent, SymFloat) or not x.is_floating_point() or not x.dim():
        return NotImplemented
    if exponent.is_integer() or exponent == 0.5 or exponent == -0.5:
        return NotImplemented
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    return aten.pow.Tensor_Tensor(x, aten.scalar_tensor.default(exponent, dtype=dtype, device=x.device))
