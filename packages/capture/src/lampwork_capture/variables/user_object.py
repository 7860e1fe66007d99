"""ObjectValue: an instance of a user's class, and how Python finds attributes on it.

Attribute access follows the data model step by step: overridden `__getattribute__`, data descriptors, the instance,
class attributes, `__getattr__`; methods are traced. Instances of subclasses of dict, list, tuple or set hold their
contents in `payload`. Invariants: the exact class is guarded; what is read from a real instance is guarded where it was
read; writes go to the side effects, never to the real instance.
"""

from __future__ import annotations

import collections
import functools
import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from .. import _native
from ..bytecode.version import words_for_empty_slot, words_for_no_place, words_for_no_setter, words_for_nothing_deleted
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import AttributePresent, ByIdentity, IdentityIs, InstanceDictLacks
from ..interpreter.side_effects import DELETED, Deleted, emit_attribute_write
from ..source import AttributeSource, ItemSource, Source, TypeSource
from . import operators
from .base import ObservedException, Tracer, Value
from .dict import DictValue
from .function import MethodValue
from .instance_dict import InstanceDictValue
from .iterator import ComputedIterator, step
from .keys import IdentityKey, TracedKey
from .list import ListValue
from .method import missing_attribute
from .set import SetValue
from .special import has_plain_names, has_special
from .tuple import TupleValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter
    from .class_value import ClassValue

MISSING: Any = object()
_OLD_PROTOCOL: Any = type("OldProtocol", (), {"__getitem__": list.__getitem__})()
_OLD_ITERATOR: type = type(iter(_OLD_PROTOCOL))
_SLOT_TYPES = (WrapperDescriptorType, MethodDescriptorType)
_TUPLE_GETTER: type = type(vars(collections)["_tuplegetter"](0, ""))
_PAYLOAD_BASES: tuple[type, ...] = (dict, list, tuple, set, frozenset)


_FIXED_KINDS = frozenset({FunctionType, property, classmethod, staticmethod, int, str, float, bool, tuple, list, dict})
_IMMUTABLE_OR_STATIC = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE


def is_fixed(cls: type) -> bool:
    """Whether Python code cannot add methods to a class."""
    return bool(cls.__flags__ & _IMMUTABLE_OR_STATIC) or not cls.__flags__ & 1 << 9


def find_in_class(cls: type, name: str) -> tuple[Any, type]:
    """What stands under `name` in the namespaces of the MRO, and the class it was found in; MISSING if nowhere."""
    for owner in cls.__mro__:
        namespace = owner.__dict__
        if name in namespace:
            return namespace[name], owner
    return MISSING, object


def is_overridden(cls: type, name: str) -> bool:
    """Whether a special method is written in Python."""
    return isinstance(find_in_class(cls, name)[0], FunctionType)


def is_callable(value: Value) -> bool:
    """What `callable` answers: its class has `__call__`."""
    return find_in_class(value.python_type(), "__call__")[0] is not MISSING


def is_plain_dict_getter(cls: type) -> bool:
    """Whether `__dict__` of an instance is what the interpreter gives, not something that the class put there."""
    return isinstance(find_in_class(cls, "__dict__")[0], GetSetDescriptorType)


def looks_up_itself(cls: type) -> bool:
    """Whether reading an attribute of a class runs the program: its metaclass has a `__getattribute__` of its own."""
    meta = type(cls)
    return meta is not type and is_overridden(meta, "__getattribute__")


def bind(tracer: Tracer, function: Value, owner: Value) -> Value:
    """A function as the method of an instance (or of a class)."""
    return MethodValue(function, owner)


def payload_base(cls: type) -> type | None:
    """The builtin container that a class derives from, or None."""
    return next((base for base in _PAYLOAD_BASES if issubclass(cls, base)), None)


class ObjectValue(Value):
    """An instance of `cls`. `obj` is the real one if it existed before the frame."""

    kind = "an object"
    __slots__ = ("class_value", "cls", "has_names", "is_asked", "namespace", "obj", "payload")

    def __init__(
        self, class_value: ClassValue, source: Source | None = None, obj: Any = None, payload: Value | None = None
    ) -> None:
        super().__init__(source)
        self.class_value = class_value
        self.cls: type = class_value.obj
        self.obj = obj
        self.payload = payload
        self.has_names = False  # and nothing else in its `__dict__`, once that was looked at
        self.is_asked = False  # for its `__dict__`, by `check_own_dict`
        self.namespace: InstanceDictValue | None = None  # its `__dict__`, once that was asked for

    def describe(self) -> str:
        return f"an object of class {self.cls.__name__}" + (f" `{self.source}`" if self.source is not None else "")

    def python_type(self) -> type:
        return self.cls

    # Reading attributes

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if is_overridden(self.cls, "__getattribute__"):
            return self._through_getattribute(tracer, name)
        self.class_value.guard_method(tracer, "__getattribute__")
        try:
            found = self.find_attribute(tracer, name)
        except ObservedException as error:  # a property or descriptor that says there is no such attribute
            is_missing = issubclass(error.value.python_type(), AttributeError)
            if not is_missing or find_in_class(self.cls, "__getattr__")[0] is MISSING:
                raise
            found = None
        return found if found is not None else self.missing(tracer, name)

    def _through_getattribute(self, tracer: Tracer, name: str) -> Value:
        raw, owner = find_in_class(self.cls, "__getattribute__")
        getter = self.class_value.class_attribute(tracer, "__getattribute__", raw, owner)
        try:
            return tracer.call(getter, [self, tracer.constant(name)])
        except ObservedException as error:
            if not issubclass(error.value.python_type(), AttributeError) or not is_overridden(self.cls, "__getattr__"):
                raise
        return self.missing(tracer, name)

    def missing(self, tracer: Tracer, name: str) -> Value:
        """The attribute was not found: `__getattr__`, or AttributeError."""
        raw, owner = find_in_class(self.cls, "__getattr__")
        if raw is MISSING:
            self.class_value.guard_missing(tracer, "__getattr__")
        if issubclass(type(raw), FunctionType):
            getter = self.class_value.class_attribute(tracer, "__getattr__", raw, owner)
            return tracer.call(getter, [self, tracer.constant(name)])
        return self.raise_missing(tracer, name)

    def raise_missing(self, tracer: Tracer, name: str) -> Any:
        """Raise what `object.__getattribute__(self, name)` raises where there is none."""
        raw, _ = find_in_class(self.cls, name)
        if isinstance(raw, MemberDescriptorType):
            tracer.raise_observed(AttributeError, words_for_empty_slot(self.cls, raw.__name__))
        missing_attribute(tracer, self, name)

    def find_attribute(self, tracer: Tracer, name: str) -> Value | None:
        """`object.__getattribute__(self, name)`, None where that raises AttributeError."""
        if name == "__class__":
            return self.class_value
        if name == "__dict__" and self.has_instance_dict() and is_plain_dict_getter(self.cls):
            if self.namespace is None:
                self.namespace = InstanceDictValue(self)
                tracer.when_released(self.forget)
            return self.namespace
        raw, owner = find_in_class(self.cls, name)
        if tracer.side_effects.class_writes:
            written = self.class_value.written(tracer, name, self)
            if written is not None:
                stored = self.instance_attribute(tracer, name, in_class=True)
                return stored or (None if isinstance(written, Deleted) else written)
        if raw is not MISSING and _is_data_descriptor(raw):
            return self._from_descriptor(tracer, name, raw, owner)
        stored = self.instance_attribute(tracer, name, in_class=raw is not MISSING)
        if stored is not None:
            if raw is not MISSING:
                self._guard_descriptor_kind(tracer, name, raw, owner)
            return stored
        if raw is not MISSING:
            self._guard_descriptor_kind(tracer, name, raw, owner)
            return self._from_class(tracer, name, raw, owner)
        self.class_value.guard_missing(tracer, name)
        return None

    def _guard_descriptor_kind(self, tracer: Tracer, name: str, raw: Any, owner: type) -> None:
        """Record that the user's class of a class attribute does not become a data descriptor later."""
        kind = type(raw)
        if kind in _FIXED_KINDS or is_fixed(kind):
            return
        source = self.class_value.attribute_source(name, owner)
        if source is not None:
            for method in ("__get__", "__set__", "__delete__"):
                if not has_special(kind, method):
                    tracer.guard(AttributePresent(TypeSource(source), method, False))

    def has_instance_dict(self) -> bool:
        """Whether instances of the class have a `__dict__`."""
        return self.cls.__dictoffset__ != 0

    def instance_attribute(self, tracer: Tracer, name: str, *, in_class: bool) -> Value | None:
        """What the instance itself holds under `name`, or None."""
        pending = tracer.side_effects.pending_attribute(self, name)
        if pending is DELETED:
            return None
        if isinstance(pending, Value):
            return pending
        if self.obj is None or not self.has_instance_dict() or self.source is None:
            return None
        namespace = _native.instance_dict(self.obj)
        if namespace is None:  # not made yet
            self.guard_lacks(tracer, name)
            return None
        if not self.has_names:
            self.has_names = has_plain_names(namespace)
            if not self.has_names:
                cause = f"{self.describe()}, whose `__dict__` has keys that are no names"
                raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, cause)
        if name in namespace:
            source = self.instance_source(name)
            if is_overridden(self.cls, "__getattribute__"):
                self.check_own_dict(tracer, name)
            if isinstance(source, ItemSource):  # that reads past what the class may get
                self.class_value.guard_kind(tracer, name)
            return tracer.wrap(namespace[name], source)
        self.guard_lacks(tracer, name)
        return None

    def guard_lacks(self, tracer: Tracer, name: str) -> None:
        """Record that the real instance holds nothing under `name`."""
        assert self.source is not None
        tracer.guard(InstanceDictLacks(self.source, name))

    def instance_source(self, name: str) -> Source:
        """Where an attribute that the instance itself holds comes from."""
        assert self.source is not None
        if is_overridden(self.cls, "__getattribute__"):
            return ItemSource(AttributeSource(self.source, "__dict__"), name)
        if is_overridden(self.cls, "__getattr__"):
            return ItemSource(AttributeSource(self.source, "__dict__"), name)
        if _is_data_descriptor(find_in_class(self.cls, name)[0]):  # which stands before it: it was read by `__dict__`
            return ItemSource(AttributeSource(self.source, "__dict__"), name)
        return AttributeSource(self.source, name)

    def check_own_dict(self, tracer: Tracer, name: str) -> None:
        """Raise GraphBreak unless `__getattribute__` gives the instance's own `__dict__`, through which it is read."""
        if not self.is_asked:
            self.is_asked = True
            own = self._through_getattribute(tracer, "__dict__")
            self.is_asked = False
            if isinstance(own, InstanceDictValue) and own.owner is self:
                return
        cause = f"`{name}` of {self.describe()}, whose `__getattribute__` hides its `__dict__`"
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, cause)

    def _from_descriptor(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value | None:
        if issubclass(type(raw), property):
            if raw.fget is None:
                missing_attribute(tracer, self, name)
            return tracer.call(self._part(tracer, name, raw, owner, "fget"), [self])
        if issubclass(type(raw), MemberDescriptorType):
            return self._from_slot(tracer, name, raw)
        if issubclass(type(raw), _TUPLE_GETTER) and isinstance(self.payload, TupleValue):
            return self.payload.at(raw.__reduce__()[1][0])
        if is_overridden(type(raw), "__get__"):
            descriptor = self.class_value.class_attribute(tracer, name, raw, owner)
            return call_descriptor_get(tracer, descriptor, self, self.class_value)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")

    def _from_slot(self, tracer: Tracer, name: str, raw: MemberDescriptorType) -> Value | None:
        pending = tracer.side_effects.pending_attribute(self, name)
        if pending is DELETED or (pending is None and self.obj is None):
            return None
        if isinstance(pending, Value):
            return pending
        assert self.source is not None
        try:
            obj = raw.__get__(self.obj, self.cls)
        except AttributeError:
            tracer.guard(AttributePresent(self.source, name, False))
            return None
        return tracer.wrap(obj, AttributeSource(self.source, name))

    def _part(self, tracer: Tracer, name: str, raw: Any, owner: type, part: str) -> Value:
        """A function inside a property or another descriptor of the class."""
        source = self.class_value.attribute_source(name, owner)
        if source is not None:
            self.class_value.guard_found(tracer, name, raw, owner)
        function = getattr(raw, part)
        return tracer.constant(function) if source is None else tracer.wrap(function, AttributeSource(source, part))

    def _from_class(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value:
        if issubclass(type(raw), FunctionType):
            return bind(tracer, self.class_value.class_attribute(tracer, name, raw, owner), self)
        if issubclass(type(raw), classmethod):
            check_class_method(raw, name)
            return bind(tracer, self.class_value.class_attribute(tracer, name, raw, owner), self.class_value)
        if issubclass(type(raw), staticmethod):
            return self.class_value.class_attribute(tracer, name, raw, owner)
        if issubclass(type(raw), _SLOT_TYPES):
            return SlotMethodValue(raw, owner, self)
        if type(raw) is functools.cached_property:
            return self._from_cached_property(tracer, self.class_value.class_attribute(tracer, name, raw, owner))
        if issubclass(type(raw), BuiltinFunctionType) or not has_special(type(raw), "__get__"):
            return self.class_value.class_attribute(tracer, name, raw, owner)
        if issubclass(type(raw), _TUPLE_GETTER) and isinstance(self.payload, TupleValue):
            return self.payload.at(raw.__reduce__()[1][0])
        if issubclass(type(raw), (type, MethodType)):
            return self.class_value.class_attribute(tracer, name, raw, owner)
        if is_overridden(type(raw), "__get__"):
            descriptor = self.class_value.class_attribute(tracer, name, raw, owner)
            return call_descriptor_get(tracer, descriptor, self, self.class_value)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")

    def _from_cached_property(self, tracer: Tracer, descriptor: Value) -> Value:
        """`functools.cached_property.__get__`, which takes a lock that no other thread contends for here."""
        name = descriptor.get_attribute(tracer, "attrname").realize()
        if name.as_constant() is None:
            tracer.raise_observed(TypeError, "Cannot use cached_property instance without calling __set_name__ on it.")
        known = self.instance_attribute(tracer, name.as_constant(), in_class=True)
        if known is not None:
            return known
        made = tracer.call(descriptor.get_attribute(tracer, "func"), [self])
        tracer.side_effects.store_attribute(self, name.as_constant(), made, raw=True)
        return made

    # Writing attributes

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        raw, owner = find_in_class(self.cls, "__setattr__")
        if issubclass(type(raw), FunctionType):
            setter = self.class_value.class_attribute(tracer, "__setattr__", raw, owner)
            tracer.call(setter, [self, tracer.constant(name), value])
            return
        self.class_value.guard_method(tracer, "__setattr__")
        self.store_attribute(tracer, name, value)

    def store_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        """`object.__setattr__(self, name, value)`."""
        raw, owner = find_in_class(self.cls, name)
        if issubclass(type(raw), property):
            if raw.fset is None:
                self.class_value.guard_found(tracer, name, raw, owner)
                tracer.raise_observed(AttributeError, words_for_no_setter(self.cls, name))
            tracer.call(self._part(tracer, name, raw, owner, "fset"), [self, value])
            return
        if raw is not MISSING and is_overridden(type(raw), "__set__"):
            descriptor = self.class_value.class_attribute(tracer, name, raw, owner)
            descriptor.call_method(tracer, "__set__", [self, value], {})
            return
        self.guard_place(tracer, name)
        if issubclass(type(raw), _TUPLE_GETTER):
            tracer.raise_observed(AttributeError, "can't set attribute")
        is_slot = issubclass(type(raw), MemberDescriptorType)
        if is_slot and is_fixed(owner) and not issubclass(self.cls, BaseException):  # of C code, perhaps read-only
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")
        if name in ("__class__", "__dict__") or issubclass(type(raw), GetSetDescriptorType):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")
        if raw is not MISSING and not is_slot and has_special(type(raw), "__set__"):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")
        if not is_slot:
            self._check_dict(tracer, name, raw)
        tracer.side_effects.store_attribute(self, name, value, raw=self.is_hooked(tracer))

    def _check_dict(self, tracer: Tracer, name: str, raw: Any) -> None:
        """Raise what a change of an attribute without a slot raises if there is no `__dict__`; `raw`: of the class."""
        if self.has_instance_dict():
            return
        if raw is not MISSING:
            tracer.raise_observed(AttributeError, f"'{self.cls.__name__}' object attribute '{name}' is read-only")
        tracer.raise_observed(AttributeError, words_for_no_place(self.cls, name))

    def is_hooked(self, tracer: Tracer) -> bool:
        """Whether replay must write past hooks of the class: of both kinds, as it may make a name to delete it."""
        if is_overridden(self.cls, "__setattr__") or is_overridden(self.cls, "__delattr__"):
            return True
        self.class_value.guard_method(tracer, "__setattr__")
        self.class_value.guard_method(tracer, "__delattr__")
        return False

    def guard_place(self, tracer: Tracer, name: str) -> None:
        """Record that no new data descriptor of the class takes over where an attribute is written."""
        self.class_value.guard_kind(tracer, name)
        raw, owner = find_in_class(self.cls, name)
        if raw is not MISSING:
            self._guard_descriptor_kind(tracer, name, raw, owner)

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        raw, owner = find_in_class(self.cls, "__delattr__")
        if issubclass(type(raw), FunctionType):
            deleter = self.class_value.class_attribute(tracer, "__delattr__", raw, owner)
            tracer.call(deleter, [self, tracer.constant(name)])
            return
        self.class_value.guard_method(tracer, "__delattr__")
        self.remove_attribute(tracer, name)

    def remove_attribute(self, tracer: Tracer, name: str) -> None:
        """`object.__delattr__(self, name)`."""
        raw, owner = find_in_class(self.cls, name)
        if issubclass(type(raw), property) and raw.fdel is not None:
            tracer.call(self._part(tracer, name, raw, owner, "fdel"), [self])
            return
        if raw is not MISSING and is_overridden(type(raw), "__delete__"):
            descriptor = self.class_value.class_attribute(tracer, name, raw, owner)
            descriptor.call_method(tracer, "__delete__", [self], {})
            return
        self.guard_place(tracer, name)
        if raw is not MISSING and _is_data_descriptor(raw) and not issubclass(type(raw), MemberDescriptorType):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"deleting `{name}` of {self.describe()} is not modelled")
        if issubclass(type(raw), MemberDescriptorType):
            present, words = self._from_slot(tracer, name, raw), raw.__name__
        else:
            self._check_dict(tracer, name, raw)
            present = self.instance_attribute(tracer, name, in_class=raw is not MISSING)
            words = words_for_nothing_deleted(self.cls, name)
        if present is None:
            tracer.raise_observed(AttributeError, words)
        tracer.side_effects.delete_attribute(self, name, raw=self.is_hooked(tracer))

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
        if not has_special(self.cls, "__iter__") and not has_special(self.cls, "__getitem__"):
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
            return self.payload.binary(tracer, op, other, reflected)
        if raw is MISSING or (type(raw) is WrapperDescriptorType and raw.__objclass__ is object):
            return None
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

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


class SlotMethodValue(Value):
    """A method implemented in C, found on an object: `object.__setattr__`, `dict.get`, `list.append` ... bound."""

    kind = "a builtin method"
    __slots__ = ("method", "owner", "receiver")

    def __init__(self, method: Any, owner: type, receiver: Value) -> None:
        super().__init__()
        self.method = method
        self.owner = owner
        self.receiver = receiver

    def python_type(self) -> type:
        return MethodWrapperType if isinstance(self.method, WrapperDescriptorType) else type([].append)

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return call_slot(tracer, self.method, self.receiver, args, kwargs)

    def children(self) -> Sequence[Value]:
        return (self.receiver,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(self.method.__get__)
        emitter.load_value(self.receiver)
        emitter.call(1)


def call_slot(
    tracer: Tracer, method: Any, receiver: Value, args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value:
    """Call a slot or method descriptor of a builtin base class on a value: past what its class overrides."""
    receiver = receiver.realize()
    name: str = method.__name__
    if method.__objclass__ is object:
        return _call_object_slot(tracer, name, receiver, args, kwargs)
    contents = getattr(receiver, "payload", None)
    if isinstance(receiver, ObjectValue):
        if contents is None:
            answer = receiver.call_base_slot(tracer, method, args, kwargs)
            if answer is not None:
                return answer
            raise GraphBreak(
                BreakId.EXTENSION_CALL, f"`{method.__qualname__}` of {receiver.describe()} is not modelled"
            )
        receiver = contents
    return receiver.call_method(tracer, name, args, kwargs)


def _call_object_slot(
    tracer: Tracer, name: str, receiver: Value, args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value:
    if isinstance(receiver, ObjectValue):
        match name, len(args):
            case "__getattribute__", 1:
                found = receiver.find_attribute(tracer, args[0].as_constant())
                return receiver.raise_missing(tracer, args[0].as_constant()) if found is None else found
            case "__setattr__", 2:
                receiver.store_attribute(tracer, args[0].as_constant(), args[1])
                return tracer.constant(None)
            case "__delattr__", 1:
                receiver.remove_attribute(tracer, args[0].as_constant())
                return tracer.constant(None)
            case "__init__", 0 if not kwargs:
                return tracer.constant(None)
            case "__eq__" | "__ne__", 1:
                same = operators.is_same(tracer, receiver, args[0])
                if not same:
                    return tracer.constant(NotImplemented)
                return tracer.constant(name == "__eq__")
            case "__repr__" | "__str__", 0 if name == "__str__":
                return tracer.constant(operators.text_of(tracer, receiver, repr))
            case _:
                pass
    elif name == "__setattr__" and len(args) == 2:
        receiver.set_attribute(tracer, args[0].as_constant(), args[1])
        return tracer.constant(None)
    elif name == "__init__" and not args and not kwargs:
        return tracer.constant(None)
    elif name == "__getattribute__" and len(args) == 1:
        return receiver.get_attribute(tracer, args[0].as_constant())
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`object.{name}` of {receiver.describe()} is not modelled")


def check_class_method(raw: Any, name: str) -> None:
    """Raise GraphBreak for a class method around something else than a function, which may bind in its own way."""
    if not isinstance(raw.__func__, FunctionType):
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"the class method `{name}` around an object")


def call_descriptor_get(tracer: Tracer, descriptor: Value, instance: Value, owner: Value) -> Value:
    """`type(descriptor).__get__(descriptor, instance, owner)` for one written in Python."""
    return descriptor.call_method(tracer, "__get__", [instance, owner], {})


def _is_data_descriptor(raw: Any) -> bool:
    kind = type(raw)
    if kind is FunctionType:
        return False
    return has_special(kind, "__set__") or has_special(kind, "__delete__")
