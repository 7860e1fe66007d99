"""Constructors of the builtin types: `list(x)`, `dict(a=1)`, `int("3")`, `enumerate(x)`, `range(n)` and the like.

Invariant: what they make is a new object, also from an argument of the same type, where Python makes one.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from types import FunctionType, MappingProxyType, NoneType
from typing import Any

from ..graph_break import BreakId, GraphBreak
from . import operators
from .base import ObservedException, Tracer, Value
from .class_lookup import MISSING, find_in_class, is_callable, is_overridden
from .constant import ConstantIteratorValue, ConstantValue, fold, fold_call
from .deque import DequeValue, ReversedDequeIteratorValue
from .dict import DictValue, dict_contents
from .dict_view import DictViewValue
from .iterator import (
    ComputedIterator,
    EnumerateValue,
    FilterValue,
    FixedIteratorValue,
    MapValue,
    ReversedIteratorValue,
    ZipValue,
)
from .length_hint import listed
from .list import ListValue
from .mapping_proxy import MappingProxyValue
from .range import SliceValue
from .registry import handles
from .set import convert_set, make_set
from .sym_scalar import convert_number, is_symbolic
from .tensor import TensorValue
from .tuple import TupleValue
from .user_object import ObjectValue


@handles(list)
def make_list(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return ListValue(listed(tracer, args[0]) if args else [])


@handles(tuple)
def make_tuple_value(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if not args:
        return TupleValue([])
    value = args[0].realize()
    if value.python_type() is tuple:
        return value
    return TupleValue(listed(tracer, value))


@handles(set)
def make_set_value(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return convert_set(tracer, args[0], set) if args else make_set(tracer, [], set)


@handles(frozenset)
def make_frozenset(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if args and args[0].realize().python_type() is frozenset:
        return args[0].realize()
    return convert_set(tracer, args[0], frozenset) if args else make_set(tracer, [], frozenset)


@handles(dict)
def make_dict(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    made = DictValue({})
    made.m_update(tracer, *args, **kwargs)
    return made


@handles(OrderedDict)
def make_ordered_dict(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    made = DictValue({}, OrderedDict)
    made.m_update(tracer, *args, **kwargs)
    return made


@handles(defaultdict)
def make_default_dict(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    factory = args[0].realize() if args else None
    if factory is not None and not is_callable(factory.python_type()) and factory.python_type() is not NoneType:
        tracer.raise_observed(TypeError, "first argument must be callable or None")
    made = DictValue({}, defaultdict, factory=factory)
    made.m_update(tracer, *args[1:], **kwargs)
    return made


@handles(slice)
def make_slice(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    none = tracer.constant(None)
    if len(args) == 1:
        return SliceValue(none, args[0], none)
    return SliceValue(args[0], args[1], args[2] if len(args) > 2 else none)


@handles(range)
def make_range(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return ConstantValue(fold(tracer, range, *(operators.index_of(tracer, arg) for arg in args)))


# Numbers and text


def _converted(tracer: Tracer, value: Value, name: str) -> Value | None:
    """`value.__int__()` and the like, where a class in Python has it."""
    if isinstance(value, TensorValue):
        if name == "__int__":
            return value.call_method(tracer, name, [], {})
        raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"a Python number from {value.describe()} needs its data")
    if not isinstance(value, ObjectValue) or find_in_class(value.cls, name)[0] is MISSING:
        return None
    if not is_overridden(value.cls, name):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{name}` of {value.describe()} is not modelled")
    made = value.call_method(tracer, name, [], {})
    if made.python_type() is not _RESULTS[name]:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"`{name}` returned {made.describe()}: eager warns or raises")
    return made


_RESULTS: dict[str, type] = {"__int__": int, "__index__": int, "__float__": float, "__complex__": complex}


@handles(int)
def make_int(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 1 and is_symbolic(args[0]):
        return convert_number(tracer, int, args[0])
    for name in ("__int__", "__index__"):
        made = _converted(tracer, args[0].realize(), name) if args else None
        if made is not None:
            return made
    return fold_call(tracer, int, args, kwargs)


@handles(float)
def make_float(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 1 and is_symbolic(args[0]):
        return convert_number(tracer, float, args[0])
    made = _converted(tracer, args[0].realize(), "__float__") if args else None
    return made if made is not None else fold_call(tracer, float, args, kwargs)


@handles(complex)
def make_complex(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    made = _converted(tracer, args[0].realize(), "__complex__") if args else None
    return made if made is not None else fold_call(tracer, complex, args, kwargs)


@handles(bool)
def make_bool(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(args[0].realize().truth(tracer) if args else False)


@handles(str)
def make_str(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 1 and not kwargs:
        return tracer.constant(operators.text_of(tracer, args[0], str))
    return fold_call(tracer, str, args, kwargs)


@handles(bytes)
def make_bytes(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return fold_call(tracer, bytes, args, kwargs)


@handles(object)
def make_object(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    class_value: Any = tracer.constant(object)
    return ObjectValue(class_value)


# Iterators


@handles(enumerate)
def make_enumerate(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    first = operators.index_of(tracer, args[1]) if len(args) > 1 else 0
    return EnumerateValue(args[0].realize().iterate(tracer), first)


@handles(zip)
def make_zip(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    strict = "strict" in kwargs and kwargs["strict"].truth(tracer)
    return ZipValue([arg.realize().iterate(tracer) for arg in args], strict)


@handles(map)
def make_map(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return MapValue(args[0].realize(), [arg.realize().iterate(tracer) for arg in args[1:]])


@handles(filter)
def make_filter(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return FilterValue(args[0].realize(), args[1].realize().iterate(tracer), filter)


def _reversed_by_index(value: ObjectValue, length: int) -> Value:
    """The old protocol backwards: `__getitem__` from the last index down to 0."""
    position = [length]

    def produce(tracer: Tracer) -> Value | None:
        position[0] -= 1
        if position[0] < 0:
            return None
        try:
            return operators.get_item(tracer, value, tracer.constant(position[0]))
        except ObservedException as error:
            if issubclass(error.value.python_type(), (IndexError, StopIteration)):
                return None
            raise

    return ComputedIterator(reversed, [value], produce)


@handles(reversed)
def make_reversed(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    method, _ = find_in_class(value.python_type(), "__reversed__")
    if isinstance(method, FunctionType):
        return value.call_method(tracer, "__reversed__", [], {})
    is_sequence = method is not MISSING or hasattr(value.python_type(), "__getitem__")
    contents = dict_contents(value)
    if contents is not None or isinstance(value, DictViewValue):
        listed = value if contents is None else contents  # past a `__iter__` of a subclass
        return FixedIteratorValue(listed.unpack(tracer)[::-1], type(reversed({})))
    if isinstance(value, ConstantValue) and isinstance(value.obj, range):
        return ConstantIteratorValue(value.obj[::-1])
    if method is None or not is_sequence or value.kind in ("a set", "an iterator", "a generator"):
        tracer.raise_observed(TypeError, f"'{value.python_type().__name__}' object is not reversible")
    if isinstance(value, DequeValue):
        return ReversedDequeIteratorValue(value)
    if isinstance(value, (ListValue, TupleValue)) and value.owner is None:
        return ReversedIteratorValue(value)
    if isinstance(value, ObjectValue) and value.payload is None:
        return _reversed_by_index(value, operators.length(tracer, value))
    return FixedIteratorValue(value.unpack(tracer)[::-1], reversed)


@handles(MappingProxyType, like=lambda mapping: None)
def make_mapping_proxy(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if dict_contents(args[0]) is None:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a mapping proxy of another mapping than a dict")
    return MappingProxyValue(args[0].realize())
