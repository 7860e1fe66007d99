"""ObjectAttributes: how Python finds, sets and deletes attributes of an instance of a class written in Python.

The data model step by step: overridden `__getattribute__`, data descriptors, the instance, class attributes,
`__getattr__`. `ObjectValue` adds everything else that an instance does. Invariants: what is read from a real instance
is guarded where it was read; writes go to the side effects, never to the real instance.
"""

from __future__ import annotations

import collections
import functools
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

from .. import _native
from ..bytecode.version import words_for_empty_slot, words_for_no_place, words_for_no_setter, words_for_nothing_deleted
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import AttributePresent, InstanceDictLacks
from ..interpreter.side_effects import DELETED, Deleted
from ..source import AttributeSource, ItemSource, Source, TypeSource
from .base import ObservedException, Tracer, Value
from .class_lookup import (
    MISSING,
    find_in_class,
    has_plain_names,
    has_special,
    is_immutable,
    is_overridden,
    is_plain_dict_getter,
)
from .function import MethodValue
from .instance_dict import InstanceDictValue
from .method import missing_attribute
from .slot_method import SlotMethodValue
from .tuple import TupleValue

if TYPE_CHECKING:
    from .class_value import ClassValue

_SLOT_TYPES = (WrapperDescriptorType, MethodDescriptorType)
_TUPLE_GETTER: type = type(vars(collections)["_tuplegetter"](0, ""))


class ObjectAttributes(Value):
    """The attributes of an instance of `cls`. `obj` is the real one if it existed before the frame."""

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
        if is_immutable(kind):
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
            return tracer.call(self.descriptor_part(tracer, name, raw, owner, "fget"), [self])
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

    def descriptor_part(self, tracer: Tracer, name: str, raw: Any, owner: type, part: str) -> Value:
        """A function inside a property or another descriptor of the class."""
        source = self.class_value.attribute_source(name, owner)
        if source is not None:
            self.class_value.guard_found(tracer, name, raw, owner)
        function = getattr(raw, part)
        return tracer.constant(function) if source is None else tracer.wrap(function, AttributeSource(source, part))

    def _from_class(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value:
        if issubclass(type(raw), FunctionType):
            return MethodValue(self.class_value.class_attribute(tracer, name, raw, owner), self)
        if issubclass(type(raw), classmethod):
            check_class_method(raw, name)
            return MethodValue(self.class_value.class_attribute(tracer, name, raw, owner), self.class_value)
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
            tracer.call(self.descriptor_part(tracer, name, raw, owner, "fset"), [self, value])
            return
        if raw is not MISSING and is_overridden(type(raw), "__set__"):
            descriptor = self.class_value.class_attribute(tracer, name, raw, owner)
            descriptor.call_method(tracer, "__set__", [self, value], {})
            return
        self.guard_place(tracer, name)
        if issubclass(type(raw), _TUPLE_GETTER):
            tracer.raise_observed(AttributeError, "can't set attribute")
        is_slot = issubclass(type(raw), MemberDescriptorType)
        if is_slot and is_immutable(owner) and not issubclass(self.cls, BaseException):  # of C code, perhaps read-only
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
        tracer.raise_observed(AttributeError, words_for_no_place(self.cls.__name__, name))

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
            tracer.call(self.descriptor_part(tracer, name, raw, owner, "fdel"), [self])
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
