"""merge_linears: several linear layers on one input become one wider layer and a split.

Query, key and value projections, gate and up projections. The wider weight is concatenated in the graph from static
inputs, so that `hoist_static` takes it out. Off until measured to pay. Invariant: weights and biases are static, and
each result is the same slice of the wider product.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.fx

from ..ir.views import to_exprs
from .rewriting import PassContext, add_call, calls, fake_mode_of
from .static_nodes import static_nodes

aten = torch.ops.aten


def merge_linears(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph with sibling linears merged, if the config asks for it."""
    if not context.config.merge_linears:
        return graph
    static = static_nodes(graph)
    groups: dict[tuple[Any, Any, Any], list[torch.fx.Node]] = {}
    for node in calls(graph, (aten.addmm.default, aten.mm.default)):
        if not node.kwargs and _is_static_linear(node, static):
            # views of one tensor are one input: [tokens, width] is taken apart anew for each layer
            source = node.args[-2]
            assert isinstance(source, torch.fx.Node)
            origin = source.args[0] if source.target in (aten.view.default, aten.reshape.default) else source
            key = (node.target, origin, to_exprs(source.meta["val"].shape))
            groups.setdefault(key, []).append(node)
    mode = fake_mode_of(graph)
    for nodes in groups.values():
        if len(nodes) > 1:
            _merge(graph, mode, nodes)
    return graph


def _is_static_linear(node: torch.fx.Node, static: set[torch.fx.Node]) -> bool:
    *bias, source, weight = node.args
    if source in static or weight not in static:
        return False
    if bias and (bias[0] not in static or bias[0].meta["val"].dim() != 1):  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        return False
    assert isinstance(weight, torch.fx.Node)
    # a bias that broadcasts (one element for many columns) cannot be laid end to end
    return not bias or bias[0].meta["val"].shape[0] == weight.meta["val"].shape[1]  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]


def _merge(graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], nodes: list[torch.fx.Node]) -> None:
    position = {node: k for k, node in enumerate(graph.graph.nodes)}
    first = nodes[0]
    operands = [a for node in nodes for a in (node.args[-1], *node.args[:-2]) if isinstance(a, torch.fx.Node)]
    # operands of the later layers must exist where the first one stands
    if any(position[a] > position[first] and not _move_before(a, first, position) for a in operands):
        return
    with graph.graph.inserting_before(first):
        transposed = [add_call(graph, mode, n, aten.permute.default, n.args[-1], [1, 0]) for n in nodes]
        joined = add_call(graph, mode, first, aten.cat.default, transposed, 0)
        weight = add_call(graph, mode, first, aten.permute.default, joined, [1, 0])
        arguments: list[Any] = [first.args[-2], weight]
        if len(first.args) == 3:
            arguments.insert(0, add_call(graph, mode, first, aten.cat.default, [n.args[0] for n in nodes], 0))
        wide = add_call(graph, mode, first, first.target, *arguments)
        start = 0
        parts: list[torch.fx.Node] = []
        for node in nodes:
            width = int(node.meta["val"].shape[1])
            parts.append(add_call(graph, mode, node, aten.slice.Tensor, wide, 1, start, start + width))
            start += width
        copies = [add_call(graph, mode, n, aten.clone.default, p, memory_format=torch.contiguous_format)
                  for n, p in zip(nodes, parts)]  # fmt: skip
    for node, copied in zip(nodes, copies):
        node.replace_all_uses_with(copied)
        graph.graph.erase_node(node)


def _move_before(node: torch.fx.Node, anchor: torch.fx.Node, position: dict[torch.fx.Node, int]) -> bool:
    """Move a call whose own operands all stand before `anchor` (a view of a parameter) there."""
    if any(position[n] > position[anchor] for n in node.all_input_nodes):
        return False
    anchor.prepend(node)
    position[node] = position[anchor]
    return True
