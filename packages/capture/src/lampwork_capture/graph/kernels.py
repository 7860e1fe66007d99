"""Kernels: which operators surely have one for the tensors at hand, so that they raise no NotImplementedError.

Programs that run on many devices put an operator in `try`, with another way for where it is not implemented. One that
raises for some data, an index out of range, does so with other errors, which such a handler lets pass; so the graph
need not end in front of it. Asked by `graph/builder.py`. Invariant: a yes is certain; what is not listed may lack one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_DEVICES = frozenset({"cpu", "cuda"})
_DTYPES = frozenset(
    {torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32,
     torch.float64, torch.complex64, torch.complex128, torch.bool}
)  # fmt: skip
# Of those that may raise for some data: what has kernels for all of these
_WITH_ALL: frozenset[str] = frozenset(
    {"index", "index_put", "index_put_", "_index_put_impl_", "gather", "take", "put_", "scatter", "scatter_",
     "scatter_add", "scatter_add_", "index_select", "index_add", "index_add_", "index_copy", "index_copy_",
     "index_fill", "index_fill_", "masked_scatter", "masked_scatter_", "embedding"}
)  # fmt: skip


def have_kernels(operators: Iterable[Any], values: Iterable[Any]) -> bool:
    """Whether all of these operators, which a node dispatched, have a kernel for the tensors among these values."""
    for operator in operators:
        if getattr(operator, "namespace", "") != "aten" or operator.overloadpacket.__name__ not in _WITH_ALL:
            return False
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return all(tensor.dtype in _DTYPES and tensor.device.type in _DEVICES for tensor in tensors)
