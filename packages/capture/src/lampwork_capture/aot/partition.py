"""What the forward pass keeps for the backward pass: a minimum cut through the joint graph.

Every value of the forward pass that the backward pass reads is either kept, which costs its bytes, or computed again
from others, which costs what the backend says (paper, section 4.3). Keeping everything that is read is one of the cuts,
and what is read is what eager's autograd saves: so the bytes kept never exceed eager's. Invariants: random operators
are never computed again; views are not kept where what they view can be; parameters cost nothing, being alive anyway.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import networkx
import torch
from networkx.algorithms.flow import boykov_kolmogorov
from torch import SymBool, SymFloat, SymInt, Tensor, fx
from torch._ops import OpOverload

from .analysis import is_view_op, value_root
from .joint_graph import JointGraph
from .joint_rewrite import JointRewrite
from .known_sizes import traced
from .metadata import is_known_dense
from .operator_traits import is_random

aten = torch.ops.aten

_COPIED = 1.25  # what a copy costs, in bytes kept

RecomputeCost = Callable[[fx.Node], float]
"""What it costs to compute a node's value again, in bytes kept: `math.inf` for never, 0 for free."""

_FREE_CALLS = frozenset(
    {aten.full.default, aten.arange.start_step, aten.scalar_tensor.default, aten.empty.memory_format}
)
_CHEAP_CALLS = frozenset(
    {
        aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.neg.default, aten.relu.default, aten.where.self,
        aten._to_copy.default, aten.maximum.default, aten.minimum.default, aten.abs.default, aten.clone.default,
        aten.eq.Scalar, aten.ne.Scalar, aten.lt.Scalar, aten.le.Scalar, aten.gt.Scalar, aten.ge.Scalar,
        aten.eq.Tensor, aten.ne.Tensor, aten.lt.Tensor, aten.le.Tensor, aten.gt.Tensor, aten.ge.Tensor,
        aten.logical_not.default, aten.logical_and.default, aten.bitwise_not.default, aten.bitwise_and.Tensor,
    }
)  # fmt: skip


def default_recompute_cost(node: fx.Node) -> float:
    """Arithmetic on elements is cheap, transcendental functions are not, and nothing else is computed again."""
    target = node.target
    if target in _FREE_CALLS:
        return 0.0
    if not isinstance(target, OpOverload) or is_random(target):
        return math.inf
    if is_view_op(target):
        return 0.0
    if target in _CHEAP_CALLS:
        return 0.25 * bytes_of(node)
    if torch.Tag.pointwise in target.tags:
        return 0.75 * bytes_of(node)
    return math.inf


@dataclass(frozen=True, slots=True)
class PartitionPolicy:
    """How to choose. `memory_budget`: what part of the bytes that eager would keep may be kept, 1.0 for no limit.
    `rewrite`: what is done to joint graphs beforehand."""

    recompute_cost: RecomputeCost = default_recompute_cost
    memory_budget: float = 1.0
    rewrite: JointRewrite | None = None


DEFAULT_POLICY = PartitionPolicy()


@dataclass(frozen=True, slots=True)
class Partition:
    """The cut. `kept`: the values that the forward pass keeps, in its order; `eager_bytes`: what eager would keep."""

    kept: tuple[fx.Node, ...]
    kept_bytes: int
    eager_bytes: int


def bytes_of(node: fx.Node) -> int:
    """The bytes of a node's value, at the sizes of the traced call; numbers count as nothing."""
    value = node.meta.get("val")
    values = value if isinstance(value, (list, tuple)) else (value,)
    return sum(_numel(v) * v.itemsize for v in values if isinstance(v, Tensor))


def _numel(value: Tensor) -> int:
    return math.prod(int(traced(size)) for size in value.shape)


def partition(joint: JointGraph, policy: PartitionPolicy = DEFAULT_POLICY) -> Partition:
    """The cheapest set of forward values from which the backward pass can be computed."""
    reads = backward_reads(joint)
    kept = _minimum_cut(joint, reads, policy.recompute_cost, 1.0)
    allowed = policy.memory_budget * _total_bytes(reads)
    weight = 1.0
    while _total_bytes(kept) > allowed and weight < 1e4:  # bytes weigh more and more against computing again
        weight *= 4
        kept = _minimum_cut(joint, reads, policy.recompute_cost, weight)
    kept = _with_higher_orders(joint, kept)
    return Partition(tuple(kept), _total_bytes(kept), _total_bytes([*reads, *joint.saved]))


def _with_higher_orders(joint: JointGraph, kept: Sequence[fx.Node]) -> list[fx.Node]:
    """`kept`, and what autograd saved that cannot be computed from it: derivatives of higher order may read that."""
    everything, saved = set(kept), set(joint.saved)
    derivable = set[fx.Node]()
    for node in joint.functional.graph.graph.nodes:
        if node not in joint.forward:
            continue
        if not _is_derivable(node, everything, derivable):
            if node not in saved:
                continue
            root = value_root(node)
            everything.add(node if _keeping_cost(node) is not None else root)
            derivable.add(root)
        derivable.add(node)
    return [node for node in joint.functional.graph.graph.nodes if node in everything]


def _is_derivable(node: fx.Node, kept: Collection[fx.Node], derivable: Collection[fx.Node]) -> bool:
    """Whether a node can be computed from `kept` and parameters; `derivable`: the ones before it that can."""
    if node in kept or is_static(node):
        return True
    if node.op == "placeholder" or is_random(node.target):
        return False
    return all(source in derivable for source in node.all_input_nodes)


def is_derivable(nodes: Iterable[fx.Node], kept: Collection[fx.Node]) -> bool:
    """Whether `nodes` of the forward pass can be computed from `kept` and parameters, at whatever cost."""
    pending, seen = list(nodes), set[fx.Node]()
    while pending:
        node = pending.pop()
        if node in kept or node in seen or is_static(node):
            continue
        if node.op == "placeholder" or is_random(node.target):
            return False
        seen.add(node)
        pending += node.all_input_nodes
    return True


def backward_nodes(joint: JointGraph) -> list[fx.Node]:
    """The nodes of the backward pass that the gradients need, and those that act on random generators, in order."""
    needed = set[fx.Node]()
    everything = joint.functional.graph.graph.nodes
    pending = [node for node in joint.gradients if node is not None]
    pending += [node for node in everything if is_random(node.target) and node not in joint.forward]
    while pending:
        node = pending.pop()
        if node not in needed:
            needed.add(node)
            pending += node.all_input_nodes
    return [node for node in everything if node in needed and node not in joint.forward]


def backward_reads(joint: JointGraph) -> list[fx.Node]:
    """The forward values that the backward pass reads."""
    reads = {source for node in backward_nodes(joint) for source in node.all_input_nodes if source in joint.forward}
    reads.update(node for node in joint.gradients if node in joint.forward)
    return [node for node in joint.functional.graph.graph.nodes if node in reads]


def _total_bytes(nodes: Iterable[fx.Node]) -> int:
    """Bytes of memory that keeping all of these holds: values in one memory count once, parameters not at all."""
    roots = {value_root(node): node for node in nodes}
    return sum(bytes_of(root) for root in roots if not is_static(root))


def is_static(node: fx.Node) -> bool:
    """Whether a value is alive whatever a graph keeps: a parameter, a buffer, a constant."""
    return node.op == "get_attr" or (node.op == "placeholder" and bool(node.meta.get("static_input")))


def _minimum_cut(joint: JointGraph, reads: Sequence[fx.Node], cost: RecomputeCost, weight: float) -> list[fx.Node]:
    """The values to keep. A value is an edge whose capacity is its bytes; computing it again is one from the source."""
    network = networkx.DiGraph()
    order, reads_set = _ancestors(joint, reads), set(reads)
    exposed = exposed_values(joint)
    for node in order:
        capacity = _keeping_cost(node)
        if capacity is not None and node in exposed and node not in reads_set:
            capacity = None if node.op == "placeholder" else _COPIED * capacity
        arrives, leaves = (node, 0), (node, 1)
        network.add_edge(arrives, leaves, **({} if capacity is None else {"capacity": round(capacity * weight)}))
        again = math.inf if node.op == "placeholder" else _cost_again(node, cost)
        if again == math.inf:
            network.add_edge("source", arrives)
        elif again > 0:
            network.add_edge("source", arrives, capacity=round(again))
        for source in node.all_input_nodes:
            network.add_edge((source, 1), arrives)
    for node in reads:
        network.add_edge((node, 1), "sink")
    if "source" not in network or "sink" not in network:
        return []
    _, (before, _) = networkx.minimum_cut(network, "source", "sink", flow_func=boykov_kolmogorov)
    return [node for node in order if (node, 0) in before and (node, 1) not in before]


def exposed_values(joint: JointGraph) -> set[fx.Node]:
    """Inputs and results in whose memory autograd saved nothing: the program may write to them before the backward
    pass. Where the backward pass itself does not read them, inputs are not kept, and of results a copy is."""
    saved = {value_root(node) for node in joint.saved}
    visible = [*joint.results, *joint.functional.graph.graph.find_nodes(op="placeholder")]
    return {root for root in map(value_root, visible) if root not in saved}


def _ancestors(joint: JointGraph, reads: Sequence[fx.Node]) -> list[fx.Node]:
    """`reads` and everything that they are computed from, in order."""
    found = set[fx.Node]()
    pending = list(reads)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return [node for node in joint.functional.graph.graph.nodes if node in found]


def _cost_again(node: fx.Node, cost: RecomputeCost) -> float:
    if node.op == "get_attr" or not isinstance(node.target, OpOverload):
        return 0.0  # a constant, an item of a tuple, arithmetic on numbers
    return math.inf if is_random(node.target) else cost(node)


def _keeping_cost(node: fx.Node) -> float | None:
    """The bytes that keeping a value costs; None where it cannot be kept by itself."""
    value = node.meta.get("val")
    if isinstance(value, (int, float, SymInt, SymFloat, SymBool)):
        return 1.0
    if not isinstance(value, Tensor):
        return None
    if is_static(node):
        return 0.0
    root = value_root(node)
    if root is not node:
        # what it views is held by eager, too; a copy of a part pays where that is smaller and has no gaps
        is_part = root.op == "call_function" and bytes_of(node) < bytes_of(root) and is_known_dense(value)
        if not is_part:
            return None
    return float(bytes_of(node)) + 1.0  # of equal cuts the one through fewer values
