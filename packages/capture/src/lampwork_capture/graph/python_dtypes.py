"""Python's number classes as dtypes: `torch.zeros(3, dtype=int)`, `x.to(float)`.

torch takes them, but the text of a graph module has no name for a class; so the graph gets the dtype that torch takes a
class for. Invariant: none of these classes is left among the arguments of a node; any other is left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..graph_break import BreakId, GraphBreak
from .operator_effects import target_is_users

_DTYPE_OF: Mapping[type, torch.dtype] = {
    int: torch.int64,
    float: torch.float64,
    bool: torch.bool,
    complex: torch.complex128,
}


def with_torch_dtypes(
    op: str, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a node, classes among them as dtypes. Raises GraphBreak where code of the user's takes one."""
    if not any(type(value) is type for value in (*args, *kwargs.values())):
        return args, kwargs
    if target_is_users(op, target):
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, "a class cannot be passed to an operation of the user's")
    return [_dtype(value) for value in args], {name: _dtype(value) for name, value in kwargs.items()}


def _dtype(value: Any) -> Any:
    return _DTYPE_OF.get(value, value) if type(value) is type else value
