"""Interpolation with aligned corners, for sizes that are symbols: one dimension after another, as gathers and weights.

A symbolic form: the graph runner calls it in place of `F.interpolate`. torch asks whether the new size is more than 1
before it divides by one less; here a size of 1, whose only position is 0 at any scale, is divided by 1. Invariant: same
shape, layout and dtype as the original, and its values up to rounding; any other mode is left to the original.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._decomp.decompositions import upsample_compute_output_size
from torch._prims_common import suggest_memory_format

from .decomp_registry import compute_dtype

_RANKS = {"linear": 3, "bilinear": 4, "trilinear": 5}
_FEW_CHANNELS = 16  # so many are resized channels last on a GPU


def interpolate(
    x: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """`F.interpolate` of the same arguments."""
    if not align_corners or antialias or x.dim() != _RANKS.get(mode) or not x.is_floating_point():
        return F.interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)
    out = x.to(compute_dtype(x.dtype))
    for dim, length in enumerate(_output_sizes(x, size, scale_factor), 2):
        out = _resized(out, dim, length)
    out = out.to(x.dtype)
    few = x.device.type == "cuda" and x.shape[1] < _FEW_CHANNELS
    return out.contiguous(memory_format=torch.contiguous_format if few else suggest_memory_format(x))


def _output_sizes(x: Tensor, size: Any, scale_factor: Any) -> Sequence[Any]:
    count = x.dim() - 2
    if size is not None:
        return list(size) if isinstance(size, (list, tuple)) else [size] * count
    factors = list(scale_factor) if isinstance(scale_factor, (list, tuple)) else [scale_factor] * count
    return cast("Sequence[Any]", upsample_compute_output_size(x.size(), None, factors))


def _resized(x: Tensor, dim: int, length: Any) -> Tensor:
    last: Any = x.shape[dim] - 1
    step = last / torch.sym_max(length - 1, 1)
    position = torch.arange(length, device=x.device).to(x.dtype) * step
    before = position.to(torch.int64).clamp(max=last)
    behind = (before + 1).clamp(max=last)
    weight = (position - before).clamp(0.0, 1.0).view(-1, *(1,) * (x.dim() - dim - 1))
    first = x.index_select(dim, before)
    return first + (x.index_select(dim, behind) - first) * weight
