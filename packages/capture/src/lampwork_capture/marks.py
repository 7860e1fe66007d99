"""What users say about single functions: disable, allow in the graph, assume constant, substitute, break here.

Each mark is read while tracing; outside of traced code a marked function behaves as before. Invariant: importing this
module registers nothing but the marks themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from . import _native
from .graph_break import BreakId, GraphBreak
from .variables.base import Tracer, Value, graph_arguments
from .variables.constant import fold_call
from .variables.registry import handles

F = TypeVar("F", bound=Callable[..., Any])


def disable(function: Callable[..., Any] | None = None, *, recursive: bool = True) -> Any:
    """Run a function, and with `recursive` all that it calls, as plain Python also inside optimized code."""
    if function is None:
        return lambda target: disable(target, recursive=recursive)
    if recursive:
        return _native.OptimizedCallable(function)
    target: Any = getattr(function, "__func__", function)
    target._torchdynamo_disable = True
    _native.skip(target.__code__)
    return function


def allow_in_graph(function: F) -> F:
    """Put calls of a function into the graph as one node, without tracing its body. It must work on tensors only."""

    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        plain, named = graph_arguments(args, kwargs)
        return tracer.add_node("call_function", function, plain, named)

    handles(function, anew=True)(handler)
    return function


def assume_constant_result(function: F) -> F:
    """Call a function once while tracing and take what it returns as a constant, unguarded."""

    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return fold_call(tracer, function, args, kwargs)

    handles(function, anew=True)(handler)
    return function


def substitute_in_graph(original: Callable[..., Any]) -> Callable[[F], F]:
    """Decorator: trace the decorated Python function wherever `original` (of an extension, say) is called."""

    def decorate(replacement: F) -> F:
        def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
            return tracer.constant(replacement).call(tracer, args, kwargs)

        handles(original, anew=True)(handler)
        return replacement

    return decorate


def graph_break(reason: str = "") -> None:
    """Break the graph here. Does nothing outside optimized code."""


@handles(graph_break)
def break_requested(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    reasons = [str(value.as_constant()) for value in (*args, *kwargs.values()) if value.is_constant()]
    raise GraphBreak(BreakId.REQUESTED, " ".join(["`graph_break()` was called", *reasons]))


def is_compiling() -> bool:
    """True in code that is being traced, False in code that runs."""
    return False


@handles(is_compiling)
def compiling(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(True)


def reset() -> None:
    """Forget every capture: the next calls capture anew."""
    for code in _native.cached_codes():
        _native.reset(code)
