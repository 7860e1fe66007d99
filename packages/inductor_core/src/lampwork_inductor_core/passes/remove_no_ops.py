"""remove_no_ops: calls that return their argument's values in the same layout.

Views and casts to the same, multiplication by one, and the like. Invariant: only what is exact for every value, nan,
infinities and -0.0 included (so `x + 0` stays for floats: it turns -0.0 into 0.0), and never a copy that a caller gets.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx

from .rewriting import PassContext, calls, is_row_major, is_view, owners_of_results, same_tensor_type

aten = torch.ops.aten

_COPIES = frozenset({aten.clone.default, aten._to_copy.default, torch.ops.prims.convert_element_type.default})
_SAME_VIEWS = frozenset(
    {
        aten.alias.default,
        aten.detach.default,
        aten.positive.default,
        aten.view.default,
        aten._unsafe_view.default,
        aten.reshape.default,
        aten.expand.default,
        aten.permute.default,
        aten.transpose.int,
        aten.slice.Tensor,
        aten.contiguous.default,
    }
)
_TRANSPOSES = frozenset({aten.t.default, aten.transpose.int, aten.permute.default})
_RESHAPES = frozenset({aten.view.default, aten._unsafe_view.default, aten.reshape.default})


def remove_no_ops(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph without calls that change nothing. Linear."""
    owners = owners_of_results(graph)
    # `as_strided` reads memory, not elements: then whose memory a value lies in matters
    if any(True for _ in calls(graph, (aten.as_strided.default, aten.as_strided_scatter.default))):
        return graph
    for node in calls(graph):
        source = node.args[0] if node.args else None
        if not isinstance(source, torch.fx.Node) or "opaque" in node.meta:
            continue
        if node.target in _RESHAPES and source.target in _RESHAPES and is_view(source):
            _skip(node, source)
            source = node.args[0]
        if not isinstance(source, torch.fx.Node) or not same_tensor_type(node.meta.get("val"), source.meta.get("val")):
            continue
        if _is_no_op(node) and (is_view(node) or node not in owners):
            node.replace_all_uses_with(source)
            graph.graph.erase_node(node)
            if node in owners:
                owners.add(source)
    return graph


def _skip(node: torch.fx.Node, source: torch.fx.Node) -> None:
    """A reshape of a reshape reads the first's argument, where that has a layout which allows it as a view."""
    origin = source.args[0]
    if not isinstance(origin, torch.fx.Node):
        return
    value = origin.meta.get("val")
    if isinstance(value, torch.Tensor) and is_row_major(value):
        node.replace_input_with(source, origin)


def _is_no_op(node: torch.fx.Node) -> bool:
    target = node.target
    if target in _SAME_VIEWS:
        return target not in _TRANSPOSES or _keeps_order(node)
    if target in _COPIES:
        return not node.kwargs.get("pin_memory")
    other = node.args[1] if len(node.args) > 1 else None
    value = node.meta["val"]
    if isinstance(other, bool) or not isinstance(other, (int, float)):
        return False
    if target in (aten.mul.Tensor, aten.mul.Scalar):
        return other == 1 and value.dtype != torch.bool
    if target in (aten.div.Tensor, aten.div.Scalar):
        return other == 1
    if target in (aten.sub.Tensor, aten.sub.Scalar):
        return _is_positive_zero(other) and value.dtype != torch.bool
    if target in (aten.add.Tensor, aten.add.Scalar):
        return other == 0 and not value.dtype.is_floating_point and not value.dtype.is_complex
    if target is aten.pow.Tensor_Scalar:
        return other == 1
    return False


def _is_positive_zero(value: Any) -> bool:
    return value == 0 and repr(value) in ("0", "0.0")


def _keeps_order(node: torch.fx.Node) -> bool:
    """Whether dimensions stay where they are: equal sizes and strides alone do not say so (a 1 x 1 matrix aside)."""
    value = node.meta["val"]
    if node.target is aten.permute.default:
        order = node.args[1]
        assert isinstance(order, (list, tuple))
        return [int(d) % max(value.dim(), 1) for d in order if isinstance(d, int)] == list(range(value.dim()))
    if node.target is aten.transpose.int:
        first, second = node.args[1], node.args[2]
        return isinstance(first, int) and isinstance(second, int) and first % value.dim() == second % value.dim()
    return value.dim() < 2
