"""SuperValue: `super(cls, instance)`, and attribute look-up past a class in the MRO.

Invariant: the look-up starts behind `cls` in the MRO of the instance's exact class, as Python's does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .builtin import BuiltinValue
from .class_lookup import MISSING, find_in_class, has_special, is_in_mro, is_overridden, place_in_mro
from .class_method import ClassMethodValue
from .class_value import ClassValue
from .construction import bare_object
from .function import MethodValue
from .registry import CallHandler, handles
from .slot_method import SlotMethodValue
from .user_object import ObjectValue, payload_base

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class SuperValue(Value):
    """A super object: `receiver` is an instance, or a class in class methods and `__new__`."""

    kind = "super()"
    __slots__ = ("after", "after_value", "receiver")

    def __init__(self, after: ClassValue, receiver: Value) -> None:
        super().__init__()
        self.after_value = after
        self.after = after.obj
        self.receiver = receiver

    def python_type(self) -> type:
        return super

    def truth(self, tracer: Tracer) -> bool:
        return True

    def _class_value(self, tracer: Tracer) -> ClassValue:
        if isinstance(self.receiver, ClassValue):
            return self.receiver
        found: Any = getattr(self.receiver, "class_value", None)
        return found if found is not None else ClassValue(self.receiver.python_type())

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        class_value = self._class_value(tracer)
        cls = class_value.obj
        mro = cls.__mro__
        meta: Any = type(cls)
        if isinstance(self.receiver, ClassValue) and not is_in_mro(self.after, cls) and is_in_mro(self.after, meta):
            return self._of_metaclass(tracer, name)
        raw: Any = MISSING
        owner: type = object
        for owner in mro[place_in_mro(cls, self.after) + 1 :]:
            if name in owner.__dict__:
                raw = owner.__dict__[name]
                break
        if raw is MISSING:
            tracer.raise_observed(AttributeError, f"'super' object has no attribute '{name}'")
        return self._bound(tracer, class_value, name, raw, owner)

    def _of_metaclass(self, tracer: Tracer, name: str) -> Value:
        """In a method of a metaclass: the receiver is a class as an instance."""
        assert isinstance(self.receiver, ClassValue)
        meta = self.receiver.metaclass(tracer)
        mro = meta.obj.__mro__
        for owner in mro[place_in_mro(meta.obj, self.after) + 1 :]:
            if name in owner.__dict__:
                raw = owner.__dict__[name]
                if issubclass(type(raw), FunctionType):
                    return MethodValue(meta.class_attribute(tracer, name, raw, owner), self.receiver)
                if owner is type:
                    is_method = issubclass(type(raw), (WrapperDescriptorType, MethodDescriptorType))
                    return ClassMethodValue(self.receiver, name, raw if is_method else None)
                break
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`super().{name}` of a metaclass is not modelled")

    def _bound(self, tracer: Tracer, class_value: ClassValue, name: str, raw: Any, owner: type) -> Value:
        of_class = isinstance(self.receiver, ClassValue)
        if issubclass(type(raw), classmethod):
            return MethodValue(class_value.class_attribute(tracer, name, raw, owner), class_value)
        if issubclass(type(raw), staticmethod) or name == "__new__":
            if issubclass(type(raw), BuiltinFunctionType):
                return BuiltinValue(raw)
            return class_value.class_attribute(tracer, name, raw, owner)
        if issubclass(type(raw), FunctionType):
            function = class_value.class_attribute(tracer, name, raw, owner)
            return function if of_class else MethodValue(function, self.receiver)
        if issubclass(type(raw), (WrapperDescriptorType, MethodDescriptorType)):
            return BuiltinValue(raw) if of_class else SlotMethodValue(raw, owner, self.receiver)
        if issubclass(type(raw), property) and not of_class and isinstance(self.receiver, ObjectValue):
            getter = self.receiver.descriptor_part(tracer, name, raw, owner, "fget")
            return tracer.call(getter, [self.receiver])
        if not has_special(type(raw), "__get__"):
            return class_value.class_attribute(tracer, name, raw, owner)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"`super().{name}` is not modelled")

    def children(self) -> Sequence[Value]:
        return (self.after_value, self.receiver)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(super)
        emitter.load_value(self.after_value)
        emitter.load_value(self.receiver)
        emitter.call(2)


@handles(super)
def make_super(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) != 2 or not args[0].realize().is_constant():
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "this form of super() is not modelled")
    after_value, receiver = args[0].realize(), args[1].realize()
    classes = receiver.python_type().__mro__
    if isinstance(receiver, ClassValue):
        classes = (*receiver.obj.__mro__, *classes)
    if not isinstance(after_value, ClassValue) or not any(after_value.obj is cls for cls in classes):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "super() of something that is no subtype of the class")
    return SuperValue(after_value, receiver)


def _make_bare(base: type) -> CallHandler:
    def make_bare(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        cls = args[0].realize() if args else None
        if not isinstance(cls, ClassValue):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`__new__` of an unknown class")
        expected = payload_base(cls.obj) or object
        refused = len(args) > 1 or kwargs
        has_own_new = find_in_class(cls.obj, "__new__")[0] is not object.__new__
        refused = refused and (has_own_new or not is_overridden(cls.obj, "__init__"))
        if base is not expected or (base is object and refused):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{base.__name__}.__new__` of {cls.describe()}")
        return bare_object(tracer, cls, args[1:])

    return make_bare


for _base in (object, dict, list, tuple, set):
    handles(_base.__new__)(_make_bare(_base))
