"""`copy.copy` and `copy.deepcopy`: what the copy module does with each kind of object, without tracing its code.

A class says how its objects are copied by `__copy__`, `__deepcopy__` or the pickling methods; without these an object
is made bare and given its attributes and slots. Invariant: one object is copied once in a deep copy, so aliases and
cycles are kept; what is copied in another way breaks the graph.
"""

from __future__ import annotations

import copy
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MemberDescriptorType
from typing import TypeGuard

from ..graph_break import BreakId, GraphBreak
from .base import ObservedException, Tracer, Value
from .builtin import BuiltinValue
from .class_lookup import MISSING, find_in_class, is_overridden
from .class_value import ClassValue
from .constant import ConstantValue
from .construction import bare_object
from .dict import DictValue
from .function import FunctionValue
from .identity import UnknownNumberValue
from .instance_dict import InstanceDictValue
from .list import ListValue
from .module import ModuleValue
from .ordered_dict import check_no_attributes
from .registry import handles
from .set import SetValue, convert_set
from .slot_method import SlotMethodValue
from .sym_scalar import SymScalarValue
from .tuple import TupleValue
from .user_object import ObjectValue

_PICKLING_METHODS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__new__")


class CopyMemoValue(Value):
    """The memo of one deep copy: `made` has the copies, by the values that they are of (which `kept` keeps alive).

    A program may hand it on to `copy.deepcopy` and store copies in it by `id`; nothing else is modelled."""

    kind = "the memo of a deep copy"
    __slots__ = ("kept", "made")

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, Value] = {}
        self.kept: list[Value] = []

    def python_type(self) -> type:
        return dict

    def put(self, value: Value, made: Value) -> None:
        """Record that `made` is the copy of `value`."""
        self.made[id(value)] = made
        self.kept.append(value)

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        if not isinstance(key, UnknownNumberValue) or key.function is not id:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"an item of {self.describe()} that is no copy")
        self.put(key.args[0].realize(), item.realize())


@handles(copy.copy)
def shallow_copy(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    if isinstance(value, (ListValue, DictValue, SetValue, InstanceDictValue)):
        if isinstance(value, DictValue):
            check_no_attributes(tracer, value, "copy.copy")
        return value.call_method(tracer, "copy", [], {})
    if isinstance(value, (ConstantValue, SymScalarValue, ClassValue, FunctionValue, TupleValue)):
        return value
    if isinstance(value, ObjectValue) and not isinstance(value, ModuleValue):
        raw, owner = find_in_class(value.cls, "__copy__")
        if issubclass(type(raw), FunctionType):
            return tracer.call(value.class_value.class_attribute(tracer, "__copy__", raw, owner), [value])
        if raw is MISSING and _copies_by_attributes(value):
            _check_reductor(tracer, value)
            value.class_value.guard_missing(tracer, "__copy__")
            made = bare_object(tracer, value.class_value)
            for name, item in _state(tracer, value):
                _put_attribute(tracer, made, name, item)
            return made
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"copy.copy of {value.describe()} is not modelled")


@handles(copy.deepcopy)
def deep_copy(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    has_memo = len(args) > 1 and not tracer.is_none(args[1].realize())
    memo = args[1].realize() if has_memo else CopyMemoValue()
    if len(args) > 2 or kwargs or not isinstance(memo, CopyMemoValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "copy.deepcopy with a memo of the program's is not modelled")
    return _deep(tracer, args[0].realize(), memo)


def _deep(tracer: Tracer, value: Value, memo: CopyMemoValue) -> Value:
    value = value.realize()
    known = memo.made.get(id(value))
    if known is not None:
        return known
    if isinstance(value, InstanceDictValue):
        value = value.as_dict(tracer)
    if isinstance(value, (ConstantValue, SymScalarValue, ClassValue, FunctionValue)):
        return value
    if isinstance(value, BuiltinValue) and value.python_type() is BuiltinFunctionType:
        return value
    if isinstance(value, ListValue) and value.owner is None:
        made = ListValue([])
        tracer.when_released(made.forget)  # it may be reached from within itself
        memo.put(value, made)
        made.items.extend(_deep(tracer, item, memo) for item in value.all_items())
        return made
    if isinstance(value, TupleValue) and value.owner is None:
        items = value.all_items()
        parts = [_deep(tracer, item, memo) for item in items]
        known = memo.made.get(id(value))  # it is reached from within itself
        if known is not None:
            return known
        is_same = all(map(operator.is_, items, parts))
        if not is_same and value.cls is not tuple:  # a struct sequence is not made as tuples are
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"copy.deepcopy of {value.describe()} is not modelled")
        made_tuple = value if is_same else TupleValue(parts)
        memo.put(value, made_tuple)
        return made_tuple
    if isinstance(value, DictValue) and value.owner is None and value.cls in (dict, OrderedDict, defaultdict):
        check_no_attributes(tracer, value, "copy.deepcopy")
        copied = DictValue({}, value.cls, factory=value.factory)
        memo.put(value, copied)
        for key, item in zip(value.keys(tracer), value.values(tracer)):
            copied.set_item(tracer, _deep(tracer, key, memo), _deep(tracer, item, memo))
        return copied
    if isinstance(value, SetValue) and all(element.is_constant() for element in value.elements()):
        return convert_set(tracer, value, value.cls)
    if isinstance(value, ObjectValue) and not isinstance(value, ModuleValue):
        return _deep_object(tracer, value, memo)
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"copy.deepcopy of {value.describe()} is not modelled")


def _deep_object(tracer: Tracer, value: ObjectValue, memo: CopyMemoValue) -> Value:
    raw = find_in_class(value.cls, "__deepcopy__")[0]
    if issubclass(type(raw), FunctionType):
        made = tracer.call(value.get_attribute(tracer, "__deepcopy__").realize(), [memo]).realize()
        memo.put(value, made)
        return made
    if raw is not MISSING or not _copies_by_attributes(value) or value.find_attribute(tracer, "__deepcopy__"):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"copy.deepcopy of {value.describe()} is not modelled")
    _check_reductor(tracer, value)
    fresh = bare_object(tracer, value.class_value)
    memo.put(value, fresh)
    copied = [(name, _deep(tracer, item, memo)) for name, item in _state(tracer, value)]
    for name, item in copied:
        _put_attribute(tracer, fresh, name, item)
    return fresh


def _copies_by_attributes(value: Value) -> TypeGuard[ObjectValue]:
    """Whether the copy module copies an object by its instance dict and slots alone."""
    if not isinstance(value, ObjectValue) or value.payload is not None or isinstance(value, ModuleValue):
        return False
    own = [base for base in value.cls.__mro__ if base is not object]
    if any(name in base.__dict__ for base in own for name in (*_PICKLING_METHODS, "__getattr__")):
        return False
    slots = _slots_of(value.cls)
    return not (slots and is_overridden(value.cls, "__setattr__")) and (bool(slots) or value.has_instance_dict())


def _check_reductor(tracer: Tracer, value: ObjectValue) -> None:
    """Raise GraphBreak unless the copy module finds the pickling method of `object`, where the class looks it up."""
    if not is_overridden(value.cls, "__getattribute__"):
        return
    try:
        found = value.get_attribute(tracer, "__reduce_ex__")
    except ObservedException:
        found = None
    if not isinstance(found, SlotMethodValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"a copy of {value.describe()}, whose class hides how it is made")


def _slots_of(cls: type) -> list[str]:
    names = {name: None for base in cls.__mro__ for name, raw in base.__dict__.items() if _is_slot(raw)}
    return list(names)


def _is_slot(raw: object) -> bool:
    return issubclass(type(raw), MemberDescriptorType)


def _state(tracer: Tracer, value: ObjectValue) -> list[tuple[str, Value]]:
    """The attributes of the instance dict, then the slots that are filled."""
    items: list[tuple[str, Value]] = []
    if value.has_instance_dict():
        contents = InstanceDictValue(value).as_dict(tracer)
        items = [(key.as_constant(), item) for key, item in zip(contents.keys(tracer), contents.values(tracer))]
    for name in _slots_of(value.cls):
        filled = value.find_attribute(tracer, name)
        if filled is not None:
            items.append((name, filled))
    return items


def _put_attribute(tracer: Tracer, value: ObjectValue, name: str, item: Value) -> None:
    value.guard_place(tracer, name)
    tracer.side_effects.store_attribute(value, name, item, raw=value.is_hooked(tracer))
