"""BuiltinValue: a callable that is modelled by itself; and the builtin functions.

A builtin has a handler, or is a method of a builtin type called through the type, or is pure and folded on known
arguments. Invariant: a builtin that is none of these breaks the graph.
"""

from __future__ import annotations

import builtins
import operator
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any

import torch

from ..graph_break import BreakId, GraphBreak
from ..guards.specials import SPECIAL_PLACES
from ..source import Source
from . import operators
from .base import ObservedException, Tracer, Value
from .class_lookup import has_special, is_callable, is_iterable, is_overridden
from .constant import fold, fold_call, is_known
from .iterator import ComputedIterator, step
from .length_hint import listed
from .list import is_descending, sort_order
from .registry import handler_of, handles
from .set import set_contents
from .stand_in import refuse
from .sym_scalar import compute_number, extreme_of_integers, is_symbolic
from .tensor import TensorValue, is_users
from .user_object import ObjectValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_METHOD_TYPES = (MethodDescriptorType, WrapperDescriptorType)
# Modules whose C functions are pure: folded when all arguments are known
_PURE_MODULES = frozenset({"math", "cmath", "_operator", "operator", "unicodedata", "_string"})
# What is not pure among their functions: it writes to its argument, or calls it
_IMPURE_NAMES = frozenset(
    {"setitem", "delitem", "iconcat", "call", "length_hint", *(op.__name__ for op in operators.INPLACE_METHODS)}
)
_PURE_BUILTINS: tuple[Callable[..., Any], ...] = (
    ascii,
    bin,
    chr,
    hex,
    oct,
    ord,
    round,
    divmod,
    format,
    hash,
    str.maketrans,
    sys.intern,
)


class BuiltinValue(Value):
    """A builtin function, or any callable with a handler."""

    kind = "a builtin function"
    __slots__ = ("obj",)

    def __init__(self, function: Any, source: Source | None = None) -> None:
        super().__init__(source)
        self.obj = function

    def describe(self) -> str:
        return f"`{getattr(self.obj, '__qualname__', self.obj)}`"

    def python_type(self) -> type:
        return type(self.obj)

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> Any:
        return self.obj

    def as_graph_argument(self) -> Any:
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{self.describe()} is passed to a torch operation")

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        handler = handler_of(self.obj)
        args = [arg.realize() for arg in args]
        if handler is not None:
            return handler(tracer, args, kwargs)
        if isinstance(self.obj, _METHOD_TYPES) and args:
            if self.obj.__objclass__ not in args[0].python_type().__mro__:
                refuse(tracer, self.obj, *args)
            return args[0].call_slot(tracer, self.obj, args[1:], kwargs)
        if isinstance(self.obj, ClassMethodDescriptorType) and args:
            return args[0].call_method(tracer, self.obj.__name__, args[1:], kwargs)
        module = getattr(self.obj, "__module__", None)
        is_pure = module in _PURE_MODULES and getattr(self.obj, "__name__", "") not in _IMPURE_NAMES
        if is_pure or self.obj in _PURE_BUILTINS:
            return self._fold(tracer, args, kwargs)
        owner = getattr(self.obj, "__self__", None)
        if isinstance(owner, type) and owner.__module__ == "builtins" and all(map(is_known, args)):
            if self.obj.__name__ == "__new__" and (owner is type or not args or args[0].as_constant() is not owner):
                raise GraphBreak(BreakId.EXTENSION_CALL, f"{self.describe()} of a class of the program")
            return fold_call(tracer, self.obj, args, kwargs)  # str.maketrans, int.from_bytes ...
        raise GraphBreak(BreakId.EXTENSION_CALL, f"{self.describe()} of module {module} is not modelled")

    def _fold(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if (
            not kwargs
            and any(is_symbolic(arg) for arg in args)
            and (getattr(self.obj, "__module__", None) == "math" or self.obj is round)
        ):
            made = compute_number(tracer, self.obj, args)
            if made is not None:
                return made
        for arg in args:
            if isinstance(arg, TensorValue):
                raise GraphBreak(BreakId.DATA_DEPENDENT_VALUE, f"{self.describe()} needs the data of {arg.describe()}")
            if isinstance(arg, ObjectValue) and arg.payload is None:
                name = f"__{self.obj.__name__}__"
                if name in SPECIAL_PLACES and is_overridden(arg.cls, name):
                    return arg.call_method(tracer, name, args[1:], kwargs)
        return fold_call(tracer, self.obj, args, kwargs)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if (
            name == "__self__"
            and isinstance(self.obj, BuiltinFunctionType)
            and isinstance(self.obj.__self__, ModuleType)
        ):
            return tracer.constant(self.obj.__self__)
        return tracer.constant(fold(tracer, getattr, self.obj, name))

    def hash_key(self, tracer: Tracer) -> Hashable:
        return self.obj

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.obj)


# Operators as functions


def _register_operators() -> None:
    for op in operators.BINARY_METHODS:

        @handles(op)
        def binary_handler(
            tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], op: Callable[..., Any] = op
        ) -> Value:
            return operators.binary(tracer, op, args[0], args[1])

    for op in operators.INPLACE_METHODS:

        @handles(op)
        def inplace_handler(
            tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], op: Callable[..., Any] = op
        ) -> Value:
            return operators.inplace(tracer, op, args[0], args[1])

    for op in (*operators.UNARY_METHODS, operator.not_):

        @handles(op)
        def unary_handler(
            tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], op: Callable[..., Any] = op
        ) -> Value:
            return operators.unary(tracer, op, args[0])


_register_operators()


@handles(pow)
def power(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 2:
        return operators.binary(tracer, operator.pow, args[0], args[1])
    return fold_call(tracer, pow, args, kwargs)


@handles(abs)
def absolute(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return operators.unary(tracer, operator.abs, args[0].realize())


@handles(operator.is_)
def is_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(operators.is_same(tracer, args[0], args[1]))


@handles(operator.is_not)
def is_not(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(not operators.is_same(tracer, args[0], args[1]))


@handles(operator.contains)
def contains(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(operators.contains(tracer, args[0], args[1].realize()))


@handles(operator.getitem)
def getitem(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return operators.get_item(tracer, args[0], args[1])


@handles(operator.setitem)
def setitem(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    operators.set_item(tracer, args[0], args[1], args[2])
    return tracer.constant(None)


@handles(operator.delitem)
def delitem(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    operators.delete_item(tracer, args[0], args[1])
    return tracer.constant(None)


@handles(operator.truth)
def truth(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(args[0].realize().truth(tracer))


@handles(operator.index)
def index(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(operators.index_of(tracer, args[0]))


# What an object is


@handles(len)
def length(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return operators.length_value(tracer, args[0])


def class_of(tracer: Tracer, value: Value) -> Value:
    """`type(value)`."""
    known: Value | None = getattr(value, "class_value", None)
    return known if known is not None else tracer.constant(value.python_type())


@handles(callable)
def callable_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(is_callable(args[0].realize().python_type()))


@handles(hash)
def hash_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    if value.python_type().__hash__ is None:
        tracer.raise_observed(TypeError, f"unhashable type: '{value.python_type().__name__}'")
    if is_overridden(value.python_type(), "__hash__"):
        hashed = value.call_method(tracer, "__hash__", [], {})
        if not issubclass(hashed.python_type(), int):
            tracer.raise_observed(TypeError, "__hash__ method should return an integer")
        return tracer.constant(hash(int(hashed.as_constant())))
    contents = getattr(value, "payload", None)
    if contents is not None and is_known(contents):
        return fold_call(tracer, hash, [contents], {})
    return fold_call(tracer, hash, args, kwargs)


# Attributes


def _name_of(value: Value) -> str:
    """The name of an attribute, as a builtin takes it."""
    name = value.as_constant()
    if type(name) is not str:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{value.describe()} as the name of an attribute")
    return name


@handles(getattr)
def getattr_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    name = _name_of(args[1])
    if len(args) == 2:
        return args[0].realize().get_attribute(tracer, name)
    try:
        return args[0].realize().get_attribute(tracer, name)
    except ObservedException as error:
        if not issubclass(error.value.python_type(), AttributeError):
            raise
        return args[2].realize()


@handles(hasattr)
def hasattr_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(has_attribute(tracer, args[0].realize(), _name_of(args[1])))


def has_attribute(tracer: Tracer, value: Value, name: str) -> bool:
    """`hasattr(value, name)`."""
    if isinstance(value, TensorValue) and hasattr(torch.Tensor, name) and not is_users(getattr(torch.Tensor, name)):
        return True
    try:
        value.get_attribute(tracer, name)
    except ObservedException as error:
        if not issubclass(error.value.python_type(), AttributeError):
            raise
        return False
    return True


@handles(setattr)
def setattr_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    args[0].realize().set_attribute(tracer, _name_of(args[1]), args[2].realize())
    return tracer.constant(None)


@handles(delattr)
def delattr_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    args[0].realize().delete_attribute(tracer, _name_of(args[1]))
    return tracer.constant(None)


@handles(vars)
def vars_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if not args:
        raise GraphBreak(BreakId.OUTPUT_TO_WORLD, "`vars()` reads the locals of the function as they are")
    try:
        return args[0].realize().get_attribute(tracer, "__dict__")
    except ObservedException as error:
        if not issubclass(error.value.python_type(), AttributeError):
            raise
        return fold(tracer, vars, 0)  # the words are the same for all


# Iteration


@handles(iter)
def iter_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) == 2:
        if not has_special(args[0].realize().python_type(), "__call__"):
            tracer.raise_observed(TypeError, "iter(v, w): v must be callable")
        return _until(tracer, args[0].realize(), args[1].realize())
    value = args[0].realize()
    if not is_iterable(value.python_type()):
        tracer.raise_observed(TypeError, f"'{value.python_type().__name__}' object is not iterable")
    return value.iterate(tracer)


def _until(tracer: Tracer, function: Value, sentinel: Value) -> Value:
    """`iter(function, sentinel)`."""

    def produce(tracer: Tracer) -> Value | None:
        item = tracer.call(function, [])
        is_over = made.ended or operators.equal(tracer, sentinel, item)  # the call itself may have come to the end
        return None if is_over else item

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(iter)
        emitter.load_value(function)
        emitter.load_value(sentinel)
        emitter.call(2)

    made = ComputedIterator(type(iter(int, 1)), [function, sentinel], produce, rebuild)
    tracer.when_released(made.forget)  # `produce` knows it
    return made


@handles(next)
def next_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    cls = args[0].realize().python_type()
    if not has_special(cls, "__next__"):
        tracer.raise_observed(TypeError, f"'{cls.__name__}' object is not an iterator")
    if len(args) == 1:
        return args[0].realize().next(tracer)
    item = step(tracer, args[0].realize())
    return args[1].realize() if item is None else item


@handles(any)
def any_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    iterator = args[0].realize().iterate(tracer)
    while (item := step(tracer, iterator)) is not None:
        if item.truth(tracer):
            return tracer.constant(True)
    return tracer.constant(False)


@handles(all)
def all_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    iterator = args[0].realize().iterate(tracer)
    while (item := step(tracer, iterator)) is not None:
        if not item.truth(tracer):
            return tracer.constant(False)
    return tracer.constant(True)


@handles(sum)
def sum_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    total = args[1] if len(args) > 1 else tracer.constant(0)
    for kind, words in ((str, "strings [use ''"), (bytes, "bytes [use b''"), (bytearray, "bytearray [use b''")):
        if issubclass(total.realize().python_type(), kind):
            tracer.raise_observed(TypeError, f"sum() can't sum {words}.join(seq) instead]")
    for item in args[0].realize().unpack(tracer):
        total = operators.binary(tracer, operator.add, total, item)
    return total.realize()


def _extreme(op: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Value]:
    name = function.__name__

    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        items = [arg.realize() for arg in args] if len(args) > 1 else _items_in_any_order(tracer, args[0], kwargs)
        if not items:
            if "default" in kwargs:
                return kwargs["default"]
            fold(tracer, function, ())
        key = kwargs.get("key")
        if key is not None and key.is_constant() and key.as_constant() is None:
            key = None
        if key is None and len(items) > 1 and any(isinstance(item, TensorValue) for item in items):
            raise GraphBreak(BreakId.DATA_DEPENDENT_BRANCH, f"`{name}` of tensors depends on their data")
        symbolic = extreme_of_integers(tracer, function, items) if key is None else None
        if symbolic is not None:
            return symbolic
        best = items[0]
        best_key = best if key is None else tracer.call(key, [best])
        for item in items[1:]:
            item_key = item if key is None else tracer.call(key, [item])
            if operators.binary(tracer, op, item_key, best_key).truth(tracer):
                best, best_key = item, item_key
        return best

    return handler


handles(max)(_extreme(operator.gt, max))
handles(min)(_extreme(operator.lt, min))


@handles(sorted)
def sorted_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    made: Any = tracer.constant([])
    items = _items_in_any_order(tracer, args[0], kwargs, listed)
    order = list(range(len(items)))
    sort_order(tracer, order, items, kwargs.get("key"), is_descending(tracer, kwargs.get("reverse")))
    return made.like([items[index] for index in order])


def _taken(tracer: Tracer, value: Value) -> list[Value]:
    return value.realize().unpack(tracer)


def _items_in_any_order(
    tracer: Tracer,
    value: Value,
    kwargs: Mapping[str, Value],
    take: Callable[[Tracer, Value], list[Value]] = _taken,
) -> list[Value]:
    """The items of an iterable for what does not depend on their order: sorting literals of one type by themselves."""
    contents = set_contents(value)
    if contents is not None and "key" not in kwargs:
        items = contents.elements()
        kinds = {item.python_type() for item in items}
        if len(kinds) == 1 and kinds <= {int, str, bytes} and not is_overridden(value.python_type(), "__iter__"):
            return items
    return take(tracer, value)


@handles(operator.length_hint)
def length_hint(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if isinstance(args[0].realize(), ObjectValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"operator.length_hint of {args[0].describe()}")
    return fold_call(tracer, operator.length_hint, args, kwargs)


_CALL: Any = getattr(operator, "call", None)  # since 3.11
if _CALL is not None:
    handles(_CALL)(lambda tracer, args, kwargs: tracer.call(args[0].realize(), args[1:], kwargs))


# Text and numbers


@handles(repr)
def repr_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(operators.text_of(tracer, args[0].realize(), repr))


@handles(ascii)
def ascii_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(operators.text_of(tracer, args[0].realize(), ascii))


@handles(format)
def format_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    spec = args[1].as_constant() if len(args) > 1 else ""
    return operators.format_value(tracer, args[0], None, spec)


@handles(round)
def round_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    cls = value.python_type()
    if not has_special(cls, "__round__"):
        tracer.raise_observed(TypeError, f"type {cls.__name__} doesn't define __round__ method")
    if isinstance(value, (ObjectValue, TensorValue)):
        return value.call_method(tracer, "__round__", args[1:], kwargs)
    return fold_call(tracer, round, args, kwargs)


@handles(print)
def print_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.OUTPUT_TO_WORLD, "`print` writes to the world")


@handles(input, open, breakpoint, exec, eval, compile, globals, locals, dir, builtins.__import__)
def of_the_world(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.OUTPUT_TO_WORLD, "a builtin that reads or changes the world outside the function")
