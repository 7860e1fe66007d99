"""A backend's own rewrites of the joint graph, before the partition: choices that forward and backward pass share.

In which memory format convolutions run, or which library's kernel computes attention, decides what both passes read and
keep, so it is chosen while they are one graph. Invariants: the forward pass's results and the gradients keep sizes,
strides and dtype; what is chosen for the forward pass depends on its own nodes only, so that another trace of the same
captured graph (for derivatives of higher order) is rewritten to the same kept values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import fx

from .joint_graph import JointGraph

JointRewrite = Callable[[fx.GraphModule, frozenset[fx.Node], int], None]
"""Changes a joint graph in place: the graph, the nodes of its forward pass, and how many of its first results (those of
the forward pass, then the gradients) must keep their strides. Nodes may be changed, and added anywhere; one that stands
in front of a node of the forward pass belongs to it."""


def rewritten(joint: JointGraph, rewrite: JointRewrite | None) -> JointGraph:
    """The joint graph after `rewrite`, which has changed its nodes."""
    if rewrite is None:
        return joint
    module = joint.functional.graph
    before = set(module.graph.nodes)
    given = sum(node is not None for node in joint.gradients)
    rewrite(module, joint.forward, len(joint.results) + given)
    nodes = list(module.graph.nodes)
    last = max(place for place, node in enumerate(nodes) if node in joint.forward)
    returned = list(nodes[-1].args[0])
    results, rest = returned[: len(joint.results)], iter(returned[len(joint.results) :])
    added = {node for node in nodes[:last] if node not in before} | {node for node in results if node not in before}
    return replace(
        joint,
        forward=joint.forward.intersection(nodes) | added,
        results=tuple(results),
        gradients=tuple(None if node is None else next(rest) for node in joint.gradients),
        saved=tuple(rest),
    )
