"""What arrives for the backward pass: tangents brought into the memory order that it was compiled for, and let go of.

The engine holds what it hands to a node until the node returns, so a large tangent (that of the logits, say) would
outlive its last reader. Where nobody but the engine knows the tensor, its memory is taken out of it. Invariant: a
tensor that a hook, the user or another node may see keeps its memory.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor


def laid_out(tangent: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """A tangent with its dimensions in this order in memory, without gaps and lazy flags."""
    if tangent is None:
        raise AssertionError("a derivative that was compiled for a tangent is called without it")
    tangent = tangent.resolve_conj().resolve_neg()
    if dims == tuple(range(len(dims))):
        return tangent.contiguous()
    inverse = [dims.index(dim) for dim in range(len(dims))]
    return tangent.permute(dims).contiguous().permute(inverse)


def take(tangents: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
    """The tangents; those that only the engine and the caller's argument tuple hold lose their memory to new tensors.

    To be called from `backward(ctx, *tangents)` itself, with its arguments: references are counted.
    """
    return tuple(_taken(t) if t is not None and _references(t) == _references_of_the_engine() else t for t in tangents)


def _taken(tangent: Tensor) -> Tensor:
    memory = tangent.detach()
    tangent.data = torch.empty(0, dtype=tangent.dtype, device=tangent.device)
    return memory


def _references(tangent: Tensor) -> tuple[int, int, int] | None:
    """How many hold the Python object, the tensor and its memory; None where torch does not tell."""
    use_count = getattr(tangent, "_use_count", None)
    if use_count is None or type(tangent) is not Tensor or tangent._is_view():
        return None
    storage = tangent.untyped_storage()
    return sys.getrefcount(tangent), use_count(), torch._C._storage_Use_Count(storage._cdata)  # pyright: ignore


@functools.cache
def _references_of_the_engine() -> tuple[int, int, int] | None:
    """What `_references` counts in `take` for a tensor that nobody else holds, found out by a backward pass."""
    if not _Probe.found:
        return None
    return _Probe.found[-1]


class _Probe(torch.autograd.Function):
    found: ClassVar[list[tuple[int, int, int] | None]] = []

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor * 2

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> Tensor | None:
        _Probe.found.extend(_counted(tangents))
        return tangents[0]


def _counted(tangents: Sequence[Tensor | None]) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_references(t) if t is not None else None for t in tangents)


def count_references() -> None:
    """Find out, once, how the engine holds tangents; before the first backward pass of a compiled graph."""
    if not _Probe.found:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = torch.ones(2, requires_grad=True)
            _Probe.apply(leaf).square().sum().backward()  # pyright: ignore
