"""Registries: which callable is modelled by which handler, and which type of object is wrapped by which value.

Value files register what they know here at import time; `builder.wrap` and the values that call look it up. Invariant:
a registry is filled while `lampwork_capture.variables` is imported and never changed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity
from ..source import Source
from .base import Tracer, Value
from .call_shape import takes


class CallHandler(Protocol):
    """Models one call of one known callable: `handler(tracer, args, kwargs) -> Value`."""

    def __call__(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], /) -> Value: ...


Wrapper = Callable[[Tracer, Any, Source], Value]

_CALLS: dict[ByIdentity, CallHandler] = {}
_EXACT_WRAPPERS: dict[type, Wrapper] = {}
_BASE_WRAPPERS: list[tuple[type, Wrapper]] = []


def handles(*callables: Any) -> Callable[[CallHandler], CallHandler]:
    """Decorator: the handler models calls of these callables (functions, builtins or classes), known by identity."""

    def register(handler: CallHandler) -> CallHandler:
        for function in callables:
            _CALLS[ByIdentity(function)] = _checked(function, handler)
        return handler

    return register


def _checked(function: Any, handler: CallHandler) -> CallHandler:
    """The handler, for calls that eager does not refuse."""

    def call(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if not takes(function, len(args), kwargs.keys()):
            cause = f"eager refuses these arguments of `{getattr(function, '__name__', function)}`"
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
        try:
            return handler(tracer, args, kwargs)
        except IndexError as error:
            traced = error.__traceback__
            if traced is None or traced.tb_next is None or traced.tb_next.tb_next is not None:
                raise
            cause = f"`{getattr(function, '__name__', function)}` with an argument by keyword, or one too few"
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause) from None

    return call


def handler_of(function: Any) -> CallHandler | None:
    """The handler that models calls of `function`, or None."""
    return _CALLS.get(ByIdentity(function))


def wraps_type(*types: type) -> Callable[[Wrapper], Wrapper]:
    """Decorator: the wrapper makes the value of a sourced object of exactly one of these types."""

    def register(wrapper: Wrapper) -> Wrapper:
        for cls in types:
            _EXACT_WRAPPERS[cls] = wrapper
        return wrapper

    return register


def wraps_base(*bases: type) -> Callable[[Wrapper], Wrapper]:
    """Decorator: the wrapper makes the value of a sourced object of a subclass of one of these types."""

    def register(wrapper: Wrapper) -> Wrapper:
        _BASE_WRAPPERS.extend((base, wrapper) for base in bases)
        return wrapper

    return register


def wrapper_of(cls: type) -> Wrapper | None:
    """The wrapper for objects of type `cls`: by exact type first, then by the first base registered."""
    exact = _EXACT_WRAPPERS.get(cls)
    if exact is not None:
        return exact
    for base, wrapper in _BASE_WRAPPERS:
        if issubclass(cls, base):
            return wrapper
    return None
