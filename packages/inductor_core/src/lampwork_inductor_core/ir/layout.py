"""Layout: where the elements of a buffer lie, as symshape expressions.

Every buffer of a lowered graph has one. Sizes, strides and the offset are expressions everywhere, even while all of
them are constants. Invariant: element (i0, i1, ...) lies at the flat offset `offset + sum(i_k * strides[k])`, counted
in elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lampwork_symshape import IntExpr, integer

_ZERO = integer(0)


@dataclass(frozen=True, slots=True)
class Layout:
    """Device, dtype, sizes, strides and storage offset (in elements) of a strided buffer."""

    device: torch.device
    dtype: torch.dtype
    sizes: tuple[IntExpr, ...]
    strides: tuple[IntExpr, ...]
    offset: IntExpr = _ZERO

    def index(self, indices: Sequence[IntExpr]) -> IntExpr:
        """The flat element offset of one element."""
        flat = self.offset
        for position, stride in zip(indices, self.strides):
            flat = flat + position * stride
        return flat

    @property
    def element_count(self) -> IntExpr:
        count: IntExpr = integer(1)
        for size in self.sizes:
            count = count * size
        return count


@dataclass(frozen=True, slots=True)
class OpaqueLayout:
    """A buffer that only extern kernels understand (packed weights, lists): its elements are never indexed."""

    device: torch.device
    dtype: torch.dtype | None


def contiguous_strides(sizes: Sequence[IntExpr]) -> tuple[IntExpr, ...]:
    """Row-major strides of a dense buffer."""
    strides: list[IntExpr] = []
    running: IntExpr = integer(1)
    for size in reversed(sizes):
        strides.append(running)
        running = running * size
    return tuple(reversed(strides))
