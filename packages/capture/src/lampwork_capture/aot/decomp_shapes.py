"""Decompositions of views, creation and data movement into the few forms that a lowering handles.

Every view becomes one of permute, view, expand, slice, select, squeeze.dims, unsqueeze, diagonal, unfold, as_strided;
every constant fill becomes `full`. Invariant: a view stays a view of its argument (no copy is hidden in it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .decomp_registry import Registry, aten, cast_to
from .known_sizes import may_be_empty

registry = Registry()
Number = int | float | bool | complex


# -- views


@registry.of(aten.detach.default, aten.alias.default)
def same(x: Tensor) -> Tensor:
    return x


@registry.of(aten.t.default)
def t(x: Tensor) -> Tensor:
    return x if x.dim() < 2 else aten.permute.default(x, [1, 0])


@registry.of(aten.transpose.int)
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    order = list(range(x.dim()))
    if not order or order[dim0] == order[dim1]:
        return x
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return aten.permute.default(x, order)


@registry.of(aten._unsafe_view.default)
def unsafe_view(x: Tensor, size: Sequence[int]) -> Tensor:
    return aten.view.default(x, size)


@registry.of(aten._reshape_alias.default)
def reshape_alias(x: Tensor, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    return aten.view.default(x, size)


@registry.of(aten.squeeze.default)
def squeeze(x: Tensor) -> Tensor:
    dims = [d for d, size in enumerate(x.shape) if size == 1]
    return aten.squeeze.dims(x, dims) if dims else x


@registry.of(aten.squeeze.dim)
def squeeze_dim(x: Tensor, dim: int) -> Tensor:
    return aten.squeeze.dims(x, [dim]) if x.dim() and x.shape[dim] == 1 else x


@registry.of(aten.split.Tensor, aten.unsafe_split.Tensor)
def split(x: Tensor, size: int, dim: int = 0) -> list[Tensor]:
    length = x.shape[dim]
    if not isinstance(length, int) or not isinstance(size, int) or size == 0:
        return NotImplemented
    starts = range(0, max(length, 1), size)
    return [aten.slice.Tensor(x, dim, start, min(start + size, length)) for start in starts]


@registry.of(aten.split_with_sizes.default, aten.unsafe_split_with_sizes.default)
def split_with_sizes(x: Tensor, sizes: Sequence[int], dim: int = 0) -> list[Tensor]:
    parts: list[Tensor] = []
    start = 0
    for size in sizes:
        parts.append(aten.slice.Tensor(x, dim, start, start + size))
        start = start + size
    return parts


@registry.of(aten.unbind.int)
def unbind(x: Tensor, dim: int = 0) -> list[Tensor]:
    return [aten.select.int(x, dim, i) for i in range(x.shape[dim])]


# -- creation


def _options(like: Tensor, dtype: torch.dtype | None, device: torch.device | None) -> dict[str, Any]:
    return {"dtype": like.dtype if dtype is None else dtype, "device": like.device if device is None else device}


def _default_options(dtype: torch.dtype | None, device: torch.device | None) -> dict[str, Any]:
    return {
        "dtype": torch.get_default_dtype() if dtype is None else dtype,
        "device": torch.get_default_device() if device is None else torch.device(device),
    }


@registry.of(aten.zeros.default)
def zeros(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    if layout not in (None, torch.strided) or pin_memory:
        return NotImplemented
    return aten.full.default(size, 0, **_default_options(dtype, device))


@registry.of(aten.ones.default)
def ones(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    if layout not in (None, torch.strided) or pin_memory:
        return NotImplemented
    return aten.full.default(size, 1, **_default_options(dtype, device))


@registry.of(aten.full_like.default)
def full_like(
    x: Tensor,
    value: Number,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    formats = (None, torch.contiguous_format, torch.preserve_format)
    if layout not in (None, torch.strided) or pin_memory or memory_format not in formats:
        return NotImplemented
    return aten.full.default(list(x.shape), value, **_options(x, dtype, device))


@registry.of(aten.zeros_like.default)
def zeros_like(x: Tensor, **options: Any) -> Tensor:
    return full_like(x, 0, **options)


@registry.of(aten.ones_like.default)
def ones_like(x: Tensor, **options: Any) -> Tensor:
    return full_like(x, 1, **options)


@registry.of(aten.new_full.default)
def new_full(
    x: Tensor,
    size: Sequence[int],
    value: Number,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    if layout not in (None, torch.strided) or pin_memory:
        return NotImplemented
    return aten.full.default(size, value, **_options(x, dtype, device))


@registry.of(aten.new_zeros.default)
def new_zeros(x: Tensor, size: Sequence[int], **options: Any) -> Tensor:
    return new_full(x, size, 0, **options)


@registry.of(aten.new_ones.default)
def new_ones(x: Tensor, size: Sequence[int], **options: Any) -> Tensor:
    return new_full(x, size, 1, **options)


@registry.of(aten.scalar_tensor.default)
def scalar_tensor(
    value: Number,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    if layout not in (None, torch.strided) or pin_memory or not isinstance(value, (int, float, bool, complex)):
        return NotImplemented
    return aten.full.default([], value, **_default_options(dtype, device))


@registry.of(aten.fill.Scalar)
def fill_scalar(x: Tensor, value: Number) -> Tensor:
    return aten.full.default(list(x.shape), value, dtype=x.dtype, device=x.device)


@registry.of(aten.fill.Tensor)
def fill_tensor(x: Tensor, value: Tensor) -> Tensor:
    if value.device != x.device:
        return NotImplemented
    return aten.clone.default(
        aten.expand.default(cast_to(value, x.dtype), list(x.shape)), memory_format=torch.contiguous_format
    )


@registry.of(aten.zero.default)
def zero(x: Tensor) -> Tensor:
    return fill_scalar(x, 0)


@registry.of(aten.arange.default)
def arange(end: Number, **options: Any) -> Tensor:
    return arange_start(0, end, **options)


@registry.of(aten.arange.start)
def arange_start(start: Number, end: Number, **options: Any) -> Tensor:
    return aten.arange.start_step(start, end, 1, **options)


@registry.of(aten.eye.default)
def eye(n: int, **options: Any) -> Tensor:
    return eye_m(n, n, **options)


@registry.of(aten.eye.m)
def eye_m(
    n: int,
    m: int,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
) -> Tensor:
    if layout not in (None, torch.strided) or pin_memory:
        return NotImplemented
    options = _default_options(dtype, device)
    rows, columns = _index(n, options["device"]), _index(m, options["device"])
    return cast_to(aten.eq.Tensor(aten.unsqueeze.default(rows, 1), columns), options["dtype"])


def _index(n: int, device: torch.device) -> Tensor:
    return aten.arange.start_step(0, n, 1, dtype=torch.int64, device=device)


@registry.of(aten.tril.default)
def tril(x: Tensor, diagonal: int = 0) -> Tensor:
    return _triangle(x, diagonal, aten.le.Tensor)


@registry.of(aten.triu.default)
def triu(x: Tensor, diagonal: int = 0) -> Tensor:
    return _triangle(x, diagonal, aten.ge.Tensor)


def _triangle(x: Tensor, diagonal: int, keep: Any) -> Tensor:
    rows, columns = _index(x.shape[-2], x.device), _index(x.shape[-1], x.device)
    edge = aten.unsqueeze.default(rows, 1)
    if diagonal:
        edge = aten.add.Tensor(edge, diagonal)
    zero = aten.full.default([], 0, dtype=x.dtype, device=x.device)
    return aten.where.self(keep(columns, edge), x, zero)


# -- data movement


@registry.of(aten._to_copy.default)
def to_copy(
    x: Tensor | complex,
    *,
    dtype: torch.dtype | None = None,
    layout: Any = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> Tensor:
    """A conversion that changes neither type nor device is a clone. torch.func converts numbers, too."""
    if not isinstance(x, Tensor):
        return torch.scalar_tensor(x, dtype=dtype, device=device)
    moved = device is not None and torch.device(device) != x.device
    if moved or (dtype is not None and dtype != x.dtype) or layout not in (None, torch.strided) or pin_memory:
        return NotImplemented
    return aten.clone.default(x, memory_format=memory_format)


@registry.of(aten.copy.default)
def copy(x: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    if source.device != x.device:
        source = aten._to_copy.default(source, device=x.device)
    if source.dtype != x.dtype:
        source = aten._to_copy.default(source, dtype=x.dtype)
    if source.shape != x.shape:
        source = aten.expand.default(source, list(x.shape))
    return aten.clone.default(source, memory_format=torch.contiguous_format)


@registry.of(aten.stack.default)
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    dim = dim % (tensors[0].dim() + 1)
    if any(t.shape != tensors[0].shape for t in tensors):
        return NotImplemented  # eager's error
    return aten.cat.default([aten.unsqueeze.default(t, dim) for t in tensors], dim)


@registry.of(aten.repeat.default)
def repeat(x: Tensor, repeats: Sequence[int]) -> Tensor:
    lead = len(repeats) - x.dim()
    sizes = [1] * lead + list(x.shape)
    spread = aten.view.default(_contiguous(x), [s for size in sizes for s in (1, size)])
    spread = aten.expand.default(spread, [s for times, size in zip(repeats, sizes) for s in (times, size)])
    whole = aten.clone.default(spread, memory_format=torch.contiguous_format)
    return aten.view.default(whole, [times * size for times, size in zip(repeats, sizes)])


def _contiguous(x: Tensor) -> Tensor:
    return x if x.is_contiguous() else aten.clone.default(x, memory_format=torch.contiguous_format)


@registry.of(aten.roll.default)
def roll(x: Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> Tensor:
    if not all(isinstance(s, int) for s in (*x.shape, *shifts)) or len(dims) != len(shifts):
        return NotImplemented
    out = x
    for shift, dim in zip(shifts, dims):
        size = x.shape[dim]
        start = -shift % size if size else 0
        if start:
            parts = [aten.slice.Tensor(out, dim, start, size), aten.slice.Tensor(out, dim, 0, start)]
            out = aten.cat.default(parts, dim)
    return aten.clone.default(out, memory_format=torch.contiguous_format) if out is x else out


@registry.of(aten.index_select.default)
def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    if x.dim() == 0 or index.dim() != 1:
        return NotImplemented
    return aten.index.Tensor(x, [None] * (dim % x.dim()) + [index])


@registry.of(aten.select_scatter.default)
def select_scatter(x: Tensor, source: Tensor, dim: int, index: int) -> Tensor:
    if not isinstance(index, int):
        return NotImplemented
    dim = dim % x.dim()
    start = index % x.shape[dim] if index < 0 else index
    return aten.slice_scatter.default(x, aten.unsqueeze.default(source, dim), dim, start, start + 1, 1)


@registry.of(aten.pixel_shuffle.default)
def pixel_shuffle(x: Tensor, factor: int) -> Tensor:
    if may_be_empty(x):
        return NotImplemented
    *lead, channels, height, width = x.shape
    n = len(lead)
    split_up = aten.view.default(_contiguous(x), [*lead, channels // (factor * factor), factor, factor, height, width])
    order = [*range(n), n, n + 3, n + 1, n + 4, n + 2]
    moved = aten.clone.default(aten.permute.default(split_up, order), memory_format=torch.contiguous_format)
    return aten.view.default(moved, [*lead, channels // (factor * factor), height * factor, width * factor])
