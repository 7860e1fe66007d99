"""`torch.tensor` of symbolic numbers, as operators of a graph: torch itself computes it from the numbers of the trace.

Called by the graph runner in the place of `torch.tensor`. Invariant: same shape, dtype and device as the original, and
the values of each call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import SymBool, SymFloat, SymInt, Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

_PLAIN: Mapping[type, Any] = {SymInt: 1, SymFloat: 1.0, SymBool: True}


def tensor(data: Any, **options: Any) -> Tensor:
    """`torch.tensor(data, **options)`; nested lists may hold symbolic numbers."""
    if not any(type(leaf) in _PLAIN for leaf in tree_leaves(data)):
        return torch.tensor(data, **options)
    alike = torch.tensor(tree_map_only(tuple(_PLAIN), lambda number: _PLAIN[type(number)], data), **options)

    def build(part: Any) -> Tensor:
        if isinstance(part, (list, tuple)):
            return torch.stack([build(item) for item in part])
        if isinstance(part, Tensor):
            return part.to(device=alike.device, dtype=alike.dtype)
        return torch.full((), part, dtype=alike.dtype, device=alike.device)

    made = build(data)
    return made.requires_grad_() if options.get("requires_grad") else made


REPLACEMENTS: Mapping[Any, Callable[..., Any]] = {torch.tensor: tensor}
