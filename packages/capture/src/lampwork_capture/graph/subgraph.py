"""Subgraphs: the traced body of a function that an operation of the graph calls by itself (`torch.vmap`, `torch.cond`).

`GraphBuilder.begin_subgraph` opens one above the graph under construction; what is recorded then goes into it. A tensor
of a graph below is *captured*: it becomes a placeholder of the subgraph, and the operation passes it in. Invariant: a
node's arguments are nodes of its own graph; what was made in a subgraph never gets out except as its result.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.fx

from .source_cache import forget_source_with

EXAMPLE = "example_value"  # the fake result, under the name that torch.compile backends read


class OpenGraph:
    """A graph under construction: the root's or a subgraph's."""

    def __init__(self) -> None:
        self.captured: list[torch.fx.Node] = []  # nodes of the graph below, in the order of their placeholders
        self._placeholders: dict[torch.fx.Node, torch.fx.Node] = {}
        self._modules: dict[str, torch.fx.GraphModule] = {}
        self._last_placeholder: torch.fx.Node | None = None
        self.is_finished = False

    @functools.cached_property
    def graph(self) -> torch.fx.Graph:
        """Made with its first node: a graph of torch.fx is a cycle, and most traces record nothing."""
        return torch.fx.Graph()

    @property
    def nodes(self) -> Iterable[torch.fx.Node]:
        """What was recorded, in order."""
        return self.graph.nodes if "graph" in vars(self) else ()

    @property
    def node_count(self) -> int:
        """How many nodes were recorded, inputs included."""
        return len(self.graph.nodes) if "graph" in vars(self) else 0

    def placeholder(self, name: str, example: Any) -> torch.fx.Node:
        """A new placeholder behind those that are there."""
        with self.at_start():
            node = self.graph.placeholder(name)
        self._last_placeholder = node
        node.meta[EXAMPLE] = example
        return node

    def at_start(self) -> AbstractContextManager[Any]:
        """While it is open, nodes are put right behind the placeholders: they see inputs as these arrive."""
        return self.graph.inserting_after(self._last_placeholder or self.graph._root)

    def capture(self, outer: torch.fx.Node) -> torch.fx.Node:
        """The node that stands here for a node of the graph below."""
        if outer not in self._placeholders:
            self.captured.append(outer)
            self._placeholders[outer] = self.placeholder(f"captured_{outer.name}", outer.meta[EXAMPLE])
        return self._placeholders[outer]

    def add_module(self, name: str, module: torch.fx.GraphModule) -> torch.fx.Node:
        """A `get_attr` node for a finished subgraph."""
        unique, count = name, 0
        while unique in self._modules:
            count += 1
            unique = f"{name}_{count}"
        self._modules[unique] = module
        node = self.graph.get_attr(unique)
        node.meta[EXAMPLE] = module
        return node

    def finish(self) -> torch.fx.GraphModule:
        """The graph, which has its output by now, as a module."""
        for node in self.graph.find_nodes(op="get_attr"):
            if not node.users:
                self.graph.erase_node(node)
                del self._modules[str(node.target)]
        root = torch.nn.Module()
        for name, module in self._modules.items():
            root.add_module(name, module)
        finished = torch.fx.GraphModule(root, self.graph)
        forget_source_with(finished)
        self.is_finished = True
        return finished

    def release(self) -> None:
        """The graph was given up. Its nodes are a cycle and wait for the collector; what was noted of them does not."""
        for node in self.nodes:
            node.meta.clear()


class FinishedSubgraph:
    """A subgraph: called as `module(*arguments, *captured)`, it returns a tuple of tensors."""

    __slots__ = ("captured", "module")

    def __init__(self, module: torch.fx.GraphModule, captured: list[torch.fx.Node]) -> None:
        self.module = module
        self.captured = captured


def count_operations(module: torch.fx.GraphModule) -> int:
    """The operations of a graph, those of its subgraphs included."""
    total = 0
    for node in module.graph.nodes:
        if node.op == "get_attr":
            total += count_operations(getattr(module, str(node.target)))
        elif node.op not in ("placeholder", "output"):
            total += 1
    return total
