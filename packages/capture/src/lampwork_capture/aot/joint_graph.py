"""The joint graph: the captured graph and its derivatives, recorded in one run through the autograd engine.

After the forward run the engine computes gradients of the results, with a placeholder (a *tangent*) for what arrives
for each; asked for a higher order, it differentiates these gradients again. So every formula is eager's own, at any
order, and what the backward pass reads of the forward pass is what eager saves. The next stage is `partition`.
Invariant: nodes stand in the order in which they were recorded: the forward pass first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import SymInt, Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from . import torch_layer
from .errors import UnsupportedForAot
from .fold import fold
from .functionalize import Prepared, Trace, finish, traced
from .layouts import synchronise
from .metadata import FunctionalGraph, is_dense
from .trace import DecompositionTable

Mask = tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class JointGraph:
    """Forward and backward pass as one functional ATen graph.

    `functional.graph` returns the results of the forward pass, then the gradients that exist, then `saved`: what
    autograd saved of the forward pass. `tangents[k]` holds, for
    order `k + 1`, a placeholder for each value that is differentiated there, or None where nothing arrives: at order 1
    for each result, above for each gradient of the order below. `gradients` are those of the highest order: for each
    input of the captured graph, then for each entry of the tangents of the orders below.
    """

    functional: FunctionalGraph
    forward: frozenset[fx.Node]
    results: tuple[fx.Node, ...]
    tangents: tuple[tuple[fx.Node | None, ...], ...]
    gradients: tuple[fx.Node | None, ...]
    saved: tuple[fx.Node, ...]


def trace_joint(prepared: Prepared, decompositions: DecompositionTable, masks: Sequence[Mask] = ()) -> JointGraph:
    """The joint graph of order `max(len(masks), 1)`.

    `masks[k]` says which values of order `k + 1` get a tangent; without masks all differentiable results do. Raises
    UnsupportedForAot for what has no functional form or needs memory that no tensor of the graph owns.
    """
    with traced(prepared, decompositions, with_autograd=True) as trace, torch.enable_grad():
        forward = frozenset(trace.recorder.graph.nodes)
        values = _differentiable(trace)
        trace.recorder.begin_backward(trace.lines)
        with torch_layer.disable_autocast():
            tangents, gradients = _Differentiation(prepared.fake_mode, trace).run(values, masks)
        nodes = [None if g is None else trace.recorder.node_of(g) for g in gradients]
        outputs = [*trace.observed.results, *(node for node in nodes if node is not None)]
        graph, end = fold(trace.recorder.graph, outputs, trace.saved)
    # folding may have put other nodes in the places of outputs
    (returned,) = graph.find_nodes(op="output")[0].args
    count = len(trace.observed.results)
    rest = iter(returned[count:end])
    return JointGraph(
        finish(prepared, trace, graph, count),
        forward.intersection(graph.nodes),
        tuple(returned[:count]),
        tangents,
        tuple(None if node is None else next(rest) for node in nodes),
        tuple(returned[end:]),
    )


def _differentiable(trace: Trace) -> list[Tensor | None]:
    """For each result the tensor to differentiate, or None."""
    observed = trace.observed
    if any(m.metadata is not None and (m.differentiable or trace.edges[m.index]) for m in observed.mutations):
        raise UnsupportedForAot("an input that requires gradients is given other sizes or strides in place")
    bases = {spec.index for spec in observed.outputs if spec.view is not None and spec.requires_grad}
    written = {m.result: m.differentiable for m in observed.mutations if m.result is not None}
    found: list[Tensor | None] = []
    for index, value in enumerate(observed.values):
        if value is None:
            if index in bases and isinstance(observed.results[index].meta["val"], Tensor):
                raise UnsupportedForAot("an output that requires gradients views a tensor that the graph never held")
            found.append(None)
            continue
        wanted = written.get(index, True) and value.requires_grad
        if wanted and value.is_leaf:
            raise UnsupportedForAot("an output is a tensor that is made to require gradients inside of the graph")
        if index in bases and not wanted:
            raise UnsupportedForAot("an output that requires gradients views a tensor that does not")
        found.append(value if wanted else None)
    return found


class _Differentiation:
    """Differentiates a trace once for each order."""

    def __init__(self, fake_mode: FakeTensorMode, trace: Trace) -> None:
        self._fake_mode = fake_mode
        self._trace = trace
        self._tangents: list[tuple[fx.Node | None, ...]] = []

    def run(
        self, values: Sequence[Tensor | None], masks: Sequence[Mask]
    ) -> tuple[tuple[tuple[fx.Node | None, ...], ...], list[Tensor | None]]:
        """The tangents of each order, and the fake values of the gradients of the highest."""
        chosen = masks or [tuple(value is not None for value in values)]
        sources: list[Any] = list(self._trace.edges)
        for order, mask in enumerate(chosen, 1):
            last = order == len(chosen)
            tangents = [
                self._tangent(f"tangent{order}_{place}" if order > 1 else f"tangent_{place}", value, not last)
                if value is not None and present
                else None
                for place, (value, present) in enumerate(zip(values, mask, strict=True))
            ]
            values = self._gradients(values, tangents, sources, last)
            sources += tangents
        return tuple(self._tangents), [None if value is None else self._settled(value) for value in values]

    def _tangent(self, name: str, value: Tensor, requires_grad: bool) -> Tensor:
        strides = value.stride() if is_dense(value) else _contiguous_strides(value.shape)
        with torch_layer.exclude_keys(torch_layer.FUNCTIONALIZE), torch_layer.disable_dispatch():
            memory = torch.empty_strided(value.shape, strides, dtype=value.dtype, device="meta")
            fake = FakeTensor(self._fake_mode, memory, value.device)
        self._trace.recorder.placeholder(name, fake, {})
        wrapped = self._trace.wrap(fake)
        return wrapped.requires_grad_() if requires_grad else wrapped

    def _gradients(
        self, values: Sequence[Tensor | None], tangents: list[Tensor | None], sources: Sequence[Any], last: bool
    ) -> list[Tensor | None]:
        pairs = [(value, tangent) for value, tangent in zip(values, tangents) if tangent is not None]
        recorder = self._trace.recorder
        self._tangents.append(
            tuple(None if t is None else recorder.node_of(torch_layer.from_functional(t)) for t in tangents)
        )
        wanted = [source for source in sources if source is not None]
        if not wanted or not pairs:
            return [None] * len(sources)
        try:
            found = torch.autograd.grad(  # pyright: ignore[reportCallIssue]
                [value for value, _ in pairs],  # pyright: ignore[reportArgumentType]
                wanted,
                [tangent for _, tangent in pairs],
                allow_unused=True,
                create_graph=not last,
            )
        except UnsupportedForAot:
            raise
        except Exception as error:  # an error of the program's backward pass: eager execution raises it in its place
            reason = f"the backward pass cannot be traced: {type(error).__name__}: {error}"
            raise recorder.unsupported(reason) from error
        rest = iter(found)
        gradients = [None if source is None else next(rest) for source in sources]
        return gradients if last else [g if g is not None and g.requires_grad else None for g in gradients]

    def _settled(self, gradient: Tensor) -> Tensor:
        """The fake value of a gradient, in memory without gaps and without lazy conjugation."""
        if not torch_layer.is_functional(gradient):
            raise UnsupportedForAot("a gradient is a tensor that the graph did not compute")
        with torch.no_grad():
            gradient = gradient.resolve_conj().resolve_neg()
            synchronise(gradient)
            if not is_dense(gradient):
                gradient = gradient.contiguous()
        return torch_layer.from_functional(gradient)


def _contiguous_strides(sizes: Sequence[int | SymInt]) -> list[Any]:
    strides: list[Any] = []
    step: Any = 1
    for size in reversed(sizes):
        strides.append(step)
        step = step * torch.sym_max(size, 1)
    return strides[::-1]
