"""Argument binding: which parameter of a Python function gets which argument of a call.

Invariant: the same parameters get the same values as in Python, and an error in binding is the user's own TypeError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .constant import fold

if TYPE_CHECKING:
    from .function import FunctionValue

_VARARGS, _VARKEYWORDS = 0x04, 0x08


def bind_arguments(
    tracer: Tracer, function: FunctionValue, args: Sequence[Value], kwargs: Mapping[str, Value]
) -> dict[str, Value]:
    """The parameters of a call by name, defaults filled in. Raises the TypeError that Python raises."""
    code = function.code
    names = code.co_varnames
    n_positional = code.co_argcount
    n_all = n_positional + code.co_kwonlyargcount
    bound: dict[str, Value] = dict(zip(names[:n_positional], args))
    extra = list(args[n_positional:])
    position = n_all
    if code.co_flags & _VARARGS:
        bound[names[position]] = tracer.make_tuple(extra)
        position += 1
    elif extra:
        raise _cannot_bind(tracer, function, args, kwargs)
    if kwargs:
        _bind_keywords(tracer, function, bound, args, kwargs, n_all, position)
    elif code.co_flags & _VARKEYWORDS:
        bound[names[position]] = tracer.make_dict([])
    for index in range(n_all):
        name = names[index]
        if name in bound:
            continue
        if index < n_positional:
            value = function.default(tracer, index - n_positional)
        else:
            value = function.keyword_default(tracer, name)
        if value is None:
            raise _cannot_bind(tracer, function, args, kwargs)
        bound[name] = value
    return bound


def _bind_keywords(
    tracer: Tracer,
    function: FunctionValue,
    bound: dict[str, Value],
    args: Sequence[Value],
    kwargs: Mapping[str, Value],
    n_all: int,
    position: int,
) -> None:
    code = function.code
    by_keyword = code.co_varnames[code.co_posonlyargcount : n_all]
    rest: list[tuple[Value, Value]] = []
    for name, value in kwargs.items():
        if name in by_keyword:
            if name in bound:
                raise _cannot_bind(tracer, function, args, kwargs)
            bound[name] = value
        elif code.co_flags & _VARKEYWORDS:
            rest.append((tracer.constant(name), value))
        else:
            raise _cannot_bind(tracer, function, args, kwargs)
    if code.co_flags & _VARKEYWORDS:
        bound[code.co_varnames[position]] = tracer.make_dict(rest)


def _cannot_bind(
    tracer: Tracer, function: FunctionValue, args: Sequence[Value], kwargs: Mapping[str, Value]
) -> GraphBreak:
    """Raise the TypeError that Python raises for these arguments, in its own words."""
    code = function.code
    n_all = code.co_argcount + code.co_kwonlyargcount
    names = code.co_varnames[: n_all + bool(code.co_flags & _VARARGS) + bool(code.co_flags & _VARKEYWORDS)]
    plain = _same_signature.__code__.replace(
        co_argcount=code.co_argcount,
        co_posonlyargcount=code.co_posonlyargcount,
        co_kwonlyargcount=code.co_kwonlyargcount,
        co_varnames=names,
        co_nlocals=len(names),
        co_flags=_same_signature.__code__.co_flags | code.co_flags & (_VARARGS | _VARKEYWORDS),
        co_name=code.co_name,
    )
    stub = FunctionType(plain, {}, code.co_name)
    stub.__qualname__ = function.get_attribute(tracer, "__qualname__").as_constant()
    defaults = 0
    while defaults < code.co_argcount and function.default(tracer, -1 - defaults) is not None:
        defaults += 1
    stub.__defaults__ = (None,) * defaults
    keyword_only = code.co_varnames[code.co_argcount : n_all]
    stub.__kwdefaults__ = {n: None for n in keyword_only if function.keyword_default(tracer, n) is not None}
    fold(tracer, stub, *(None for _ in args), **dict.fromkeys(kwargs))
    return GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the arguments of {function.describe()} do not fit")


def _same_signature() -> None:
    """What the stand-ins for functions that cannot be called so are made of."""
