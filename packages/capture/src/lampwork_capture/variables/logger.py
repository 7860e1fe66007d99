"""Logging and warnings: output that may wait until after the graph.

A call whose arguments are all known is replayed after the graph, in order, in every call, as eager would make it; one
that needs anything else breaks the graph. Invariant: no message is lost, added or reordered among messages.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import GLOBAL_STATE, ByIdentity, GlobalStateIs, IdentityIs
from ..guards.global_state import WARNINGS_RAISE, reader_of
from ..source import Source
from .base import Tracer, Value
from .constant import is_known, snapshot
from .method import BoundMethodValue, missing_attribute
from .registry import handles, wraps_base

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_METHODS = frozenset(
    {"debug", "info", "warning", "warn", "error", "critical", "log", "exception", "warning_once", "info_once",
     "warning_advice"}
)  # fmt: skip


class LoggerValue(Value):
    """A `logging.Logger`."""

    kind = "a logger"
    __slots__ = ("obj",)

    def __init__(self, logger: logging.Logger, source: Source) -> None:
        super().__init__(source)
        self.obj = logger

    def python_type(self) -> type:
        return type(self.obj)

    def truth(self, tracer: Tracer) -> bool:
        return True

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in ("name", "__class__"):
            return tracer.constant(getattr(self.obj, name))
        if name in _METHODS and hasattr(self.obj, name):
            return BoundMethodValue(self, name)
        if not hasattr(self.obj, name):
            missing_attribute(tracer, self, name)
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if name not in _METHODS:
            raise GraphBreak(BreakId.OUTPUT_TO_WORLD, f"`{name}` of {self.describe()} is not modelled")
        _replay(tracer, getattr(self.obj, name), f"`{self.obj.name}.{name}`", args, kwargs)
        return tracer.constant(None)


def _replay(tracer: Tracer, function: Any, what: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> None:
    """Have `function(*args, **kwargs)` called after the graph."""
    if not all(is_known(arg) for arg in (*args, *kwargs.values())):
        raise GraphBreak(BreakId.OUTPUT_TO_WORLD, f"{what} writes what is not known while tracing")
    plain = [snapshot(arg) for arg in args]
    named = {name: snapshot(arg) for name, arg in kwargs.items()}

    def emit(emitter: ValueEmitter) -> None:
        emitter.begin_call(function)
        for value in (*plain, *named.values()):
            emitter.load_constant(value)
        emitter.call(len(plain), tuple(named))
        emitter.pop()

    tracer.side_effects.at_replay(f"message {tracer.side_effects.count}", emit)


@wraps_base(logging.Logger)
def wrap_logger(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A logger that existed before the frame."""
    tracer.guard(IdentityIs(source, ByIdentity(obj)))
    return LoggerValue(obj, source)


_WARN_ARGUMENTS = ("message", "category", "stacklevel")


@handles(warnings.warn)
def warn(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    _check_none_raises(tracer)
    given = {**dict(zip(_WARN_ARGUMENTS, args)), **kwargs}
    plain = len(args) <= len(_WARN_ARGUMENTS) and set(given) <= set(_WARN_ARGUMENTS) and "message" in given
    if plain and all(map(is_known, given.values())):
        known = {name: snapshot(value) for name, value in given.items()}
        level, category = known.get("stacklevel", 1), known.get("category")
        if category is not None and not (isinstance(category, type) and issubclass(category, Warning)):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a warning of no category")
        if type(level) is int:
            _warn_of_place(tracer, known["message"], category, max(level, 1) - 1)
            return tracer.constant(None)
    _replay(tracer, warnings.warn, "`warnings.warn`", args, kwargs)
    return tracer.constant(None)


def _check_none_raises(tracer: Tracer) -> None:
    """Guard that no filter makes an exception of a warning: it would be raised after the graph. Raises GraphBreak."""
    if reader_of(WARNINGS_RAISE).read():
        raise GraphBreak(BreakId.OUTPUT_TO_WORLD, "a warning, where a filter makes an exception of some")
    if WARNINGS_RAISE not in tracer.graph.asked_state:
        tracer.graph.asked_state.add(WARNINGS_RAISE)
        tracer.guard(GlobalStateIs(GLOBAL_STATE, ((WARNINGS_RAISE, False),)))


def _warn_of_place(tracer: Tracer, message: Any, category: Any, level: int) -> None:
    """Have a warning of the frame `level` above this one issued after the graph, for the line where that frame is."""
    frame, beyond = tracer.frame_above(level)
    place = None if frame is None else (frame.scope, frame.decoded.user_line(frame.index))

    def emit(emitter: ValueEmitter) -> None:
        emitter.begin_call(warnings.warn if place is None else warn_at)
        emitter.load_constant(message)
        emitter.load_constant(category)
        if place is None:
            emitter.load_constant(1 + beyond)
            emitter.call(3)
        else:
            scope, line = place
            emitter.load_constant(line.filename)
            emitter.load_constant(line.line)
            scope.emit_namespace(emitter)
            emitter.call(5)
        emitter.pop()

    tracer.side_effects.at_replay(f"message {tracer.side_effects.count}", emit)


def warn_at(message: Any, category: Any, filename: str, line: int, namespace: dict[str, Any]) -> None:
    """Run time: `warnings.warn` as from a line of a module whose globals are `namespace`."""
    registry = namespace.setdefault("__warningregistry__", {})
    module = namespace.get("__name__")
    name = module if isinstance(module, str) else "<string>"
    warnings.warn_explicit(message, category or UserWarning, filename, line, name, registry)
