"""SymScalarValue: a number that stays symbolic while tracing: a size of a dynamic dimension, or arithmetic on sizes.

The seam for dynamic shapes: sizes are static for now, so nothing makes one yet but an operation that returns a SymInt.
Invariant: arithmetic on it is recorded in the graph; asking its truth or using it as a Python number specializes it
through its SymNode, which records the guard.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch
import torch.fx

from ..source import Source
from .base import Tracer, Value
from .operators import BINARY_METHODS

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class SymScalarValue(Value):
    """A symbolic int, float or bool: the FX node that computes it, and torch's symbolic number."""

    kind = "a symbolic number"
    __slots__ = ("node", "symbol")

    def __init__(self, node: torch.fx.Node, symbol: Any, source: Source | None = None) -> None:
        super().__init__(source)
        self.node = node
        self.symbol = symbol

    def python_type(self) -> type:
        if isinstance(self.symbol, torch.SymFloat):
            return float
        return bool if isinstance(self.symbol, torch.SymBool) else int

    def as_graph_argument(self) -> torch.fx.Node:
        return self.node

    def truth(self, tracer: Tracer) -> bool:
        return bool(self.symbol)

    def specialize(self, tracer: Tracer) -> Value:
        """The Python number it is in this call, guarded by the shape environment."""
        return tracer.constant(self.python_type()(self.symbol))

    def hash_key(self, tracer: Tracer) -> Hashable:
        return self.specialize(tracer).as_constant()

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op not in BINARY_METHODS or not (other.is_constant() or isinstance(other, SymScalarValue)):
            return None
        mine, theirs = self.node, other.as_graph_argument()
        return tracer.add_node("call_function", op, (theirs, mine) if reflected else (mine, theirs), {})

    def call_method(self, tracer: Tracer, name: str, args: Any, kwargs: Any) -> Value:
        if name == "__index__":
            return self.specialize(tracer)
        if name == "__neg__":
            return tracer.add_node("call_function", operator.neg, (self.node,), {})
        return self.specialize(tracer).call_method(tracer, name, args, kwargs)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_graph_output(self.node)
