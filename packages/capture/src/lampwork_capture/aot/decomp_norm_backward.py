"""Decompositions of the gradients of normalisations and softmax.

Each becomes sums over rows or channels and pointwise work on the same elements, so a fusing lowering reads a value
and its gradient once for the sums that share their loops. Invariant: 16-bit inputs are computed and summed in float32
and rounded once; a gradient that the output mask leaves out is None.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .decomp_registry import Registry, aten, cast_to, widen
from .known_sizes import is_contiguous, may_be_empty

registry = Registry()
_Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _sum_over(x: Tensor, dims: Sequence[int], keepdim: bool = False) -> Tensor:
    """The sum over `dims`; over none of them, `x` itself (an empty list means all to aten)."""
    return aten.sum.dim_IntList(x, list(dims), keepdim) if len(dims) else x


def _count(x: Tensor, dims: Sequence[int]) -> int:
    count = 1
    for dim in dims:
        count = count * x.shape[dim]
    return count


def _keeping(statistic: Tensor, x: Tensor, dims: Sequence[int]) -> Tensor:
    """A statistic of rows in the sizes of `x`, with 1 for the dimensions that it was taken over."""
    return aten.view.default(widen(statistic), [1 if d in dims else size for d, size in enumerate(x.shape)])


def _of_channels(t: Tensor, x: Tensor) -> Tensor:
    """A vector of channels that broadcasts over dimension 1 of `x`."""
    return aten.view.default(widen(t), [1, x.shape[1]] + [1] * (x.dim() - 2))


# -- rows


@registry.of(aten.native_layer_norm_backward.default)
def native_layer_norm_backward(
    grad: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mask: Sequence[bool],
) -> _Gradients:
    first = x.dim() - len(shape)
    rows, dims = list(range(first)), list(range(first, x.dim()))
    if may_be_empty(x):
        return NotImplemented
    g = widen(grad)
    scale = _keeping(rstd, x, dims)
    normal = aten.mul.Tensor(aten.sub.Tensor(widen(x), _keeping(mean, x, dims)), scale)
    grad_x = grad_weight = grad_bias = None
    if mask[0]:
        weighted = g if weight is None else aten.mul.Tensor(g, widen(weight))
        along = _sum_over(aten.mul.Tensor(weighted, normal), dims, True)
        through = aten.add.Tensor(_sum_over(weighted, dims, True), aten.mul.Tensor(normal, along))
        centred = aten.sub.Tensor(weighted, aten.div.Tensor(through, _count(x, dims)))
        grad_x = cast_to(aten.mul.Tensor(centred, scale), x.dtype)
    if mask[1] and weight is not None:
        grad_weight = cast_to(_sum_over(aten.mul.Tensor(g, normal), rows), weight.dtype)
    if mask[2] and bias is not None:
        grad_bias = cast_to(_sum_over(g, rows), bias.dtype) if rows else aten.clone.default(cast_to(g, bias.dtype))
    return grad_x, grad_weight, grad_bias


@registry.of(aten._fused_rms_norm_backward.default)
def fused_rms_norm_backward(
    grad: Tensor, x: Tensor, shape: Sequence[int], rstd: Tensor, weight: Tensor | None, mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    first = x.dim() - len(shape)
    rows, dims = list(range(first)), list(range(first, x.dim()))
    if may_be_empty(x):
        return NotImplemented
    g = widen(grad)
    scale = _keeping(rstd, x, dims)
    normal = aten.mul.Tensor(widen(x), scale)
    grad_x = grad_weight = None
    if mask[0]:
        weighted = g if weight is None else aten.mul.Tensor(g, widen(weight))
        along = aten.div.Tensor(_sum_over(aten.mul.Tensor(weighted, normal), dims, True), _count(x, dims))
        grad_x = cast_to(aten.mul.Tensor(aten.sub.Tensor(weighted, aten.mul.Tensor(normal, along)), scale), x.dtype)
    if mask[1] and weight is not None:
        grad_weight = cast_to(_sum_over(aten.mul.Tensor(g, normal), rows), weight.dtype)
    return grad_x, grad_weight


# -- channels


@registry.of(aten.native_batch_norm_backward.default)
def native_batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    save_mean: Tensor | None,
    save_rstd: Tensor | None,
    train: bool,
    eps: float,
    mask: Sequence[bool],
) -> _Gradients:
    if may_be_empty(x):
        return NotImplemented
    dims = [d for d in range(x.dim()) if d != 1]
    if train:
        mean, rstd = save_mean, save_rstd
    else:
        mean = running_mean
        rstd = None if running_var is None else aten.rsqrt.default(aten.add.Tensor(widen(running_var), eps))
    if mean is None or rstd is None:
        return NotImplemented
    g = widen(grad)
    centred = aten.sub.Tensor(widen(x), _of_channels(mean, x))
    total = _sum_over(g, dims) if mask[2] or (train and mask[0]) else None
    along = _sum_over(aten.mul.Tensor(g, centred), dims) if mask[1] or (train and mask[0]) else None
    grad_x = grad_weight = grad_bias = None
    if mask[0]:
        scale = rstd if weight is None else aten.mul.Tensor(widen(rstd), widen(weight))
        grad_x = g
        if train:
            assert total is not None and along is not None
            count = _count(x, dims)
            slope = aten.div.Tensor(aten.mul.Tensor(along, aten.mul.Tensor(widen(rstd), widen(rstd))), count)
            through = aten.mul.Tensor(centred, _of_channels(slope, x))
            grad_x = aten.sub.Tensor(aten.sub.Tensor(g, through), _of_channels(aten.div.Tensor(total, count), x))
        grad_x = cast_to(aten.mul.Tensor(grad_x, _of_channels(scale, x)), x.dtype)
    channels = x.dtype if weight is None else weight.dtype
    if mask[1] and along is not None:
        grad_weight = cast_to(aten.mul.Tensor(along, widen(rstd)), channels)
    if mask[2] and total is not None:
        grad_bias = cast_to(total, channels)
    return grad_x, grad_weight, grad_bias


@registry.of(aten.native_group_norm_backward.default)
def native_group_norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    n: int,
    c: int,
    hxw: int,
    groups: int,
    mask: Sequence[bool],
) -> _Gradients:
    if may_be_empty(x):
        return NotImplemented
    size = c // groups
    g, v = (_grouped(t, [n, groups, size, hxw]) for t in (grad, x))
    scale = aten.view.default(widen(rstd), [n, groups, 1, 1])
    normal = aten.mul.Tensor(aten.sub.Tensor(v, aten.view.default(widen(mean), [n, groups, 1, 1])), scale)
    total = aten.sum.dim_IntList(g, [3], True)  # of each channel of each image: the sums of groups are made of them
    along = aten.sum.dim_IntList(aten.mul.Tensor(g, normal), [3], True)
    grad_x = grad_weight = grad_bias = None
    if mask[0]:
        weighted, of_group = g, [total, along]
        if weight is not None:
            factor = aten.view.default(widen(weight), [1, groups, size, 1])
            weighted, of_group = aten.mul.Tensor(g, factor), [aten.mul.Tensor(t, factor) for t in of_group]
        sums = [aten.div.Tensor(aten.sum.dim_IntList(t, [2], True), size * hxw) for t in of_group]
        through = aten.add.Tensor(sums[0], aten.mul.Tensor(normal, sums[1]))
        grad_x = aten.mul.Tensor(aten.sub.Tensor(weighted, through), scale)
        grad_x = cast_to(aten.view.default(grad_x, list(x.shape)), x.dtype)
    channels = x.dtype if weight is None else weight.dtype
    if mask[1]:
        grad_weight = cast_to(aten.view.default(aten.sum.dim_IntList(along, [0], False), [c]), channels)
    if mask[2]:
        grad_bias = cast_to(aten.view.default(aten.sum.dim_IntList(total, [0], False), [c]), channels)
    return grad_x, grad_weight, grad_bias


def _grouped(t: Tensor, sizes: list[int]) -> Tensor:
    wide = widen(t)
    if not is_contiguous(wide):
        wide = aten.clone.default(wide, memory_format=torch.contiguous_format)
    return aten.view.default(wide, sizes)


# -- softmax


@registry.of(aten._softmax_backward_data.default)
def softmax_backward_data(grad: Tensor, output: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    if output.dim() == 0 or may_be_empty(output):
        return NotImplemented
    y = widen(output)
    product = aten.mul.Tensor(widen(grad), y)
    total = aten.sum.dim_IntList(product, [dim], True)
    return cast_to(aten.sub.Tensor(product, aten.mul.Tensor(y, total)), input_dtype)


@registry.of(aten._log_softmax_backward_data.default)
def log_softmax_backward_data(grad: Tensor, output: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    if output.dim() == 0 or may_be_empty(output):
        return NotImplemented
    g = widen(grad)
    total = aten.sum.dim_IntList(g, [dim], True)
    return cast_to(aten.sub.Tensor(g, aten.mul.Tensor(aten.exp.default(widen(output)), total)), input_dtype)
