"""Torch functions that update running statistics behind their operator's schema, and functional-safe replacements.

`batch_norm` ends in `native_batch_norm`, whose schema does not say that it writes; functionalization cannot see that.
The replacements call the operators that do say it. Invariant: same results and same statistics as the originals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """`torch.nn.functional.batch_norm` and `torch.batch_norm`."""
    if training and input.dim() >= 2 and input.numel() // max(input.shape[1], 1) == 1 and input.numel() > 0:
        return F.batch_norm(input, None, None, weight, bias, True, momentum, eps)  # eager's error message
    if not training:
        if running_mean is None or running_var is None:
            return torch.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps, False)
        return aten._native_batch_norm_legit_no_training(input, weight, bias, running_mean, running_var, momentum, eps)[
            0
        ]
    if running_mean is None or running_var is None:
        return aten._native_batch_norm_legit.no_stats(input, weight, bias, True, momentum, eps)[0]
    return aten._native_batch_norm_legit(input, weight, bias, running_mean, running_var, True, momentum, eps)[0]


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Tensor:
    """`torch.nn.functional.instance_norm` and `torch.instance_norm`: a batch norm over (batch * channel)."""
    n, c = input.shape[0], input.shape[1]

    def spread(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.repeat(n)

    mean, var = spread(running_mean), spread(running_var)
    flat = input.contiguous().view(1, n * c, *input.shape[2:])
    out = batch_norm(flat, mean, var, spread(weight), spread(bias), use_input_stats, momentum, eps)
    if use_input_stats and running_mean is not None and mean is not None:
        running_mean.copy_(mean.view(n, c).mean(0))
    if use_input_stats and running_var is not None and var is not None:
        running_var.copy_(var.view(n, c).mean(0))
    return out.view(input.shape)


REPLACEMENTS: Mapping[Any, Callable[..., Any]] = {
    F.batch_norm: batch_norm,
    torch.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    torch.instance_norm: instance_norm,
}
