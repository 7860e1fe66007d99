"""Construction: making instances of user classes while tracing, and wrapping those that existed before the frame.

`__new__` and `__init__` written in Python are traced; what a builtin base does is modelled. Invariant: which value
class stands for an instance depends on its class alone (`VALUE_CLASSES`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from .. import _native
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import LengthIs
from ..source import ItemSource, Source, TypeSource
from .argument_binding import bind_arguments
from .base import Tracer, Value
from .class_lookup import find_in_class, guard_special_methods, has_special, is_in_mro, is_overridden
from .dict import DictValue
from .lazy import LazyValue
from .list import ListValue
from .opaque import OpaqueValue
from .set import SetValue, convert_set
from .tuple import TupleValue
from .user_object import ObjectValue, payload_base

if TYPE_CHECKING:
    from .class_value import ClassValue


def new_object(tracer: Tracer, class_value: ClassValue, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`cls(*args, **kwargs)` for a user's class: `__new__`, then `__init__`, both traced."""
    cls = class_value.obj
    source = class_value.known_source()
    if source is not None:
        guard_special_methods(tracer, cls, source)
    if has_special(cls, "__del__"):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{class_value.describe()} has a finalizer, whose time is seen")
    new, owner = find_in_class(cls, "__new__")
    new_function = new.__func__ if isinstance(new, staticmethod) else new
    if isinstance(new_function, FunctionType):
        if issubclass(cls, tuple) and hasattr(cls, "_fields") and owner.__dict__.get("_fields") is not None:
            return _new_named_tuple(tracer, class_value, args, kwargs)
        maker = class_value.class_attribute(tracer, "__new__", new, owner)
        made = tracer.call(maker, [class_value, *args], kwargs)
        if not is_in_mro(cls, made.python_type()):
            return made
    else:
        base = payload_base(cls)
        if new is object.__new__ and (args or kwargs) and not _native.is_made_by_object(cls):
            cause = f"{class_value.describe()} had a `__new__` of its own, for which its arguments are refused"
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
        if base in (tuple, frozenset) and (kwargs or len(args) > 1) and not is_overridden(cls, "__init__"):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{class_value.describe()} does not take these arguments")
        made = bare_object(tracer, class_value, args)
    if isinstance(made, ObjectValue):
        class_value, cls = made.class_value, made.cls  # a subclass, if `__new__` made one
    init, init_owner = find_in_class(cls, "__init__")
    if isinstance(init, FunctionType):
        initializer = class_value.class_attribute(tracer, "__init__", init, init_owner)
        result = tracer.call(initializer, [made, *args], kwargs)
        if not (result.is_constant() and result.as_constant() is None):
            tracer.raise_observed(TypeError, "__init__() should return None")
    elif isinstance(made, ObjectValue) and issubclass(cls, BaseException):
        made.initialized_by_base(tracer, args, kwargs)
    elif isinstance(made, ObjectValue) and isinstance(made.payload, (DictValue, ListValue, SetValue)):
        if made.payload.python_type() is not frozenset:
            made.payload.call_method(tracer, "__init__", args, kwargs)
    elif init is object.__init__ and (args or kwargs) and not isinstance(new_function, FunctionType):
        if not isinstance(made, ObjectValue) or made.payload is None:
            tracer.raise_observed(TypeError, f"{cls.__name__}() takes no arguments")
    elif init is not object.__init__ and not isinstance(init, FunctionType) and payload_base(cls) is None:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"making {class_value.describe()} is not modelled")
    return made


def bare_object(tracer: Tracer, class_value: ClassValue, args: Sequence[Value] = ()) -> ObjectValue:
    """`cls.__new__(cls)` where the builtin base does it."""
    cls = class_value.obj
    base = payload_base(cls)
    if issubclass(cls, BaseException):
        error = value_class_for(cls)(class_value)
        error.made_by_base(tracer, args)
        return error
    makers = [owner.__dict__["__new__"] for owner in cls.__mro__ if "__new__" in owner.__dict__]
    in_c = next(maker for maker in makers if not isinstance(maker, (staticmethod, FunctionType)))
    if in_c is not (base or object).__new__ and not issubclass(cls, OrderedDict):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"making {class_value.describe()} is not modelled")
    if base is None:
        return value_class_for(cls)(class_value)
    made = ObjectValue(class_value)
    tracer.when_released(made.forget)  # its contents know it
    if base is dict:
        kind = OrderedDict if issubclass(cls, OrderedDict) else dict
        made.payload = DictValue({}, kind, owner=made)
    elif base is list:
        made.payload = ListValue([], owner=made)
    elif base is tuple:
        made.payload = TupleValue(args[0].unpack(tracer) if args else [], owner=made)
    else:
        contents = convert_set(tracer, args[0], base) if args and base is frozenset else SetValue((), None, base)
        contents.owner = made
        made.payload = contents
    return made


VALUE_CLASSES: list[tuple[type, type[ObjectValue]]] = []  # filled by the files of kinds with a value class of their own


def value_class_for(cls: type) -> type[ObjectValue]:
    """The value class for instances of a class."""
    return next((value_class for base, value_class in VALUE_CLASSES if issubclass(cls, base)), ObjectValue)


def _new_named_tuple(
    tracer: Tracer, class_value: ClassValue, args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value:
    cls: Any = class_value.obj
    fields: tuple[str, ...] = cls._fields
    bound = dict(zip(fields, args))
    is_wrong = len(args) > len(fields) or set(kwargs) - set(fields) or set(kwargs) & set(bound)
    bound.update(kwargs)
    if is_wrong or any(name not in bound and name not in cls._field_defaults for name in fields):
        new, owner = find_in_class(cls, "__new__")
        maker: Any = class_value.class_attribute(tracer, "__new__", new, owner)
        bind_arguments(tracer, maker, [class_value, *args], kwargs)
    for name in fields:
        if name not in bound:
            bound[name] = tracer.constant(cls._field_defaults[name])
    made = ObjectValue(class_value)
    tracer.when_released(made.forget)  # its contents know it
    made.payload = TupleValue([bound[name] for name in fields], owner=made)
    return made


def _sequence_items(tracer: Tracer, obj: Sequence[Any], source: Source) -> list[Value]:
    cls = type(obj)
    if is_overridden(cls, "__getitem__") or is_overridden(cls, "__len__") or is_overridden(cls, "__iter__"):
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}`, a sequence with its own access methods, is not modelled")
    tracer.guard(LengthIs(source, len(obj)))
    return [LazyValue(tracer, item, ItemSource(source, index)) for index, item in enumerate(obj)]


def wrap_object(tracer: Tracer, obj: Any, source: Source) -> ObjectValue:
    """An instance that existed before the frame; its class is already guarded."""
    cls = type(obj)
    class_value: Any = tracer.wrap(cls, TypeSource(source)).realize()
    if isinstance(class_value, OpaqueValue):
        raise class_value.reason
    made = value_class_for(cls)(class_value, source, obj)
    base = payload_base(cls)
    if base is dict:
        kind = OrderedDict if issubclass(cls, OrderedDict) else dict
        made.payload = DictValue(None, kind, None, obj, owner=made)
    elif base is list:
        made.payload = ListValue(_sequence_items(tracer, obj, source), None, None, owner=made)
    elif base is tuple:
        made.payload = TupleValue(_sequence_items(tracer, obj, source), tuple, None, None, owner=made)
    elif base is not None:
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}`, a subclass of {base.__name__}, is not modelled")
    return made
