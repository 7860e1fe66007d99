"""The autograd function around a compiled forward and its compiled derivatives: what runs in a training step.

One node of autograd's graph stands for the whole captured graph. Its backward frees what was kept as soon as eager
would, and under `create_graph=True` calls the next function, whose backward is the derivative of one order more.
Invariant: a compiled derivative takes the kept values and the tangents of its order and those below, and nothing else,
so that every order shares what the one forward pass kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from . import torch_layer
from .joint_graph import Mask
from .split_graphs import KeptValue, Origin
from .tangents import laid_out, take

Tangents = tuple[tuple[Tensor | None, ...], ...]
"""For each order, what arrived for each value that is differentiated there."""


@dataclass(frozen=True, slots=True)
class CompiledDerivative:
    """A compiled backward graph: which kept values and tangents it takes, and which gradients it returns."""

    run: Callable[[list[Any]], Sequence[Tensor]]
    """Takes the list of arguments as its own: it may empty it and free each argument behind its last reader."""
    kept: tuple[int, ...]
    tangents: tuple[tuple[int, int, tuple[int, ...]], ...]  # order, place, and how its memory is ordered
    gradients: Mask


class Derivatives(Protocol):
    """The derivatives of one captured graph, compiled when first asked for."""

    def get(self, masks: tuple[Mask, ...], wanted: Mask) -> CompiledDerivative:
        """The derivative of order `len(masks)` for calls in which the tangents of `masks` arrive; `wanted` says which
        of its gradients are asked for."""
        ...


@dataclass(frozen=True, slots=True)
class TrainedGraph:
    """A compiled forward graph that autograd can differentiate: `graph(*inputs)` gives the list of results."""

    forward: Callable[..., Sequence[Any]]
    derivatives: Derivatives
    result_count: int
    differentiable: Mask  # of the results
    is_tensor: Mask  # of the inputs
    requires_grad: Mask
    kept: tuple[KeptValue, ...]

    def __call__(self, *inputs: Any) -> list[Any]:
        kept = {value.index for value in self.kept if value.origin is Origin.INPUT}
        links = {
            index: tensor if tensor.is_leaf else _Link.apply(tensor)
            for index, (tensor, flag) in enumerate(zip(inputs, self.requires_grad))
            if flag and index not in kept
        }
        return list(_Forward.apply(self, links, *inputs))  # pyright: ignore[reportGeneralTypeIssues]


class _Link(torch.autograd.Function):
    """A tensor with the history of another and without its memory: derivatives of higher order reach it by this."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.new_empty(1).expand(tensor.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


class _Forward(torch.autograd.Function):
    """The captured graph. Arguments: the graph, links to inputs that are not kept, the inputs."""

    @staticmethod
    def forward(ctx: Any, graph: TrainedGraph, links: dict[int, Tensor], *inputs: Any) -> tuple[Any, ...]:
        outputs = graph.forward(*inputs)
        values = [inputs[k.index] if k.origin is Origin.INPUT else outputs[k.index] for k in graph.kept]
        ctx.set_materialize_grads(False)
        ctx.graph, ctx.links = graph, links
        ctx.save_for_backward(*(value for value, k in zip(values, graph.kept) if k.is_tensor))
        ctx.numbers = [value for value, k in zip(values, graph.kept) if not k.is_tensor]
        results = tuple(outputs[: graph.result_count])
        fixed = (r for r, flag in zip(results, graph.differentiable) if not flag and isinstance(r, Tensor))
        ctx.mark_non_differentiable(*fixed)
        return results

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        graph: TrainedGraph = ctx.graph
        kept = _Kept.of(ctx, graph.kept)
        wanted = _wanted(ctx, 2, graph.is_tensor)
        if torch.is_grad_enabled():
            inputs = {k.index: value for k, value in zip(graph.kept, kept.values) if k.origin is Origin.INPUT}
            primals = [inputs.get(i, ctx.links.get(i)) if flag else None for i, flag in enumerate(graph.requires_grad)]
            return (None, None, *_differentiably(graph, kept.values, primals, (tangents,), wanted))
        return (None, None, *_gradients(graph, kept.take(), [take(tangents)], wanted))


@dataclass(slots=True)
class _Kept:
    """The kept values of one call, in order."""

    values: list[Any]

    @staticmethod
    def of(ctx: Any, kept: Sequence[KeptValue]) -> _Kept:
        """Read from `ctx`, which lets go of them unless autograd's graph is retained."""
        tensors, numbers = iter(ctx.saved_tensors), iter(ctx.numbers)
        ctx.maybe_clear_saved_tensors()
        return _Kept([next(tensors if k.is_tensor else numbers) for k in kept])

    def take(self) -> list[Any]:
        """The values, which are the caller's from then on."""
        values, self.values = self.values, []
        return values


class _Derivative(torch.autograd.Function):
    """The derivative of some order, itself differentiable.

    Arguments: a _Call, then the inputs that are differentiated (or links to them) and the tangents, flat.
    """

    @staticmethod
    def forward(ctx: Any, call: _Call, *sources: Tensor | None) -> tuple[Tensor | None, ...]:
        ctx.set_materialize_grads(False)
        ctx.call = call
        ctx.save_for_backward(*(s for s in sources if s is not None), *(v for v in call.kept if isinstance(v, Tensor)))
        ctx.there = [s is not None for s in sources]
        arrived = call.tangents_of(sources)
        kept, call.kept = call.kept, [v for v in call.kept if not isinstance(v, Tensor)]
        return tuple(_gradients(call.graph, list(kept), list(arrived), call.wanted))

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        tensors, numbers = iter(ctx.saved_tensors), iter(call.kept)
        sources = [next(tensors) if there else None for there in ctx.there]
        kept = [next(tensors if k.is_tensor else numbers) for k in call.graph.kept]
        ctx.maybe_clear_saved_tensors()
        arrived = (*call.tangents_of(sources), tangents)
        wanted = _wanted(ctx, 1, ctx.there)
        if torch.is_grad_enabled():
            return (None, *_differentiably(call.graph, kept, sources[: call.inputs], arrived, wanted))
        return (None, *_gradients(call.graph, kept, list(arrived), wanted))


@dataclass(slots=True)
class _Call:
    """One call of a derivative, beside the tensors that autograd follows."""

    graph: TrainedGraph
    kept: list[Any]
    wanted: Mask
    inputs: int  # how many of the arguments are inputs of the captured graph
    counts: tuple[int, ...]  # how many of the others are tangents of each order

    def tangents_of(self, sources: Sequence[Tensor | None]) -> Tangents:
        """The tangents among the arguments, by order."""
        found: list[tuple[Tensor | None, ...]] = []
        start = self.inputs
        for count in self.counts:
            found.append(tuple(sources[start : start + count]))
            start += count
        return tuple(found)


def _wanted(ctx: Any, skipped: int, is_tensor: Sequence[bool]) -> Mask:
    """Which arguments' gradients the running backward pass will use; `is_tensor` is about those behind `skipped`."""
    edges = iter(ctx.next_functions)  # of tensors only
    needed = ctx.needs_input_grad[skipped:]
    return tuple(there and _is_used(flag, next(edges)[0]) for there, flag in zip(is_tensor, needed, strict=True))


def _is_used(needed: bool, node: Any) -> bool:
    if not needed or node is None:
        return False
    try:
        return torch_layer.will_execute(node)
    except RuntimeError:  # the engine does not say so of a leaf that `torch.autograd.grad` asks for
        return True


def _differentiably(
    graph: TrainedGraph, kept: list[Any], primals: Sequence[Tensor | None], arrived: Tangents, wanted: Mask
) -> Sequence[Tensor | None]:
    call = _Call(graph, kept, wanted, len(primals), tuple(map(len, arrived)))
    flat = [tangent for tangents in arrived for tangent in tangents]
    return _Derivative.apply(call, *primals, *flat)  # pyright: ignore[reportReturnType]


def _gradients(
    graph: TrainedGraph, kept: list[Any], arrived: list[tuple[Tensor | None, ...]], wanted: Mask
) -> list[Tensor | None]:
    """Runs the compiled derivative; `kept` and `arrived` are used up."""
    masks = tuple(tuple(tangent is not None for tangent in tangents) for tangents in arrived)
    derivative = graph.derivatives.get(masks, wanted)
    arguments = [kept[place] for place in derivative.kept]
    kept.clear()
    for order, place, dims in derivative.tangents:
        arguments.append(laid_out(arrived[order][place], dims))
    arrived.clear()
    found = iter(derivative.run(arguments))
    return [next(found) if there else None for there in derivative.gradients]
