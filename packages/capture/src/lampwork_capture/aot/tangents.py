"""What arrives for the backward pass: tangents brought into the memory order that it was compiled for, and let go of.

The engine holds what it hands to a node until the node returns, so a large tangent (that of the logits, say) would
outlive its last reader. Where nobody but the engine knows the tensor, its memory is taken out of it. Invariant: a
tensor that a hook, the user or another node may see keeps its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from . import torch_layer


def laid_out(tangent: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """A tangent with its dimensions in this order in memory, without gaps and lazy flags."""
    if tangent is None:
        raise AssertionError("a derivative that was compiled for a tangent is called without it")
    if tangent.layout is not torch.strided:
        tangent = tangent.to_dense()
    tangent = tangent.resolve_conj().resolve_neg()
    if dims == tuple(range(len(dims))):
        return tangent.contiguous()
    inverse = [dims.index(dim) for dim in range(len(dims))]
    return tangent.permute(dims).contiguous().permute(inverse)


def is_batched(tangent: Tensor | None) -> bool:
    """Whether a tangent stands for many, as under `torch.autograd.functional.jacobian(vectorize=True)`."""
    if tangent is None:
        return False
    return torch_layer.is_batched_by_functorch(tangent) or torch_layer.is_batched_by_autograd(tangent)


class Engine:
    """How autograd's engine holds the tangents that it hands to a node, found out by backward passes.

    `references` is None where that cannot be told: then no tangent is let go of.
    """

    def __init__(self) -> None:
        self._references: References | None = None

    def count(self) -> None:
        """Find it out; before the first backward pass of a compiled graph."""
        if self._references is None and not _is_watched():
            counts = [_probe(held) for held in (False, False, False, True)]
            alone, held = counts[:-1], counts[-1]
            if None not in counts and len(set(alone)) == 1 and held == alone[0].and_one_more():  # pyright: ignore
                self._references = alone[0]

    def take(self, tangents: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        """The tangents; those that only the engine and the caller's argument tuple hold lose their memory to new ones.

        To be called from `backward(ctx, *tangents)` itself, with its arguments: references are counted.
        """
        expected = self._references
        if expected is None or _is_watched():
            return tuple(tangents)
        return tuple(_taken(t) if t is not None and _references(t) == expected else t for t in tangents)


ENGINE = Engine()


@dataclass(frozen=True, slots=True)
class References:
    """How many hold the Python object, the tensor and its memory."""

    of_object: int
    of_tensor: int
    of_memory: int

    def and_one_more(self) -> References:
        """With one more holder of the Python object."""
        return References(self.of_object + 1, self.of_tensor, self.of_memory)


def _is_watched() -> bool:
    """Whether a debugger or a tracer may hold frames, and so what is in them."""
    return sys.gettrace() is not None or sys.getprofile() is not None


def _taken(tangent: Tensor) -> Tensor:
    memory = tangent.detach()
    tangent.data = torch.empty(0, dtype=tangent.dtype, device=tangent.device)
    return memory


def _references(tangent: Tensor) -> References | None:
    """None for a tensor whose memory is not its own, or where torch does not tell."""
    use_count = getattr(tangent, "_use_count", None)
    if use_count is None or type(tangent) is not Tensor or tangent.layout is not torch.strided:
        return None
    if is_batched(tangent) or tangent._is_view():
        return None
    storage = tangent.untyped_storage()
    return References(sys.getrefcount(tangent), use_count(), torch_layer.storage_use_count(storage._cdata))


class _Probe(torch.autograd.Function):
    """Counts, where `take` does, what holds a tangent that nobody keeps."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, found: list[References | None]) -> Tensor:
        ctx.found = found
        return tensor * 2

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, None]:
        ctx.found.extend(_counted(tangents))
        return tangents[0], None


def _counted(tangents: Sequence[Tensor | None]) -> tuple[References | None, ...]:
    return tuple(_references(t) if t is not None else None for t in tangents)


def _probe(held: bool) -> References | None:
    """The count in one backward pass; `held`: a hook keeps the tangent."""
    found: list[References | None] = []
    kept: list[Tensor] = []
    with torch.inference_mode(False), torch.enable_grad(), saved_tensors_hooks(_itself, _itself):
        leaf = torch.ones(2, requires_grad=True)
        value: Any = _Probe.apply(leaf, found)
        if held:
            value.register_hook(kept.append)
        torch.autograd.grad((value * 3).sum(), leaf)
    return found[0]


def _itself(tensor: Tensor) -> Tensor:
    return tensor
