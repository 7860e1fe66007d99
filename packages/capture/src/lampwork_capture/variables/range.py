"""SliceValue, and ranges that existed before the frame.

A slice may hold tensors or other values as bounds. A range made while tracing is a constant. Invariant: the parts of a
sourced slice or range are guarded as the constants they are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..guards.facts import TypeIs
from ..source import AttributeSource, Source
from . import operators
from .base import Tracer, Value
from .constant import ConstantValue, fold, snapshot
from .method import BuiltinObject
from .registry import wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_PARTS = ("start", "stop", "step")


class SliceValue(BuiltinObject):
    """`slice(start, stop, step)`."""

    kind = "a slice"
    __slots__ = ("parts",)

    def __init__(self, start: Value, stop: Value, step: Value, source: Source | None = None) -> None:
        super().__init__(source)
        self.parts = (start.realize(), stop.realize(), step.realize())

    def python_type(self) -> type:
        return slice

    def is_constant(self) -> bool:
        return all(part.is_constant() for part in self.parts)

    def as_constant(self) -> slice:
        return slice(*(part.as_constant() for part in self.parts))

    def snapshot(self) -> slice:
        """The slice with its bounds as Python ints, where they are known."""
        return slice(*(snapshot(part) for part in self.parts))

    def as_graph_argument(self) -> slice:
        return slice(*(part.as_graph_argument() for part in self.parts))

    def truth(self, tracer: Tracer) -> bool:
        return True

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in _PARTS:
            return self.parts[_PARTS.index(name)]
        return super().get_attribute(tracer, name)

    def m_indices(self, tracer: Tracer, length: Value) -> Value:
        return tracer.constant(fold(tracer, self.snapshot().indices, operators.index_of(tracer, length)))

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op in (operator.eq, operator.ne) and isinstance(other, SliceValue):
            return tracer.constant(operators.compare_sequences(tracer, op, self.parts, other.parts))
        return None

    def children(self) -> Sequence[Value]:
        return self.parts

    def reconstruct(self, emitter: ValueEmitter) -> None:
        for part in self.parts:
            emitter.load_value(part)
        emitter.build_slice(3)


@wraps_type(slice)
def wrap_slice(tracer: Tracer, obj: slice, source: Source) -> Value:
    """A slice that existed before the frame."""
    tracer.guard(TypeIs(source, slice))
    parts: list[Any] = [tracer.wrap(getattr(obj, name), AttributeSource(source, name)) for name in _PARTS]
    return SliceValue(parts[0], parts[1], parts[2], source)


@wraps_type(range)
def wrap_range(tracer: Tracer, obj: range, source: Source) -> Value:
    """A range that existed before the frame."""
    tracer.guard(TypeIs(source, range))
    for name in _PARTS:
        tracer.wrap(getattr(obj, name), AttributeSource(source, name)).as_constant()
    return ConstantValue(obj, source)
