"""`torch.associative_scan` in its generic mode, as a recursion over pairs that becomes part of the graph.

Traced in place of torch's function, which compiles itself. Inclusive scan in about 2 log2(n) batched calls of the
combining function. Invariant: same results as torch's up to the order of floating-point operations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

Combine = Callable[[list[torch.Tensor], list[torch.Tensor]], list[torch.Tensor]]


def associative_scan(combine_fn: Callable[[Any, Any], Any], xs: Any, dim: int, reverse: bool) -> Any:
    """The scan of the tensors in `xs` (all of one shape) along `dim`; a structure like `xs`."""
    tensors = _tensors(xs)
    dim %= tensors[0].dim()
    moved = [torch.movedim(x, dim, 0) for x in tensors]
    if reverse:
        moved = [torch.flip(x, [0]) for x in moved]
    batched = torch.vmap(combine_fn)

    def combine(left: list[torch.Tensor], right: list[torch.Tensor]) -> list[torch.Tensor]:
        return _tensors(batched(_like(xs, iter(left)), _like(xs, iter(right))))

    scanned = _scan(combine, moved)
    if reverse:
        scanned = [torch.flip(x, [0]) for x in scanned]
    return _like(xs, iter([torch.movedim(x, 0, dim) for x in scanned]))


def _scan(combine: Combine, elements: list[torch.Tensor]) -> list[torch.Tensor]:
    """The scan along dimension 0: of neighbouring pairs first, then of what stands between them."""
    length = elements[0].shape[0]
    if length < 2:
        return elements
    odd = _scan(combine, combine([x[:-1:2] for x in elements], [x[1::2] for x in elements]))
    before = odd if length % 2 else [x[:-1] for x in odd]
    between = combine(before, [x[2::2] for x in elements]) if length > 2 else [x[2::2] for x in elements]
    even = [torch.cat([x[:1], y]) for x, y in zip(elements, between)]
    return [_interleaved(x, y) for x, y in zip(even, odd)]


def _interleaved(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    woven = torch.stack([even[: odd.shape[0]], odd], 1).flatten(0, 1)
    return woven if even.shape[0] == odd.shape[0] else torch.cat([woven, even[-1:]])


def _tensors(structure: Any) -> list[torch.Tensor]:
    if isinstance(structure, torch.Tensor):
        return [structure]
    items = structure.values() if isinstance(structure, dict) else structure
    return [tensor for item in items for tensor in _tensors(item)]


def _like(structure: Any, tensors: Iterator[torch.Tensor]) -> Any:
    if isinstance(structure, torch.Tensor):
        return next(tensors)
    if isinstance(structure, dict):
        return {key: _like(item, tensors) for key, item in structure.items()}
    return type(structure)([_like(item, tensors) for item in structure])
