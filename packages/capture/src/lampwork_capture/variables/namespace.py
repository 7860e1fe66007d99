"""NamespaceValue: a `types.SimpleNamespace`: an object that is all attributes.

Invariant: its attributes are read, guarded and replayed like those of any object.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import TypeIs
from ..interpreter.side_effects import Deleted, emit_attribute_write
from ..source import Source, TypeSource
from . import operators
from .base import Tracer, Value
from .class_value import ClassValue
from .instance_dict import InstanceDictValue
from .registry import handles, wraps_type
from .user_object import ObjectValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class NamespaceValue(ObjectValue):
    """A SimpleNamespace."""

    kind = "a namespace"
    __slots__ = ()

    def names(self, tracer: Tracer) -> Any:
        """Its attributes as a dict."""
        return InstanceDictValue(self).as_dict(tracer)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op in (operator.eq, operator.ne) and isinstance(other, NamespaceValue):
            return operators.binary(tracer, op, self.names(tracer), other.names(tracer))
        return None

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        found = self.names(tracer)
        inner = ascii if convert is ascii else repr
        pairs = zip(found.keys(tracer), found.values(tracer))
        shown = [f"{key.as_constant()}={operators.text_of(tracer, value, inner)}" for key, value in pairs]
        return f"namespace({', '.join(shown)})"

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(SimpleNamespace)
        emitter.call(0)
        emitter.remember(self)
        for name, write in emitter.side_effects.attribute_writes(self).items():
            if not isinstance(write.value, Deleted):
                emit_attribute_write(emitter, self, name, write)


@handles(SimpleNamespace)
def make_namespace(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if args:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a SimpleNamespace of a mapping")
    made = NamespaceValue(ClassValue(SimpleNamespace))
    for name, value in kwargs.items():
        tracer.side_effects.store_attribute(made, name, value.realize())
    return made


@wraps_type(SimpleNamespace)
def wrap_namespace(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, SimpleNamespace))
    class_value: Any = tracer.wrap(SimpleNamespace, TypeSource(source))
    return NamespaceValue(class_value, source, obj)
