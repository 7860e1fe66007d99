"""Keys: what stands for an object as a key of a dict or an element of a set while tracing.

Literals and classes stand for themselves, objects with the default `__hash__` for their identity, and an object whose
class defines `__hash__` or `__eq__` for what these methods answer when they are traced. Invariant: two symbols are
equal, and hash alike, exactly where the real objects are.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch

from ..graph_break import BreakId, GraphBreak
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

    __slots__ = ("_changes", "_hash", "_is_silent", "_known", "_tracer", "value")

    def __init__(self, tracer: Tracer, value: Value, hashed: int, *, is_silent: bool) -> None:
        self._tracer = tracer
        self.value = value
        self._hash = hashed
        self._is_silent = is_silent  # asking for its hash, and whether it equals others, changed nothing
        self._changes = _changes(tracer)
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
            before = self._tracer.side_effects.count
            known = other._known[id(self)] = operators.equal(self._tracer, self.value, other.value)
            if self._tracer.side_effects.count != before:
                self._is_silent = other._is_silent = False
        return known

    def may_be_asked_again(self) -> bool:
        """Whether a table made anew of its keys asks this one without anybody noticing, and gets the same answer."""
        changes, elsewhere = self._changes
        effects = self._tracer.side_effects
        is_same = effects.changes_elsewhere == elsewhere
        return self._is_silent and is_same and all(v is not self.value for v in effects.changed_values[changes:])


def _changes(tracer: Tracer) -> tuple[int, int]:
    """How much the frame has changed so far."""
    return len(tracer.side_effects.changed_values), tracer.side_effects.changes_elsewhere


def is_simple_key(key: Any) -> bool:
    """Whether `key_of_object` knows what stands for a real dict key, without tracing its `__hash__`."""
    try:
        key_of_object(key)
    except GraphBreak:
        return False
    return True


def key_of_object(key: Any) -> Hashable:
    """What stands for a real dict key while tracing; the counterpart of `Value.hash_key`."""
    if is_literal(key) or isinstance(key, (type, FunctionType, BuiltinFunctionType, ModuleType)):
        return key
    if type(key) in (tuple, torch.Size):
        return tuple(key_of_object(part) for part in key)
    cls = type(key)
    if cls.__hash__ is object.__hash__ and cls.__eq__ is object.__eq__ and not isinstance(key, torch.Tensor):
        return key
    if isinstance(key, torch.nn.Module):
        return key
    raise GraphBreak(BreakId.GENERIC_OBJECT, f"a dict with a key of type {cls.__name__} is not modelled")


def check_rebuilt(symbols: Iterable[Any], what: str) -> None:
    """Raise GraphBreak if putting these keys into a table again could be seen: by `__hash__` or `__eq__`."""
    for symbol in symbols:
        if isinstance(symbol, TracedKey) and not symbol.may_be_asked_again():
            cause = f"{what} with keys whose `__hash__` or `__eq__` would be called again"
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, cause)


def has_fixed_hash(symbol: Any) -> bool:
    """Whether what a symbol stands for hashes alike in every call, so that it takes the same place in a table."""
    if isinstance(symbol, tuple):
        return all(map(has_fixed_hash, symbol))
    if isinstance(symbol, frozenset):
        return all(map(has_fixed_hash, symbol))
    if isinstance(symbol, enum.Enum):
        return True
    return is_literal(symbol) or isinstance(symbol, (type, TracedKey, FunctionType))
