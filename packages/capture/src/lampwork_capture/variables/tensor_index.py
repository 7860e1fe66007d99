"""Indexing a tensor with integers that the graph computes: torch's own `[...]` takes Python ints only.

Asked by `TensorValue.get_item`. Each such integer becomes a `select` behind the rest of the index. Invariant: an index
that holds anything but integers, slices, `None` and `...` is left as it is.
"""

from __future__ import annotations

import operator
from types import EllipsisType
from typing import Any

import torch
import torch.fx

from ..graph.subgraph import EXAMPLE
from .base import Tracer, Value

_ALL = slice(None)


def select_computed(tracer: Tracer, node: torch.fx.Node, index: Any, rank: int) -> Value | None:
    """`tensor[index]` of a tensor with `rank` dimensions; None if no integer of the index is computed."""
    parts = index if type(index) is tuple else (index,)
    if not any(map(_is_computed, parts)):
        return None
    if not all(part is None or _is_computed(part) or type(part) in (int, slice, EllipsisType) for part in parts):
        return None
    left = rank - sum(1 for part in parts if part is not None and part is not ...)
    if left < 0 or sum(1 for part in parts if part is ...) > 1:
        return None  # eager raises
    dim, selected = 0, []
    for part in parts:
        if _is_computed(part):
            selected.append((dim, part))
        dim += left if part is ... else type(part) is not int
    rest = tuple(_ALL if _is_computed(part) else part for part in parts)
    if any(part is not ... and part != _ALL for part in rest):
        node = tracer.add_node("call_function", operator.getitem, (node, rest), {}).as_graph_argument()
    for dim, part in reversed(selected[1:]):
        node = tracer.add_node("call_method", "select", (node, dim, part), {}).as_graph_argument()
    return tracer.add_node("call_method", "select", (node, *selected[0]), {})


def _is_computed(part: Any) -> bool:
    return isinstance(part, torch.fx.Node) and isinstance(part.meta.get(EXAMPLE), torch.SymInt)
