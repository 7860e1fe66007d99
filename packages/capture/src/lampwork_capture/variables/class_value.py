"""ClassValue: a class as a value: its attributes, its instances, calls of it.

Attributes are found through the real MRO; what is read from a user's class is guarded once per class, through the first
source by which the class was reached. Invariant: the class itself is exactly known; no real class is changed while
tracing: what the frame writes to one is kept with the side effects.
"""

from __future__ import annotations

import enum
import inspect
import operator
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

import torch

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import (
    AttributePresent,
    ByIdentity,
    IdentityIs,
    InstanceDictLacks,
    LengthIs,
    TypeIs,
)
from ..guards.namespaces import mro_of
from ..interpreter.side_effects import DELETED, Deleted
from ..source import (
    AttributeSource,
    CellSource,
    ClassAttributeSource,
    ItemSource,
    LocalSource,
    ModuleSource,
    Source,
    TypeSource,
)
from . import operators
from .base import Tracer, Value
from .class_lookup import (
    MISSING,
    find_in_class,
    has_special,
    is_immutable,
    is_overridden,
    needs_no_guard,
    place_in_mro,
)
from .class_method import ClassMethodValue
from .constant import fold, is_known, snapshot
from .construction import new_object
from .function import MethodValue
from .method import BuiltinObject
from .object_attributes import call_descriptor_get, check_class_method
from .registry import handler_of
from .stand_in import refuse

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_SLOT_TYPES = (WrapperDescriptorType, MethodDescriptorType, BuiltinFunctionType, ClassMethodDescriptorType)


class ClassValue(Value):
    """A class. `source` is None for one that is known without looking (builtins, torch's own)."""

    kind = "a class"
    __slots__ = ("obj",)

    def __init__(self, cls: type, source: Source | None = None) -> None:
        super().__init__(source)
        self.obj = cls

    def __repr__(self) -> str:
        return f"ClassValue({self.obj.__name__})"

    def describe(self) -> str:
        return f"the class {self.obj.__name__}"

    def python_type(self) -> type:
        return type(self.obj)

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> type:
        return self.obj

    def as_graph_argument(self) -> Any:
        if self.obj in (int, float, bool, complex):
            return self.obj
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{self.describe()} cannot be passed to a torch operation")

    def truth(self, tracer: Tracer) -> bool:
        if type(self.obj) is type or not has_special(type(self.obj), "__bool__"):
            sized = self.of_metaclass(tracer, "__len__")
            return sized is None or operators.length_of(tracer, sized.call(tracer, [], {})) != 0
        asked = self.of_metaclass(tracer, "__bool__")
        if asked is not None:
            return asked.call(tracer, [], {}).truth(tracer)
        return bool(self.obj) if issubclass(self.obj, enum.Enum) else super().truth(tracer)

    def hash_key(self, tracer: Tracer) -> Hashable:
        if any(is_overridden(type(self.obj), name) for name in ("__hash__", "__eq__")):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{self.describe()} as a key, which its metaclass compares")
        return self.obj

    def guard_members(self, tracer: Tracer) -> None:
        """Record how many members an enumeration has: methods of it may run while it is being made."""
        if self.source is not None and isinstance(self.source.root, (LocalSource, CellSource)):
            members = ClassAttributeSource(self.source, "_member_map_")
            tracer.guard(LengthIs(members, len(self.obj.__dict__["_member_map_"])))

    # Attributes

    def known_source(self) -> Source | None:
        """A source to read the class's attributes through: its own, or its module's name for it."""
        if self.source is not None:
            return self.source
        module = sys.modules.get(self.obj.__module__)
        if module is None or needs_no_guard(self.obj):
            return None
        found: Any = module
        source: Source = ModuleSource(self.obj.__module__)
        for name in self.obj.__qualname__.split("."):
            found = getattr(found, name, None)
            source = AttributeSource(source, name)
        return source if found is self.obj else None

    def class_attribute(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value:
        """The value of `raw`, found in the namespace of `owner` in the MRO, as the plain object it is there."""
        source = self.known_source()
        if source is None or needs_no_guard(owner):
            return self._unguarded(tracer, name, raw)
        shown = raw.__func__ if issubclass(type(raw), staticmethod) else raw
        has_own_get = isinstance(find_in_class(type(raw), "__get__")[0], FunctionType)
        if type(self.obj) in _PLAIN_METACLASSES and not has_own_get and getattr(self.obj, name, None) is shown:
            return tracer.wrap(shown, AttributeSource(source, name))
        self.guard_found(tracer, name, raw, owner)
        raw_source: Source = ClassAttributeSource(self._owner_source(source, owner), name)
        if issubclass(type(raw), (staticmethod, classmethod)):
            return tracer.wrap(raw.__func__, AttributeSource(raw_source, "__func__"))
        return tracer.wrap(raw, raw_source)

    def guard_found(self, tracer: Tracer, name: str, raw: Any, owner: type) -> None:
        """Record that the look-up of `name` in the MRO ends in the namespace of `owner` with this very object."""
        source = self.known_source()
        if source is None:
            return
        first = find_in_class(self.obj, name)[0] is raw  # not past another one, as by `super()`
        is_plain = type(self.obj) in _PLAIN_METACLASSES and name not in _TYPE_GETTERS
        if first and type(raw) is property and is_plain and not needs_no_guard(self.obj):
            tracer.guard(IdentityIs(AttributeSource(source, name), ByIdentity(raw)))  # the whole look-up in one
            return
        for cls in mro_of(self.obj)[: place_in_mro(self.obj, owner)]:
            if not needs_no_guard(cls) and name not in cls.__dict__:
                tracer.guard(InstanceDictLacks(self._owner_source(source, cls), name))

    def guard_method(self, tracer: Tracer, name: str) -> None:
        """Record that a method that Python looks up on the class is the one that is there now."""
        source = self.known_source()
        if source is None or needs_no_guard(self.obj):
            return
        raw, owner = find_in_class(self.obj, name)
        if type(self.obj) in _PLAIN_METACLASSES and getattr(self.obj, name, None) is raw:
            tracer.guard(IdentityIs(AttributeSource(source, name), ByIdentity(raw)))
            return
        self.guard_found(tracer, name, raw, owner)
        if not needs_no_guard(owner):
            found = ClassAttributeSource(self._owner_source(source, owner), name)
            tracer.guard(IdentityIs(found, ByIdentity(raw)))

    def guard_missing(self, tracer: Tracer, name: str) -> None:
        """Record that nothing stands under `name` in the MRO."""
        source = self.known_source()
        if source is None or needs_no_guard(self.obj):
            return
        if type(self.obj) in _PLAIN_METACLASSES and find_in_class(type(self.obj), name)[0] is MISSING:
            tracer.guard(AttributePresent(source, name, False))
            return
        for cls in self.obj.__mro__:
            if not needs_no_guard(cls):
                tracer.guard(InstanceDictLacks(self._owner_source(source, cls), name))

    def guard_kind(self, tracer: Tracer, name: str) -> None:
        """Record whether the class has `name`, and if so that it stays the same kind of object (no new descriptor)."""
        raw, owner = find_in_class(self.obj, name)
        if raw is MISSING:
            self.guard_missing(tracer, name)
            return
        self.guard_found(tracer, name, raw, owner)
        source = self.attribute_source(name, owner)
        if source is not None:
            tracer.guard(TypeIs(source, type(raw)))

    def attribute_source(self, name: str, owner: type) -> Source | None:
        """The source of what stands in `owner.__dict__[name]`, without descriptors; None for an immutable class."""
        source = self.known_source()
        if source is None or needs_no_guard(owner):
            return None
        return ClassAttributeSource(self._owner_source(source, owner), name)

    def _owner_source(self, source: Source, owner: type) -> Source:
        if owner is self.obj:
            return source
        if type(self.obj) not in _PLAIN_METACLASSES:  # whose `__getattr__` may stand before `__mro__`
            named = ClassValue(owner).known_source()
            if named is not None:
                return named
        return ItemSource(AttributeSource(source, "__mro__"), place_in_mro(self.obj, owner))

    def _unguarded(self, tracer: Tracer, name: str, raw: Any) -> Value:
        if issubclass(type(raw), (staticmethod, classmethod)):
            raw = raw.__func__
        return tracer.constant(raw)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        written = self.written(tracer, name, None)
        if isinstance(written, Value):
            return written
        if isinstance(written, Deleted):
            return self._from_metaclass(tracer, name)
        if name == "__class__":
            return tracer.constant(type(self.obj))
        if name in ("__name__", "__qualname__", "__mro__", "__bases__", "__base__"):
            return tracer.constant(getattr(self.obj, name))
        if name in ("__doc__", "__module__"):
            text = self.obj.__dict__.get(name)
            if not needs_no_guard(self.obj) and type(text) not in (str, type(None)):
                raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is a descriptor")
            return tracer.constant(getattr(self.obj, name))
        if name == "__dict__":
            source = self.known_source()
            if source is None:
                raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`__dict__` of {self.describe()} is not modelled")
            return ClassNamespaceValue(self)
        if name == "__members__" and isinstance(self.obj, enum.EnumMeta):
            self.guard_members(tracer)
            return tracer.constant(MappingProxyType).call(tracer, [tracer.constant(dict(self.obj.__members__))], {})
        if name in _TYPE_GETTERS:
            return self._from_type_getter(tracer, name)
        raw, owner = find_in_class(self.obj, name)
        if hasattr(type.__dict__.get(name), "__set__") and (owner is not self.obj or name != "__annotations__"):
            # What a class keeps about itself, no base's of the same name; annotations are made when they are read
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")
        if raw is MISSING:
            self.guard_missing(tracer, name)
            return self._from_metaclass(tracer, name)
        if isinstance(self.obj, enum.EnumMeta) and name in self.obj.__members__:
            return tracer.constant(self.obj.__members__[name])
        if issubclass(type(raw), classmethod):
            check_class_method(raw, name)
            return MethodValue(self.class_attribute(tracer, name, raw, owner), self)
        if issubclass(type(raw), ClassMethodDescriptorType):
            return ClassMethodValue(self, name)
        if issubclass(type(raw), (property, GetSetDescriptorType, MemberDescriptorType)) and needs_no_guard(owner):
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")
        if issubclass(type(raw), (staticmethod, FunctionType, property)) or not has_special(type(raw), "__get__"):
            return self.class_attribute(tracer, name, raw, owner)
        if issubclass(type(raw), _SLOT_TYPES):
            return tracer.constant(getattr(self.obj, name))
        if needs_no_guard(owner):
            return tracer.constant(getattr(self.obj, name))
        if isinstance(find_in_class(type(raw), "__get__")[0], FunctionType):
            found = self.class_attribute(tracer, name, raw, owner)
            return call_descriptor_get(tracer, found, tracer.constant(None), self)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

    def _from_type_getter(self, tracer: Tracer, name: str) -> Value:
        """What a data descriptor of `type` answers: about this very class, nothing is inherited."""
        if name in _SIZES:
            return tracer.constant(getattr(self.obj, name))
        if name in ("__abstractmethods__", "__annotations__"):
            source = self.known_source()
            found = self.own_attribute(tracer, name)
            if found is not None:
                return found
            if name == "__abstractmethods__" and (source is not None or needs_no_guard(self.obj)):
                if source is not None and not needs_no_guard(self.obj):
                    tracer.guard(InstanceDictLacks(source, name))
                tracer.raise_observed(AttributeError, name)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

    def own_attribute(self, tracer: Tracer, name: str) -> Value | None:
        """What the namespace of the class itself holds, None where that is nothing or cannot be told."""
        source = self.known_source()
        if source is None or name not in self.obj.__dict__:
            return None
        return tracer.wrap(self.obj.__dict__[name], ClassAttributeSource(source, name))

    def _from_metaclass(self, tracer: Tracer, name: str) -> Value:
        meta = type(self.obj)
        raw, owner = find_in_class(meta, name)
        if raw is MISSING:
            getter = self.of_metaclass(tracer, "__getattr__")
            if getter is not None:
                return getter.call(tracer, [tracer.constant(name)], {})
            tracer.raise_observed(AttributeError, f"type object '{self.obj.__name__}' has no attribute '{name}'")
        if needs_no_guard(owner):
            return ClassMethodValue(self, name, raw if issubclass(type(raw), _SLOT_TYPES[:2]) else None)
        if issubclass(type(raw), FunctionType):
            return MethodValue(self.metaclass(tracer).class_attribute(tracer, name, raw, owner), self)
        if issubclass(type(raw), property) and raw.fget is not None:
            found: Any = self.metaclass(tracer).class_attribute(tracer, name, raw, owner)
            source = getattr(found, "source", None)
            if source is not None:
                getter = tracer.wrap(raw.fget, AttributeSource(source, "fget"))
                return getter.call(tracer, [self], {})
        if not has_special(type(raw), "__get__"):
            return self.metaclass(tracer).class_attribute(tracer, name, raw, owner)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        value = value.realize()
        self._write(tracer, name, value, "setting")

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        pending = tracer.side_effects.class_writes.get(self.obj, {}).get(name)
        if isinstance(pending, Deleted) or (pending is None and name not in self.obj.__dict__):
            tracer.raise_observed(AttributeError, name)
        self._write(tracer, name, DELETED, "deleting")

    def _write(self, tracer: Tracer, name: str, new: Value | Deleted, what: str) -> None:
        """`cls.name = new` for a plain attribute: what is neither a descriptor nor a special method."""
        if is_immutable(self.obj):
            cause = f"cannot set '{name}' attribute of immutable type '{self.obj.__name__}'"
            tracer.raise_observed(TypeError, cause)
        old = find_in_class(self.obj, name)[0]
        is_plain = type(self.obj) in _PLAIN_METACLASSES and not (name.startswith("__") and name.endswith("__"))
        kinds = [type(old)] if isinstance(new, Deleted) else [type(old), new.python_type()]
        if not is_plain or any(has_special(kind, "__get__") and kind is not FunctionType for kind in kinds):
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"{what} `{name}` of {self.describe()} is not modelled")
        source = self.known_source()
        if source is None:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"{self.describe()} has no known origin")
        known: Any = self if self.source is not None else tracer.wrap(self.obj, source)
        if known.source is None:
            known.source = source
            tracer.guard(IdentityIs(source, ByIdentity(self.obj)))
        tracer.side_effects.write_class_attribute(known, self.obj, name, new)

    def written(self, tracer: Tracer, name: str, instance: Value | None) -> Value | Deleted | None:
        """What the frame wrote where a look-up of `name` ends, bound as Python does; None if it wrote nothing there."""
        pending = tracer.side_effects.pending_class_attribute(self.obj, name)
        if pending is None:
            return None
        owner, found = pending
        for cls in mro_of(self.obj)[: place_in_mro(self.obj, owner)]:
            if not needs_no_guard(cls) and self.known_source() is not None:
                tracer.guard(InstanceDictLacks(self._owner_source(self._source(), cls), name))
        if isinstance(found, Value) and found.python_type() is FunctionType and instance is not None:
            return MethodValue(found, instance)
        return found

    def _source(self) -> Source:
        source = self.known_source()
        assert source is not None
        return source

    # Calls

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        handler = handler_of(self.obj)
        if handler is not None:
            return handler(tracer, args, kwargs)
        if issubclass(self.obj, enum.Enum):
            return self._enum_member(tracer, args, kwargs)
        maker = self.of_metaclass(tracer, "__call__")
        replaced = find_in_class(type(self.obj), "__call__")[0]
        if isinstance(replaced, type):  # as the metaclass of TypedDict has it: classes do not bind
            return tracer.constant(replaced).call(tracer, args, kwargs)
        if maker is None and replaced is not type.__dict__["__call__"] and not issubclass(self.obj, torch.Tensor):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the metaclass of {self.describe()} has its own `__call__`")
        return self.instantiate(tracer, args, kwargs) if maker is None else maker.call(tracer, args, kwargs)

    def instantiate(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """`type.__call__(cls, *args, **kwargs)`."""
        if inspect.isabstract(self.obj):
            fold(tracer, object.__new__, self.obj)
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{self.describe()} is abstract: eager raises")
        if is_immutable(self.obj) and not issubclass(self.obj, (BaseException, torch.Tensor)):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"making an object of {self.describe()} is not modelled")
        return new_object(tracer, self, args, kwargs)

    def of_metaclass(self, tracer: Tracer, name: str) -> Value | None:
        """A method of the metaclass that is written in Python, bound to the class; None if there is none."""
        meta = type(self.obj)
        if meta in _PLAIN_METACLASSES or issubclass(self.obj, enum.Enum):
            return None
        raw, owner = find_in_class(meta, name)
        if not issubclass(type(raw), FunctionType):
            return None
        return MethodValue(self.metaclass(tracer).class_attribute(tracer, name, raw, owner), self)

    def metaclass(self, tracer: Tracer) -> ClassValue:
        """The value of `type(cls)`."""
        source = self.known_source()
        meta: Any = type(self.obj)
        found: Any = tracer.constant(meta) if source is None else tracer.wrap(meta, TypeSource(self._source()))
        return found

    def _enum_member(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if len(args) != 1 or kwargs or not args[0].is_constant():
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"calling {self.describe()} so is not modelled")
        value = args[0].as_constant()
        missing, owner = find_in_class(self.obj, "_missing_")
        self.guard_method(tracer, "_missing_")
        if missing is not MISSING and not any(owner is cls for cls in _OWN_ENUMS):  # the program's: it may do anything
            try:
                member = self.obj._value2member_map_.get(value)
            except TypeError:
                member = None
            if member is None:
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`_missing_` of {self.describe()}")
            return tracer.constant(member)
        return tracer.constant(fold(tracer, self.obj, value))

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return self.get_attribute(tracer, name).call(tracer, args, kwargs)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        getter = self.of_metaclass(tracer, "__getitem__")
        if getter is not None:
            return getter.call(tracer, [key], {})
        raw, owner = find_in_class(self.obj, "__class_getitem__")
        if (
            issubclass(type(raw), classmethod)
            and isinstance(raw.__func__, FunctionType)
            and owner.__module__ != "typing"
        ):
            return self.get_attribute(tracer, "__class_getitem__").call(tracer, [key], {})
        if isinstance(self.obj, enum.EnumMeta) and key.is_constant():
            try:
                return tracer.constant(self.obj[key.as_constant()])
            except KeyError as error:
                return tracer.raise_observed(KeyError, *error.args)
        if isinstance(getattr(type(self.obj), "__getitem__", None), FunctionType):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the metaclass of {self.describe()} has its own `__getitem__`")
        generic: Any = self.obj
        maker = getattr(getattr(generic, "__class_getitem__", None), "__func__", None)
        if isinstance(maker, FunctionType) and maker.__module__ != "typing":
            return self.call_method(tracer, "__class_getitem__", [key], {})
        if hasattr(self.obj, "__class_getitem__") and is_known(key):
            return tracer.constant(fold(tracer, operator.getitem, generic, snapshot(key)))
        if raw is MISSING and not has_special(type(self.obj), "__getitem__"):
            refuse(tracer, operator.getitem, self, key)
        return super().get_item(tracer, key)

    def unpack(self, tracer: Tracer) -> list[Value]:
        if isinstance(self.obj, enum.EnumMeta):
            self.guard_members(tracer)
            return [tracer.constant(member) for member in self.obj]
        return self.iterate(tracer).unpack(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        iterator = self.of_metaclass(tracer, "__iter__")
        if iterator is not None:
            return iterator.call(tracer, [], {})
        if not isinstance(self.obj, enum.EnumMeta):
            tracer.raise_observed(TypeError, f"'{type(self.obj).__name__}' object is not iterable")
        return tracer.constant(tuple).call(tracer, [self], {}).iterate(tracer)

    def length(self, tracer: Tracer) -> int | None:
        sized = self.of_metaclass(tracer, "__len__")
        if sized is not None:
            return operators.length_of(tracer, sized.call(tracer, [], {}))
        if not isinstance(self.obj, enum.EnumMeta):
            return None
        self.guard_members(tracer)
        return len(self.obj)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        asked = self.of_metaclass(tracer, "__contains__")
        if asked is not None:
            return asked.call(tracer, [item], {}).truth(tracer)
        if isinstance(self.obj, enum.EnumMeta) and item.is_constant():
            self.guard_members(tracer)
            return fold(tracer, operator.contains, self.obj, item.as_constant())
        return None

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if isinstance(find_in_class(type(self.obj), operators.method_name(op, reflected))[0], FunctionType):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"an operator of the metaclass of {self.describe()}")
        if op in (operator.eq, operator.ne) and isinstance(other, ClassValue):
            return tracer.constant((self.obj is other.obj) is (op is operator.eq))
        if op is operator.or_ and is_known(other):
            pair = (other.as_constant(), self.obj) if reflected else (self.obj, other.as_constant())
            return tracer.constant(fold(tracer, operator.or_, *pair))
        return None

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)


class ClassNamespaceValue(BuiltinObject):
    """`cls.__dict__`: what the class itself holds, without descriptors; each name that is read is guarded."""

    kind = "the namespace of a class"
    __slots__ = ("owner",)

    def __init__(self, owner: ClassValue) -> None:
        super().__init__()
        self.owner = owner

    def python_type(self) -> type:
        return MappingProxyType

    def lookup(self, tracer: Tracer, key: Value) -> Value | None:
        """What stands under a name, or None."""
        name = key.as_constant()
        cls = self.owner.obj
        written = tracer.side_effects.class_writes.get(cls, {}).get(name)
        if written is not None:
            return None if isinstance(written, Deleted) else written
        source = self.owner.known_source()
        assert source is not None
        if name not in cls.__dict__:
            tracer.guard(InstanceDictLacks(source, name))
            return None
        return tracer.wrap(cls.__dict__[name], ClassAttributeSource(source, name))

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return self.lookup(tracer, item) is not None

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        found = self.lookup(tracer, key)
        return tracer.raise_observed(KeyError, key) if found is None else found

    def m_get(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        return self.lookup(tracer, key) or default or tracer.constant(None)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.owner)
        emitter.load_attribute("__dict__")


_OWN_ENUMS: tuple[type, ...] = tuple(cls for cls in vars(enum).values() if isinstance(cls, enum.EnumMeta))
_PLAIN_METACLASSES: frozenset[type] = frozenset({type, type(Mapping)})
_SIZES = frozenset({"__basicsize__", "__itemsize__", "__dictoffset__", "__weakrefoffset__"})
_TYPE_GETTERS = frozenset(
    name for name, raw in vars(type).items() if isinstance(raw, (GetSetDescriptorType, MemberDescriptorType))
)
