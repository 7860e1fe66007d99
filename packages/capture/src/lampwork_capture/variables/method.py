"""Methods of builtin objects: the table of modelled methods, and a bound method as a value of its own.

Values of builtin types derive from `BuiltinObject` and model `x.append(y)` as `m_append(tracer, y)`. Invariant: a
method that is not in the table but exists on the real type breaks the graph; one that does not exist
raises AttributeError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MethodWrapperType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from ..bytecode.version import words_for_no_place
from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .call_shape import takes_keywords
from .class_lookup import find_in_class, has_special, shown_name

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class BuiltinObject(Value):
    """A value of a builtin type whose methods are modelled one by one."""

    __slots__ = ()

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        method = getattr(self, f"m_{name}", None)
        if method is None:
            return self.call_unmodelled(tracer, name, args, kwargs)
        if kwargs and not takes_keywords(getattr(self.python_type(), name, None), kwargs.keys()):
            cause = f"eager refuses these keywords of `{self.kind}.{name}`"
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
        return call_model(method, f"{self.kind}.{name}", tracer, args, kwargs)

    def call_unmodelled(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """A method outside the table: breaks, or raises AttributeError where the type has no such method."""
        if not hasattr(self.python_type(), name):
            missing_attribute(tracer, self, name)
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"method `{name}` of {self.describe()} is not modelled")

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        cls = self.python_type()
        if name == "__class__":
            return tracer.constant(cls)
        if not hasattr(cls, name):
            missing_attribute(tracer, self, name)
        if callable(getattr(cls, name)) and name != "__hash__":
            return BoundMethodValue(self, name)
        if name == "__doc__":
            return tracer.constant(cls.__doc__)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        cls = self.python_type()
        if cls.__dictoffset__:  # it has a `__dict__`, of which this kind of value knows nothing
            super().set_attribute(tracer, name, value)
        if hasattr(cls, name):
            words = f"'{shown_name(cls)}' object attribute '{name}' is read-only"
            if has_special(type(find_in_class(cls, name)[0]), "__set__"):
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"setting `{name}` of {self.describe()}")
            tracer.raise_observed(AttributeError, words)
        tracer.raise_observed(AttributeError, words_for_no_place(shown_name(cls), name))


class BoundMethodValue(Value):
    """A method read off a builtin object, like `items.append`, not called yet."""

    kind = "a builtin method"
    __slots__ = ("name", "owner")

    def __init__(self, owner: Value, name: str) -> None:
        super().__init__()
        self.owner = owner
        self.name = name

    def python_type(self) -> type:
        raw = getattr(self.owner.python_type(), self.name, None)
        return MethodWrapperType if isinstance(raw, WrapperDescriptorType) else type([].append)

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return self.owner.call_method(tracer, self.name, args, kwargs)

    def truth(self, tracer: Tracer) -> bool:
        return True

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "__self__":
            return self.owner
        if name in ("__name__", "__qualname__", "__doc__", "__module__"):
            return tracer.constant(getattr(getattr(self.owner.python_type(), self.name), name, None))
        return super().get_attribute(tracer, name)

    def children(self) -> Sequence[Value]:
        return (self.owner,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.owner)
        emitter.load_attribute(self.name)


def call_model(method: Any, what: str, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """Call a model with the user's arguments; arguments that do not fit break the graph, so that eager raises."""
    try:
        return method(tracer, *args, **kwargs)
    except TypeError as error:
        if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself did not bind
            raise GraphBreak(
                BreakId.EXCEPTION_NOT_MODELLED,
                f"`{what}` does not take these arguments, or a form of it is not modelled",
            ) from error
        raise


def missing_attribute(tracer: Tracer, value: Value, name: str) -> Any:
    """Raise the AttributeError of the traced program."""
    tracer.raise_observed(AttributeError, f"'{shown_name(value.python_type())}' object has no attribute '{name}'")
