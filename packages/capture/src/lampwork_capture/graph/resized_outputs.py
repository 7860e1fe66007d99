"""Outputs that an operation gives another size: `torch.add(x, 1, out=o)` with an `o` that does not fit.

Fake tensors lay such an output out row-major; the kernel lays it out like what it reads. The graph builder asks about
each operation that has an `out`. Invariant: an output that was resized has the strides of eager, or the trace breaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lampwork_symshape.expr import IntExpr
from lampwork_symshape.sym_node import expr_of
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._pytree import tree_leaves

from ..graph_break import BreakId, GraphBreak
from .quick_fakes import is_row_major

Sizes = tuple[IntExpr, ...]


def sizes_of_outputs(kwargs: Mapping[str, Any]) -> list[tuple[FakeTensor, Sizes]]:
    """The tensors that an operation shall write to as its `out`, and how large they are."""
    return [(out, _sizes(out)) for out in tree_leaves(kwargs.get("out")) if type(out) is FakeTensor]


def check_resized(before: Sequence[tuple[FakeTensor, Sizes]], args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """An operation ran: raise GraphBreak if it gave an output another size, and nobody knows its strides."""
    resized = [out for out, sizes in before if _sizes(out) != sizes]
    if not resized:
        return
    read = tree_leaves((args, {name: value for name, value in kwargs.items() if name != "out"}))
    tensors = [leaf for leaf in read if isinstance(leaf, torch.Tensor) and not any(leaf is out for out in resized)]
    if not all(type(tensor) is FakeTensor and is_row_major(tensor) for tensor in tensors):
        cause = "`out` is given another size, and lies in memory as the kernel chooses"
        raise GraphBreak(BreakId.TENSOR_KIND, cause, hint="Pass an `out` of the size of the result.")


def _sizes(tensor: torch.Tensor) -> Sizes:
    return tuple(map(expr_of, tensor.shape))
