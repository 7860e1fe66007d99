"""`call_autograd_function`: the graph operation that runs a user's `torch.autograd.Function` from two subgraphs.

One subgraph is the traced `forward`, the other the traced `backward`; autograd sees one function, as in eager.
Invariant: what `backward` needs of `forward` is what the second subgraph captures of the first, and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .transforms import plain_call

Body = Callable[..., Sequence[torch.Tensor]]


@dataclass(frozen=True, slots=True)
class _Call:
    """What one call passes to autograd besides the tensors."""

    forward: Body
    backward: Body
    captured: Sequence[torch.Tensor]
    outputs: int
    checked: Sequence[bool]
    fixed: Sequence[int]
    gradients: Sequence[int | None]


class _TracedFunction(torch.autograd.Function):
    """The function as autograd runs it; a subclass for each name, which is what `grad_fn` shows."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = call.forward(*tensors, *call.captured)
        results, kept = tuple(found[: call.outputs]), found[call.outputs :]
        ctx.call = call
        ctx.save_for_backward(*(tensor for tensor, checked in zip(kept, call.checked) if checked))
        ctx.unchecked = [tensor for tensor, checked in zip(kept, call.checked) if not checked]
        ctx.mark_non_differentiable(*(results[index] for index in call.fixed))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        call: _Call = ctx.call
        saved, unchecked = iter(ctx.saved_tensors), iter(ctx.unchecked)
        kept = [next(saved) if checked else next(unchecked) for checked in call.checked]
        found = call.backward(*gradients, *kept)
        return (None, *(None if index is None else found[index] for index in call.gradients))


@functools.cache
def _function_named(name: str) -> Any:
    return type(name, (_TracedFunction,), {})


def call_autograd_function(
    name: str,
    forward: Body,
    backward: Body,
    captured: Sequence[torch.Tensor],
    outputs: int,
    checked: Sequence[bool],
    fixed: Sequence[int],
    gradients: Sequence[int | None],
    tensors: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """The results of the function for these tensors, one for each of `outputs`.

    `forward(*tensors, *captured)` gives the results and then what backward keeps: saved with a check of versions where
    `checked`. `backward(*gradients of results, *kept)` gives a flat tuple; `gradients` says which of it belongs to each
    input. `fixed`: results that are not differentiable.
    """
    call = _Call(plain_call(forward), plain_call(backward), captured, outputs, checked, fixed, gradients)
    return _function_named(name).apply(call, *tensors)
