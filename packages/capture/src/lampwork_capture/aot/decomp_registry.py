"""Registration for the decomposition modules: a table under construction and the arithmetic type of an operator.

Each `decomp_*` module owns one `Registry`; `decompositions` merges their tables. Invariant: one decomposition per
operator overload, and a decomposition is functional: it never mutates, and returns an argument only if it is a view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._ops import OpOverload

F = TypeVar("F", bound=Callable[..., Any])

aten = torch.ops.aten
_LOW_PRECISION = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.complex32: torch.complex64}


class Registry:
    """Collects decompositions: `@registry.of(op, ...)`."""

    def __init__(self) -> None:
        self.table: dict[OpOverload, Callable[..., Any]] = {}

    def of(self, *ops: OpOverload) -> Callable[[F], F]:
        def register(function: F) -> F:
            for op in ops:
                if op in self.table:
                    raise ValueError(f"{op} has two decompositions")
                self.table[op] = function
            return function

        return register


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type eager kernels compute in for tensors of `dtype`: float32 for the 16-bit floats."""
    return _LOW_PRECISION.get(dtype, dtype)


def widen(t: Tensor) -> Tensor:
    """`t` in the type its kernels compute in."""
    wide = _LOW_PRECISION.get(t.dtype)
    return t if wide is None else cast_to(t, wide)


def cast_to(t: Tensor, dtype: torch.dtype) -> Tensor:
    """`t` as `dtype`; `t` itself when it already is."""
    return t if t.dtype == dtype else aten._to_copy.default(t, dtype=dtype)
