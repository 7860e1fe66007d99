"""scatter_into_sums: what is scattered into zeros and then added is scattered into the other summand.

A pass over the functional ATen graph, where scatters are generated. A weight that is both an embedding and a linear has
two gradients, each of the weight's size; of an embedding's few rows are not zero. Invariant: results keep the sizes,
strides and dtype of the nodes that they replace.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import PassContext, add_call, calls, fake_mode_of, same_tensor_type

aten = torch.ops.aten
_ADDING = (aten.index_put.default, aten.scatter_add.default, aten.index_add.default)
_ZEROS = frozenset(
    {aten.zeros, aten.zeros_like, aten.new_zeros, aten.full, aten.full_like, aten.new_full, aten.expand, aten.view}
)


def scatter_into_sums(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """Sums of two tensors of one kind, of which one is a scatter into zeros that nobody else reads."""
    mode = fake_mode_of(graph)
    changed = False
    for node in calls(graph, (aten.add.Tensor,)):
        if node.kwargs or not all(isinstance(a, torch.fx.Node) for a in node.args):
            continue
        first, second = node.args
        for scatter, other in ((second, first), (first, second)):
            assert isinstance(scatter, torch.fx.Node) and isinstance(other, torch.fx.Node)
            if (
                scatter is other
                or len(scatter.users) != 1
                or not same_tensor_type(scatter.meta["val"], node.meta["val"])
            ):
                continue
            if not same_tensor_type(other.meta["val"], node.meta["val"]):
                continue
            with graph.graph.inserting_before(node):
                replaced = _into(graph, mode, scatter, other, node)
            if replaced is not None:
                node.replace_all_uses_with(replaced)
                graph.graph.erase_node(node)
                graph.graph.erase_node(scatter)  # which would be called for its checks else
                changed = True
                break
    return remove_dead_code(graph, context) if changed else graph


def _into(
    graph: torch.fx.GraphModule, mode: Any, scatter: torch.fx.Node, base: torch.fx.Node, node: torch.fx.Node
) -> torch.fx.Node | None:
    """The scatter again, into `base`; None for what is none or starts from something else than zeros."""
    known = node.meta["val"]
    if scatter.target in _ADDING:
        accumulates = scatter.target is not aten.index_put.default or scatter.args[3:] == (True,)
        if not accumulates or not _is_zeros(scatter.args[0]):
            return None
        arguments = (base, *scatter.args[1:])
        return add_call(graph, mode, scatter, scatter.target, *arguments, known=known, **scatter.kwargs)
    if scatter.target is not aten.embedding_dense_backward.default:
        return None
    rows, indices, _, padding_idx, by_frequency = scatter.args
    if by_frequency or not isinstance(padding_idx, int) or not isinstance(indices, torch.fx.Node):
        return None
    assert isinstance(rows, torch.fx.Node)
    if padding_idx >= 0:
        padding = add_call(graph, mode, scatter, aten.eq.Scalar, indices, padding_idx)
        padding = add_call(graph, mode, scatter, aten.unsqueeze.default, padding, -1)
        value = rows.meta["val"]
        zero = add_call(graph, mode, scatter, aten.full.default, [], 0, dtype=value.dtype, device=value.device)
        rows = add_call(graph, mode, scatter, aten.where.self, padding, zero, rows)
    return add_call(graph, mode, scatter, aten.index_put.default, base, [indices], rows, True, known=known)


def _is_zeros(node: Any) -> bool:
    """Whether a node is certainly made of zeros."""
    while isinstance(node, torch.fx.Node):
        packet = getattr(node.target, "overloadpacket", None)
        if packet not in _ZEROS:
            return False
        if packet in (aten.expand, aten.view):
            node = node.args[0]
            continue
        if packet in (aten.zeros, aten.zeros_like, aten.new_zeros):
            return True
        fill = node.args[2 if packet is aten.new_full else 1] if len(node.args) > 1 else None
        return isinstance(fill, int | float) and fill == 0
    return False
