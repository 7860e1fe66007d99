"""Fused steps of optimizers, `torch._fused_adamw_` and its kin, taken apart into operators on lists.

Replaces them while a captured graph is traced: torch functionalizes none of them, and what they fuse the compiler fuses
too. Invariant: numbers are computed in 64 bits and elements of half types in 32, as in torch's kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .errors import UnsupportedForAot

_TORCH: Any = torch  # for its parts that have no stubs
Tensors = Sequence[Tensor]
Number = float | Tensor
_HALVES = (torch.float16, torch.bfloat16)


def _adam(
    params: Tensors,
    grads: Tensors,
    averages: Tensors,
    squares: Tensors,
    largest_squares: Tensors,
    steps: Tensors,
    *,
    lr: Number,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    amsgrad: bool,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    decoupled: bool,
) -> None:
    """`torch._fused_adam_`, and with `decoupled` weight decay `torch._fused_adamw_`."""
    _refuse_scaler(grad_scale, found_inf)
    if not params:
        return
    rate = _rate(lr)
    p, m, v = map(_wide, (params, averages, squares))
    g = _directions(p, grads, maximize, 0.0 if decoupled else weight_decay)
    if decoupled and _matters(weight_decay):
        p = _scaled(p, 1 - rate * weight_decay)
    m = _TORCH._foreach_lerp(m, g, 1 - beta1)
    v = _TORCH._foreach_addcmul(_TORCH._foreach_mul(v, beta2), g, g, 1 - beta2)
    counts = [step.double() for step in steps]
    first, second = (_complement(_TORCH._foreach_pow(beta, counts)) for beta in (beta1, beta2))
    sizes = _TORCH._foreach_mul(_TORCH._foreach_reciprocal(first), rate)
    largest = _TORCH._foreach_maximum(_wide(largest_squares), v) if amsgrad else v
    roots = _TORCH._foreach_div(_TORCH._foreach_sqrt(largest), _numbers(_TORCH._foreach_sqrt(second), p))
    updates = _TORCH._foreach_div(_TORCH._foreach_mul(m, _numbers(sizes, p)), _TORCH._foreach_add(roots, eps))
    _TORCH._foreach_copy_(params, _TORCH._foreach_sub(p, updates))
    _TORCH._foreach_copy_(averages, m)
    _TORCH._foreach_copy_(squares, v)
    if amsgrad:
        _TORCH._foreach_copy_(largest_squares, largest)


def _sgd(
    params: Tensors,
    grads: Tensors,
    buffers: Tensors,
    *,
    weight_decay: float,
    momentum: float,
    lr: Number,
    dampening: float,
    nesterov: bool,
    maximize: bool,
    is_first_step: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """`torch._fused_sgd_`."""
    _refuse_scaler(grad_scale, found_inf)
    if not params:
        return
    p = _wide(params)
    g = _directions(p, grads, maximize, weight_decay)
    if buffers:
        moved = g
        if not is_first_step:
            moved = _TORCH._foreach_add(_TORCH._foreach_mul(_wide(buffers), momentum), g, alpha=1 - dampening)
        _TORCH._foreach_copy_(buffers, moved)
        g = _TORCH._foreach_add(g, moved, alpha=momentum) if nesterov else moved
    _TORCH._foreach_copy_(params, _TORCH._foreach_sub(p, _scaled(g, _rate(lr))))


def _adagrad(
    params: Tensors,
    grads: Tensors,
    sums: Tensors,
    steps: Tensors,
    *,
    lr: Number,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
    grad_scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """`torch._fused_adagrad_`."""
    _refuse_scaler(grad_scale, found_inf)
    if not params:
        return
    p = _wide(params)
    g = _directions(p, grads, maximize, weight_decay)
    total = _TORCH._foreach_addcmul(_wide(sums), g, g, 1.0)
    decays = _TORCH._foreach_mul(_TORCH._foreach_sub([step.double() for step in steps], 1), lr_decay)
    rates = _TORCH._foreach_mul(_TORCH._foreach_reciprocal(_TORCH._foreach_add(decays, 1)), _rate(lr))
    roots = _TORCH._foreach_add(_TORCH._foreach_sqrt(total), eps)
    updates = _TORCH._foreach_div(_TORCH._foreach_mul(g, _numbers(rates, p)), roots)
    _TORCH._foreach_copy_(params, _TORCH._foreach_sub(p, updates))
    _TORCH._foreach_copy_(sums, total)


def _directions(p: Tensors, grads: Tensors, maximize: bool, weight_decay: float) -> Tensors:
    """What the parameters `p` are moved against: their gradients, with the decay of weights added."""
    g = _wide(grads)
    if maximize:
        g = _TORCH._foreach_neg(g)
    return _TORCH._foreach_add(g, p, alpha=weight_decay) if _matters(weight_decay) else g


def _refuse_scaler(grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
    if grad_scale is not None or found_inf is not None:
        raise UnsupportedForAot("a fused step of an optimizer that scales gradients back")


def _matters(weight_decay: Any) -> bool:
    return not isinstance(weight_decay, (int, float)) or weight_decay != 0


def _rate(lr: Any) -> Any:
    return lr.double() if isinstance(lr, Tensor) else lr


def _wide(tensors: Tensors) -> Tensors:
    return [tensor.float() if tensor.dtype in _HALVES else tensor for tensor in tensors]


def _complement(powers: Tensors) -> Tensors:
    """One minus each."""
    return _TORCH._foreach_add(_TORCH._foreach_neg(powers), 1)


def _scaled(tensors: Tensors, number: Any) -> Tensors:
    if not isinstance(number, Tensor):
        return _TORCH._foreach_mul(tensors, number)
    return _TORCH._foreach_mul(tensors, _numbers([number] * len(tensors), tensors))


def _numbers(numbers: Tensors, targets: Tensors) -> Tensors:
    """Tensors without dimensions that stand for numbers, which do not decide the dtype of what they are used with."""
    return [n if t.dim() else n.to(t.dtype) for n, t in zip(numbers, targets, strict=True)]


REPLACEMENTS: Mapping[Any, Callable[..., None]] = {
    _TORCH._fused_adam_: partial(_adam, decoupled=False),
    _TORCH._fused_adamw_: partial(_adam, decoupled=True),
    _TORCH._fused_sgd_: _sgd,
    _TORCH._fused_adagrad_: _adagrad,
}
