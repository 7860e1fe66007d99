"""MappingProxyValue: `types.MappingProxyType(d)`, a view of a dict that cannot be written through.

Invariant: nothing is copied; what the dict becomes is seen through the proxy.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..source import Source
from . import operators
from .base import Tracer, Value
from .method import BuiltinObject
from .registry import wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class MappingProxyValue(BuiltinObject):
    """`types.MappingProxyType(d)` of a modelled dict: reads go to the dict."""

    kind = "a mapping proxy"
    __slots__ = ("mapping",)

    def __init__(self, mapping: Value) -> None:
        super().__init__()
        self.mapping = mapping

    def python_type(self) -> type:
        return MappingProxyType

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if not hasattr(MappingProxyType, name):
            return super().call_method(tracer, name, args, kwargs)
        return self.mapping.call_method(tracer, name, args, kwargs)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        return operators.get_item(tracer, self.mapping, key)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return operators.contains(tracer, self.mapping, item)

    def length(self, tracer: Tracer) -> int | None:
        return operators.length(tracer, self.mapping)

    def truth(self, tracer: Tracer) -> bool:
        return self.mapping.truth(tracer)

    def unpack(self, tracer: Tracer) -> list[Value]:
        return self.mapping.unpack(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        return self.mapping.iterate(tracer)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op is operator.ior:
            return None
        theirs = other.mapping if isinstance(other, MappingProxyValue) else other
        left, right = (theirs, self.mapping) if reflected else (self.mapping, theirs)
        return operators.binary(tracer, op, left, right)

    def children(self) -> Sequence[Value]:
        return (self.mapping,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(MappingProxyType)
        emitter.load_value(self.mapping)
        emitter.call(1)


@wraps_type(MappingProxyType)
def wrap_mapping_proxy(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A proxy that existed before: guards cannot look at what it shows."""
    raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a mapping proxy")
