"""Regular expressions: patterns and matches are constants, what is asked of them with known text is answered at once.

Invariant: only the `re` module itself runs while tracing; a replacement that is a function of the program is traced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, IdentityIs
from ..source import Source
from .base import Tracer, Value
from .constant import ConstantValue, fold, fold_call, is_known, snapshot
from .iterator import make_tuple
from .registry import handles, wraps_type

_BY_MODULE = (re.compile, re.match, re.fullmatch, re.search, re.split, re.findall, re.escape, re.subn)


def _known(args: Sequence[Value], kwargs: Mapping[str, Value], what: str) -> None:
    if not all(map(is_known, (*args, *kwargs.values()))):
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"`{what}` of a text that is not known while tracing")


def _register() -> None:
    for function in _BY_MODULE:

        @handles(function)
        def answered(
            tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value], function: Any = function
        ) -> Value:
            _known(args, kwargs, f"re.{function.__name__}")
            return fold_call(tracer, function, args, kwargs)


_register()


@handles(re.finditer)
def finditer(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    _known(args, kwargs, "re.finditer")
    named = {name: snapshot(value) for name, value in kwargs.items()}
    return _matches(tracer, re.finditer, [snapshot(arg) for arg in args], named)


def _matches(tracer: Tracer, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Value:
    found = fold(tracer, lambda: list(function(*args, **kwargs)))
    return make_tuple(tracer, [tracer.constant(match) for match in found]).iterate(tracer)


@handles(re.sub)
def substitute(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if kwargs or len(args) > 3:
        _known(args, kwargs, "re.sub")
        return fold_call(tracer, re.sub, args, kwargs)
    pattern = fold_call(tracer, re.compile, args[:1], {})
    return pattern.call_method(tracer, "sub", args[1:], {})


def call_pattern(
    tracer: Tracer, pattern: re.Pattern[Any], name: str, args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value | None:
    """A method of a pattern that is more than a fold; None for the others."""
    if name == "finditer":
        _known(args, kwargs, "finditer")
        named = {key: snapshot(value) for key, value in kwargs.items()}
        return _matches(tracer, pattern.finditer, [snapshot(arg) for arg in args], named)
    if name != "sub" or not args or (is_known(args[0]) and isinstance(snapshot(args[0]), (str, bytes))):
        return None
    _known(args[1:], kwargs, "sub")
    text = snapshot(args[1])
    limit = snapshot(args[2]) if len(args) > 2 else snapshot(kwargs["count"]) if "count" in kwargs else 0
    pieces: list[Any] = []
    end = 0
    for index, match in enumerate(fold(tracer, lambda: list(pattern.finditer(text)))):
        if limit and index >= limit:
            break
        pieces += [
            text[end : match.start()],
            args[0].realize().call(tracer, [tracer.constant(match)], {}).as_constant(),
        ]
        end = match.end()
    pieces.append(text[end:])
    return tracer.constant(fold(tracer, text[:0].join, pieces))


@wraps_type(re.Pattern)
def wrap_pattern(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(IdentityIs(source, ByIdentity(obj)))
    return ConstantValue(obj, source)


ConstantValue.of_pattern = staticmethod(call_pattern)
