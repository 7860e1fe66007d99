"""Which nodes depend on parameters, module buffers and constants only.

Shared by the passes that fold such nodes and the one that takes them out of the graph. Invariant: a static node's value
is the same at every call while the static inputs are.
"""

from __future__ import annotations

import torch
import torch.fx

from .rewriting import is_pure


def is_static_input(node: torch.fx.Node) -> bool:
    """Whether a placeholder is a parameter, a module buffer, or was hoisted from such."""
    return bool(node.meta.get("static_input") or node.meta.get("hoisted"))


def static_nodes(graph: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """The nodes that depend on no input but static ones, and draw no random numbers. Linear."""
    static: set[torch.fx.Node] = set()
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            fixed = is_static_input(node)
        else:
            fixed = node.op == "get_attr" or (is_pure(node) and all(n in static for n in node.all_input_nodes))
        if fixed:
            static.add(node)
    return static
