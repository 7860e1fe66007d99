"""Length hints: what `list(x)`, `tuple(x)`, `sorted(x)`, `[*x]` and `f(*x)` ask an iterable before they iterate it.

They only make room for the answer, but a `__len__` or `__length_hint__` of the program's is called and may be seen.
Invariant: it is asked behind `__iter__`, as C does, and a TypeError that it raises is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .base import ObservedException, Tracer, Value
from .class_lookup import has_special, is_overridden, shown_name
from .iterator import ComputedIterator, each
from .operators import length


def listed(tracer: Tracer, value: Value) -> list[Value]:
    """`list(value)`, with the questions that it asks."""
    value = value.realize()
    if isinstance(value, ComputedIterator) and len(value.parts) == 1 and not value.ended:
        (whole,) = value.parts
        if value.real_type in _OVER_A_SEQUENCE and is_overridden(whole.python_type(), "__len__"):
            _forgetting_type_errors(lambda: length(tracer, whole))
        return value.unpack(tracer)
    cls = value.python_type()
    is_silent = issubclass(cls, (torch.Tensor, type)) or not (
        is_overridden(cls, "__len__") or is_overridden(cls, "__length_hint__")
    )
    if is_silent:
        return value.unpack(tracer)
    iterator = value.iterate(tracer)
    _ask(tracer, value, cls)
    return list(each(tracer, iterator))


class _OldSequence:
    __getitem__ = list.__getitem__


_OLD_SEQUENCE: object = _OldSequence()
_OVER_A_SEQUENCE: tuple[type, ...] = (reversed, type(iter(_OLD_SEQUENCE)))  # type: ignore[call-overload]


def _ask(tracer: Tracer, value: Value, cls: type) -> None:
    if is_overridden(cls, "__len__"):
        if _forgetting_type_errors(lambda: length(tracer, value)):
            return
    elif has_special(cls, "__len__"):
        return  # of C code: nothing of the program's runs
    if is_overridden(cls, "__length_hint__"):
        given: list[Value] = []
        if _forgetting_type_errors(
            lambda: given.append(value.call_method(tracer, "__length_hint__", [], {}).realize())
        ):
            _check_hint(tracer, given[0])


def _check_hint(tracer: Tracer, answer: Value) -> None:
    """Raise what Python says of a hint that is no size."""
    if answer.is_constant() and answer.as_constant() is NotImplemented:
        return
    if not issubclass(answer.python_type(), int):
        words = f"__length_hint__ must be an integer, not {shown_name(answer.python_type())}"
        tracer.raise_observed(TypeError, words)
    if answer.as_constant() < 0:
        tracer.raise_observed(ValueError, "__length_hint__() should return >= 0")


def _forgetting_type_errors(ask: Callable[[], object]) -> bool:
    """Whether it answered."""
    try:
        ask()
    except ObservedException as error:
        if not issubclass(error.value.python_type(), TypeError):
            raise
        return False
    return True
