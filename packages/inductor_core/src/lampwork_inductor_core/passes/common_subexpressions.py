"""common_subexpressions: equal calls on equal arguments become one.

Invariant: two results that eager returns in memory of their own stay two; random or mutating calls are never merged.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
import torch.fx

from .rewriting import PassContext, calls, is_pure, is_view, owners_of_results


def merge_common_subexpressions(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph with each pure call made once. Linear in the size of all arguments."""
    owners = owners_of_results(graph)
    seen: dict[Hashable, torch.fx.Node] = {}
    for node in calls(graph):
        if not is_pure(node):
            continue
        try:
            key = (node.target, _key(node.args), _key(node.kwargs))
            first = seen.setdefault(key, node)
        except TypeError:  # an argument without a hash
            continue
        if first is node or (node in owners and first in owners and not is_view(node)):
            continue
        if node.meta.get("opaque") != first.meta.get("opaque"):
            continue
        node.replace_all_uses_with(first)
        graph.graph.erase_node(node)
        if node in owners:
            owners.add(first)
    return graph


def _key(argument: Any) -> Hashable:
    # numbers by type and representation: 1, 1.0 and True differ, and so do 0.0 and -0.0; nan equals itself
    if isinstance(argument, torch.fx.Node):
        return argument
    if isinstance(argument, (list, tuple)):
        return ("sequence", *(_key(a) for a in argument))
    if isinstance(argument, dict):
        return ("mapping", *((k, _key(argument[k])) for k in sorted(argument)))
    if isinstance(argument, slice):
        return ("slice", _key(argument.start), _key(argument.stop), _key(argument.step))
    if isinstance(argument, (bool, int, float, complex)):
        return (type(argument), repr(argument))
    hash(argument)
    return (type(argument), argument)
