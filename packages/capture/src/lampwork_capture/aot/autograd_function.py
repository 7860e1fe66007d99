"""The autograd function around a compiled forward and its compiled derivatives: what runs in a training step.

One node of autograd's graph stands for the whole captured graph, and one more for each further stage of its backward
pass. Its backward frees what was kept as soon as eager would, and under `create_graph=True` calls the next function,
whose backward is the derivative of one order more.
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
from .call_sizes import CallSizes, Sizes
from .gradient_stages import CompiledStage, Groups
from .joint_graph import Mask
from .split_graphs import KeptValue, Origin
from .tangents import ENGINE, is_batched, laid_out

Tangents = tuple[tuple[Tensor | None, ...], ...]
"""For each order, what arrived for each value that is differentiated there."""


@dataclass(frozen=True, slots=True)
class CompiledDerivative:
    """A compiled backward graph: which kept values and tangents it takes, and which gradients it returns."""

    run: Callable[[list[Any]], Sequence[Tensor]]
    """Takes the list of arguments as its own: it may empty it and free each argument behind its last reader."""
    operators: Callable[..., Sequence[Tensor]]
    """The same by torch's operators, for tensors that are not plain memory."""
    kept: tuple[int, ...]
    tangents: tuple[tuple[int, int, tuple[int, ...]], ...]  # order, place, and how its memory is ordered
    gradients: Mask


@dataclass(frozen=True, slots=True)
class StagedDerivative:
    """A compiled backward graph in stages. `names` are those of the kept values and tangents that it takes."""

    names: tuple[str, ...]
    kept: tuple[int, ...]
    tangents: tuple[tuple[int, int, tuple[int, ...]], ...]
    stages: tuple[CompiledStage, ...]


class Derivatives(Protocol):
    """The derivatives of one captured graph, compiled when first asked for."""

    def get(self, masks: tuple[Mask, ...], wanted: Mask, sizes: Sizes) -> CompiledDerivative:
        """The derivative of order `len(masks)` for calls of these sizes in which the tangents of `masks` arrive;
        `wanted` says which of its gradients are asked for."""
        ...

    def stages(self, mask: Mask, groups: Groups, sizes: Sizes) -> StagedDerivative:
        """The first derivative in stages, one for each group of inputs."""
        ...

    def prepare(self, graph: TrainedGraph) -> None:
        """Compile what a backward pass from all results needs."""
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
    sizes: CallSizes
    groups: Groups  # more than one: the backward pass runs in stages
    linked: tuple[int, ...]  # inputs that are differentiated and that autograd does not find among the kept values

    def __call__(self, *inputs: Any) -> list[Any]:
        links: dict[int, Tensor] = {}
        for index in self.linked:
            tensor = inputs[index]
            links[index] = tensor if tensor.is_leaf else _Link.apply(tensor)
        call = _ForwardCall(self, links)
        if not self.groups:
            return list(_Forward.apply(call, None, *inputs))  # pyright: ignore[reportGeneralTypeIssues]
        baton, followed = None, list(inputs)
        for number in range(len(self.groups) - 1, 0, -1):
            baton = _Stage.apply(call, number, baton, *(inputs[index] for index in self.groups[number]))
            for index in self.groups[number]:
                followed[index] = inputs[index].detach()
        return list(_Forward.apply(call, baton, *followed))  # pyright: ignore[reportGeneralTypeIssues]


class _ForwardCall:
    """One call of a trained graph: what lies between its forward pass and the last stage of its backward pass."""

    def __init__(self, graph: TrainedGraph, links: dict[int, Tensor]) -> None:
        self.graph = graph
        self.links = links
        self.sizes: Sizes = ()
        self._values: dict[str, Any] = {}
        self._stages: tuple[CompiledStage, ...] = ()
        self._found: dict[int, Tensor | None] | None = None

    def begin(self, kept: list[Any], tangents: tuple[Tensor | None, ...]) -> None:
        """Start a backward pass; `kept` is used up."""
        mask = tuple(tangent is not None for tangent in tangents)
        derivative = self.graph.derivatives.stages(mask, self.graph.groups, self.sizes)
        arguments = [kept[place] for place in derivative.kept]
        kept.clear()
        arguments += [laid_out(tangents[place], dims) for _, place, dims in derivative.tangents]
        arguments += self.sizes
        self._values = dict(zip(derivative.names, arguments, strict=True))
        self._stages, self._found = derivative.stages, None

    def begin_with(self, gradients: Sequence[Tensor | None]) -> None:
        """Start a backward pass all of whose gradients are known."""
        self._found = dict(enumerate(gradients))

    def gradients(self, number: int) -> list[Tensor | None]:
        """The gradients of a stage, in the order of its group."""
        found = self._stages[number](self._values) if self._found is None else self._found
        if number == len(self.graph.groups) - 1:
            self._values, self._found = {}, None
        return [found.get(index) for index in self.graph.groups[number]]


class _Stage(torch.autograd.Function):
    """A further stage of the backward pass. Arguments: the call, its number, the stage behind it, its inputs."""

    @staticmethod
    def forward(ctx: Any, call: _ForwardCall, number: int, behind: Tensor | None, *inputs: Tensor) -> Tensor:
        ctx.call, ctx.number, ctx.is_last = call, number, behind is None
        return torch.zeros(())

    @staticmethod
    def backward(ctx: Any, *batons: Tensor) -> tuple[Tensor | None, ...]:
        baton = None if ctx.is_last else torch.zeros(())
        return (None, None, baton, *ctx.call.gradients(ctx.number))


class _Link(torch.autograd.Function):
    """A tensor with the history of another and without its memory: derivatives of higher order reach it by this."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return tensor.new_empty(1).expand(tensor.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


class _Forward(torch.autograd.Function):
    """The captured graph. Arguments: the call, the second stage of its backward pass if there is one, the inputs."""

    @staticmethod
    def forward(ctx: Any, call: _ForwardCall, baton: Tensor | None, *inputs: Any) -> tuple[Any, ...]:
        graph = call.graph
        call.sizes = graph.sizes.read(inputs)
        outputs = graph.forward(*inputs)
        results = tuple(_by_itself(output) for output in outputs[: graph.result_count])
        made = (*results, *outputs[graph.result_count :])
        values = [(inputs if k.origin is Origin.INPUT else made)[k.index] for k in graph.kept]
        ctx.set_materialize_grads(False)
        ctx.call, ctx.is_staged = call, baton is not None
        ctx.save_for_backward(*(value for value, k in zip(values, graph.kept) if k.is_tensor))
        ctx.numbers = [value for value, k in zip(values, graph.kept) if not k.is_tensor]
        fixed = (r for r, flag in zip(results, graph.differentiable) if not flag and isinstance(r, Tensor))
        ctx.mark_non_differentiable(*fixed)
        return results

    @staticmethod
    def backward(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        call: _ForwardCall = ctx.call
        graph = call.graph
        kept = _Kept.of(ctx, graph.kept)
        if torch.is_grad_enabled():
            inputs = {k.index: value for k, value in zip(graph.kept, kept.values) if k.origin is Origin.INPUT}
            primals = [
                (call.links.get(i) if i in call.links else inputs[i]) if flag else None
                for i, flag in enumerate(graph.requires_grad)
            ]
            wanted = graph.requires_grad if ctx.is_staged else _wanted(ctx, 2, graph.is_tensor)
            found = _differentiably(graph, call.sizes, kept.values, primals, (tangents,), wanted)
            if not ctx.is_staged:
                return (None, None, *found)
            call.begin_with(found)
        elif not ctx.is_staged:
            wanted = _wanted(ctx, 2, graph.is_tensor)
            return (None, None, *_gradients(graph, call.sizes, kept.take(), [ENGINE.take(tangents)], wanted))
        else:
            call.begin(kept.take(), ENGINE.take(tangents))
        first = dict(zip(graph.groups[0], call.gradients(0), strict=True))
        return (None, torch.zeros(()), *(first.get(index) for index in range(len(graph.is_tensor))))


def _by_itself(output: Any) -> Any:
    """A result as a tensor that autograd does not take for a view of one made in here: it may be written to. Writes are
    seen by what is kept in its memory."""
    return output.detach() if isinstance(output, Tensor) and output._is_view() else output


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
        return tuple(_gradients(call.graph, call.sizes, list(kept), list(arrived), call.wanted))

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
            return (None, *_differentiably(call.graph, call.sizes, kept, sources[: call.inputs], arrived, wanted))
        return (None, *_gradients(call.graph, call.sizes, kept, list(arrived), wanted))


@dataclass(slots=True)
class _Call:
    """One call of a derivative, beside the tensors that autograd follows."""

    graph: TrainedGraph
    sizes: Sizes
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
    graph: TrainedGraph,
    sizes: Sizes,
    kept: list[Any],
    primals: Sequence[Tensor | None],
    arrived: Tangents,
    wanted: Mask,
) -> Sequence[Tensor | None]:
    call = _Call(graph, sizes, kept, wanted, len(primals), tuple(map(len, arrived)))
    flat = [tangent for tangents in arrived for tangent in tangents]
    return _Derivative.apply(call, *primals, *flat)  # pyright: ignore[reportReturnType]


def _gradients(
    graph: TrainedGraph, sizes: Sizes, kept: list[Any], arrived: list[tuple[Tensor | None, ...]], wanted: Mask
) -> list[Tensor | None]:
    """Runs the compiled derivative; `kept` and `arrived` are used up."""
    masks = tuple(tuple(tangent is not None for tangent in tangents) for tangents in arrived)
    derivative = graph.derivatives.get(masks, wanted, sizes)
    arguments = [kept[place] for place in derivative.kept]
    kept.clear()
    if any(is_batched(tangent) for tangents in arrived for tangent in tangents):
        arguments += [arrived[order][place] for order, place, _ in derivative.tangents]
        found = iter(derivative.operators(*arguments, *sizes))
    else:
        for order, place, dims in derivative.tangents:
            arguments.append(laid_out(arrived[order][place], dims))
        arguments += sizes
        arrived.clear()
        found = iter(derivative.run(arguments))
    return [next(found) if there else None for there in derivative.gradients]
