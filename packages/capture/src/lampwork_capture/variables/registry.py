"""Registries: which callable is modelled by which handler, and which type of object is wrapped by which value.

Value files register what they know here at import time; `builder.wrap` and the values that call look it up. Invariant:
a registry is filled while `lampwork_capture.variables` is imported and never changed afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity
from ..source import Source
from .base import Tracer, Value
from .call_shape import CallShape, RefusedCall, shape_of


class CallHandler(Protocol):
    """Models one call of one known callable: `handler(tracer, args, kwargs) -> Value`."""

    def __call__(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], /) -> Value: ...


Wrapper = Callable[[Tracer, Any, Source], Value]

_CALLS: dict[ByIdentity, CallHandler] = {}
_EXACT_WRAPPERS: dict[type, Wrapper] = {}
_BASE_WRAPPERS: list[tuple[type, Wrapper]] = []


def handles(
    *callables: Any, like: Callable[..., None] | None = None, anew: bool = False
) -> Callable[[CallHandler], CallHandler]:
    """Decorator: the handler models calls of these callables (functions, builtins or classes), known by identity.

    It gets what was passed for positional parameters by position, and no call that eager refuses. `like` has the
    parameters of callables whose signature Python does not know. Raises ValueError if a callable has a handler already,
    unless this one takes its place (`anew`).
    """

    def register(handler: CallHandler) -> CallHandler:
        for function in callables:
            if not anew and ByIdentity(function) in _CALLS:
                raise ValueError(f"{function!r} has a handler already")
            _CALLS[ByIdentity(function)] = _bound(function, like, handler)
        return handler

    return register


def _bound(function: Any, like: Callable[..., None] | None, handler: CallHandler) -> CallHandler:
    """The handler behind the binding of arguments. The shape is read at the first call: there are hundreds."""

    @functools.cache
    def known_shape() -> CallShape | None:
        return shape_of(function) if like is None else CallShape.of(like)

    def call(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        shape = known_shape()
        if shape is None:
            return handler(tracer, args, kwargs)
        try:
            bound, named = shape.bind(args, kwargs, tracer.constant)
        except RefusedCall as refusal:
            cause = f"eager refuses the arguments of `{getattr(function, '__name__', function)}`: {refusal}"
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause) from None
        return handler(tracer, bound, named)

    return call


def handler_of(function: Any) -> CallHandler | None:
    """The handler that models calls of `function`, or None."""
    return _CALLS.get(ByIdentity(function))


def wraps_type(*types: type) -> Callable[[Wrapper], Wrapper]:
    """Decorator: the wrapper makes the value of a sourced object of exactly one of these types."""

    def register(wrapper: Wrapper) -> Wrapper:
        for cls in types:
            if cls in _EXACT_WRAPPERS:
                raise ValueError(f"{cls!r} has a wrapper already")
            _EXACT_WRAPPERS[cls] = wrapper
        return wrapper

    return register


def wraps_base(*bases: type) -> Callable[[Wrapper], Wrapper]:
    """Decorator: the wrapper makes the value of a sourced object of a subclass of one of these types."""

    def register(wrapper: Wrapper) -> Wrapper:
        if any(base is known for base in bases for known, _ in _BASE_WRAPPERS):
            raise ValueError(f"one of {bases!r} has a wrapper already")
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
