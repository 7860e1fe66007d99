"""Number variants: a backend that cannot take numbers as inputs, made into one that can.

A captured graph may have Python ints and floats as inputs. `with_number_variants` compiles it once for each distinct
tuple of them, with the numbers as constants, up to a limit; later tuples run the captured graph as it is, and one
warning says so. Invariants: a variant is used for exactly the numbers it was made for (type and bits); look-ups take no
lock, one thread compiles a variant and others run the captured graph meanwhile.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import torch.fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from .graph.printable import printable
from .graph_backend import GraphBackend, GraphRefused
from .guards.exact import exact_key

DEFAULT_LIMIT = 8
TAKES_NUMBERS = "takes_numbers"
"""The attribute of a backend that does itself what is to be done about numbers among the inputs."""
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


class NumberVariantsWarning(UserWarning):
    """A graph was compiled for several numbers; it runs as captured for the others."""


def with_number_variants(
    backend: GraphBackend, limit: int = DEFAULT_LIMIT, *, symbolic_numbers: bool = False
) -> GraphBackend:
    """`backend` for graphs that may have numbers as inputs: it is only given graphs of tensors.

    At most `limit` variants are compiled for one graph. `symbolic_numbers`: the backend takes numbers as symbols
    (placeholders whose `example_value` is a SymInt or SymFloat); a graph all of whose numbers are such is given to it
    as it is, and only if it refuses (GraphRefused) are variants made.
    """

    def compile_variants(graph: torch.fx.GraphModule, example_inputs: list[Any]) -> Callable[..., Any]:
        if not any(is_number(example) for example in example_inputs):
            return backend(graph, example_inputs)
        if symbolic_numbers and _are_symbolic(graph, example_inputs):
            try:
                return backend(graph, example_inputs)
            except GraphRefused:
                pass  # it may take them as constants
        variants = NumberVariants(backend, graph, example_inputs, limit)
        variants.compile([concrete(example) for example in example_inputs])
        return variants

    setattr(compile_variants, TAKES_NUMBERS, True)
    return compile_variants


def _are_symbolic(graph: torch.fx.GraphModule, example_inputs: Sequence[Any]) -> bool:
    """Whether all numbers among a graph's inputs are symbols of the capture."""
    nodes = graph.graph.find_nodes(op="placeholder")
    return all(
        isinstance(node.meta.get("example_value"), torch.SymInt | torch.SymFloat)
        for node, example in zip(nodes, example_inputs)
        if is_number(example)
    )


def is_number(example: Any) -> bool:
    """Whether an example input stands for a Python number."""
    return isinstance(example, (int, float, *_SYMBOLIC))


def concrete(example: Any) -> Any:
    """An example input as the call that was captured had it."""
    return example.node.hint if isinstance(example, _SYMBOLIC) else example


class NumberVariants:
    """What is called instead of the graph: it picks the variant for the numbers of the call."""

    def __init__(
        self, backend: GraphBackend, graph: torch.fx.GraphModule, example_inputs: Sequence[Any], limit: int
    ) -> None:
        self._backend = backend
        self._graph = graph
        self._limit = limit
        self._numbers = tuple(i for i, example in enumerate(example_inputs) if is_number(example))
        self._tensors = tuple(i for i, example in enumerate(example_inputs) if not is_number(example))
        self._variants: dict[Hashable, Callable[..., Any]] = {}
        self._attempts = 0
        self._compiling = threading.Lock()

    def __call__(self, *args: Any) -> Any:
        variant = self._variants.get(self._key(args))
        if variant is None:
            variant = self._new_variant(args)
        if variant is None:
            return self._graph.forward(*args)
        return variant(*(args[i] for i in self._tensors))

    def compile(self, args: Sequence[Any]) -> Callable[..., Any]:
        """Compile the variant for the numbers among `args`. Raises what the backend raises."""
        self._attempts += 1
        graph = with_constants(self._graph, {i: args[i] for i in self._numbers})
        compiled = self._backend(graph, [args[i] for i in self._tensors])
        self._variants = {**self._variants, self._key(args): compiled}
        return compiled

    def _key(self, args: Sequence[Any]) -> Hashable:
        return tuple(exact_key(args[i]) for i in self._numbers)

    def _new_variant(self, args: Sequence[Any]) -> Callable[..., Any] | None:
        if self._attempts >= self._limit or not self._compiling.acquire(blocking=False):
            return None
        try:
            known = self._variants.get(self._key(args))
            if known is not None:
                return known
            try:
                return self.compile(args)
            except Exception as error:  # the captured graph is as right as a variant of it
                if os.environ.get("LAMPWORK_STRICT", "") not in ("", "0"):
                    raise
                self._attempts = self._limit
                warnings.warn(f"a captured graph runs eagerly: {error}", NumberVariantsWarning, stacklevel=3)
                return None
            finally:
                if self._attempts == self._limit:
                    self._explain(args)
        finally:
            self._compiling.release()

    def _explain(self, args: Sequence[Any]) -> None:
        names = [node.name for node in self._graph.graph.find_nodes(op="placeholder")]
        shown = ", ".join(f"`{names[i]}` ({args[i]!r} in this call)" for i in self._numbers)
        warnings.warn(
            f"a graph was compiled for {self._attempts} values of {shown}; for further values it runs as captured, "
            "without generated kernels. Make a number that keeps changing a tensor.",
            NumberVariantsWarning,
            stacklevel=4,
        )


def with_constants(graph: torch.fx.GraphModule, numbers: dict[int, Any]) -> torch.fx.GraphModule:
    """The graph with these inputs (by position) as constants, and what is computed from them alone."""
    made = torch.fx.Graph()
    values: dict[torch.fx.Node, Any] = {}
    position = 0
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            if position in numbers:
                values[node] = numbers[position]
            position += 1
        elif node.op == "call_function" and isinstance(node.meta.get("example_value"), _SYMBOLIC):
            args = map_arg(node.args, values.__getitem__)
            if not any(isinstance(arg, torch.fx.Node) for arg in args):
                values[node] = node.target(*args)
        if node not in values:
            values[node] = _copied(made, node, values)
    return torch.fx.GraphModule(graph, made)


def _copied(made: torch.fx.Graph, node: torch.fx.Node, values: dict[torch.fx.Node, Any]) -> torch.fx.Node:
    args: Any = map_arg(node.args, values.__getitem__)
    kwargs: Any = map_arg(node.kwargs, values.__getitem__)
    copy = made.create_node(node.op, printable(node.target, args), args, kwargs, node.name, node.type)
    copy.meta = {key: value for key, value in node.meta.items() if not _is_symbolic(value)}
    return copy


def _is_symbolic(value: Any) -> bool:
    """Whether a node's example has symbolic numbers in it, which mean nothing once they are constants."""
    leaves = tree_leaves(value) if isinstance(value, (torch.Tensor, tuple, list, dict, *_SYMBOLIC)) else ()
    return any(
        isinstance(leaf, _SYMBOLIC)
        or (isinstance(leaf, torch.Tensor) and any(isinstance(s, _SYMBOLIC) for s in (*leaf.shape, *leaf.stride())))
        for leaf in leaves
    )
