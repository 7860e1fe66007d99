"""List fakes: what pointwise operators on lists give on fake tensors, without running them item by item.

torch runs `_foreach_add` and its kin on fake tensors as an operator for each tensor, of which the step of an optimizer
has thousands. Asked by `recording_mode`. Invariant: an answer is only given where each result surely lies as the tensor
in the first list does, contiguous, and nothing is refused; for all else the operators run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from .fake_results import NewTensor

_PREFIX = "_foreach_"
_POINTWISE = frozenset(
    {"abs", "add", "addcdiv", "addcmul", "clamp_max", "clamp_min", "copy", "div", "exp", "lerp", "log", "maximum",
     "minimum", "mul", "neg", "pow", "reciprocal", "sign", "sqrt", "sub", "zero"}
)  # fmt: skip
_NUMBERS = (int, float, torch.SymFloat)


def list_fake(mode: FakeTensorMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """New tensors like those in the first list, None for an operator that writes to them, or NotImplemented."""
    name = func.overloadpacket.__name__
    if not name.startswith(_PREFIX) or name.removeprefix(_PREFIX).rstrip("_") not in _POINTWISE:
        return NotImplemented
    lists = [argument for argument in args if isinstance(argument, list | tuple)]
    numbers = [argument for argument in (*args, *kwargs.values()) if not isinstance(argument, list | tuple)]
    if not lists or not all(type(number) in _NUMBERS for number in numbers):
        return NotImplemented
    first, *others = lists
    if not all(map(_is_plain, first)) or not all(_goes_with(first, other) for other in others):
        return NotImplemented
    return None if name.endswith("_") else [NewTensor.like(tensor).made(mode, ()) for tensor in first]


def _is_plain(tensor: Any) -> bool:
    return (
        type(tensor) is FakeTensor
        and tensor.dtype.is_floating_point
        and tensor.layout is torch.strided
        and tensor.constant is None
        and not tensor._has_symbolic_sizes_strides
        and tensor.is_contiguous()
    )


def _goes_with(first: Sequence[FakeTensor], others: Sequence[Any]) -> bool:
    """Whether items of another list decide neither dtype, sizes, device nor strides."""
    if len(first) != len(others):
        return False
    if type(others[0]) in _NUMBERS:
        return all(type(number) in _NUMBERS for number in others)
    return all(map(_is_plain, others)) and all(map(_leaves_as_it_is, first, others))


def _leaves_as_it_is(tensor: FakeTensor, other: FakeTensor) -> bool:
    if tensor.fake_device != other.fake_device:
        return False
    if tensor.dtype is other.dtype:
        return tensor.shape == other.shape or other.dim() == 0
    return other.dim() == 0 and (tensor.dim() > 0 or tensor.dtype is torch.float64)
