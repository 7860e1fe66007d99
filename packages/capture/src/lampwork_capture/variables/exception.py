"""Exceptions of the traced program: made, raised, caught, chained and inspected while tracing.

An exception is an object like others, but for what its builtin base class keeps: arguments, cause, context. It travels
through the interpreter as `ObservedException(value)`; one that nobody catches is never compiled: the frame breaks
before it, so that eager raises the real one. Invariant: an exception's class is exactly known.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import GLOBAL_STATE, GlobalStateIs
from ..guards.global_state import HANDLED_BY_CALLER
from ..interpreter.side_effects import Deleted, emit_attribute_write
from ..source import AttributeSource, Source
from . import operators
from .base import ObservedException, Tracer, Value
from .class_lookup import find_in_class, is_immutable, is_in_mro, is_overridden
from .class_value import ClassValue
from .constant import fold, is_known, snapshot
from .construction import VALUE_CLASSES
from .keys import IdentityKey
from .list import ListValue
from .registry import handles
from .user_object import ObjectValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

# Builtin classes that make more of their arguments than a tuple
_PARSES_ARGUMENTS = (OSError, UnicodeError, SyntaxError, ImportError, AttributeError, NameError)


class TracebackValue(Value):
    """The traceback of an exception, which exists but is not modelled."""

    kind = "a traceback"
    __slots__ = ("error",)

    def __init__(self, error: Value) -> None:
        super().__init__()
        self.error = error

    def python_type(self) -> type:
        return TracebackType

    def truth(self, tracer: Tracer) -> bool:
        return True

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        raise self._only_real()

    def reconstruct(self, emitter: ValueEmitter) -> None:
        raise self._only_real()

    def _only_real(self) -> GraphBreak:
        """A break where the exception was raised, so that it is raised for real."""
        broken = GraphBreak(
            BreakId.RECONSTRUCTION_NOT_MODELLED, f"the traceback of {self.error.describe()} is looked at"
        )
        broken.raised_value = self.error.first_raised if isinstance(self.error, ExceptionValue) else self.error
        return broken


_FILLED_BY_INTERPRETER = frozenset({"name", "obj"})  # of an AttributeError or NameError that it raises


class ExceptionValue(ObjectValue):
    """An exception object."""

    kind = "an exception"
    __slots__ = ("_args", "_initial", "_native", "_related", "raised")

    def __init__(self, class_value: ClassValue, source: Source | None = None, obj: Any = None) -> None:
        super().__init__(class_value, source, obj)
        self._args: list[Value] | None = None if obj is not None else []
        self._initial: tuple[Sequence[Value], Mapping[str, Value]] | None = None
        self._native: BaseException | None = None
        self._related: dict[str, Value] = {}  # cause, context and suppress_context, once read or written
        self.raised = False  # it has a traceback, which only raising it for real can make

    @classmethod
    def of(cls, kind: type[BaseException], args: Sequence[Value] = ()) -> ExceptionValue:
        """A new exception of a builtin class."""
        made = cls(ClassValue(kind))
        made._args = list(args)
        made._initial = (list(args), {})
        return made

    @property
    def first_raised(self) -> ExceptionValue:
        """The exception whose raising made the traceback."""
        return self

    def describe(self) -> str:
        args = self._args or []
        shown = ", ".join(repr(arg.as_constant()) if arg.is_constant() else arg.describe() for arg in args)
        return f"{self.cls.__name__}({shown})"

    # What the builtin base keeps

    def args(self, tracer: Tracer) -> list[Value]:
        """`error.args`."""
        if self._args is None:
            assert self.source is not None
            self._args = tracer.wrap(self.obj.args, AttributeSource(self.source, "args")).unpack(tracer)
        return self._args

    def made_by_base(self, tracer: Tracer, args: Sequence[Value]) -> None:
        self._args = list(args)

    def initialized_by_base(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> None:
        self._initial = (list(args), dict(kwargs))
        self._args = list(args)
        self._native = None
        base = builtin_base(self.cls)
        if not issubclass(base, _PARSES_ARGUMENTS):
            if kwargs:
                tracer.raise_observed(TypeError, f"{self.cls.__name__}() takes no keyword arguments")
            return
        if not kwargs and len(args) <= 1:
            return
        real = self.native(tracer)
        self._args = [tracer.constant(arg) for arg in real.args]
        if self.cls is OSError and type(real) is not OSError:  # by errno
            self.cls = type(real)
            self.class_value = ClassValue(type(real))

    def native(self, tracer: Tracer) -> BaseException:
        """A real exception of the builtin base class, made of the same arguments."""
        if self._native is None:
            args, kwargs = self._initial or (self.args(tracer), {})
            plain = [snapshot(arg) for arg in args]
            named = {name: snapshot(arg) for name, arg in kwargs.items()}
            self._native = fold(tracer, builtin_base(self.cls), *plain, **named)
        assert self._native is not None
        return self._native

    def related(self, tracer: Tracer, name: str) -> Value:
        """`__cause__`, `__context__` or `__suppress_context__`."""
        found = self._related.get(name)
        if found is None:
            if self.source is not None:
                found = tracer.wrap(getattr(self.obj, name), AttributeSource(self.source, name))
            else:
                found = tracer.constant(False if name == "__suppress_context__" else None)
            self._related[name] = found
        return found

    def relate(self, tracer: Tracer, name: str, value: Value) -> None:
        """Set one of these."""
        tracer.when_released(self.forget)  # the contexts of exceptions may be a circle
        self._related[name] = value
        if name == "__cause__":
            self._related["__suppress_context__"] = tracer.constant(True)
        if self.source is not None:
            tracer.side_effects.store_attribute(self, name, value)

    def context(self, tracer: Tracer) -> Value:
        """`__context__`, which for one that was raised where the frame handled nothing is what a caller handles."""
        found = self.related(tracer, "__context__")
        if self.source is None and found.is_constant() and found.as_constant() is None:
            check_no_caller_handles(tracer)
        return found

    def raised_while(self, tracer: Tracer, handled: Value | None) -> None:
        """The exception is raised while another is being handled: that becomes its context."""
        if not isinstance(handled, ExceptionValue) or handled is self:
            return
        link: Value = handled
        seen: set[int] = set()
        while isinstance(link, ExceptionValue) and id(link) not in seen:  # unless the program made it a circle
            seen.add(id(link))
            further = link.related(tracer, "__context__")
            if further is self:
                link.relate(tracer, "__context__", tracer.constant(None))
                break
            link = further
        if self.related(tracer, "__context__") is not handled:
            self.relate(tracer, "__context__", handled)

    # Attributes

    def set_traceback(self, tracer: Tracer, value: Value) -> None:
        """`error.__traceback__ = value`."""
        is_none = tracer.is_none(value)
        if not is_none and value.python_type() is not TracebackType:
            tracer.raise_observed(TypeError, "__traceback__ must be a traceback or None")
        if self.source is not None or not (is_none or isinstance(value, TracebackValue)):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"{value.describe()} as a traceback")
        self.raised = not is_none

    def _from_descriptor(self, tracer: Tracer, name: str, raw: Any, owner: type) -> Value | None:
        if not issubclass(type(raw), (GetSetDescriptorType, MemberDescriptorType)) or not is_immutable(owner):
            return super()._from_descriptor(tracer, name, raw, owner)
        pending = tracer.side_effects.pending_attribute(self, name)
        if isinstance(pending, Value):
            return pending
        match name:
            case "args":
                return tracer.make_tuple(self.args(tracer))
            case "__context__":
                return self.context(tracer)
            case "__cause__" | "__suppress_context__":
                return self.related(tracer, name)
            case "__traceback__":
                if self.source is not None:
                    return tracer.wrap(self.obj.__traceback__, AttributeSource(self.source, name))
                return TracebackValue(self) if self.raised else tracer.constant(None)
            case "value" | "code" if issubclass(self.cls, (StopIteration, SystemExit)):
                args = self.args(tracer)
                if len(args) > 1 and name == "code":
                    return tracer.make_tuple(args)
                return args[0] if args else tracer.constant(None)
            case _ if self.source is not None:
                return tracer.wrap(getattr(self.obj, name), AttributeSource(self.source, name))
            case _:
                kwargs = self._initial[1] if self._initial is not None else {}
                if name in kwargs:
                    return kwargs[name].realize()
                if name in _FILLED_BY_INTERPRETER and issubclass(self.cls, (AttributeError, NameError)):
                    cause = f"`{name}` of {self.describe()}, which the interpreter fills in where it raises"
                    raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, cause)
                return tracer.constant(fold(tracer, getattr, self.native(tracer), name))

    def store_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        raw, owner = find_in_class(self.cls, name)
        if not issubclass(type(raw), (GetSetDescriptorType, MemberDescriptorType)) or not is_immutable(owner):
            super().store_attribute(tracer, name, value)
            return
        value = value.realize()
        self._try_on_real(tracer, raw.__set__, value)
        match name:
            case "args":
                self._args = value.unpack(tracer)
                self._initial = None
                self._native = None
                if self.source is not None:
                    tracer.side_effects.store_attribute(self, name, value)
            case "__cause__" | "__context__" | "__suppress_context__":
                self.relate(tracer, name, value)
            case "__traceback__":
                self.set_traceback(tracer, value)
            case _:
                tracer.side_effects.store_attribute(self, name, value)

    def remove_attribute(self, tracer: Tracer, name: str) -> None:
        raw, owner = find_in_class(self.cls, name)
        if isinstance(raw, (GetSetDescriptorType, MemberDescriptorType)) and is_immutable(owner):
            self._try_on_real(tracer, raw.__delete__)
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"deleting `{name}` of {self.describe()}")
        super().remove_attribute(tracer, name)

    def _try_on_real(self, tracer: Tracer, change: Callable[..., None], *args: Value) -> None:
        """Raise what a real exception raises for a change of what its builtin base keeps: read-only, or checked."""
        if any(arg.python_type() is TracebackType for arg in args):
            return
        try:
            change(bare_exception(builtin_base(self.cls)), *map(_stand_in, args))
        except Exception as error:
            if isinstance(error, AttributeError) or all(map(is_known, args)):
                tracer.raise_observed(type(error), *error.args)
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"a change of {self.describe()}: {error}") from None

    def call_base_slot(
        self, tracer: Tracer, method: Any, args: Sequence[Value], kwargs: Mapping[str, Value]
    ) -> Value | None:
        match method.__name__:
            case "__init__":
                self.initialized_by_base(tracer, args, kwargs)
                return tracer.constant(None)
            case "with_traceback":
                self.set_traceback(tracer, args[0].realize())
                return self
            case "__str__" | "__repr__":
                return tracer.constant(self._builtin_text(tracer, str if method.__name__ == "__str__" else repr))
            case "add_note":
                notes = self.instance_attribute(tracer, "__notes__", in_class=False)
                if notes is None:
                    tracer.side_effects.store_attribute(self, "__notes__", ListValue([args[0]]))
                else:
                    notes.call_method(tracer, "append", [args[0]], {})
                return tracer.constant(None)
            case _:
                return None

    def hash_key(self, tracer: Tracer) -> Hashable:
        if find_in_class(self.cls, "__hash__")[0] is object.__hash__ and self.obj is None:
            return IdentityKey(self)
        return super().hash_key(tracer)

    # Text

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        name = "__str__" if convert is str else "__repr__"
        if is_overridden(self.cls, name):
            shown = self.call_method(tracer, name, [], {})
            return ascii(shown.as_constant()) if convert is ascii else shown.as_constant()
        return self._builtin_text(tracer, convert)

    def _builtin_text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        args = self.args(tracer)
        if convert is not str:
            inner = ascii if convert is ascii else repr
            return f"{self.cls.__name__}({', '.join(operators.text_of(tracer, arg, inner) for arg in args)})"
        if issubclass(self.cls, _PARSES_ARGUMENTS) and all(map(is_known, args)):
            return str(self.native(tracer))
        if not args:
            return ""
        if len(args) == 1:
            return operators.text_of(tracer, args[0], repr if issubclass(self.cls, KeyError) else str)
        return operators.text_of(tracer, tracer.make_tuple(args), str)

    # Back into the real world

    def children(self) -> Sequence[Value]:
        initial = () if self._initial is None else (*self._initial[0], *self._initial[1].values())
        return (*super().children(), *(self._args or ()), *initial, *self._related.values())

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.raised:
            broken = GraphBreak(
                BreakId.RECONSTRUCTION_NOT_MODELLED, f"{self.describe()} outlives its handler, with its traceback"
            )
            broken.raised_value = self.first_raised
            raise broken
        own = is_overridden(self.cls, "__init__") or _has_own_new(self.cls)
        if self._initial is not None and not own:
            args, kwargs = self._initial
            emitter.begin_call()
            emitter.load_value(self.class_value)
            emitter.callable_ready()
            for value in (*args, *kwargs.values()):
                emitter.load_value(value)
            emitter.call(len(args), tuple(kwargs))
        else:
            if issubclass(builtin_base(self.cls), OSError):
                raise GraphBreak(
                    BreakId.RECONSTRUCTION_NOT_MODELLED, f"{self.describe()} with a constructor of its own"
                )
            emitter.begin_call(builtin_base(self.cls).__new__)
            emitter.load_value(self.class_value)
            for arg in self._args or ():
                emitter.load_value(arg)
            emitter.call(1 + len(self._args or ()))
        emitter.remember(self)
        for name, write in emitter.side_effects.attribute_writes(self).items():
            if not isinstance(write.value, Deleted):
                emit_attribute_write(emitter, self, name, write)
        related = dict(self._related)
        if related:
            emitter.later(lambda later: self._emit_related(later, related))

    def _emit_related(self, emitter: ValueEmitter, related: Mapping[str, Value]) -> None:
        for name in ("__cause__", "__context__", "__suppress_context__"):
            value = related.get(name)
            if value is None or (name != "__suppress_context__" and value.is_constant() and "__cause__" not in related):
                continue
            emitter.load_value(value)
            emitter.load_value(self)
            emitter.store_attribute(name)


VALUE_CLASSES.append((BaseException, ExceptionValue))


def builtin_base(cls: type) -> type[BaseException]:
    """The first class in the MRO of an exception class that is not written in Python."""
    return next(base for base in cls.__mro__ if is_immutable(base) and issubclass(base, BaseException))


def bare_exception(base: type[BaseException]) -> BaseException:
    """A real exception of a builtin class, made of nothing."""
    return base.__new__(base, *(("", [Exception()]) if hasattr(base, "exceptions") else ()))


def _stand_in(value: Value) -> Any:
    """A real object of the same kind, for a change that is only tried."""
    if is_known(value):
        return snapshot(value)
    if isinstance(value, ExceptionValue):
        return Exception()
    return value.python_type()() if value.python_type() in (list, tuple) else object()


def _has_own_new(cls: type) -> bool:
    return isinstance(getattr(find_in_class(cls, "__new__")[0], "__func__", None), FunctionType)


def instantiate(tracer: Tracer, value: Value, what: str = "exceptions") -> ExceptionValue:
    """What `raise value` raises: an exception as it is, a class called without arguments."""
    value = value.realize()
    if isinstance(value, ExceptionValue):
        return value
    if isinstance(value, ClassValue) and issubclass(value.obj, BaseException):
        made = value.call(tracer, [], {})
        if isinstance(made, ExceptionValue):
            return made
        cause = f"calling {value.obj} should have returned an instance of BaseException, not {made.python_type()}"
        tracer.raise_observed(TypeError, cause)
    if not issubclass(value.python_type(), BaseException):
        tracer.raise_observed(TypeError, f"{what} must derive from BaseException")
    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"raising {value.describe()} is not modelled")


def raise_value(tracer: Tracer, error: ExceptionValue) -> NoReturn:
    """Raise an exception now: what is being handled becomes its context."""
    if error.source is not None:
        cause = f"{error.describe()}, which existed before, is raised: it keeps a traceback of that"
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
    error.raised_while(tracer, tracer.handled)
    raise ObservedException(error)


def exception_classes(tracer: Tracer, value: Value) -> tuple[type, ...]:
    """The classes that an `except` clause names."""
    value = value.realize()
    items = value.unpack(tracer) if issubclass(value.python_type(), tuple) else [value]
    classes: list[type] = []
    for item in items:
        if issubclass(item.python_type(), tuple):
            classes.extend(exception_classes(tracer, item))
            continue
        cls = item.as_constant() if item.is_constant() else None
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            tracer.raise_observed(TypeError, "catching classes that do not inherit from BaseException is not allowed")
        classes.append(cls)
    return tuple(classes)


def check_no_caller_handles(tracer: Tracer) -> None:
    """Guard that no caller of the frame handles an exception; raise GraphBreak if one does: nothing is known of it."""
    if tracer.called_from_handler:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "an exception that a caller of the frame handles")
    if HANDLED_BY_CALLER not in tracer.graph.asked_state:
        tracer.graph.asked_state.add(HANDLED_BY_CALLER)
        tracer.guard(GlobalStateIs(GLOBAL_STATE, ((HANDLED_BY_CALLER, (None, None, None)),)))


def handled_now(tracer: Tracer) -> Value | None:
    """What `sys.exception()` gives; None: there is none."""
    if tracer.handled is None:
        check_no_caller_handles(tracer)
    return tracer.handled


@handles(sys.exc_info)
def exc_info(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    error = handled_now(tracer)
    if not isinstance(error, ExceptionValue):
        return tracer.make_tuple([tracer.constant(None)] * 3)
    return tracer.make_tuple([error.class_value, error, error.get_attribute(tracer, "__traceback__")])


def handled_exception(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`sys.exception()`."""
    return handled_now(tracer) or tracer.constant(None)


if hasattr(sys, "exception"):
    handles(sys.exception)(handled_exception)


def is_exception_of(value: Value, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
    """Whether an observed exception is an instance of these classes."""
    wanted = classes if isinstance(classes, tuple) else (classes,)
    return any(is_in_mro(kind, value.python_type()) for kind in wanted)


def stop_iteration_value(tracer: Tracer, error: Value) -> Value:
    """What a generator returned, carried by its StopIteration."""
    assert isinstance(error, ExceptionValue)
    args = error.args(tracer)
    return args[0] if args else tracer.constant(None)
