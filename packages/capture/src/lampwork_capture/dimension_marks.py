"""Dimension marks: what users said about single dimensions of tensors, ours and those of torch's own capture.

`mark_dynamic` and `mark_static` write them on the tensor; a trace reads them when the tensor becomes an input.
Invariant: a mark changes nothing but which sizes are symbolic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from lampwork_symshape.dim_policy import DimMark

_DYNAMIC = "_lampwork_dynamic_dims"
_STATIC = "_lampwork_static_dims"


@dataclass(frozen=True, slots=True)
class Mark:
    """One dimension's mark. `must_hold`: a program that needs one certain size is in error."""

    mark: DimMark
    must_hold: bool = False


def mark_dynamic(
    tensor: torch.Tensor, dim: int | Sequence[int], min: int | None = None, max: int | None = None
) -> None:
    """Say that a size of a tensor varies, within inclusive bounds: it is symbolic from the first capture on.

    A captured program that works for one size only raises `SpecializedDimensionError` then, with the line that needs
    it. Without `min` sizes from 1 are meant; 0 is a capture of its own unless `min` is 0. Negative `dim` counts from
    the end; several are marked alike. Raises IndexError for a dimension that there is not, TypeError for bounds that
    are no integers, ValueError for bounds without a size in them.
    """
    numbers = [_checked(tensor, each) for each in ((dim,) if isinstance(dim, int) else dim)]
    for name, bound in (("min", min), ("max", max)):
        if bound is not None and type(bound) is not int:
            raise TypeError(f"mark_dynamic: {name}={bound!r} is no integer")
    if min is not None and min < 0:
        raise ValueError(f"mark_dynamic: min={min} is no size")
    if min is not None and max is not None and min > max:
        raise ValueError(f"mark_dynamic: no size is at least {min} and at most {max}")
    marks: dict[int, tuple[int | None, int | None]] = getattr(tensor, _DYNAMIC, {})
    setattr(tensor, _DYNAMIC, {**marks, **dict.fromkeys(numbers, (min, max))})


def mark_static(tensor: torch.Tensor, dim: int | Sequence[int] | None = None) -> None:
    """Say that a size of a tensor (None: each of them) does not vary: each size is a capture of its own.

    Raises IndexError for a dimension that there is not.
    """
    dims = range(tensor.dim()) if dim is None else (dim,) if isinstance(dim, int) else dim
    marks: set[int] = getattr(tensor, _STATIC, set())
    setattr(tensor, _STATIC, {*marks, *(_checked(tensor, each) for each in dims)})


def _checked(tensor: torch.Tensor, dim: int) -> int:
    rank = tensor.dim()
    if not -rank <= dim < rank:
        raise IndexError(f"dimension {dim} of a tensor with {rank} dimensions")
    return dim % rank


def marks_of(tensor: torch.Tensor) -> Mapping[int, Mark]:
    """The marks of a tensor by dimension. A static mark wins over a dynamic one."""
    attributes = cast("dict[str, Any] | None", getattr(tensor, "__dict__", None))
    if not attributes:
        return {}
    found: dict[int, Mark] = {}
    for dim in attributes.get("_dynamo_weak_dynamic_indices", ()):
        found[dim] = Mark(DimMark(True))
    for dim in attributes.get("_dynamo_unbacked_indices", ()):
        found[dim] = Mark(DimMark(True), must_hold=True)
    for dim in attributes.get("_dynamo_dynamic_indices", ()):
        found[dim] = Mark(DimMark(True), must_hold=True)
    for entry in attributes.get("_dynamo_dynamic_range", ()):
        found[entry.dim] = Mark(DimMark(True, entry.min, entry.max), must_hold=True)
    for dim, (lower, upper) in attributes.get(_DYNAMIC, {}).items():
        found[dim] = Mark(DimMark(True, lower, upper), must_hold=True)
    for dim in (*attributes.get("_dynamo_static_indices", ()), *attributes.get(_STATIC, ())):
        found[dim] = Mark(DimMark(False))
    return found
