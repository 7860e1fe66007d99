"""ClassValue: a class as a value: its attributes, its instances, calls of it.

Attributes are found through the real MRO; what is read from a user's class is guarded once per class, through the first
source by which the class was reached. Invariant: the class itself is exactly known; classes are never changed while
tracing.
"""

from __future__ import annotations

import enum
import inspect
import itertools
import operator
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

import torch

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import AttributePresent, ByIdentity, IdentityIs, InstanceDictLacks, TypeIs
from ..source import AttributeSource, ClassAttributeSource, ItemSource, ModuleSource, Source
from . import operators
from .base import Tracer, Value
from .constant import is_known, snapshot
from .construction import new_object
from .exception import make_exception
from .registry import handler_of
from .user_object import MISSING, ObjectValue, bind, call_descriptor_get, check_class_method, find_in_class

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
        if type(self.obj) is type or not hasattr(type(self.obj), "__bool__"):
            return True
        return bool(self.obj) if issubclass(self.obj, enum.Enum) else super().truth(tracer)

    def hash_key(self, tracer: Tracer) -> Hashable:
        return self.obj

    # Attributes

    def known_source(self) -> Source | None:
        """A source to read the class's attributes through: its own, or its module's name for it."""
        if self.source is not None:
            return self.source
        module = sys.modules.get(self.obj.__module__)
        if module is None or is_immutable(self.obj):
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
        if source is None or is_immutable(owner):
            return self._unguarded(tracer, name, raw)
        shown = raw.__func__ if isinstance(raw, staticmethod) else raw
        has_own_get = isinstance(find_in_class(type(raw), "__get__")[0], FunctionType)
        if type(self.obj) in _PLAIN_METACLASSES and not has_own_get and getattr(self.obj, name, None) is shown:
            return tracer.wrap(shown, AttributeSource(source, name))
        self.guard_found(tracer, name, raw, owner)
        raw_source: Source = ClassAttributeSource(self._owner_source(source, owner), name)
        if isinstance(raw, (staticmethod, classmethod)):
            return tracer.wrap(raw.__func__, AttributeSource(raw_source, "__func__"))
        return tracer.wrap(raw, raw_source)

    def guard_found(self, tracer: Tracer, name: str, raw: Any, owner: type) -> None:
        """Record that the look-up of `name` in the MRO ends in the namespace of `owner` with this very object."""
        source = self.known_source()
        if source is None:
            return
        first = find_in_class(self.obj, name)[0] is raw  # not past another one, as by `super()`
        if first and type(raw) is property and type(self.obj) in _PLAIN_METACLASSES and not is_immutable(self.obj):
            tracer.guard(IdentityIs(AttributeSource(source, name), ByIdentity(raw)))  # the whole look-up in one
            return
        for cls in self.obj.__mro__[: self.obj.__mro__.index(owner)]:
            if not is_immutable(cls) and name not in cls.__dict__:
                tracer.guard(InstanceDictLacks(self._owner_source(source, cls), name))

    def guard_missing(self, tracer: Tracer, name: str) -> None:
        """Record that nothing stands under `name` in the MRO."""
        source = self.known_source()
        if source is None or is_immutable(self.obj):
            return
        if type(self.obj) in _PLAIN_METACLASSES and not hasattr(type(self.obj), name):
            tracer.guard(AttributePresent(source, name, False))
            return
        for cls in self.obj.__mro__:
            if not is_immutable(cls):
                tracer.guard(InstanceDictLacks(self._owner_source(source, cls), name))

    def guard_kind(self, tracer: Tracer, name: str) -> None:
        """Record whether the class has `name`, and if so that it stays the same kind of object (no new descriptor)."""
        raw, owner = find_in_class(self.obj, name)
        if raw is MISSING:
            self.guard_missing(tracer, name)
            return
        source = self.attribute_source(name, owner)
        if source is not None:
            self.guard_found(tracer, name, raw, owner)
            tracer.guard(TypeIs(source, type(raw)))

    def attribute_source(self, name: str, owner: type) -> Source | None:
        """The source of what stands in `owner.__dict__[name]`, without descriptors; None for an immutable class."""
        source = self.known_source()
        if source is None or is_immutable(owner):
            return None
        return ClassAttributeSource(self._owner_source(source, owner), name)

    def _owner_source(self, source: Source, owner: type) -> Source:
        if owner is self.obj:
            return source
        return ItemSource(AttributeSource(source, "__mro__"), self.obj.__mro__.index(owner))

    def _unguarded(self, tracer: Tracer, name: str, raw: Any) -> Value:
        if isinstance(raw, (staticmethod, classmethod)):
            raw = raw.__func__
        return tracer.constant(raw)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        pending = tracer.side_effects.pending_attribute(self, name)
        if isinstance(pending, Value):
            return pending
        if name == "__class__":
            return tracer.constant(type(self.obj))
        if name in ("__name__", "__qualname__", "__module__", "__doc__", "__mro__", "__bases__", "__base__"):
            return tracer.constant(getattr(self.obj, name))
        if name == "__dict__":
            source = self.known_source()
            if source is None:
                raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`__dict__` of {self.describe()} is not modelled")
            return tracer.wrap(self.obj.__dict__, AttributeSource(source, "__dict__"))
        raw, owner = find_in_class(self.obj, name)
        if raw is MISSING:
            self.guard_missing(tracer, name)
            return self._from_metaclass(tracer, name)
        if isinstance(self.obj, enum.EnumMeta) and name in self.obj.__members__:
            return tracer.constant(self.obj.__members__[name])
        if isinstance(raw, classmethod):
            check_class_method(raw, name)
            return bind(tracer, self.class_attribute(tracer, name, raw, owner), self)
        if isinstance(raw, ClassMethodDescriptorType):
            return ClassMethodValue(self, name)
        if isinstance(raw, (property, GetSetDescriptorType, MemberDescriptorType)) and is_immutable(owner):
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")
        if isinstance(raw, (staticmethod, FunctionType, property)) or not hasattr(type(raw), "__get__"):
            return self.class_attribute(tracer, name, raw, owner)
        if isinstance(raw, _SLOT_TYPES):
            return tracer.constant(getattr(self.obj, name))
        if is_immutable(owner):
            return tracer.constant(getattr(self.obj, name))
        if isinstance(find_in_class(type(raw), "__get__")[0], FunctionType):
            found = self.class_attribute(tracer, name, raw, owner)
            return call_descriptor_get(tracer, found, tracer.constant(None), self)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

    def _from_metaclass(self, tracer: Tracer, name: str) -> Value:
        meta = type(self.obj)
        raw, owner = find_in_class(meta, name)
        if raw is MISSING:
            if isinstance(find_in_class(meta, "__getattr__")[0], FunctionType):
                raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`__getattr__` of the metaclass {meta.__name__}")
            tracer.raise_observed(AttributeError, f"type object '{self.obj.__name__}' has no attribute '{name}'")
        if is_immutable(owner):
            return ClassMethodValue(self, name)
        if isinstance(raw, FunctionType):
            return bind(tracer, tracer.constant(raw), self)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`{name}` of {self.describe()} is not modelled")

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")

    # Calls

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        handler = handler_of(self.obj)
        if handler is not None:
            return handler(tracer, args, kwargs)
        meta_call, _ = find_in_class(type(self.obj), "__call__")
        if issubclass(self.obj, enum.Enum):
            return self._enum_member(tracer, args, kwargs)
        if meta_call is not type.__call__ and not issubclass(self.obj, torch.Tensor):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the metaclass of {self.describe()} has its own `__call__`")
        if issubclass(self.obj, BaseException):
            return make_exception(tracer, self.obj, args, kwargs, self)
        if inspect.isabstract(self.obj):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{self.describe()} is abstract: eager raises")
        return new_object(tracer, self, args, kwargs)

    def _enum_member(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if len(args) != 1 or kwargs or not args[0].is_constant():
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"calling {self.describe()} so is not modelled")
        try:
            return tracer.constant(self.obj(args[0].as_constant()))
        except ValueError as error:
            return tracer.raise_observed(ValueError, *error.args)

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return self.get_attribute(tracer, name).call(tracer, args, kwargs)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
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
            return tracer.constant(generic[snapshot(key)])
        return super().get_item(tracer, key)

    def unpack(self, tracer: Tracer) -> list[Value]:
        if isinstance(self.obj, enum.EnumMeta):
            return [tracer.constant(member) for member in self.obj]
        return super().unpack(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        return tracer.constant(tuple).call(tracer, [self], {}).iterate(tracer)

    def length(self, tracer: Tracer) -> int | None:
        return len(self.obj) if isinstance(self.obj, enum.EnumMeta) else None

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        if isinstance(self.obj, enum.EnumMeta) and item.is_constant():
            return item.as_constant() in self.obj
        return None

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if isinstance(find_in_class(type(self.obj), operators.method_name(op, reflected))[0], FunctionType):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"an operator of the metaclass of {self.describe()}")
        if op in (operator.eq, operator.ne) and isinstance(other, ClassValue):
            return tracer.constant((self.obj is other.obj) is (op is operator.eq))
        if op is operator.or_ and other.is_constant():
            pair = (other.as_constant(), self.obj) if reflected else (self.obj, other.as_constant())
            return tracer.constant(pair[0] | pair[1])
        return None

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)


class ClassMethodValue(Value):
    """A method of a class that is implemented in C, like `dict.fromkeys` or `cls.mro`."""

    kind = "a class method"
    __slots__ = ("name", "owner")

    def __init__(self, owner: ClassValue, name: str) -> None:
        super().__init__()
        self.owner = owner
        self.name = name

    def python_type(self) -> type:
        return BuiltinFunctionType

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        cls = self.owner.obj
        if self.name == "fromkeys" and issubclass(cls, dict):
            made = self.owner.call(tracer, [], {})
            value = args[1] if len(args) > 1 else tracer.constant(None)
            for key in args[0].unpack(tracer):
                made.set_item(tracer, key, value)
            return made
        if self.name == "from_iterable" and cls is itertools.chain:
            return tracer.constant(itertools.chain).call(tracer, args[0].unpack(tracer), {})
        if self.name in ("mro", "__subclasses__") and not args:
            return tracer.constant(getattr(cls, self.name)())
        if self.name in ("__instancecheck__", "__subclasscheck__"):
            check = isinstance if self.name == "__instancecheck__" else issubclass
            return tracer.constant(check).call(tracer, [args[0], self.owner], {})
        if all(arg.is_constant() for arg in (*args, *kwargs.values())) and is_immutable(cls):
            plain = [arg.as_constant() for arg in args]
            named = {key: arg.as_constant() for key, arg in kwargs.items()}
            try:
                return tracer.constant(getattr(cls, self.name)(*plain, **named))
            except Exception as error:
                return tracer.raise_observed(type(error), *error.args)
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{cls.__name__}.{self.name}` is not modelled")

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.owner)
        emitter.load_attribute(self.name)


_PLAIN_METACLASSES: frozenset[type] = frozenset({type, type(Mapping)})
_IMMUTABLE_FLAG = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
_HEAP_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def is_immutable(cls: type) -> bool:
    """Whether a class cannot be changed by Python code, or is torch's own: what it holds needs no guard."""
    flags = cls.__flags__
    if flags & _IMMUTABLE_FLAG or not flags & _HEAP_FLAG:
        return True
    return cls is torch.Tensor or cls is torch.nn.Parameter


__all__ = ["ClassMethodValue", "ClassValue", "ObjectValue", "is_immutable"]
