"""`str.format` with arguments that are not plain constants: objects that format themselves, fields that look inside.

The real `str.format` parses and asks stand-ins, which ask the traced objects. Invariant: what a stand-in answers is
what the object would; a field whose text is not known while tracing breaks the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from . import operators
from .base import Tracer, Value
from .constant import ConstantValue, fold, is_known, snapshot


class _StandIn:
    """Stands for a value: has its attributes, items, formats and texts."""

    def __init__(self, tracer: Tracer, value: Value) -> None:
        object.__setattr__(self, "asked", (tracer, value))

    def __getattribute__(self, name: str) -> Any:
        tracer, value = _asked(self)
        return _shown(tracer, value.get_attribute(tracer, name))

    def __getitem__(self, key: int | str) -> Any:
        tracer, value = _asked(self)
        return _shown(tracer, operators.get_item(tracer, value, tracer.constant(key)))

    def __format__(self, spec: str) -> str:
        tracer, value = _asked(self)
        return operators.format_value(tracer, value, None, spec).as_constant()

    def __str__(self) -> str:
        return operators.text_of(*_asked(self), str)

    def __repr__(self) -> str:
        return operators.text_of(*_asked(self), repr)


def _asked(stand_in: _StandIn) -> tuple[Tracer, Value]:
    return object.__getattribute__(stand_in, "asked")


def _shown(tracer: Tracer, value: Value) -> Any:
    value = value.realize()
    return snapshot(value) if is_known(value) else _StandIn(tracer, value)


def format_text(
    tracer: Tracer, method: Callable[..., str], args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value:
    """`text.format(*args, **kwargs)` or `text.format_map(mapping)`; `method` is bound to the text."""
    shown = [_shown(tracer, arg) for arg in args]
    named = {name: _shown(tracer, arg) for name, arg in kwargs.items()}
    return tracer.constant(fold(tracer, method, *shown, **named))


ConstantValue.of_format = staticmethod(format_text)
