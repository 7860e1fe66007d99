"""Decompositions of operators with reductions in them: normalisations, softmax, statistics and losses.

They become sums, maxima and `var_mean` with pointwise work around, which a lowering fuses into few loops. Invariant:
16-bit inputs are reduced in float32, as eager's kernels do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .decomp_registry import Registry, aten, cast_to, compute_dtype, widen
from .known_sizes import may_be_empty

registry = Registry()
_MEAN, _SUM = 1, 2  # aten's numbers for a loss's reduction; 0 is none


def _all_dims(x: Tensor) -> list[int]:
    return list(range(x.dim()))


def _dims(x: Tensor, dim: Sequence[int] | int | None) -> list[int]:
    if dim is None:
        return _all_dims(x)
    if isinstance(dim, int):
        dim = [dim]
    return [d % max(x.dim(), 1) for d in dim] if len(dim) else _all_dims(x)


def _count(x: Tensor, dims: Sequence[int]) -> Any:
    return math.prod(x.shape[d] for d in dims) if x.dim() else 1


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    if weight is not None:
        x = aten.mul.Tensor(x, widen(weight))
    if bias is not None:
        x = aten.add.Tensor(x, widen(bias))
    return x


# -- normalisations


@registry.of(aten.native_layer_norm.default)
def native_layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    if may_be_empty(x, dims):
        return NotImplemented
    v = widen(x)
    variance, mean = aten.var_mean.correction(v, dims, correction=0, keepdim=True)
    rstd = aten.rsqrt.default(aten.add.Tensor(variance, eps))
    out = _affine(aten.mul.Tensor(aten.sub.Tensor(v, mean), rstd), weight, bias)
    statistics = x.dtype if x.device.type == "cpu" and (weight is None or weight.dtype == x.dtype) else v.dtype
    return cast_to(out, x.dtype), cast_to(mean, statistics), cast_to(rstd, statistics)


@registry.of(aten._fused_rms_norm.default)
def fused_rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None, eps: float | None) -> tuple[Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    if may_be_empty(x, dims):
        return NotImplemented
    v = widen(x)
    if eps is None:
        eps = torch.finfo(v.dtype).eps
    square = mean_dim(aten.mul.Tensor(v, v), dims, True)
    rstd = aten.rsqrt.default(aten.add.Tensor(square, eps))
    return cast_to(_affine(aten.mul.Tensor(v, rstd), weight, None), x.dtype), rstd


@registry.of(aten.native_group_norm.default)
def native_group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, n: int, c: int, hxw: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if may_be_empty(x):
        return NotImplemented
    v = widen(x)
    if not v.is_contiguous():
        v = aten.clone.default(v, memory_format=torch.contiguous_format)
    grouped = aten.view.default(v, [n, groups, c // groups * hxw])
    variance, mean = aten.var_mean.correction(grouped, [2], correction=0, keepdim=True)
    rstd = aten.rsqrt.default(aten.add.Tensor(variance, eps))
    out = aten.view.default(aten.mul.Tensor(aten.sub.Tensor(grouped, mean), rstd), list(x.shape))
    channel = [1, c] + [1] * (x.dim() - 2)
    out = _affine(
        out,
        None if weight is None else aten.view.default(weight, channel),
        None if bias is None else aten.view.default(bias, channel),
    )
    statistics = x.dtype if x.device.type == "cpu" and (weight is None or weight.dtype == x.dtype) else v.dtype
    shaped = [aten.view.default(cast_to(s, statistics), [n, groups]) for s in (mean, rstd)]
    return cast_to(out, x.dtype), shaped[0], shaped[1]


def _normalise(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    channel = [1, x.shape[1]] + [1] * (x.dim() - 2)

    def shaped(t: Tensor | None) -> Tensor | None:
        return None if t is None else aten.view.default(t, channel)

    v = widen(x)
    centred = aten.sub.Tensor(v, aten.view.default(mean, channel))
    return cast_to(
        _affine(aten.mul.Tensor(centred, aten.view.default(rstd, channel)), shaped(weight), shaped(bias)), x.dtype
    )


@registry.of(aten._native_batch_norm_legit_no_training.default)
def batch_norm_inference(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    rstd = aten.rsqrt.default(aten.add.Tensor(widen(var), eps))
    out = _normalise(x, widen(mean), rstd, weight, bias)
    empty = aten.full.default([0], 0, dtype=compute_dtype(x.dtype), device=x.device)
    return out, empty, empty


@registry.of(aten._native_batch_norm_legit.no_stats)
def batch_norm_batch_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, rstd, _ = _batch_statistics(x, weight, bias, eps)
    return out, mean, rstd


@registry.of(aten._native_batch_norm_legit_functional.default)
def batch_norm_training(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    if not training:
        out, empty, _ = batch_norm_inference(x, weight, bias, running_mean, running_var, momentum, eps)
        return out, empty, empty, aten.clone.default(running_mean), aten.clone.default(running_var)
    out, mean, rstd, variance = _batch_statistics(x, weight, bias, eps)
    count = x.numel() // x.shape[1]
    unbiased = aten.mul.Tensor(variance, count / (count - 1) if count > 1 else math.nan)
    new_mean = _moving(running_mean, mean, momentum)
    new_var = _moving(running_var, unbiased, momentum)
    return out, mean, rstd, new_mean, new_var


def _moving(old: Tensor, new: Tensor, momentum: float) -> Tensor:
    kept = aten.mul.Tensor(widen(old), 1 - momentum)
    return cast_to(aten.add.Tensor(kept, aten.mul.Tensor(new, momentum)), old.dtype)


def _batch_statistics(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dims = [d for d in range(x.dim()) if d != 1]
    variance, mean = aten.var_mean.correction(widen(x), dims, correction=0, keepdim=False)
    rstd = aten.rsqrt.default(aten.add.Tensor(variance, eps))
    return _normalise(x, mean, rstd, weight, bias), mean, rstd, variance


# -- softmax


@registry.of(aten._softmax.default)
def softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    if x.dim() == 0 or may_be_empty(x, [dim]) or not x.is_floating_point():  # eager has no kernel for integers
        return NotImplemented
    v = widen(x)
    shifted = aten.exp.default(aten.sub.Tensor(v, aten.amax.default(v, [dim], True)))
    out = aten.div.Tensor(shifted, aten.sum.dim_IntList(shifted, [dim], True))
    return out if half_to_float else cast_to(out, x.dtype)


@registry.of(aten._log_softmax.default)
def log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    if x.dim() == 0 or may_be_empty(x, [dim]) or not x.is_floating_point():  # eager has no kernel for integers
        return NotImplemented
    v = widen(x)
    shifted = aten.sub.Tensor(v, aten.amax.default(v, [dim], True))
    total = aten.sum.dim_IntList(aten.exp.default(shifted), [dim], True)
    out = aten.sub.Tensor(shifted, aten.log.default(total))
    return out if half_to_float else cast_to(out, x.dtype)


@registry.of(aten._safe_softmax.default)
def safe_softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    if x.dim() == 0 or may_be_empty(x, [dim]) or not (x.dtype if dtype is None else dtype).is_floating_point:
        return NotImplemented
    out = softmax(x if dtype is None else cast_to(x, dtype), dim, False)
    masked = aten.all.dim(aten.eq.Scalar(x, -math.inf), dim, True)
    return aten.where.self(masked, aten.full.default([], 0.0, dtype=out.dtype, device=out.device), out)


@registry.of(aten.logsumexp.default)
def logsumexp(x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    if may_be_empty(x) or not x.is_floating_point():
        return NotImplemented
    v, dims = widen(x), _dims(x, dim)
    top = aten.amax.default(v, dims, True)
    zero = aten.full.default([], 0.0, dtype=v.dtype, device=v.device)
    top = aten.where.self(aten.eq.Scalar(aten.abs.default(top), math.inf), zero, top)
    total = aten.sum.dim_IntList(aten.exp.default(aten.sub.Tensor(v, top)), dims, keepdim)
    if not keepdim:
        top = aten.view.default(top, list(total.shape))
    return cast_to(aten.add.Tensor(aten.log.default(total), top), x.dtype)


# -- sums and statistics


@registry.of(aten.sum.default)
def sum_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return aten.sum.dim_IntList(x, _all_dims(x), False, dtype=dtype)


@registry.of(aten.mean.default)
def mean_all(x: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    return mean_dim(x, _all_dims(x), False, dtype=dtype)


@registry.of(aten.mean.dim)
def mean_dim(
    x: Tensor, dim: Sequence[int] | None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:
    out_dtype = x.dtype if dtype is None else dtype
    if not (out_dtype.is_floating_point or out_dtype.is_complex):
        return NotImplemented  # eager's error
    dims = _dims(x, dim)
    total = aten.sum.dim_IntList(cast_to(x, compute_dtype(out_dtype)), dims, keepdim)
    return cast_to(aten.div.Tensor(total, _count(x, dims)), out_dtype)


@registry.of(aten.var.correction)
def var(x: Tensor, dim: Sequence[int] | None = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    if x.is_complex():
        return NotImplemented
    return cast_to(_var_mean(x, dim, correction, keepdim)[0], x.dtype)


@registry.of(aten.std.correction)
def std(x: Tensor, dim: Sequence[int] | None = None, *, correction: Any = None, keepdim: bool = False) -> Tensor:
    if x.is_complex():
        return NotImplemented
    return cast_to(aten.sqrt.default(_var_mean(x, dim, correction, keepdim)[0]), x.dtype)


@registry.of(aten.std_mean.correction)
def std_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: Any = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    if x.is_complex():
        return NotImplemented
    variance, mean = _var_mean(x, dim, correction, keepdim)
    return cast_to(aten.sqrt.default(variance), x.dtype), cast_to(mean, x.dtype)


def _var_mean(x: Tensor, dim: Sequence[int] | None, correction: Any, keepdim: bool) -> tuple[Tensor, Tensor]:
    correction = 1 if correction is None else correction
    return aten.var_mean.correction(widen(x), _dims(x, dim), correction=correction, keepdim=keepdim)


@registry.of(aten.max.default)
def max_all(x: Tensor) -> Tensor:
    return aten.amax.default(x, _all_dims(x)) if not may_be_empty(x) else NotImplemented


@registry.of(aten.min.default)
def min_all(x: Tensor) -> Tensor:
    return aten.amin.default(x, _all_dims(x)) if not may_be_empty(x) else NotImplemented


@registry.of(aten.aminmax.default)
def aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    if may_be_empty(x):
        return NotImplemented
    dims = _dims(x, dim)
    return aten.amin.default(x, dims, keepdim), aten.amax.default(x, dims, keepdim)


@registry.of(aten.linalg_vector_norm.default)
def vector_norm(
    x: Tensor,
    ord: float = 2,
    dim: Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    if x.is_complex() or x.dim() == 0 or may_be_empty(x):
        return NotImplemented
    out_dtype = x.dtype if dtype is None else dtype
    v, dims = cast_to(x, compute_dtype(out_dtype)), _dims(x, dim)
    if ord == 2:
        out = aten.sqrt.default(aten.sum.dim_IntList(aten.mul.Tensor(v, v), dims, keepdim))
    elif ord == 1:
        out = aten.sum.dim_IntList(aten.abs.default(v), dims, keepdim)
    elif ord in (math.inf, -math.inf):
        out = (aten.amax if ord > 0 else aten.amin).default(aten.abs.default(v), dims, keepdim)
    else:
        return NotImplemented
    return cast_to(out, out_dtype)


# -- losses


def _reduce(loss: Tensor, reduction: int) -> Tensor:
    if reduction == _MEAN:
        return mean_all(loss)
    return sum_all(loss) if reduction == _SUM else loss


@registry.of(aten.mse_loss.default)
def mse_loss(x: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    if x.dtype != target.dtype:
        return NotImplemented
    difference = aten.sub.Tensor(widen(x), widen(target))
    return cast_to(_reduce(aten.mul.Tensor(difference, difference), reduction), x.dtype)


@registry.of(aten.smooth_l1_loss.default)
def smooth_l1_loss(x: Tensor, target: Tensor, reduction: int = _MEAN, beta: float = 1.0) -> Tensor:
    if x.dtype != target.dtype or not beta > 0:  # a loss of another kind at 0, and the kernel refuses the rest
        return NotImplemented
    size = aten.abs.default(aten.sub.Tensor(widen(x), widen(target)))
    squared = aten.div.Tensor(aten.mul.Tensor(aten.mul.Tensor(size, size), 0.5), beta)
    loss = aten.where.self(aten.lt.Scalar(size, beta), squared, aten.sub.Tensor(size, 0.5 * beta))
    return cast_to(_reduce(loss, reduction), x.dtype)


@registry.of(aten.huber_loss.default)
def huber_loss(x: Tensor, target: Tensor, reduction: int = _MEAN, delta: float = 1.0) -> Tensor:
    if x.dtype != target.dtype or not delta > 0:  # which the kernel refuses
        return NotImplemented
    size = aten.abs.default(aten.sub.Tensor(widen(x), widen(target)))
    squared = aten.mul.Tensor(aten.mul.Tensor(size, size), 0.5)
    linear = aten.mul.Tensor(aten.sub.Tensor(size, 0.5 * delta), delta)
    return cast_to(_reduce(aten.where.self(aten.le.Scalar(size, delta), squared, linear), reduction), x.dtype)


@registry.of(aten.soft_margin_loss.default)
def soft_margin_loss(x: Tensor, target: Tensor, reduction: int = _MEAN) -> Tensor:
    if x.dtype != target.dtype:
        return NotImplemented
    product = aten.mul.Tensor(aten.neg.default(widen(x)), widen(target))
    return cast_to(_reduce(aten.log1p.default(aten.exp.default(product)), reduction), x.dtype)


@registry.of(aten.binary_cross_entropy.default)
def binary_cross_entropy(x: Tensor, target: Tensor, weight: Tensor | None = None, reduction: int = _MEAN) -> Tensor:
    if x.dtype != target.dtype:
        return NotImplemented
    v, t = widen(x), widen(target)
    log_x = aten.clamp.default(aten.log.default(v), -100, None)
    log_rest = aten.clamp.default(aten.log1p.default(aten.neg.default(v)), -100, None)
    loss = aten.sub.Tensor(aten.mul.Tensor(aten.sub.Tensor(t, 1), log_rest), aten.mul.Tensor(t, log_x))
    if weight is not None:
        loss = aten.mul.Tensor(loss, widen(weight))
    return cast_to(_reduce(loss, reduction), x.dtype)


@registry.of(aten.nll_loss_forward.default, aten.nll_loss2d_forward.default)
def nll_loss_forward(
    x: Tensor, target: Tensor, weight: Tensor | None, reduction: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Classes along dimension 1 (or 0 of a 1-d input); targets outside the classes are undefined, as on a GPU."""
    if may_be_empty(x):
        return NotImplemented
    dim = 0 if x.dim() == 1 else 1
    v = widen(x)
    used = aten.ne.Scalar(target, ignore_index)
    zero = aten.full.default([], 0, dtype=target.dtype, device=x.device)
    safe = aten.unsqueeze.default(aten.where.self(used, target, zero), dim)
    picked = aten.neg.default(aten.squeeze.dims(aten.gather.default(v, dim, cast_to(safe, torch.int64)), [dim]))
    weights = None
    if weight is not None:
        shape = [1] * x.dim()
        shape[dim] = weight.shape[0]
        spread = aten.expand.default(aten.view.default(widen(weight), shape), list(x.shape))
        weights = aten.squeeze.dims(aten.gather.default(spread, dim, cast_to(safe, torch.int64)), [dim])
        picked = aten.mul.Tensor(picked, weights)
    nothing = aten.full.default([], 0.0, dtype=v.dtype, device=x.device)
    loss = aten.where.self(used, picked, nothing)
    if reduction not in (_MEAN, _SUM) and x.dim() > 1:
        return cast_to(loss, x.dtype), cast_to(nothing, x.dtype)
    if weights is None:
        total = sum_all(cast_to(used, v.dtype))
    else:
        total = sum_all(aten.where.self(used, weights, nothing))
    summed = sum_all(loss)
    if reduction == _MEAN:
        summed = aten.div.Tensor(summed, total)
    return cast_to(summed, x.dtype), cast_to(total, x.dtype)
