"""Constructors of the builtin types: `list(x)`, `dict(a=1)`, `int("3")`, `enumerate(x)`, `range(n)` and the like.

Invariant: what they make is a new object, also from an argument of the same type, where Python makes one.
"""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph_break import BreakId, GraphBreak
from . import operators
from .base import Tracer, Value
from .constant import ConstantValue, fold, fold_call, snapshot
from .dict import DictValue, DictViewValue, dict_contents
from .iterator import (
    ComputedIterator,
    EnumerateValue,
    FilterValue,
    FixedIteratorValue,
    MapValue,
    ZipValue,
    make_tuple,
    step,
)
from .list import ListValue
from .range import SliceValue
from .registry import handles
from .set import make_set
from .sym_scalar import convert_number, is_symbolic
from .tensor import TensorValue
from .tuple import TupleValue
from .user_object import MISSING, ObjectValue, find_in_class, is_overridden


@handles(list)
def make_list(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return ListValue(args[0].realize().unpack(tracer) if args else [])


@handles(tuple)
def make_tuple_value(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if not args:
        return TupleValue([])
    value = args[0].realize()
    if value.python_type() is tuple:
        return value
    return TupleValue(value.unpack(tracer))


@handles(set)
def make_set_value(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return make_set(tracer, args[0].realize().unpack(tracer) if args else [], set)


@handles(frozenset)
def make_frozenset(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if args and args[0].realize().python_type() is frozenset:
        return args[0].realize()
    return make_set(tracer, args[0].realize().unpack(tracer) if args else [], frozenset)


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
    made = DictValue({}, defaultdict, factory=args[0].realize() if args else None)
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
    if len(args) == 1 and not kwargs and is_symbolic(args[0]):
        return convert_number(tracer, int, args[0])
    for name in ("__int__", "__index__"):
        made = _converted(tracer, args[0].realize(), name) if args else None
        if made is not None:
            return made
    return fold_call(tracer, int, args, kwargs)


@handles(float)
def make_float(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 1 and not kwargs and is_symbolic(args[0]):
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
    start = args[1] if len(args) > 1 else kwargs.get("start")
    first = 0 if start is None else operators.index_of(tracer, start)
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


@handles(itertools.filterfalse)
def make_filterfalse(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return FilterValue(args[0].realize(), args[1].realize().iterate(tracer), itertools.filterfalse, keep=False)


@handles(reversed)
def make_reversed(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    if is_overridden(value.python_type(), "__reversed__"):
        return value.call_method(tracer, "__reversed__", [], {})
    contents = dict_contents(value)
    if contents is not None or isinstance(value, DictViewValue):
        return FixedIteratorValue(value.unpack(tracer)[::-1], type(reversed({})))
    if value.kind in ("a set", "an iterator", "a generator"):
        tracer.raise_observed(TypeError, f"'{value.python_type().__name__}' object is not reversible")
    if isinstance(value, ObjectValue) and value.payload is None:
        indices = range(operators.length(tracer, value))[::-1]
        items = [operators.get_item(tracer, value, tracer.constant(index)) for index in indices]
        return FixedIteratorValue(items, reversed)
    return FixedIteratorValue(value.unpack(tracer)[::-1], reversed)


# itertools


@handles(itertools.chain)
def make_chain(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return _chain(list(args))


def _chain(waiting: list[Value]) -> Value:
    current: list[Value] = []

    def produce(tracer: Tracer) -> Value | None:
        while current or waiting:
            if not current:
                current.append(waiting.pop(0).realize().iterate(tracer))
            item = step(tracer, current[0])
            if item is not None:
                return item
            current.clear()
        return None

    return ComputedIterator(itertools.chain, list(waiting), produce)


@handles(itertools.islice)
def make_islice(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    iterator = args[0].realize().iterate(tracer)
    bounds = [snapshot(arg) for arg in args[1:]]
    chosen = slice(*bounds)
    start, stride = chosen.start or 0, chosen.step or 1
    state = {"at": 0, "next": start}

    def produce(tracer: Tracer) -> Value | None:
        if chosen.stop is not None and state["next"] >= chosen.stop:
            return None
        while True:
            item = step(tracer, iterator)
            if item is None:
                return None
            state["at"] += 1
            if state["at"] - 1 == state["next"]:
                state["next"] += stride
                return item

    return ComputedIterator(itertools.islice, [iterator], produce)


@handles(itertools.repeat)
def make_repeat(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    times = args[1] if len(args) > 1 else kwargs.get("times")
    left = [None if times is None else operators.index_of(tracer, times)]

    def produce(tracer: Tracer) -> Value | None:
        if left[0] is None:
            return args[0].realize()
        if left[0] <= 0:
            return None
        left[0] -= 1
        return args[0].realize()

    return ComputedIterator(itertools.repeat, [args[0]], produce)


@handles(itertools.count)
def make_count(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    first = args[0] if args else kwargs.get("start", tracer.constant(0))
    stride = args[1] if len(args) > 1 else kwargs.get("step", tracer.constant(1))
    state = [first.realize()]

    def produce(tracer: Tracer) -> Value | None:
        item = state[0]
        state[0] = operators.binary(tracer, operator.add, item, stride)
        return item

    return ComputedIterator(itertools.count, [first, stride], produce)


@handles(itertools.accumulate)
def make_accumulate(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    iterator = args[0].realize().iterate(tracer)
    function = args[1].realize() if len(args) > 1 else tracer.constant(operator.add)
    state: list[Value] = []
    initial = kwargs.get("initial")

    def produce(tracer: Tracer) -> Value | None:
        if not state and initial is not None:
            state.append(initial.realize())
            return state[0]
        item = step(tracer, iterator)
        if item is None:
            return None
        state[:] = [tracer.call(function, [state[0], item]) if state else item]
        return state[0]

    return ComputedIterator(itertools.accumulate, [iterator], produce)


@handles(itertools.cycle)
def make_cycle(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    items = args[0].realize().unpack(tracer)
    state = [0]

    def produce(tracer: Tracer) -> Value | None:
        if not items:
            return None
        state[0] += 1
        return items[(state[0] - 1) % len(items)]

    return ComputedIterator(itertools.cycle, items, produce)


def _combine(function: Any) -> None:
    @handles(function)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if function is itertools.product:
            pools = [range(len(arg.realize().unpack(tracer))) for arg in args]
            items = [arg.realize().unpack(tracer) for arg in args]
            repeat = snapshot(kwargs["repeat"]) if "repeat" in kwargs else 1
            rows = itertools.product(*pools, repeat=repeat)
            made = [make_tuple(tracer, [(items * repeat)[k][i] for k, i in enumerate(row)]) for row in rows]
        else:
            items = args[0].realize().unpack(tracer)
            sizes = [snapshot(arg) for arg in args[1:]]
            rows = function(range(len(items)), *sizes)
            made = [make_tuple(tracer, [items[i] for i in row]) for row in rows]
        return FixedIteratorValue(made, function)


for _function in (itertools.product, itertools.permutations, itertools.combinations,
                  itertools.combinations_with_replacement, itertools.pairwise):  # fmt: skip
    _combine(_function)


@handles(itertools.starmap)
def make_starmap(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    iterator = args[1].realize().iterate(tracer)

    def produce(tracer: Tracer) -> Value | None:
        item = step(tracer, iterator)
        return None if item is None else tracer.call(args[0].realize(), item.realize().unpack(tracer))

    return ComputedIterator(itertools.starmap, [iterator], produce)


@handles(itertools.zip_longest)
def make_zip_longest(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    columns = [arg.realize().unpack(tracer) for arg in args]
    fill = kwargs.get("fillvalue", tracer.constant(None))
    rows = itertools.zip_longest(*columns, fillvalue=fill)
    return FixedIteratorValue([make_tuple(tracer, list(row)) for row in rows], itertools.zip_longest)
