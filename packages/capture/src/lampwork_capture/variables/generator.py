"""GeneratorValue: a generator of the traced program, run as a suspended interpreter frame.

Each `next` continues the frame up to its next yield, so that side effects interleave as they do in Python. Invariant: a
generator object never leaves the traced program once it was started; one that was not started can be made anew.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import GeneratorType
from typing import TYPE_CHECKING, Protocol

from ..graph_break import BreakId, GraphBreak
from .base import ObservedException, Tracer, Value
from .class_value import ClassValue
from .exception import ExceptionValue, instantiate, is_exception_of

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_LONGEST = 100_000


class SuspendedFrame(Protocol):
    """What a generator needs of the interpreter."""

    def resume(self, sent: Value) -> tuple[bool, Value]:
        """Continue with `sent` as the value of the yield; (whether it returned, what it yielded or returned)."""
        ...

    def throw(self, error: Value) -> tuple[bool, Value]:
        """Continue by raising `error` at the yield."""
        ...

    def waits_for_cleanup(self) -> bool:
        """Whether it is suspended inside a `try` or `with`."""
        ...


class GeneratorValue(Value):
    """A generator; `function` and `arguments` tell how to make it again while it was not started."""

    kind = "a generator"
    __slots__ = ("_arguments", "_finished", "_frame", "_function", "_running", "_started")

    def __init__(self, frame: SuspendedFrame, function: Value, arguments: Mapping[str, Value]) -> None:
        super().__init__()
        self._frame = frame
        self._function = function
        self._arguments = arguments
        self._started = False
        self._finished = False
        self._running = False

    def python_type(self) -> type:
        return GeneratorType

    def truth(self, tracer: Tracer) -> bool:
        return True

    def iterate(self, tracer: Tracer) -> Value:
        return self

    def next(self, tracer: Tracer) -> Value:
        return self.send(tracer, tracer.constant(None))

    def send(self, tracer: Tracer, sent: Value) -> Value:
        """`generator.send(sent)`."""
        if self._finished:
            tracer.raise_observed(StopIteration)
        if not self._started and not (sent.is_constant() and sent.as_constant() is None):
            tracer.raise_observed(TypeError, "can't send non-None value to a just-started generator")
        return self._continue(tracer, sent, None)

    def throw(self, tracer: Tracer, error: ExceptionValue) -> Value:
        """`generator.throw(error)`."""
        if self._finished or not self._started:
            self._finished = True
            raise ObservedException(error)
        return self._continue(tracer, None, error)

    def close(self, tracer: Tracer) -> Value:
        """`generator.close()`."""
        if self._started and not self._finished:
            try:
                self._continue(tracer, None, ExceptionValue.of(GeneratorExit))
            except ObservedException as error:
                if not is_exception_of(error.value, (GeneratorExit, StopIteration)):
                    raise
            else:
                tracer.raise_observed(RuntimeError, "generator ignored GeneratorExit")
        self._finished = True
        return tracer.constant(None)

    def _continue(self, tracer: Tracer, sent: Value | None, error: Value | None) -> Value:
        if self._running:
            tracer.raise_observed(ValueError, "generator already executing")
        self._started = True
        self._running = True
        try:
            if error is not None:
                returned, value = self._frame.throw(error)
            else:
                assert sent is not None
                returned, value = self._frame.resume(sent)
        except ObservedException as raised:
            self._finished = True
            if is_exception_of(raised.value, StopIteration):
                raise ObservedException(stopped_inside(tracer, raised.value)) from None
            raise
        finally:
            self._running = False
        if not returned:
            return value
        self._finished = True
        if value.is_constant() and value.as_constant() is None:
            raise ObservedException(ExceptionValue.of(StopIteration))
        raise ObservedException(ExceptionValue.of(StopIteration, [value]))

    def waits_for_cleanup(self) -> bool:
        """Whether it is suspended inside a `try` or `with`."""
        return self._started and not self._finished and not self._running and self._frame.waits_for_cleanup()

    def unpack(self, tracer: Tracer) -> list[Value]:
        items: list[Value] = []
        while True:
            try:
                items.append(self.next(tracer))
            except ObservedException as error:
                if is_exception_of(error.value, StopIteration):
                    return items
                raise
            if len(items) > _LONGEST:
                raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"a generator of more than {_LONGEST} items")

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in ("send", "throw", "close", "__next__", "__iter__"):
            return GeneratorMethodValue(self, name)
        if name == "__class__":
            return tracer.constant(GeneratorType)
        if name == "gi_running":
            return tracer.constant(self._running)
        if name in ("__name__", "__qualname__"):
            return self._function.get_attribute(tracer, name)
        if not hasattr(GeneratorType, name):
            tracer.raise_observed(AttributeError, f"'generator' object has no attribute '{name}'")
        return super().get_attribute(tracer, name)

    def children(self) -> Sequence[Value]:
        return () if self._started else (self._function, *self._arguments.values())

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self._started:
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, "a generator that was started cannot be rebuilt")
        remake_call(emitter, self._function, self._arguments)


def drop(tracer: Tracer, held: Sequence[Value | None]) -> None:
    """A reference of the program to a generator is gone: close it if that was the last, as Python does at that moment.

    Values are held while tracing just where the program holds the objects. `held`: that reference, and the caller has
    no other. It comes in a list since a call of a Python function may or may not hold its arguments a second time: that
    depends on the version, on whether a frame hook is set and on whether the call was specialized by then."""
    if sys.getrefcount(held[0]) > 2:  # of the list, and of the call of getrefcount
        return
    generator = held[0]
    if isinstance(generator, GeneratorValue) and generator.waits_for_cleanup():
        generator.close(tracer)


def stopped_inside(tracer: Tracer, stop: Value) -> ExceptionValue:
    """What a StopIteration that leaves a generator becomes."""
    error = ExceptionValue.of(RuntimeError, [tracer.constant("generator raised StopIteration")])
    error.relate(tracer, "__cause__", stop)
    error.relate(tracer, "__context__", stop)
    return error


def remake_call(emitter: ValueEmitter, function: Value, arguments: Mapping[str, Value]) -> None:
    """Emit the call of a Python function with its arguments already bound, by name."""
    code = function.code  # type: ignore[attr-defined]
    positional = code.co_varnames[: code.co_argcount]
    keyword_only = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    if code.co_flags & 0x0C:
        raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, "a generator with star-arguments cannot be rebuilt")
    emitter.begin_call()
    emitter.load_value(function)
    emitter.callable_ready()
    for name in positional:
        emitter.load_value(arguments[name])
    for name in keyword_only:
        emitter.load_value(arguments[name])
    emitter.call(len(positional), keyword_only)


class GeneratorMethodValue(Value):
    """`generator.send` and its kin, not called yet."""

    kind = "a method of a generator"
    __slots__ = ("name", "owner")

    def __init__(self, owner: GeneratorValue, name: str) -> None:
        super().__init__()
        self.owner = owner
        self.name = name

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        match self.name, len(args):
            case "send", 1:
                return self.owner.send(tracer, args[0])
            case "__next__", 0:
                return self.owner.next(tracer)
            case "__iter__", 0:
                return self.owner
            case "close", 0:
                return self.owner.close(tracer)
            case "throw", 1:
                value = args[0].realize()
                kind = value.as_constant() if isinstance(value, ClassValue) else value.python_type()
                if not issubclass(kind, BaseException):
                    words = f"deriving from BaseException, not {value.python_type().__name__}"
                    tracer.raise_observed(TypeError, f"exceptions must be classes or instances {words}")
                return self.owner.throw(tracer, instantiate(tracer, value))
            case "throw", 3 if isinstance(args[1].realize(), ExceptionValue):
                return self.owner.throw(tracer, instantiate(tracer, args[1]))
            case _:
                return super().call(tracer, args, kwargs)

    def children(self) -> Sequence[Value]:
        return (self.owner,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.owner)
        emitter.load_attribute(self.name)
