"""Exceptions of the traced program: raised, caught, chained and inspected while tracing.

An exception travels through the interpreter as `ObservedException(value)`; one that nobody catches is never compiled:
the frame breaks before it, so that eager raises the real one. Invariant: an exception's class is exactly known.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol

from ..graph_break import BreakId, GraphBreak
from ..interpreter.side_effects import DELETED, emit_attribute_write
from .base import Tracer, Value
from .constant import is_known, snapshot

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class TracebackValue(Value):
    """A traceback, which exists but is not modelled."""

    kind = "a traceback"
    __slots__ = ()

    def truth(self, tracer: Tracer) -> bool:
        return True


class ExceptionValue(Value):
    """An exception object made by the traced program."""

    kind = "an exception"
    __slots__ = ("args", "cause", "class_value", "cls", "context", "has_cause", "raised")

    def __init__(self, cls: type[BaseException], args: Sequence[Value], class_value: ClassLike | None = None) -> None:
        super().__init__()
        self.class_value = class_value
        self.cls = cls
        self.args = list(args)
        self.cause: Value | None = None
        self.context: Value | None = None
        self.has_cause = False
        self.raised = False  # it has a traceback, which only raising it for real can make

    def chain(self, handled: Value | None) -> None:
        """It is raised while `handled` is being handled: that becomes its context, and no chain goes round."""
        if not isinstance(handled, ExceptionValue) or handled is self:
            return
        link: Value | None = handled
        seen: set[Value] = set()
        while isinstance(link, ExceptionValue) and link not in seen:
            seen.add(link)
            if link.context is self:
                link.context = None
                break
            link = link.context
        self.context = handled

    def describe(self) -> str:
        shown = ", ".join(repr(arg.as_constant()) if arg.is_constant() else arg.describe() for arg in self.args)
        return f"{self.cls.__name__}({shown})"

    def python_type(self) -> type:
        return self.cls

    def truth(self, tracer: Tracer) -> bool:
        if hasattr(self.cls, "__bool__") or hasattr(self.cls, "__len__"):
            return super().truth(tracer)
        return True

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        """`str(error)` or `repr(error)`, where its class does not define them and the arguments are known."""
        name = "__str__" if convert is str else "__repr__"
        builtin_text = _lookup(self.cls, name) in (BaseException.__dict__[name], KeyError.__dict__.get(name))
        if convert is ascii or not builtin_text or not all(is_known(arg) for arg in self.args):
            raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the text of {self.describe()} is not known while tracing")
        args = tuple(snapshot(arg) for arg in self.args)
        if convert is repr:
            return f"{self.cls.__name__}({', '.join(map(repr, args))})"
        return str(KeyError(*args) if issubclass(self.cls, KeyError) else Exception(*args))

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        pending = tracer.side_effects.pending_attribute(self, name)
        if pending is DELETED:
            tracer.raise_observed(AttributeError, f"'{self.cls.__name__}' object has no attribute '{name}'")
        if isinstance(pending, Value):
            return pending
        match name:
            case "args":
                return tracer.make_tuple(self.args)
            case "__class__":
                return tracer.constant(self.cls)
            case "__cause__":
                return self.cause or tracer.constant(None)
            case "__context__":
                return self.context or tracer.constant(None)
            case "__suppress_context__":
                return tracer.constant(self.has_cause)
            case "__traceback__":
                return TracebackValue() if self.raised else tracer.constant(None)
            case "value" if issubclass(self.cls, StopIteration):
                return self.args[0] if self.args else tracer.constant(None)
            case "with_traceback" | "add_note":
                return self.builtin_method(name)
            case _:
                return self._class_attribute(tracer, name)

    def builtin_method(self, name: str) -> Value:
        """The method of the builtin exception classes."""
        return ExceptionMethodValue(self, name)

    def _class_attribute(self, tracer: Tracer, name: str) -> Value:
        for base in self.cls.__mro__:
            if name in base.__dict__:
                found: Any = base.__dict__[name]
                if isinstance(found, FunctionType):
                    return bind_function(tracer, found, self, name, base)
                if base not in _BUILTIN_BASES and isinstance(found, (int, str, float, bool, type(None), tuple)):
                    if self.class_value is None:
                        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()}")
                    return self.class_value.class_attribute(tracer, name, found, base)
                if name in ("__init__", "__str__", "__repr__"):
                    return self.builtin_method(name)
                raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()}")
        tracer.raise_observed(AttributeError, f"'{self.cls.__name__}' object has no attribute '{name}'")

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        if "__setattr__" in {n for base in self.cls.__mro__ if base not in _BUILTIN_BASES for n in base.__dict__}:
            super().set_attribute(tracer, name, value)
        match name:
            case "args":
                self.args = value.unpack(tracer)
            case "__cause__":
                self.cause = self._linked(tracer, name, value)
                self.has_cause = True
            case "__context__":
                self.context = self._linked(tracer, name, value)
            case "__traceback__":
                self.set_traceback(tracer, value)
            case "__suppress_context__":
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "`__suppress_context__` is assigned")
            case _:
                if hasattr(type(_lookup(self.cls, name)), "__set__"):
                    super().set_attribute(tracer, name, value)
                tracer.side_effects.store_attribute(self, name, value, raw=True)

    def _linked(self, tracer: Tracer, name: str, value: Value) -> Value | None:
        """What is assigned to `__cause__` or `__context__`."""
        value = value.realize()
        if value.is_constant() and value.as_constant() is None:
            return None
        if not isinstance(value, ExceptionValue):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{value.describe()} as `{name}` of an exception")
        return value

    def set_traceback(self, tracer: Tracer, value: Value) -> None:
        """`error.__traceback__ = value`."""
        value = value.realize()
        if isinstance(value, TracebackValue):
            self.raised = True
        elif value.is_constant() and value.as_constant() is None:
            self.raised = False
        else:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{value.describe()} as a traceback")

    def children(self) -> Sequence[Value]:
        return [*self.args, *(link for link in (self.cause, self.context) if link is not None)]

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.raised:
            broken = GraphBreak(
                BreakId.RECONSTRUCTION_NOT_MODELLED, f"{self.describe()} outlives its handler, with its traceback"
            )
            broken.raised_value = self
            raise broken
        if _has_own_constructor(self.cls):
            emitter.begin_call()
            emitter.load_constant(self.cls)
            emitter.load_attribute("__new__")
            emitter.callable_ready()
            emitter.load_constant(self.cls)
            for arg in self.args:
                emitter.load_value(arg)
            emitter.call(1 + len(self.args))
        else:
            emitter.begin_call(self.cls)
            for arg in self.args:
                emitter.load_value(arg)
            emitter.call(len(self.args))
        writes = emitter.side_effects.attribute_writes(self)
        if writes or self.has_cause or self.context is not None:
            emitter.remember(self)
        for name, write in writes.items():
            emit_attribute_write(emitter, self, name, write)
        if self.has_cause:
            if self.cause is None:
                emitter.load_constant(None)
            else:
                emitter.load_value(self.cause)
            emitter.load_value(self)
            emitter.store_attribute("__cause__")
        if self.context is not None:
            emitter.load_value(self.context)
            emitter.load_value(self)
            emitter.store_attribute("__context__")


class ExceptionMethodValue(Value):
    """`error.with_traceback`, `error.add_note`, and the builtin `__init__` that user classes call through super()."""

    kind = "a method of an exception"
    __slots__ = ("name", "owner")

    def __init__(self, owner: ExceptionValue, name: str) -> None:
        super().__init__()
        self.owner = owner
        self.name = name

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.name == "__init__" and not kwargs:
            self.owner.args = list(args)
            return tracer.constant(None)
        if self.name == "with_traceback" and len(args) == 1 and not kwargs:
            self.owner.set_traceback(tracer, args[0])
            return self.owner
        if self.name in ("__str__", "__repr__") and not args:
            return tracer.constant(self.owner.text(tracer, str if self.name == "__str__" else repr))
        return super().call(tracer, args, kwargs)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.owner)
        emitter.load_attribute(self.name)


_BUILTIN_BASES = frozenset({object, BaseException, Exception})
_HEAP_TYPE = 1 << 9
# Builtin classes whose constructors want certain arguments, or do more than keep them
_SPECIAL: tuple[type, ...] = (UnicodeEncodeError, UnicodeDecodeError, UnicodeTranslateError)
_SPECIAL += tuple(vars(builtins)[name] for name in ("BaseExceptionGroup",) if hasattr(builtins, name))
_KEEPS_MORE = (OSError, SyntaxError, ImportError, StopIteration, SystemExit)


def _builtin_base(cls: type) -> Any:
    """The class of the interpreter's own whose constructor an exception class builds on."""
    return next(base for base in cls.__mro__ if not base.__flags__ & _HEAP_TYPE)


def _has_own_constructor(cls: type) -> bool:
    return isinstance(_lookup(cls, "__init__"), FunctionType) or isinstance(
        getattr(_lookup(cls, "__new__"), "__func__", None), FunctionType
    )


def _lookup(cls: type, name: str) -> Any:
    return next((base.__dict__[name] for base in cls.__mro__ if name in base.__dict__), None)


class ClassLike(Protocol):
    """What an exception needs of the value of its class."""

    def class_attribute(self, tracer: Tracer, name: str, raw: Any, owner: type, /) -> Value: ...


def bind_function(tracer: Tracer, function: FunctionType, owner: ExceptionValue, name: str, base: type) -> Value:
    """The method of a function that stands as `name` in a class of an exception that the frame made."""
    if owner.class_value is None:
        return tracer.bind_method(tracer.constant(function), owner)
    return tracer.bind_method(owner.class_value.class_attribute(tracer, name, function, base), owner)


def make_exception(
    tracer: Tracer,
    cls: type[BaseException],
    args: Sequence[Value],
    kwargs: Mapping[str, Value],
    class_value: ClassLike | None = None,
) -> ExceptionValue:
    """`cls(*args, **kwargs)` for an exception class; a user-defined `__init__` is traced."""
    new, init = _lookup(cls, "__new__"), _lookup(cls, "__init__")
    if isinstance(getattr(new, "__func__", new), FunctionType):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the exception class {cls.__name__} has its own `__new__`")
    if hasattr(cls, "__del__"):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the exception class {cls.__name__} has a finalizer")
    base_cls = _builtin_base(cls)
    if base_cls.__module__ != "builtins" or issubclass(base_cls, _SPECIAL):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"making the exception {cls.__name__} is not modelled")
    error = ExceptionValue(cls, args, class_value)
    if isinstance(init, FunctionType):
        base = next(base for base in cls.__mro__ if "__init__" in base.__dict__)
        bind_function(tracer, init, error, "__init__", base).call(tracer, args, kwargs)
    elif kwargs:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"keyword arguments of {cls.__name__}")
    if issubclass(cls, _KEEPS_MORE) and (len(args) > 1 or isinstance(init, FunctionType)):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the constructor of {cls.__name__} is not modelled")
    return error


def instantiate(tracer: Tracer, value: Value) -> ExceptionValue:
    """What `raise value` raises: an exception as it is, a class called without arguments."""
    value = value.realize()
    if isinstance(value, ExceptionValue):
        return value
    if value.is_constant():
        cls = value.as_constant()
        if isinstance(cls, type) and issubclass(cls, BaseException):
            made = value.call(tracer, [], {})
            if isinstance(made, ExceptionValue):
                return made
    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"raising {value.describe()} is not modelled")


def exception_classes(tracer: Tracer, value: Value) -> tuple[type, ...]:
    """The classes that an `except` clause names."""
    value = value.realize()
    items = value.unpack(tracer) if issubclass(value.python_type(), tuple) else [value]
    classes: list[type] = []
    for item in items:
        if issubclass(item.python_type(), tuple):
            classes.extend(exception_classes(tracer, item))
            continue
        cls = item.as_constant()
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"catching {item.describe()}")
        classes.append(cls)
    return tuple(classes)


def is_exception_of(value: Value, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether an observed exception is an instance of these classes."""
    wanted = classes if isinstance(classes, tuple) else (classes,)
    return not set(wanted).isdisjoint(value.python_type().__mro__)


def stop_iteration_value(tracer: Tracer, error: Value) -> Value:
    """What a generator returned, carried by its StopIteration."""
    assert isinstance(error, ExceptionValue)
    return error.args[0] if error.args else tracer.constant(None)
