"""DescriptorValue: a `property`, `staticmethod` or `classmethod` that the traced program makes.

They stand in namespaces of classes made in the frame, or decorate a function outside one. Invariant: immutable; each
`setter` and the like makes a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .partial import PartialValue
from .registry import handles

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_PROPERTY_PARTS = ("fget", "fset", "fdel")
_ACCESSORS = ("getter", "setter", "deleter")


class DescriptorValue(Value):
    """`cls(*parts)`: the functions of a property (None where it has none), or the one that is wrapped."""

    kind = "a descriptor"
    __slots__ = ("cls", "parts")

    def __init__(self, cls: Any, parts: Sequence[Value | None]) -> None:
        super().__init__()
        self.cls = cls
        self.parts = tuple(parts)

    def python_type(self) -> type:
        return self.cls

    def truth(self, tracer: Tracer) -> bool:
        return True

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if self.cls is property:
            if name in _PROPERTY_PARTS:
                return self.parts[_PROPERTY_PARTS.index(name)] or tracer.constant(None)
            if name in _ACCESSORS:
                return PartialValue.of(tracer.constant(_with_part), [self, tracer.constant(_ACCESSORS.index(name))], {})
            return super().get_attribute(tracer, name)
        assert self.parts[0] is not None
        return self.parts[0] if name in ("__func__", "__wrapped__") else self.parts[0].get_attribute(tracer, name)

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.cls is staticmethod and self.parts[0] is not None:
            return self.parts[0].call(tracer, args, kwargs)
        tracer.raise_observed(TypeError, f"'{self.cls.__name__}' object is not callable")

    def children(self) -> Sequence[Value]:
        return tuple(part for part in self.parts if part is not None)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(self.cls)
        for part in self.parts:
            if part is None:
                emitter.load_constant(None)
            else:
                emitter.load_value(part)
        emitter.call(len(self.parts))


def _with_part(prop: property, index: int, function: Any) -> property:
    """Run time: `prop.getter(function)`, `prop.setter(function)` or `prop.deleter(function)`."""
    accessor: property = getattr(prop, _ACCESSORS[index])(function)
    return accessor


@handles(_with_part)
def with_part(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    made = args[0].realize()
    assert isinstance(made, DescriptorValue)
    parts = list(made.parts)
    parts[args[1].as_constant()] = args[2].realize()
    return DescriptorValue(property, parts)


@handles(property)
def make_property(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) > 3:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a property with a doc string of its own")
    given = dict(zip(_PROPERTY_PARTS, args))
    parts = [given[name].realize() if name in given else None for name in _PROPERTY_PARTS]
    known = [None if part is None or (part.is_constant() and part.as_constant() is None) else part for part in parts]
    return DescriptorValue(property, known)


@handles(staticmethod)
def make_static_method(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return DescriptorValue(staticmethod, [args[0].realize()])


@handles(classmethod)
def make_class_method(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return DescriptorValue(classmethod, [args[0].realize()])
