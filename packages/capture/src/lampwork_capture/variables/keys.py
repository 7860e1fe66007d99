"""Keys: what stands for an object as a key of a dict or an element of a set while tracing.

Literals and classes stand for themselves, objects with the default `__hash__` for their identity, and an object whose
class defines `__hash__` or `__eq__` for what these methods answer when they are traced. Invariant: two symbols are
equal, and hash alike, exactly where the real objects are.
"""

from __future__ import annotations

import enum
from types import FunctionType
from typing import Any

from . import operators
from .base import Tracer, Value
from .constant import is_literal


class IdentityKey:
    """An object made in the frame as a key: told apart by identity."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityKey) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class TracedKey:
    """An object whose class has its own `__hash__` or `__eq__`: equality is traced when it is asked for."""

    __slots__ = ("_hash", "_known", "_tracer", "value")

    def __init__(self, tracer: Tracer, value: Value, hashed: int) -> None:
        self._tracer = tracer
        self.value = value
        self._hash = hashed
        self._known: dict[int, bool] = {}  # one operation asks once, however often its model looks the key up

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, TracedKey):
            theirs = other.value if isinstance(other, IdentityKey) else self._tracer.constant(other)
            return operators.equal(self._tracer, self.value, theirs)
        known = other._known.get(id(self))
        if known is None:
            known = other._known[id(self)] = operators.equal(self._tracer, self.value, other.value)
        return known


def has_fixed_hash(symbol: Any) -> bool:
    """Whether what a symbol stands for hashes alike in every call, so that it takes the same place in a table."""
    if isinstance(symbol, tuple):
        return all(map(has_fixed_hash, symbol))
    if isinstance(symbol, frozenset):
        return all(map(has_fixed_hash, symbol))
    if isinstance(symbol, enum.Enum):
        return True
    return is_literal(symbol) or isinstance(symbol, (type, TracedKey, FunctionType))
