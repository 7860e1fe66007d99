"""Stand-ins: how eager refuses an operation, from the interpreter itself, whose words differ between its versions.

Whoever finds that the interpreter refuses something does it once more, for real, to objects that are as good for it:
known ones, empty containers, and bare objects of a class of the same name. Invariant: nothing of
the program runs; what the interpreter does not refuse to stand-ins breaks the graph.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, NoReturn

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .class_lookup import is_immutable, needs_no_guard
from .constant import is_known, snapshot

_CONTAINERS: frozenset[type] = frozenset({list, tuple, dict, set, frozenset})


def refuse(tracer: Tracer, operation: Callable[..., Any], *values: Value) -> NoReturn:
    """Raise in the traced program what `operation` raises for these values, which it surely refuses."""
    shown = [_stand_in(value.realize()) for value in values]
    try:
        operation(*shown)
    except Exception as error:
        tracer.raise_observed(type(error), *error.args)
    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"eager refuses {', '.join(v.describe() for v in values)}")


def _stand_in(value: Value) -> Any:
    cls = value.python_type()
    if issubclass(cls, type):
        own: Any = value.as_constant()
        return own if needs_no_guard(own) else _class_like(own, type(cls.__name__, (type,), {}))
    if is_immutable(cls) and is_known(value) and not issubclass(cls, enum.Enum):
        return snapshot(value)
    return cls() if cls in _CONTAINERS else _class_like(cls)()


def _class_like(cls: type, metaclass: type = type) -> type:
    """A class with the same names that can do nothing; not even what it could by its bases."""
    return metaclass(cls.__name__, (), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})
