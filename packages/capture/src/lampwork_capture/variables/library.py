"""Functions of the standard library that are modelled as a whole: functools, operator, copy, dataclasses, inspect.

They are written in Python or C and mean more than their code shows, or are called so often that tracing their code
would only cost time. Invariant: each gives what the library gives, for the arguments it accepts; others break.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import operator
import os
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, IdentityIs
from ..source import AttributeSource, ItemSource, ModuleSource, Source
from . import operators
from .base import Tracer, Value
from .class_value import ClassValue
from .constant import ConstantValue, fold
from .dict import DictValue
from .function import MethodValue, SourcedFunctionValue
from .iterator import step
from .method import BuiltinObject
from .registry import handles, wraps_type
from .tuple import TupleValue


@handles(functools.reduce)
def reduce(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    iterator = args[1].realize().iterate(tracer)
    total = args[2].realize() if len(args) > 2 else step(tracer, iterator)
    if total is None:
        tracer.raise_observed(TypeError, "reduce() of empty iterable with no initial value")
    while (item := step(tracer, iterator)) is not None:
        total = tracer.call(args[0].realize(), [total, item])
    return total


class GetterValue(Value):
    """`operator.itemgetter(...)`, `attrgetter(...)` or `methodcaller(...)`."""

    kind = "an operator.itemgetter or its like"
    __slots__ = ("args", "function", "kwargs")

    def __init__(self, function: Any, args: Sequence[Value], kwargs: Mapping[str, Value]) -> None:
        super().__init__()
        self.function = function
        self.args = list(args)
        self.kwargs = dict(kwargs)

    def python_type(self) -> type:
        return self.function

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        subject = args[0].realize()
        if self.function is operator.methodcaller:
            return subject.call_method(tracer, self.args[0].as_constant(), self.args[1:], self.kwargs)
        found = [self._one(tracer, subject, arg.realize()) for arg in self.args]
        return found[0] if len(found) == 1 else TupleValue(found)

    def _one(self, tracer: Tracer, subject: Value, arg: Value) -> Value:
        if self.function is operator.itemgetter:
            return operators.get_item(tracer, subject, arg)
        for name in arg.as_constant().split("."):
            subject = subject.get_attribute(tracer, name).realize()
        return subject

    def children(self) -> Sequence[Value]:
        return (*self.args, *self.kwargs.values())

    def reconstruct(self, emitter: Any) -> None:
        emitter.begin_call(self.function)
        for value in self.children():
            emitter.load_value(value)
        emitter.call(len(self.children()), tuple(self.kwargs))


def _register_getters() -> None:
    for function in (operator.itemgetter, operator.attrgetter, operator.methodcaller):

        @handles(function)
        def handler(
            tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], function: Any = function
        ) -> Value:
            return GetterValue(function, args, kwargs)


_register_getters()


# dataclasses


@handles(dataclasses.is_dataclass)
def is_dataclass(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    cls = value.obj if isinstance(value, ClassValue) else value.python_type()
    return tracer.constant(hasattr(cls, "__dataclass_fields__"))


@handles(dataclasses.fields)
def dataclass_fields(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    value = args[0].realize()
    class_value: Any = value if isinstance(value, ClassValue) else getattr(value, "class_value", None)
    if class_value is None or not hasattr(class_value.obj, "__dataclass_fields__"):
        tracer.raise_observed(TypeError, "must be called with a dataclass type or instance")
    source = class_value.known_source()
    if source is None:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the fields of {class_value.describe()} have no known origin")
    base = AttributeSource(source, "__dataclass_fields__")
    fields = [tracer.wrap(f, ItemSource(base, f.name)) for f in dataclasses.fields(class_value.obj)]
    return TupleValue(fields)


# inspect

_PREDICATES: Mapping[Any, type] = {
    inspect.isfunction: types.FunctionType,
    inspect.isclass: type,
    inspect.ismethod: types.MethodType,
    inspect.ismodule: types.ModuleType,
    inspect.isbuiltin: types.BuiltinFunctionType,
    inspect.isgenerator: types.GeneratorType,
    inspect.iscoroutine: types.CoroutineType,
    inspect.iscode: types.CodeType,
}


def _register_predicates() -> None:
    for predicate, cls in _PREDICATES.items():

        @handles(predicate)
        def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], cls: type = cls) -> Value:
            return tracer.call(tracer.constant(isinstance), [args[0], tracer.constant(cls)])


_register_predicates()


@handles(inspect.signature)
def signature(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """A signature is data about a known function: what is read from it is folded."""
    value = args[0].realize()
    bound = isinstance(value, MethodValue)
    function = value.function.realize() if isinstance(value, MethodValue) else value
    if kwargs or not isinstance(function, SourcedFunctionValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the signature of {value.describe()} is not modelled")
    if function.source is not None and function.function.__closure__ is None:
        tracer.guard(IdentityIs(function.source, ByIdentity(function.function)))
    elif not function.by_identity:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the signature of {value.describe()}, which each call may replace")
    found = inspect.signature(function.function)
    if any(
        p.default is not p.empty and not isinstance(p.default, (int, float, str, type(None), bool))
        for p in found.parameters.values()
    ):
        raise GraphBreak(
            BreakId.CALL_NOT_MODELLED, f"the signature of {value.describe()} has defaults that are objects"
        )
    if bound:
        found = found.replace(parameters=list(found.parameters.values())[1:])
    return SignatureValue(found)


class SignatureValue(ConstantValue):
    """An `inspect.Signature` or one of its parts: read-only data, so whatever is read from it is folded."""

    kind = "a signature"
    __slots__ = ()

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in ("parameters", "return_annotation", "name", "kind", "default", "annotation", "empty"):
            return _signature_part(tracer, getattr(self.obj, name))
        return super().get_attribute(tracer, name)

    def as_graph_argument(self) -> Any:
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, "a signature cannot be passed to a torch operation")


def _signature_part(tracer: Tracer, part: Any) -> Value:
    if isinstance(part, Mapping):
        return DictValue({name: (tracer.constant(name), SignatureValue(p)) for name, p in part.items()})
    if isinstance(part, (str, int, float, bool, type(None), type)):
        return tracer.constant(part)
    return SignatureValue(part)


# Other


class EnvironValue(BuiltinObject):
    """`os.environ`: each variable that is read is guarded."""

    kind = "os.environ"
    __slots__ = ("data", "obj")

    def __init__(self, obj: Any, source: Source, data: DictValue) -> None:
        super().__init__(source)
        self.obj = obj
        self.data = data

    def python_type(self) -> type:
        return type(self.obj)

    def lookup(self, tracer: Tracer, key: Value) -> Value | None:
        """The variable, or None."""
        found = self.data.lookup(tracer, tracer.constant(fold(tracer, self.obj.encodekey, key.as_constant())))
        return None if found is None else tracer.constant(self.obj.decodevalue(found.as_constant()))

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return self.lookup(tracer, item) is not None

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        found = self.lookup(tracer, key)
        return found if found is not None else tracer.raise_observed(KeyError, key.as_constant())

    def m_get(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        found = self.lookup(tracer, key)
        if found is not None:
            return found
        return tracer.constant(None) if default is None else default

    def m___contains__(self, tracer: Tracer, key: Value) -> Value:
        return tracer.constant(self.contains(tracer, key))


@wraps_type(type(os.environ))
def wrap_environ(tracer: Tracer, obj: Any, source: Source) -> Value:
    """`os.environ`."""
    tracer.guard(IdentityIs(source, ByIdentity(obj)))
    data: Any = tracer.wrap(obj._data, AttributeSource(source, "_data"))
    return EnvironValue(obj, source, data)


@handles(os.getenv)
def environment(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    environ = tracer.wrap(os.environ, AttributeSource(ModuleSource("os"), "environ"))
    return environ.call_method(tracer, "get", args, kwargs)


@handles(typing.cast)
def cast(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return args[1].realize()


@handles(vars(collections)["_count_elements"])
def count_elements(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """What `Counter.update` counts with."""
    counts = args[0].realize()
    for item in args[1].realize().unpack(tracer):
        known = counts.call_method(tracer, "get", [item, tracer.constant(0)], {})
        counts.set_item(tracer, item, operators.binary(tracer, operator.add, known, tracer.constant(1)))
    return tracer.constant(None)
