"""Trivial clean-ups of a recorded graph: copies nobody needs, chains of permutes, code without effect.

Equal calls have been merged by the recorder already. Runs once, after the graph's results are known. Invariants: the
results keep their own memory; random operators stay, in order; values and strides of what remains are unchanged.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from .analysis import value_root
from .operator_traits import is_random
from .trace import same_strides

aten = torch.ops.aten


def fold(graph: fx.Graph, results: Sequence[fx.Node], others: Sequence[fx.Node] = ()) -> tuple[fx.Graph, int]:
    """Makes `results` the graph's output and cleans it up in place; returns it and the count of results.

    `others` stay in the graph and follow the results, without memory of their own.
    """
    returned = [*results, *others]
    output = graph.output(returned)
    output.meta["val"] = [node.meta.get("val") for node in returned]
    owners = {value_root(node) for node in results}
    # `as_strided` reads a tensor's memory rather than its elements: then whose memory it is matters.
    reads_memory = any(
        node.target in (aten.as_strided.default, aten.as_strided_scatter.default) for node in graph.nodes
    )
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is aten.clone.default and node not in owners and not reads_memory:
            _drop_copy(node)
        elif node.target is aten.permute.default:
            _merge_permutes(node)
    remove_dead_code(graph)
    return graph, len(results)


def _drop_copy(node: fx.Node) -> None:
    """In a functional graph a copy with its source's strides is its source."""
    source = node.args[0]
    if isinstance(source, fx.Node):
        value, original = node.meta["val"], source.meta["val"]
        if same_strides(value, original) and value.is_conj() == original.is_conj():
            node.replace_all_uses_with(source)


def _merge_permutes(node: fx.Node) -> None:
    source, order = node.args[0], node.args[1]
    if not isinstance(source, fx.Node) or not isinstance(order, (list, tuple)):
        return
    order = [int(d) % max(len(order), 1) for d in order if isinstance(d, int)]
    if source.op == "call_function" and source.target is aten.permute.default:
        inner = source.args[1]
        if isinstance(inner, (list, tuple)) and isinstance(source.args[0], fx.Node):
            order = [int(inner[d]) % len(order) for d in order]  # pyright: ignore[reportArgumentType]
            source = source.args[0]
            node.args = (source, order)
    if order == sorted(order):
        node.replace_all_uses_with(source)


def remove_dead_code(graph: fx.Graph) -> None:
    """Removes nodes whose value nobody uses, except inputs, random operators and checks that may raise."""
    for node in reversed(list(graph.nodes)):
        if not node.users and is_removable(node):
            graph.erase_node(node)


def is_removable(node: fx.Node) -> bool:
    """Whether a node without users can go: it computes a value and nothing else."""
    if node.op == "get_attr":
        return True
    if node.op != "call_function":
        return False
    if isinstance(node.target, OpOverload):
        effect = node.target._schema.is_mutable or _raises_on_values(node.target)
        return not (effect or is_random(node.target))
    return node.target is operator.getitem or not isinstance(node.meta.get("val"), Tensor)


def _raises_on_values(op: OpOverload) -> bool:
    if not op._schema.returns:
        return True  # a check, such as `_linalg_check_errors`
    return op.namespace == "aten" and op._schema.name.startswith(("aten::_assert", "aten::sym_constrain"))
