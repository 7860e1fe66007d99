"""Symbolic forms: what a graph calls in place of functions of torch that read sizes, or numbers, as C numbers.

Called by the graph runner. torch itself would compute `torch.tensor` of symbolic numbers from those of the trace, and
ask for the sizes that pooling and padding have in it. Invariant: same results as the original, for the sizes and
numbers of each call; without symbolic ones the original is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import SymInt, Tensor
from torch.utils._pytree import tree_leaves

from ..graph.symbolic_runs import EXACT_FORMS, PLAIN, with_plain_numbers


def tensor(data: Any, **options: Any) -> Tensor:
    """`torch.tensor(data, **options)`; nested lists may hold symbolic numbers."""
    if not any(type(leaf) in PLAIN for leaf in tree_leaves(data)):
        return torch.tensor(data, **options)
    alike = torch.tensor(with_plain_numbers(data), **options)

    def build(part: Any) -> Tensor:
        if isinstance(part, (list, tuple)):
            return torch.stack([build(item) for item in part])
        if isinstance(part, Tensor):
            return part.to(device=alike.device, dtype=alike.dtype)
        return torch.full((), part, dtype=alike.dtype, device=alike.device)

    made = build(data)
    return made.requires_grad_() if options.get("requires_grad") else made


def _for_symbolic_sizes(function: Callable[..., Any], form: Callable[..., Any]) -> Callable[..., Any]:
    """`form` where a tensor among the arguments has a symbolic size, else `function`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        symbolic = any(isinstance(size, SymInt) for tensor in tensors for size in tensor.shape)
        return (form if symbolic else function)(*args, **kwargs)

    return call


REPLACEMENTS: Mapping[Any, Callable[..., Any]] = {
    torch.tensor: tensor,
    **{function: _for_symbolic_sizes(function, form) for function, form in EXACT_FORMS.items()},
}
