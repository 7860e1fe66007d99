"""dead_code: remove calls whose values nobody uses.

First and last of the passes. Invariant: inputs stay, and so does whatever draws random numbers (eager would have drawn
them) or could raise on its values.
"""

from __future__ import annotations

import torch
import torch.fx

from .rewriting import PassContext, is_pure

_MAY_RAISE = frozenset({"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range"})


def remove_dead_code(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph without unused pure calls and attributes. Linear."""
    for node in reversed(list(graph.graph.nodes)):
        if node.users or node.op not in ("call_function", "get_attr"):
            continue
        if node.op == "get_attr" or (is_pure(node) and not _checks(node)):
            graph.graph.erase_node(node)
    return graph


def _checks(node: torch.fx.Node) -> bool:
    packet = getattr(node.target, "overloadpacket", None)
    return getattr(packet, "__name__", "") in _MAY_RAISE
