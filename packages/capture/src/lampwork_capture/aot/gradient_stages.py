"""A backward graph cut into stages, so that gradients leave it while it runs.

DistributedDataParallel sends gradients in buckets, each as soon as it is full. A compiled backward pass that returned
all gradients at its end would leave nothing to overlap with, so inside of such a module it is cut where a bucket fills.
Invariant: the stages compute what the graph computes, each node once, in the order of the graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx
from torch.nn.parallel import DistributedDataParallel

from .joint_graph import JointGraph
from .operator_traits import is_random
from .partition import bytes_of
from .split_graphs import BackwardGraph, finished_module, owned

Groups = tuple[tuple[int, ...], ...]
"""The inputs whose gradients leave together, in the order in which they leave."""


def bucket_bytes() -> int | None:
    """How large the buckets of the DistributedDataParallel module are in whose forward pass this runs."""
    active: Any = DistributedDataParallel._get_active_ddp_module()
    return None if active is None else active.bucket_bytes_cap


def group_inputs(joint: JointGraph, limit: int) -> Groups:
    """The inputs by the place of their gradients in the graph, a new group whenever one has `limit` bytes."""
    places = {node: place for place, node in enumerate(joint.functional.graph.graph.nodes)}
    found = sorted((places[node], index) for index, node in enumerate(joint.gradients) if node is not None)
    groups: list[list[int]] = [[]]
    size = 0
    for _, index in found:
        if size >= limit:
            groups.append([])
            size = 0
        groups[-1].append(index)
        gradient = joint.gradients[index]
        size += 0 if gradient is None else bytes_of(gradient)
    return tuple(map(tuple, groups))


@dataclass(frozen=True, slots=True)
class StageGraph:
    """A part of a backward graph: `takes` names values of the whole graph, `gives` those that later stages need.

    `graph` returns the gradients of the inputs `gradients`, then what it gives.
    """

    graph: fx.GraphModule
    takes: tuple[str, ...]
    gradients: tuple[int, ...]
    gives: tuple[str, ...]


def cut(backward: BackwardGraph, groups: Groups) -> list[StageGraph]:
    """The stages of a backward graph, one a group; a graph that acts on random generators stays whole."""
    nodes = list(backward.graph.graph.nodes)
    (returned,) = nodes[-1].args
    gradient_of = dict(zip((i for i, there in enumerate(backward.gradients) if there), returned, strict=True))
    whole = any(is_random(node.target) for node in nodes)
    wanted = [tuple(i for i in group if i in gradient_of) for group in groups]
    if whole:
        wanted = [tuple(gradient_of), *(() for _ in groups[1:])]
    stage_of: dict[fx.Node, int] = {}
    for stage, indices in enumerate(wanted):
        pending = [gradient_of[i] for i in indices]
        while pending:
            node = pending.pop()
            if node.op != "placeholder" and node not in stage_of:
                stage_of[node] = stage
                pending += node.all_input_nodes
    for node in nodes:
        if node.target is operator.getitem and node.args[0] in stage_of:  # tuples do not leave a stage
            stage_of[node] = stage_of[node.args[0]]
    return [_stage(backward, nodes, stage_of, stage, indices, gradient_of) for stage, indices in enumerate(wanted)]


def _stage(
    backward: BackwardGraph,
    nodes: Sequence[fx.Node],
    stage_of: dict[fx.Node, int],
    stage: int,
    indices: tuple[int, ...],
    gradient_of: dict[int, fx.Node],
) -> StageGraph:
    graph, copies, takes = fx.Graph(), dict[fx.Node, fx.Node](), list[fx.Node]()
    mine = [node for node in nodes if stage_of.get(node) == stage]
    given = [node for node in mine if any(stage_of.get(user, stage) > stage for user in node.users)]
    for node in nodes:
        if stage_of.get(node) != stage and any(stage_of.get(user) == stage for user in node.users):
            copies[node] = graph.placeholder(node.name)
            copies[node].meta.update(node.meta)
            takes.append(node)
    gradients = [gradient_of[i] for i in indices]
    for node in gradients:
        if node not in copies and stage_of.get(node) != stage:  # an input itself, or what an earlier stage computed
            copies[node] = graph.placeholder(node.name)
            copies[node].meta.update(node.meta)
            takes.append(node)
    for node in mine:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    owners: set[fx.Node] = set()
    returned = [owned(copies[node], owners) for node in (*gradients, *given)]
    module = finished_module(backward.graph, graph, returned, "BackwardGraph")
    return StageGraph(module, tuple(n.name for n in takes), indices, tuple(n.name for n in given))


@dataclass(frozen=True, slots=True)
class CompiledStage:
    """A compiled stage: `takes` says of each value whether this stage is the last that needs it."""

    run: Callable[[list[Any]], Sequence[Any]]
    takes: tuple[tuple[str, bool], ...]
    gradients: tuple[int, ...]
    gives: tuple[str, ...]

    def __call__(self, values: dict[str, Any]) -> dict[int, Tensor]:
        """Run on `values`, which lose what nobody needs any more and gain what later stages need."""
        found = self.run([values.pop(name) if last else values[name] for name, last in self.takes])
        count = len(self.gradients)
        values.update(zip(self.gives, found[count:], strict=True))
        return dict(zip(self.gradients, found[:count]))


def compile_stages(
    stages: Sequence[StageGraph], compiler: Callable[[fx.GraphModule], Callable[[list[Any]], Sequence[Any]]]
) -> tuple[CompiledStage, ...]:
    """Every stage compiled, in order."""
    last: dict[str, int] = {}
    for number, stage in enumerate(stages):
        last.update(dict.fromkeys(stage.takes, number))
    return tuple(
        CompiledStage(
            compiler(stage.graph),
            tuple((name, last[name] == number) for name in stage.takes),
            stage.gradients,
            stage.gives,
        )
        for number, stage in enumerate(stages)
    )
