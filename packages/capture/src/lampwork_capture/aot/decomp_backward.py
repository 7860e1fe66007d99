"""Decompositions of the gradients of activations, losses and views.

Pointwise work on the gradient and on what the forward saved, which fuses into the loops around it. Invariant: as in
`decomp_pointwise`, 16-bit inputs are computed in float32 and rounded once; at the kinks of a function the gradient is
the one that eager's kernel chooses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import SymInt, Tensor

from .decomp_pointwise import Number, softplus
from .decomp_registry import Registry, aten, cast_to, widen
from .known_sizes import may_be_empty

registry = Registry()
_MEAN = 1  # aten's number for a loss's reduction; 2 is the sum, 0 none


def _zero(like: Tensor) -> Tensor:
    return aten.full.default([], 0.0, dtype=like.dtype, device=like.device)


def _number(like: Tensor, value: float) -> Tensor:
    return aten.full.default([], value, dtype=like.dtype, device=like.device)


def _inside(x: Tensor, low: Number, high: Number) -> Tensor:
    """Whether strictly between two numbers."""
    return aten.logical_and.default(aten.gt.Scalar(x, low), aten.lt.Scalar(x, high))


# -- activations


@registry.of(aten.hardsigmoid_backward.default)
def hardsigmoid_backward(grad: Tensor, x: Tensor) -> Tensor:
    g, v = widen(grad), widen(x)
    return cast_to(aten.where.self(_inside(v, -3, 3), aten.div.Tensor(g, 6.0), _zero(g)), grad.dtype)


@registry.of(aten.hardswish_backward.default)
def hardswish_backward(grad: Tensor, x: Tensor) -> Tensor:
    g, v = widen(grad), widen(x)
    middle = aten.mul.Tensor(g, aten.add.Tensor(aten.div.Tensor(v, 3.0), 0.5))
    upper = aten.where.self(aten.ge.Scalar(v, 3), g, middle)
    return cast_to(aten.where.self(aten.le.Scalar(v, -3), _zero(g), upper), grad.dtype)


@registry.of(aten.hardtanh_backward.default)
def hardtanh_backward(grad: Tensor, x: Tensor, low: Number, high: Number) -> Tensor:
    return aten.where.self(_inside(x, low, high), grad, _zero(grad))


@registry.of(aten.leaky_relu_backward.default)
def leaky_relu_backward(grad: Tensor, x: Tensor, slope: Number, self_is_result: bool) -> Tensor:
    g = widen(grad)
    return cast_to(aten.where.self(aten.gt.Scalar(x, 0), g, aten.mul.Tensor(g, slope)), grad.dtype)


@registry.of(aten.elu_backward.default)
def elu_backward(
    grad: Tensor, alpha: Number, scale: Number, input_scale: Number, is_result: bool, self_or_result: Tensor
) -> Tensor:
    g, v = widen(grad), widen(self_or_result)
    if is_result:
        slope = aten.mul.Tensor(aten.add.Tensor(v, alpha * scale), input_scale)
    else:
        slope = aten.mul.Tensor(aten.exp.default(aten.mul.Tensor(v, input_scale)), input_scale * alpha * scale)
    low, high = aten.mul.Tensor(g, slope), aten.mul.Tensor(g, scale)
    return cast_to(aten.where.self(aten.le.Scalar(v, 0), low, high), grad.dtype)


@registry.of(aten.softplus_backward.default)
def softplus_backward(grad: Tensor, x: Tensor, beta: Number, threshold: Number) -> Tensor:
    g, v = widen(grad), widen(x)
    scaled = aten.mul.Tensor(v, beta)
    curved = aten.mul.Tensor(g, aten.sigmoid.default(scaled))
    return cast_to(aten.where.self(aten.gt.Scalar(scaled, threshold), g, curved), grad.dtype)


@registry.of(aten.mish_backward.default)
def mish_backward(grad: Tensor, x: Tensor) -> Tensor:
    g, v = widen(grad), widen(x)
    gate = aten.tanh.default(softplus(v))
    bend = aten.mul.Tensor(
        aten.mul.Tensor(v, aten.sigmoid.default(v)), aten.rsub.Scalar(aten.mul.Tensor(gate, gate), 1)
    )
    return cast_to(aten.mul.Tensor(g, aten.add.Tensor(gate, bend)), grad.dtype)


@registry.of(aten.log_sigmoid_backward.default)
def log_sigmoid_backward(grad: Tensor, x: Tensor, buffer: Tensor) -> Tensor:
    g, v = widen(grad), widen(x)
    return cast_to(aten.mul.Tensor(g, aten.sigmoid.default(aten.neg.default(v))), grad.dtype)


@registry.of(aten.hardshrink_backward.default, aten.softshrink_backward.default)
def shrink_backward(grad: Tensor, x: Tensor, lambd: Number) -> Tensor:
    outside = aten.logical_or.default(aten.lt.Scalar(x, -lambd), aten.gt.Scalar(x, lambd))
    return aten.where.self(outside, grad, _zero(grad))


@registry.of(aten.glu_backward.default)
def glu_backward(grad: Tensor, x: Tensor, dim: int) -> Tensor:
    half = x.shape[dim] // 2
    g = widen(grad)
    left, right = (widen(aten.slice.Tensor(x, dim, start, start + half)) for start in (0, half))
    gate = aten.sigmoid.default(right)
    opened = aten.mul.Tensor(g, gate)
    of_right = aten.mul.Tensor(aten.mul.Tensor(opened, left), aten.rsub.Scalar(gate, 1))
    return cast_to(aten.cat.default([opened, of_right], dim), x.dtype)


@registry.of(aten._prelu_kernel_backward.default)
def prelu_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    positive = aten.gt.Scalar(x, 0)
    of_x = aten.where.self(positive, grad, aten.mul.Tensor(weight, grad))
    return of_x, aten.where.self(positive, _zero(grad), aten.mul.Tensor(x, grad))


@registry.of(aten.logit_backward.default)
def logit_backward(grad: Tensor, x: Tensor, eps: float | None = None) -> Tensor:
    g, v = widen(grad), widen(x)
    low, high, other = (0.0, 1.0, math.nan) if eps is None else (eps, 1.0 - eps, 0.0)
    inside = aten.logical_and.default(aten.ge.Scalar(v, low), aten.le.Scalar(v, high))
    slope = aten.mul.Tensor(v, aten.rsub.Scalar(v, 1))
    return cast_to(aten.where.self(inside, aten.div.Tensor(g, slope), _number(g, other)), grad.dtype)


@registry.of(aten.native_dropout_backward.default)
def native_dropout_backward(grad: Tensor, mask: Tensor, scale: float) -> Tensor:
    g = widen(grad)
    kept = aten.mul.Tensor(aten.mul.Tensor(g, cast_to(mask, g.dtype)), scale)
    return cast_to(kept, grad.dtype)


# -- losses


def _share(x: Tensor, reduction: int) -> float:
    """What each element's loss counts for in the loss."""
    return 1.0 / x.numel() if reduction == _MEAN else 1.0


@registry.of(aten.mse_loss_backward.default)
def mse_loss_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    if x.dtype != target.dtype or may_be_empty(x):
        return NotImplemented
    difference = aten.sub.Tensor(widen(x), widen(target))
    scaled = aten.mul.Tensor(difference, 2.0 * _share(x, reduction))
    return cast_to(aten.mul.Tensor(scaled, widen(grad)), x.dtype)


@registry.of(aten.smooth_l1_loss_backward.default)
def smooth_l1_loss_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, beta: float) -> Tensor:
    if x.dtype != target.dtype or may_be_empty(x) or not beta > 0:
        return NotImplemented
    return _between(grad, x, target, beta, _share(x, reduction), 1.0 / beta)


@registry.of(aten.huber_loss_backward.default)
def huber_loss_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int, delta: float) -> Tensor:
    if x.dtype != target.dtype or may_be_empty(x) or not delta > 0:
        return NotImplemented
    share = _share(x, reduction)
    return _between(grad, x, target, delta, share * delta, 1.0 / delta)


def _between(grad: Tensor, x: Tensor, target: Tensor, bend: float, slope: float, inner: float) -> Tensor:
    """The gradient of a loss that is a parabola up to `bend` and has the slopes `slope` and `-slope` beyond."""
    difference = aten.sub.Tensor(widen(x), widen(target))
    factor = aten.mul.Tensor(aten.clamp.default(difference, -bend, bend), inner)
    return cast_to(aten.mul.Tensor(aten.mul.Tensor(factor, slope), widen(grad)), x.dtype)


@registry.of(aten.binary_cross_entropy_backward.default)
def binary_cross_entropy_backward(
    grad: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = _MEAN
) -> Tensor:
    if x.dtype != target.dtype or may_be_empty(x):
        return NotImplemented
    v = widen(x)
    spread = aten.clamp.default(aten.mul.Tensor(aten.rsub.Scalar(v, 1), v), 1e-12, None)
    slope = aten.div.Tensor(aten.sub.Tensor(v, widen(target)), spread)
    if weight is not None:
        slope = aten.mul.Tensor(slope, widen(weight))
    if reduction == _MEAN:
        slope = aten.mul.Tensor(slope, _share(x, reduction))
    return cast_to(aten.mul.Tensor(widen(grad), slope), x.dtype)


@registry.of(aten.soft_margin_loss_backward.default)
def soft_margin_loss_backward(grad: Tensor, x: Tensor, target: Tensor, reduction: int) -> Tensor:
    if x.dtype != target.dtype or may_be_empty(x):
        return NotImplemented
    t = widen(target)
    wrong = aten.sigmoid.default(aten.neg.default(aten.mul.Tensor(widen(x), t)))
    slope = aten.mul.Tensor(aten.mul.Tensor(t, wrong), -_share(x, reduction))
    return cast_to(aten.mul.Tensor(slope, widen(grad)), x.dtype)


@registry.of(aten.nll_loss_backward.default, aten.nll_loss2d_backward.default)
def nll_loss_backward(
    grad: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
) -> Tensor:
    """Each class's number is compared with the target's, so the zeros around are computed and never stored."""
    if may_be_empty(x):
        return NotImplemented
    dim = 0 if x.dim() == 1 else 1
    g = widen(grad)
    if reduction == _MEAN:
        g = aten.div.Tensor(g, widen(total_weight))
    elif reduction == 0 and x.dim() > 1:
        g = aten.unsqueeze.default(g, dim)
    rows = aten.unsqueeze.default(target, dim)
    shape = [1] * x.dim()
    shape[dim] = x.shape[dim]
    classes = aten.arange.default(x.shape[dim], dtype=torch.int64, device=x.device)
    hit = aten.eq.Tensor(rows, aten.view.default(classes, shape))
    hit = aten.logical_and.default(hit, aten.ne.Scalar(rows, ignore_index))
    slope = aten.neg.default(g)
    if weight is not None:
        slope = aten.mul.Tensor(slope, aten.view.default(widen(weight), shape))
    return cast_to(aten.where.self(hit, slope, _zero(slope)), x.dtype)


# -- views


@registry.of(aten.slice_backward.default)
def slice_backward(grad: Tensor, sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> Tensor:
    dim %= max(len(sizes), 1)
    if isinstance(start, SymInt) or start < 0:
        return NotImplemented
    if step != 1:
        zeros = aten.full.default(list(sizes), 0, dtype=grad.dtype, device=grad.device)
        return aten.slice_scatter.default(zeros, grad, dim, start, end, step)
    return _padded(grad, sizes, dim, start)


@registry.of(aten.select_backward.default)
def select_backward(grad: Tensor, sizes: Sequence[int], dim: int, index: int) -> Tensor:
    dim %= len(sizes)
    if isinstance(index, SymInt):
        return NotImplemented
    return _padded(aten.unsqueeze.default(grad, dim), sizes, dim, index if index >= 0 else index + sizes[dim])


def _padded(grad: Tensor, sizes: Sequence[int], dim: int, start: int) -> Tensor:
    """`grad` with zeros before and behind it along one dimension."""
    behind = sizes[dim] - start - grad.shape[dim]
    return aten.constant_pad_nd.default(grad, [0, 0] * (len(sizes) - 1 - dim) + [start, behind], 0)


@registry.of(aten._efficientzerotensor.default)
def efficient_zero_tensor(size: Sequence[int], **options: Any) -> Tensor:
    """Autograd's zeros without memory: zeros like others."""
    return aten.full.default(size, 0, **options)
