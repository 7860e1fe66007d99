"""The two graphs that a partition makes of a joint graph: the forward graph and, for what arrives, a backward graph.

The forward graph returns the results and then the kept values that are neither inputs nor results. A backward graph
takes kept values and the tangents that arrive, and computes the wanted gradients from them; what is computed again
stands right before its first reader. Invariant: every value that a graph returns has memory of its own, but for kept
values that lie in a result's.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .analysis import value_root
from .errors import UnsupportedForAot
from .fold import remove_dead_code
from .joint_graph import JointGraph, Mask
from .partition import backward_nodes, backward_reads, exposed_values
from .trace import same_strides
from .verify import verify_if_asked

aten = torch.ops.aten
TRAINING = "training"
"""In `graph.meta` of both graphs: parameters change between calls, so nothing that is made of them can be kept."""


class Origin(enum.Enum):
    """Where the run time finds a kept value."""

    INPUT = "input"
    OUTPUT = "output"  # of the forward graph


@dataclass(frozen=True, slots=True)
class KeptValue:
    """A value kept for the backward pass. `is_tensor`: a number otherwise."""

    node: fx.Node
    origin: Origin
    index: int
    is_tensor: bool


@dataclass(frozen=True, slots=True)
class BackwardGraph:
    """`graph` takes the kept values at `kept`, the tangents at `tangents` (order and place) and all sizes of the call;
    it returns a gradient for each true entry of `gradients`."""

    graph: fx.GraphModule
    kept: tuple[int, ...]
    tangents: tuple[tuple[int, int], ...]
    gradients: Mask


def forward_graph(joint: JointGraph, kept: Sequence[fx.Node]) -> tuple[fx.GraphModule, tuple[KeptValue, ...]]:
    """The forward graph, and where it leaves each of `kept`."""
    module = joint.functional.graph
    placeholders = [node for node in module.graph.find_nodes(op="placeholder") if node in joint.forward]
    inputs = {node: index for index, node in enumerate(placeholders)}
    results = {node: index for index, node in reversed(list(enumerate(joint.results)))}
    written = set(joint.functional.signature.mutated_inputs)
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in module.graph.nodes:
        if node in joint.forward:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    returned = [copies[node] for node in joint.results]
    owners = {value_root(node) for node in returned}
    values: list[KeptValue] = []
    copied = exposed_values(joint).difference(backward_reads(joint))
    for node in kept:
        is_tensor = isinstance(node.meta.get("val"), Tensor)
        if node in results and node not in copied:
            values.append(KeptValue(node, Origin.OUTPUT, results[node], is_tensor))
        elif node.op == "placeholder" and inputs[node] not in written:
            values.append(KeptValue(node, Origin.INPUT, inputs[node], is_tensor))
        else:
            values.append(KeptValue(node, Origin.OUTPUT, len(returned), is_tensor))
            shared = (
                node.op == "call_function" and value_root(copies[node]) in owners and value_root(node) not in copied
            )
            returned.append(copies[node] if shared else owned(copies[node], owners))
    return finished_module(module, graph, returned, "ForwardGraph"), tuple(values)


def backward_graph(
    joint: JointGraph, kept: Sequence[fx.Node], arriving: Mask, wanted: Mask, sizes: Sequence[Any] = ()
) -> BackwardGraph | None:
    """The graph for calls in which the tangents of `arriving` come, of the highest order, and the gradients of `wanted`
    are asked for.

    None where absent and present tangents meet in an operator other than a sum: then the joint graph must be traced
    for these tangents alone.
    """
    writer = _BackwardWriter(joint, kept, arriving)
    try:
        writer.write(backward_nodes(joint))
        found = [
            writer.value_of(node) if node is not None and asked else None
            for node, asked in zip(joint.gradients, wanted, strict=True)
        ]
    except _Mixed:
        return None
    owners: set[fx.Node] = set()
    returned = [owned(node, owners) for node in found if node is not None]
    _finish(writer.graph, returned)
    used = writer.drop_unused_inputs()
    for number, size in enumerate(sizes):  # so that every size that the graph speaks of can be told from its inputs
        with writer.graph.inserting_before(writer.first_call()):
            writer.graph.placeholder(f"size_{number}").meta["val"] = size
    made = _module(joint.functional.graph, writer.graph, "BackwardGraph")
    return BackwardGraph(
        made,
        tuple(place for place, node in enumerate(kept) if node in used),
        tuple(
            (order, place)
            for order, nodes in enumerate(joint.tangents)
            for place, node in enumerate(nodes)
            if node in used
        ),
        tuple(node is not None for node in found),
    )


def nodes_named(joint: JointGraph, nodes: Sequence[fx.Node]) -> tuple[fx.Node, ...]:
    """The nodes of `joint` that are `nodes` of another trace of the same captured graph. Raises UnsupportedForAot."""
    by_name = {node.name: node for node in joint.functional.graph.graph.nodes}
    found: list[fx.Node] = []
    for node in nodes:
        twin = by_name.get(node.name)
        if twin is None:
            found.append(node)  # nothing of this trace reads it
        elif _described(twin) != _described(node):
            raise UnsupportedForAot("two traces of one graph differ", user_line=node.meta.get("user_line"))
        else:
            found.append(twin)
    return tuple(found)


def _described(node: fx.Node) -> tuple[object, ...]:
    """What tells a node of a trace from another: what it computes, and what its value looks like."""
    value = node.meta.get("val")
    looks = (value.dtype, str(value.shape), str(value.stride())) if isinstance(value, Tensor) else type(value)
    return (node.op, node.target, looks)


def finished_module(root: Any, graph: fx.Graph, returned: Sequence[fx.Node], name: str) -> fx.GraphModule:
    """`graph`, made of nodes of the module `root`, with the values that it returns and without what nobody needs."""
    _finish(graph, returned)
    return _module(root, graph, name)


def _module(root: Any, graph: fx.Graph, name: str) -> fx.GraphModule:
    module = fx.GraphModule(root, graph, class_name=name)
    module.meta[TRAINING] = True
    verify_if_asked(module)
    return module


def _finish(graph: fx.Graph, returned: Sequence[fx.Node]) -> None:
    output = graph.output(list(returned))
    output.meta["val"] = [node.meta.get("val") for node in returned]
    remove_dead_code(graph)


def owned(node: fx.Node, owners: set[fx.Node]) -> fx.Node:
    """`node`, or a copy of it where its memory belongs to an input, a constant or something else that is returned.

    `owners`: whose memory is returned already; grows.
    """
    if not isinstance(node.meta.get("val"), Tensor):
        return node
    root = value_root(node)
    whole = node.meta["val"].numel() == root.meta["val"].numel()
    if root.op == "call_function" and root not in owners and whole:
        owners.add(root)
        return node
    copied = node.graph.call_function(aten.clone.default, (node,))
    copied.meta.update(node.meta)
    owners.add(copied)
    return copied


class _Mixed(Exception):
    """An operator takes a tangent that arrives and one that does not."""


class _BackwardWriter:
    """Copies what the gradients need, each forward value right before its first reader.

    A node that only absent tangents reach is absent too: derivatives are linear in the tangents of the highest order.
    """

    def __init__(self, joint: JointGraph, kept: Sequence[fx.Node], arriving: Mask) -> None:
        self.graph = fx.Graph()
        self._copies: dict[fx.Node, fx.Node | None] = {}  # None: absent
        self._inputs: dict[fx.Node, fx.Node] = {}
        last = joint.tangents[-1]
        missing = {node for node, arrives in zip(last, arriving) if node is not None and not arrives}
        for node in (*kept, *(node for tangents in joint.tangents for node in tangents)):
            if node is None:
                continue
            if node in missing:
                self._copies[node] = None
                continue
            copied = self.graph.placeholder(node.name)
            copied.meta.update(node.meta)
            self._copies[node] = self._inputs[node] = copied
        self._carrying = _reached_from([node for node in last if node is not None])

    def write(self, nodes: Sequence[fx.Node]) -> None:
        """Copies nodes in their order. Raises _Mixed."""
        for node in nodes:
            self.value_of(node)

    def value_of(self, wanted: fx.Node) -> fx.Node | None:
        """The copy of a node; None where no tangent reaches it. Raises _Mixed."""
        pending = [wanted]
        while wanted not in self._copies:
            node = pending[-1]
            missing = [source for source in node.all_input_nodes if source not in self._copies]
            if missing:
                pending += reversed(missing)
                continue
            pending.pop()
            if node not in self._copies:
                self._copies[node] = self._copy(node)
        return self._copies[wanted]

    def _copy(self, node: fx.Node) -> fx.Node | None:
        absent = [source for source in node.all_input_nodes if self._copies[source] is None]
        if not absent:
            return self.graph.node_copy(node, self._there)
        present = [source for source in node.all_input_nodes if self._copies[source] is not None]
        if not any(source in self._carrying for source in present):
            return None
        if node.target is not aten.add.Tensor or node.kwargs or len(present) != 1:
            raise _Mixed
        copied, value, wanted = self._there(present[0]), present[0].meta["val"], node.meta["val"]
        if value.shape != wanted.shape or value.dtype != wanted.dtype or not same_strides(value, wanted):
            raise _Mixed
        return copied

    def _there(self, node: fx.Node) -> fx.Node:
        copied = self._copies[node]
        if copied is None:
            raise _Mixed
        return copied

    def first_call(self) -> fx.Node:
        """The first node that is no input."""
        return next(node for node in self.graph.nodes if node.op != "placeholder")

    def drop_unused_inputs(self) -> set[fx.Node]:
        """Removes inputs that nothing reads; returns those that stay, as nodes of the joint graph."""
        used = {node for node, copied in self._inputs.items() if copied.users}
        for node, copied in self._inputs.items():
            if node not in used:
                self.graph.erase_node(copied)
        return used


def _reached_from(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    found, pending = set[fx.Node](), list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.users
    return found
