"""UndecidedValue: what numbers and truth values that stay symbolic share: whatever needs the value itself settles it.

The base of `SymScalarValue` and `SymTruthValue`. Invariant: once it is settled, it is a constant.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..graph.builder import GraphBuilder
from ..source import Source
from .base import Tracer, Value
from .constant import ConstantValue


class UndecidedValue(Value):
    """A number or truth value of a graph's inputs, or of its data, that is not decided yet."""

    __slots__ = ("_known", "graph")

    def __init__(self, graph: GraphBuilder, source: Source | None = None) -> None:
        super().__init__(source)
        self.graph = graph
        self._known: ConstantValue | None = None

    def decide(self) -> Any:
        """What it is in this call, which becomes a fact. Raises GraphBreak for what depends on data."""
        raise NotImplementedError

    def realize(self) -> Value:
        return self if self._known is None else self._known

    def settled(self) -> ConstantValue:
        """The constant that it is in this call, guarded."""
        if self._known is None:
            self._known = ConstantValue(self.decide(), self.source)
        return self._known

    def as_constant(self) -> Any:
        return self.settled().obj

    def snapshot(self) -> Any:
        """The number, or truth value, that it is in this call."""
        return self.as_constant()

    def hash_key(self, tracer: Tracer) -> Hashable:
        return self.settled().hash_key(tracer)

    def unpack(self, tracer: Tracer) -> list[Value]:
        return self.settled().unpack(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        return self.settled().iterate(tracer)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return self.settled().contains(tracer, item)

    def length(self, tracer: Tracer) -> int | None:
        return self.settled().length(tracer)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "__class__":
            return tracer.constant(self.python_type())
        return self.settled().get_attribute(tracer, name)

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        self.settled().set_attribute(tracer, name, value)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        return self.settled().get_item(tracer, key)
