"""Class checks: `isinstance` and `issubclass`, also of abstract classes, protocols and metaclasses written in Python.

Invariant: what an answer relies on is guarded: that no class is registered with an abstract one later.
"""

from __future__ import annotations

import abc
import typing
from collections.abc import Callable, Mapping, Sequence
from types import (
    FunctionType,
    UnionType,
)
from typing import Any

import torch

from ..graph_break import BreakId, GraphBreak
from ..source import Source, TypeSource
from .base import Tracer, Value
from .builtin import has_attribute
from .class_lookup import find_in_class, has_special, is_in_mro, is_overridden
from .constant import fold
from .registry import handles
from .tensor import TensorValue
from .torch_function import guarded_state

_DEEPEST_TUPLE = 8  # nested tuples of classes that are looked through
_protocol_members: Callable[[type], set[str]] = vars(typing)["_get_protocol_attrs"]
_STANDARD_ABSTRACT = frozenset({"collections.abc", "typing", "numbers", "abc", "os", "io", "contextlib"})


def _check_nesting(classes: tuple[Any, ...]) -> None:
    """Raise GraphBreak for tuples in tuples so deep that Python may refuse them."""
    level: list[Any] = list(classes)
    for _ in range(_DEEPEST_TUPLE):
        level = [cls for inner in level if type(inner) is tuple for cls in inner]
        if not level:
            return
    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "a tuple of classes nested deeply: eager may raise")


def is_instance(tracer: Tracer, value: Value, classes: Any) -> bool:
    """`isinstance(value, classes)`."""
    if isinstance(classes, tuple):
        _check_nesting(classes)
        return any(is_instance(tracer, value, cls) for cls in classes)
    if isinstance(classes, UnionType):
        return any(is_instance(tracer, value, cls) for cls in classes.__args__)
    cls = value.python_type()
    if isinstance(value, TensorValue):
        if type(classes) is type(torch.FloatTensor):
            return bool(value.fake.dtype == classes.dtype and (value.fake.device.type == "cuda") == classes.is_cuda)
        if classes in (torch.nn.Parameter, torch.nn.Buffer):
            return isinstance(value.obj if value.obj is not None else value.fake, classes)
    check = getattr(type(classes), "__instancecheck__", None)
    if check is None or not isinstance(classes, type):
        tracer.raise_observed(TypeError, "isinstance() arg 2 must be a type, a tuple of types, or a union")
    if cls is classes:
        return True
    if isinstance(check, FunctionType) and not type(classes).__module__.startswith(("torch", "typing", "abc")):
        return _ask_metaclass(tracer, classes, "__instancecheck__", value)
    if isinstance(classes, abc.ABCMeta):
        guard_registrations(tracer, cls, classes)
    if not is_in_mro(classes, cls) and (is_overridden(cls, "__getattribute__") or _has_own_class_attribute(cls)):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"isinstance asks {value.describe()} for its `__class__`")
    if check is type.__instancecheck__ or check is abc.ABCMeta.__instancecheck__:
        return issubclass(cls, classes)
    if getattr(classes, "_is_protocol", False) and not is_in_mro(classes, cls) and cls.__dictoffset__ != 0:
        return _has_protocol(tracer, value, classes)
    if value.is_constant() or getattr(value, "obj", None) is not None:
        real = value.as_constant() if value.is_constant() else getattr(value, "obj", None)
        return fold(tracer, isinstance, real, classes)
    if cls.__module__ == "builtins" or type(classes).__module__.startswith("torch"):
        return issubclass(cls, classes)
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"isinstance with the metaclass of {classes.__name__} is not modelled")


def _has_protocol(tracer: Tracer, value: Value, protocol: type) -> bool:
    """Whether an object with attributes of its own has those of a protocol.

    Raises GraphBreak where it may compute them, and where the protocol may not be asked."""
    names = sorted(_protocol_members(protocol))
    methods = [name for name in names if callable(getattr(protocol, name, None))]
    cls = value.python_type()
    computed = has_special(cls, "__getattr__") or any(isinstance(getattr(cls, n, None), property) for n in names)
    if not computed and getattr(protocol, "_is_runtime_protocol", False):
        if all(has_attribute(tracer, value, name) for name in names) and not any(
            value.get_attribute(tracer, name).realize().python_type() is type(None) for name in methods
        ):
            return True
        if methods == names:
            return issubclass(cls, protocol)
    cause = f"isinstance asks {value.describe()} for the attributes of the protocol {protocol.__name__}"
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, cause)


def _has_own_class_attribute(cls: type) -> bool:
    """Whether instances may answer `__class__` with something else than their type."""
    return any("__class__" in base.__dict__ for base in cls.__mro__ if base is not object)


def guard_registrations(tracer: Tracer, cls: type, abstract: type) -> None:
    """Record what `issubclass(cls, abstract)` relies on: that no class is registered later.

    What a `__subclasshook__` answers is kept by Python itself until then, so that it may be asked here."""
    if is_in_mro(abstract, cls):
        return
    is_library = cls.__module__.partition(".")[0] in ("builtins", "torch", "collections")
    if abstract.__module__ in _STANDARD_ABSTRACT and is_library:
        return
    guarded_state(tracer, "registrations of abstract classes")


@handles(isinstance)
def isinstance_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(is_instance(tracer, args[0].realize(), args[1].as_constant()))


@handles(issubclass)
def issubclass_(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(_is_subclass(tracer, args[0].realize(), args[1].realize().as_constant()))


def _is_subclass(tracer: Tracer, value: Value, classes: Any) -> bool:
    """`issubclass(value, classes)`."""
    if isinstance(classes, tuple):
        _check_nesting(classes)
        return any(_is_subclass(tracer, value, cls) for cls in classes)
    cls = value.as_constant() if value.is_constant() else None
    check = getattr(type(classes), "__subclasscheck__", None)
    if isinstance(classes, type) and isinstance(check, FunctionType):
        if not type(classes).__module__.startswith(("torch", "typing", "abc")):
            return _ask_metaclass(tracer, classes, "__subclasscheck__", value)
        if isinstance(classes, abc.ABCMeta) and isinstance(cls, type):
            guard_registrations(tracer, cls, classes)
    return fold(tracer, issubclass, cls, classes)


def _ask_metaclass(tracer: Tracer, cls: type, method: str, value: Value) -> bool:
    """What a metaclass written in Python answers about its class and a value."""
    function, _ = find_in_class(type(cls), method)
    if not isinstance(function, FunctionType):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{method}` of the metaclass of {cls.__name__} is not modelled")
    meta = tracer.wrap(type(cls), TypeSource(_source_of_class(tracer, cls)))
    return meta.get_attribute(tracer, method).call(tracer, [tracer.constant(cls), value], {}).truth(tracer)


def _source_of_class(tracer: Tracer, cls: type) -> Source:
    found: Any = tracer.constant(cls)
    source: Source | None = found.known_source()
    if source is None:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the class {cls.__name__} has no known origin")
    return source
