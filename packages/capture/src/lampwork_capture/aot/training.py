"""Training: from a captured graph to a callable that autograd can differentiate, to any order.

The whole of it on one page: trace the joint graph, partition it, compile the forward graph now and each derivative when
it is first asked for. Invariant: a backward graph that its compiler refuses is computed operator by operator instead,
from the same kept values; a graph that cannot be traced runs as it was captured. A derivative of higher order that
cannot be traced raises UnsupportedForAot in the backward pass that asks for it.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from .. import _native
from ..graph_backend import GraphBackend
from . import torch_layer
from .autograd_function import CompiledDerivative, StagedDerivative, TrainedGraph
from .call_sizes import BySizes, CallSizes, Sizes
from .checkpointing import restoring_generators, swaps_generators
from .errors import RanEagerlyWarning, UnsupportedForAot
from .functionalize import History, Prepared
from .gradient_stages import Groups, bucket_bytes, compile_stages, cut, group_inputs
from .joint_graph import JointGraph, Mask, trace_joint
from .joint_rewrite import rewritten
from .kept_report import KEPT, report_kept
from .known_sizes import traced
from .partition import PartitionPolicy, backward_reads, is_derivable, partition
from .settings import Settings
from .split_graphs import BackwardGraph, KeptValue, Origin, backward_graph, forward_graph, nodes_named
from .tangents import ENGINE
from .trace import DecompositionTable


def compile_training(
    prepared: Prepared,
    joint: JointGraph,
    forward_compiler: GraphBackend,
    backward_compiler: GraphBackend,
    decompositions: DecompositionTable,
    policy: PartitionPolicy,
) -> TrainedGraph:
    """The compiled form of a captured graph whose first-order joint graph is `joint`."""
    ENGINE.count()
    try:
        joint = rewritten(joint, policy.rewrite)
        chosen = partition(joint, policy)
        graph, kept = forward_graph(joint, chosen.kept)
    except UnsupportedForAot:
        raise
    except Exception as error:  # a failure of ours must not become one of the user's program
        raise UnsupportedForAot(
            f"the partition failed: {type(error).__name__}: {error}", hint="Please report it with this message."
        ) from error
    graph.meta[KEPT] = report_kept(chosen)
    placeholders = graph.graph.find_nodes(op="placeholder")
    with torch.no_grad(), torch_layer.disable_autocast():
        forward = forward_compiler(graph, [node.meta["val"] for node in placeholders])
    inputs = joint.functional.signature.inputs
    sizes = CallSizes.of(prepared)
    bucket = bucket_bytes()
    groups = () if bucket is None else group_inputs(joint, bucket)
    groups = groups if len(groups) > 1 else ()
    requires_grad = tuple(item.history is not History.NONE for item in prepared.inputs)
    found = {value.index for value in kept if value.origin is Origin.INPUT}
    found -= {index for group in groups[1:] for index in group}  # the forward pass sees these detached
    return TrainedGraph(
        forward,
        _Derivatives(prepared, joint, kept, backward_compiler, decompositions, policy, sizes),
        result_count=len(joint.results),
        differentiable=tuple(node is not None for node in joint.tangents[0]),
        is_tensor=tuple(spec.is_tensor for spec in inputs),
        requires_grad=requires_grad,
        kept=kept,
        sizes=sizes,
        groups=groups,
        linked=tuple(i for i, flag in enumerate(requires_grad) if flag and i not in found),
    )


_MOST_SELECTIONS = 4  # of gradients, for the same tangents; then all are computed


class _Derivatives:
    """Compiles derivatives when they are first asked for, and keeps them."""

    def __init__(
        self,
        prepared: Prepared,
        joint: JointGraph,
        kept: tuple[KeptValue, ...],
        compiler: GraphBackend,
        decompositions: DecompositionTable,
        policy: PartitionPolicy,
        sizes: CallSizes,
    ) -> None:
        self._prepared = prepared
        self._joint = joint
        self._kept = tuple(value.node for value in kept)
        self._compiler = compiler
        self._decompositions = decompositions
        self._policy = policy
        self._sizes = sizes
        self._found: dict[tuple[tuple[Mask, ...], Mask], BySizes[CompiledDerivative]] = {}
        self._staged: dict[tuple[Mask, Groups], BySizes[StagedDerivative]] = {}
        self._lock = threading.RLock()

    def get(self, masks: tuple[Mask, ...], wanted: Mask, sizes: Sizes) -> CompiledDerivative:
        if sum(known == masks for known, _ in self._found) >= _MOST_SELECTIONS and (masks, wanted) not in self._found:
            wanted = self._all_gradients(masks)  # gradients that nobody asks for are no error
        found = self._found.get((masks, wanted))
        made = None if found is None else found.find(sizes)
        if made is None:
            with self._lock:
                found = self._found.setdefault((masks, wanted), BySizes(self._prepared, self._sizes))
                made = found.get(sizes, _plainly(lambda: self._compile(masks, wanted)))
        return made

    def _all_gradients(self, masks: tuple[Mask, ...]) -> Mask:
        inputs = tuple(item.history is not History.NONE for item in self._prepared.inputs)
        return (*inputs, *(there for mask in masks[:-1] for there in mask))

    def stages(self, mask: Mask, groups: Groups, sizes: Sizes) -> StagedDerivative:
        with self._lock:
            found = self._staged.setdefault((mask, groups), BySizes(self._prepared, self._sizes))
            return found.get(sizes, _plainly(lambda: self._compile_staged(mask, groups)))

    def prepare(self, graph: TrainedGraph) -> None:
        """Compile what a backward pass from all results needs, at the sizes of the capture."""
        hints = self._sizes.hints(self._prepared)
        if graph.groups:
            self.stages(graph.differentiable, graph.groups, hints)
        else:
            self.get((graph.differentiable,), graph.requires_grad, hints)

    def _graph_of(self, masks: tuple[Mask, ...], wanted: Mask) -> BackwardGraph:
        numbers = self._sizes.numbers(self._prepared)
        if len(masks) == 1:
            first = _aligned(self._joint, masks[0])
            graph = backward_graph(self._joint, self._kept, first, wanted, numbers)
            if graph is not None:
                return graph
        with torch.enable_grad():
            joint = rewritten(trace_joint(self._prepared, self._decompositions, masks), self._policy.rewrite)
        kept = nodes_named(joint, self._kept)
        if not is_derivable(backward_reads(joint), set(kept)):
            raise UnsupportedForAot("a derivative of this order needs a value that the forward pass did not keep")
        graph = backward_graph(joint, kept, _aligned(joint, masks[-1]), wanted, numbers)
        if graph is None:
            raise AssertionError("a joint graph that was traced for the tangents that arrive has absent ones")
        return graph

    def _compile(self, masks: tuple[Mask, ...], wanted: Mask) -> CompiledDerivative:
        graph = self._graph_of(masks, wanted)
        compiled = self._compiled(graph.graph)
        return CompiledDerivative(compiled, graph.graph.forward, graph.kept, _placed(graph), graph.gradients)

    def _compile_staged(self, mask: Mask, groups: Groups) -> StagedDerivative:
        wanted = tuple(node is not None for node in self._joint.gradients)
        graph = self._graph_of((mask,), wanted)
        names = tuple(node.name for node in graph.graph.graph.find_nodes(op="placeholder"))
        return StagedDerivative(names, graph.kept, _placed(graph), compile_stages(cut(graph, groups), self._compiled))

    def _compiled(self, graph: fx.GraphModule) -> Callable[[list[Any]], Sequence[Any]]:
        """How a compiled graph is called with arguments that become its own.

        A backend's callable may offer `run_owned(arguments)`, which frees arguments as soon as they are not needed.
        """
        examples = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
        try:
            with torch.no_grad(), torch_layer.disable_autocast():
                compiled = self._compiler(graph, examples)
        except Exception as error:
            if Settings.from_environment().strict:
                raise
            warnings.warn(
                f"a backward pass runs eagerly: {type(error).__name__}: {error}", RanEagerlyWarning, stacklevel=2
            )
            compiled = graph.forward
        run = getattr(compiled, "run_owned", None)
        run = run if run is not None else lambda arguments: compiled(*arguments)
        return _plainly(restoring_generators(run) if swaps_generators(graph) else run)


def _plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as plain Python throughout: a backward pass may run inside of an optimized function, which would
    capture what it calls."""
    return _native.OptimizedCallable(function)


def _placed(graph: BackwardGraph) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """For each tangent that a graph takes: order, place, and how its memory is ordered."""
    examples = [node.meta["val"] for node in graph.graph.graph.find_nodes(op="placeholder")][len(graph.kept) :]
    return tuple((*place, _memory_order(example)) for place, example in zip(graph.tangents, examples))


def _aligned(joint: JointGraph, mask: Mask) -> Mask:
    """`mask` without tangents for values that are not differentiated."""
    return tuple(there and node is not None for there, node in zip(mask, joint.tangents[-1], strict=True))


def _memory_order(example: Any) -> tuple[int, ...]:
    """The dimensions of a tensor without gaps, outermost in memory first."""
    sizes, strides = [traced(n) for n in example.shape], [traced(n) for n in example.stride()]
    return tuple(sorted(range(len(sizes)), key=lambda dim: (-int(strides[dim]), -int(sizes[dim]), dim)))
