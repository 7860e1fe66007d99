"""ObjectValue: an instance of a user's class: its special methods, its contents, and how it is made anew.

Methods are traced; attributes are looked up by `ObjectAttributes`. Instances of subclasses of dict, list, tuple or set
hold their contents in `payload`. Invariant: the exact class is guarded.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import (
    FunctionType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, IdentityIs
from ..interpreter.side_effects import Deleted, emit_attribute_write
from . import operators
from .base import ObservedException, Tracer, Value
from .class_lookup import (
    MISSING,
    find_in_class,
    has_special,
    is_iterable,
    is_overridden,
)
from .dict import DictValue
from .iterator import ComputedIterator, step
from .keys import IdentityKey, TracedKey
from .list import ListValue
from .object_attributes import ObjectAttributes
from .set import SetValue
from .tuple import TupleValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_OLD_PROTOCOL: Any = type("OldProtocol", (), {"__getitem__": list.__getitem__})()
_OLD_ITERATOR: type = type(iter(_OLD_PROTOCOL))
_PAYLOAD_BASES: tuple[type, ...] = (dict, list, tuple, set, frozenset)


def payload_base(cls: type) -> type | None:
    """The builtin container that a class derives from, or None."""
    return next((base for base in _PAYLOAD_BASES if issubclass(cls, base)), None)


class ObjectValue(ObjectAttributes):
    """An instance of `cls`. `obj` is the real one if it existed before the frame."""

    __slots__ = ()

    # Special methods

    def special(self, tracer: Tracer, name: str) -> Value | None:
        """A special method, looked up on the class as the interpreter does; None if there is none."""
        raw, owner = find_in_class(self.cls, name)
        if raw is MISSING or raw is None:
            return None
        return self._from_class(tracer, name, raw, owner)

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        method = self.special(tracer, "__call__")
        if method is None:
            tracer.raise_observed(TypeError, f"'{self.cls.__name__}' object is not callable")
        return tracer.tail_call(self, method, args, kwargs)

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if name.startswith("__") and name.endswith("__"):
            method = self.special(tracer, name)
            if method is not None:
                return method.call(tracer, args, kwargs)
        return self.get_attribute(tracer, name).call(tracer, args, kwargs)

    def truth(self, tracer: Tracer) -> bool:
        if is_overridden(self.cls, "__bool__"):
            answer = self.call_method(tracer, "__bool__", [], {})
            if answer.python_type() is not bool:
                raise GraphBreak(
                    BreakId.EXCEPTION_NOT_MODELLED, f"`__bool__` returned {answer.describe()}: eager raises"
                )
            return answer.truth(tracer)
        if find_in_class(self.cls, "__bool__")[0] is None:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{self.describe()} has no truth: eager raises")
        if is_overridden(self.cls, "__len__"):
            return operators.length(tracer, self) != 0
        if self.payload is not None:
            return self.payload.truth(tracer)
        if has_special(self.cls, "__bool__") or has_special(self.cls, "__len__"):
            return super().truth(tracer)
        return True

    def length(self, tracer: Tracer) -> int | None:
        if self.payload is not None and not is_overridden(self.cls, "__len__"):
            return self.payload.length(tracer)
        return None

    def iterate(self, tracer: Tracer) -> Value:
        if is_overridden(self.cls, "__iter__"):
            iterator = self.call_method(tracer, "__iter__", [], {}).realize()
            if isinstance(iterator, ObjectValue) and not has_special(iterator.cls, "__next__"):
                tracer.raise_observed(TypeError, f"iter() returned non-iterator of type '{iterator.cls.__name__}'")
            return iterator
        if self.payload is not None:
            return self.payload.iterate(tracer)
        if not is_iterable(self.cls):
            tracer.raise_observed(TypeError, f"'{self.cls.__name__}' object is not iterable")
        if not has_special(self.cls, "__iter__"):
            return self._iterate_by_index()
        return super().iterate(tracer)

    def _iterate_by_index(self) -> Value:
        """The old protocol: `__getitem__` from 0 up, until IndexError."""
        position = [0]

        def produce(tracer: Tracer) -> Value | None:
            try:
                item = self.call_method(tracer, "__getitem__", [tracer.constant(position[0])], {})
            except ObservedException as error:
                if issubclass(error.value.python_type(), IndexError):
                    return None
                raise
            position[0] += 1
            return item

        return ComputedIterator(_OLD_ITERATOR, [self], produce)

    def unpack(self, tracer: Tracer) -> list[Value]:
        if self.payload is not None and not is_overridden(self.cls, "__iter__"):
            return self.payload.unpack(tracer)
        iterator = self.iterate(tracer)
        if not isinstance(iterator, ObjectValue):
            return iterator.unpack(tracer)
        items: list[Value] = []
        while (item := step(tracer, iterator)) is not None:
            items.append(item)
        return items

    def next(self, tracer: Tracer) -> Value:
        if not is_overridden(self.cls, "__next__"):
            tracer.raise_observed(TypeError, f"'{self.cls.__name__}' object is not an iterator")
        return self.call_method(tracer, "__next__", [], {})

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        if self.payload is None or is_overridden(self.cls, "__contains__"):
            return None
        if is_overridden(self.cls, "__iter__") and not isinstance(self.payload, (DictValue, SetValue)):
            return None
        return self.payload.contains(tracer, item)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        names = operators.BINARY_METHODS.get(op)
        name = operators.INPLACE_METHODS[op][0] if names is None else names[1 if reflected else 0]
        raw, _ = find_in_class(self.cls, name)
        if issubclass(type(raw), FunctionType):
            result = self.call_method(tracer, name, [other], {})
            return None if result.is_constant() and result.as_constant() is NotImplemented else result
        if raw is object.__ne__ and op is operator.ne and is_overridden(self.cls, "__eq__"):
            result = self.binary(tracer, operator.eq, other, reflected)
            return None if result is None else tracer.constant(not result.truth(tracer))
        if self.payload is not None and raw is not None:
            return self._self_for_payload(self.payload.binary(tracer, op, other, reflected))
        if raw is MISSING or (type(raw) is WrapperDescriptorType and raw.__objclass__ is object):
            return None
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

    def _self_for_payload(self, result: Value | None) -> Value | None:
        """A result of the contents, where that they give themselves stands for this object (`+=`, `|=`)."""
        return self if result is not None and result is self.payload else result

    def hash_key(self, tracer: Tracer) -> Hashable:
        raw, _ = find_in_class(self.cls, "__hash__")
        if raw is object.__hash__ and not is_overridden(self.cls, "__eq__"):
            if self.obj is None:
                return IdentityKey(self)
            if self.source is not None:  # in another call it may be the same object as another key
                tracer.guard(IdentityIs(self.source, ByIdentity(self.obj)))
            return self.obj
        if isinstance(self.payload, TupleValue) and raw is tuple.__hash__:
            return self.payload.hash_key(tracer)
        if raw is object.__hash__:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{self.describe()} as a key is not modelled")
        before = tracer.side_effects.count
        hashed = self.call_method(tracer, "__hash__", [], {}).realize().as_constant()
        if not isinstance(hashed, int):
            tracer.raise_observed(TypeError, "__hash__ method should return an integer")
        return TracedKey(tracer, self, hash(hashed), is_silent=tracer.side_effects.count == before)

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        """`str` or `repr` by a method written in Python."""
        for name in ("__str__", "__repr__") if convert is str else ("__repr__",):
            if is_overridden(self.cls, name):
                made = self.call_method(tracer, name, [], {})
                if made.python_type() is not str:
                    cause = f"`{name}` returned {made.describe()}, which is no plain string"
                    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
                text: str = made.as_constant()
                return text.encode("ascii", "backslashreplace").decode() if convert is ascii else text
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the text of {self.describe()} is not known while tracing")

    def as_graph_argument(self) -> Any:
        if isinstance(self.payload, TupleValue):
            return self.payload.as_graph_argument()
        return super().as_graph_argument()

    # What a builtin base class does, for the kinds that have one

    def made_by_base(self, tracer: Tracer, args: Sequence[Value]) -> None:
        """`Base.__new__(cls, *args)` made the object."""

    def initialized_by_base(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> None:
        """`Base.__init__(self, *args, **kwargs)`."""

    def call_base_slot(
        self, tracer: Tracer, method: Any, args: Sequence[Value], kwargs: Mapping[str, Value]
    ) -> Value | None:
        """A method of the builtin base class, or None if it is not modelled."""
        return None

    def call_slot(self, tracer: Tracer, method: Any, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if method.__objclass__ is object:
            return self._call_object_slot(tracer, method.__name__, args, kwargs)
        if self.payload is not None:
            answer = self._self_for_payload(self.payload.call_slot(tracer, method, args, kwargs))
        else:
            answer = self.call_base_slot(tracer, method, args, kwargs)
        if answer is None:
            raise GraphBreak(BreakId.EXTENSION_CALL, f"`{method.__qualname__}` of {self.describe()} is not modelled")
        return answer

    def _call_object_slot(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        match name, len(args):
            case "__getattribute__", 1:
                found = self.find_attribute(tracer, args[0].as_constant())
                return self.raise_missing(tracer, args[0].as_constant()) if found is None else found
            case "__setattr__", 2:
                self.store_attribute(tracer, args[0].as_constant(), args[1])
                return tracer.constant(None)
            case "__delattr__", 1:
                self.remove_attribute(tracer, args[0].as_constant())
                return tracer.constant(None)
            case "__init__", 0 if not kwargs:
                return tracer.constant(None)
            case "__eq__" | "__ne__", 1:
                if not operators.is_same(tracer, self, args[0]):
                    return tracer.constant(NotImplemented)
                return tracer.constant(name == "__eq__")
            case "__repr__" | "__str__", 0 if name == "__str__":
                return tracer.constant(operators.text_of(tracer, self, repr))
            case _:
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`object.{name}` of {self.describe()} is not modelled")

    # Back into the real world

    def children(self) -> Sequence[Value]:
        inside = () if self.payload is None else tuple(self.payload.children())
        return (self.class_value, *inside)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        base = payload_base(self.cls)
        if issubclass(self.cls, OrderedDict):
            base = OrderedDict
        emitter.begin_call((base or object).__new__)
        emitter.load_value(self.class_value)
        if base is frozenset:
            assert self.payload is not None
            self.payload.reconstruct(emitter)
            emitter.call(2)
        elif isinstance(self.payload, TupleValue):
            for item in self.payload.children():
                emitter.load_value(item)
            emitter.build_tuple(len(self.payload.children()))
            emitter.call(2)
        else:
            emitter.call(1)
        emitter.remember(self)
        if isinstance(self.payload, (DictValue, ListValue)) or (isinstance(self.payload, SetValue) and base is set):
            self.payload.write_back(emitter)
        for name, write in emitter.side_effects.attribute_writes(self).items():
            if not isinstance(write.value, Deleted):
                emit_attribute_write(emitter, self, name, write)

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit code that brings the real container contents to their final state."""
        write: Callable[[ValueEmitter], None] | None = getattr(self.payload, "write_back", None)
        if write is None:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"the contents of {self.describe()} changed")
        write(emitter)
