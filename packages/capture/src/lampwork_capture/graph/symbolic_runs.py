"""Symbolic runs: what is run on fake tensors in place of operations that read sizes as C numbers.

torch implements these for tensors of one size each, or asks what only the values of the result depend on; either would
specialize a symbolic size. Others that take symbolic sizes tell shape, dtype and strides of the result, and that is all
that a fake one has. The graph keeps the operation of the program. Invariant: what stands in gives a result that differs
in nothing but values, and raises wherever the operation does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._pytree import tree_map_only

_NN: Any = vars(torch._C)["_nn"]


def _max_pool1d(
    x: torch.Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Pooling of an image that has one row."""
    kernel = _of_row(kernel_size, 1)
    step = kernel if stride is None or stride == [] else _of_row(stride, 1)
    pooled: Any = F.max_pool2d(
        x.unsqueeze(-2), kernel, step, _of_row(padding, 0), _of_row(dilation, 1), ceil_mode, return_indices
    )
    if return_indices:
        return tuple(part.squeeze(-2) for part in pooled)
    has_own_kernel = x.device.type == "cpu" and not (x.requires_grad and torch.is_grad_enabled())
    return pooled.squeeze(-2).contiguous() if has_own_kernel else pooled.squeeze(-2)


def _of_row(number: int | Sequence[int], of_rows: int) -> tuple[int, int]:
    if not isinstance(number, int) and len(number) != 1:
        raise ValueError(f"a pooling of one dimension takes one number, not {number}")
    return (of_rows, number if isinstance(number, int) else number[0])


def _interpolate(
    x: torch.Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """With the corners not aligned, which asks of no size whether it is 1."""
    if align_corners and mode in _ALIGNED:
        align_corners = False
    return F.interpolate(x, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)


def _pad_sequence(
    sequences: Sequence[torch.Tensor],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Any:
    lengths = [sequence.shape[0] for sequence in sequences]
    if len(lengths) > _MOST_COMPARED or padding_side not in ("left", "right"):
        return _NN.pad_sequence(list(sequences), batch_first, padding_value, padding_side)
    longest: Any = lengths[0]
    for length in lengths[1:]:
        longest = torch.sym_max(longest, length)
    first = sequences[0]
    inner = (0, 0) * (first.dim() - 1)
    rows: list[torch.Tensor] = []
    for sequence, length in zip(sequences, lengths):
        row = sequence.to(dtype=first.dtype, device=first.device)  # rows are copied into memory like the first
        if row.shape[1:] != first.shape[1:]:
            row = row.expand(length, *first.shape[1:])
        # padded by more than needed: of what is cut off, the length is plainly that of the longest
        if padding_side == "left":
            rows.append(F.pad(row, (*inner, longest, 0), value=padding_value)[length:])
        else:
            rows.append(F.pad(row, (*inner, 0, longest), value=padding_value)[:longest])
    return torch.stack(rows, 0 if batch_first else 1)


def _linspace(start: Any, end: Any, steps: Any, **kwargs: Any) -> Any:
    """As many floats as only a symbol tells, which torch takes as a C number."""
    if not is_linspace_of_floats(start, end, steps, kwargs):
        return torch.linspace(start, end, steps, **kwargs)
    return torch.empty(steps, **kwargs)


def is_linspace_of_floats(start: Any, end: Any, steps: Any, options: Mapping[str, Any]) -> bool:
    """Whether `torch.linspace` gives a symbolic number of floats of a dtype that it computes in."""
    if not isinstance(steps, torch.SymInt) or options.get("out") is not None:
        return False
    dtype = options.get("dtype") or torch.get_default_dtype()
    numbers = (int, float, torch.SymInt, torch.SymFloat)
    return dtype in (torch.float32, torch.float64) and all(isinstance(number, numbers) for number in (start, end))


def with_plain_numbers(data: Any) -> Any:
    """Nested lists with a plain number of its kind for each symbolic one."""
    return tree_map_only(tuple(PLAIN), lambda number: PLAIN[type(number)], data)


def _tensor(data: Any, **kwargs: Any) -> Any:
    """Of numbers that are all alike: the tensor that is made of them must not be known to hold these."""
    if kwargs.get("dtype") not in _HOLDING_ANY:
        return torch.tensor(data, **kwargs)  # it may refuse a number
    made = torch.tensor(with_plain_numbers(data), **kwargs)
    return torch.empty_like(made, requires_grad=made.requires_grad)


PLAIN: Mapping[type, Any] = {torch.SymInt: 1, torch.SymFloat: 1.0, torch.SymBool: True}
_HOLDING_ANY = (None, torch.int64, torch.float32, torch.float64)
_ALIGNED = frozenset({"linear", "bilinear", "bicubic", "trilinear"})
_MOST_COMPARED = 4

EXACT_FORMS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.max_pool1d: _max_pool1d,
    torch.max_pool1d: _max_pool1d,
    _NN.pad_sequence: _pad_sequence,
}
"""Those that give the values of the operation, too."""

SYMBOLIC_RUNS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    **EXACT_FORMS,
    F.interpolate: _interpolate,
    torch.tensor: _tensor,
    torch.linspace: _linspace,
}
