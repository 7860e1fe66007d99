"""Dropped objects: what a frame takes out of containers and attributes, and what then ends.

In eager an object ends where its last holder lets it go, and its `__del__`, or the callback of a weak reference to it,
runs there; a captured frame lets go at replay. So a change of a real object tells what it held. A trace goes on: most
such objects are held by something else in the end (`a[0], a[1] = a[1], a[0]`). If one is not, the frame is traced
again, and then breaks at the first change that could end it. Invariants: nothing of the program runs; what else may
hold an object is not asked, so a break may be needless, never missing, up to `_MOST_LOOKED_AT` objects looked at.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Set
from types import CellType
from typing import TYPE_CHECKING, Any

from .. import _native
from ..graph_break import BreakId, GraphBreak
from ..variables.class_lookup import has_plain_names
from ..variables.finalizer import runs_code_at_its_end

if TYPE_CHECKING:
    from ..variables.base import Value

_MOST_LOOKED_AT = 2_000
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, collections.deque)


class EndsTooLate(Exception):
    """An object that the frame took out of where it was would end at replay."""


class DroppedObjects:
    """What was taken out during one trace. `must_break`: a change that could end something raises GraphBreak."""

    def __init__(self, *, must_break: bool) -> None:
        self._must_break = must_break
        self._told: list[Any] = []  # objects that tell when they end

    def note(self, held: Any, where: Value) -> None:
        """`where` held this real object, or container of some, before a change that replay will make."""
        told = [obj for obj in _reachable(held) if runs_code_at_its_end(obj)]
        if told and self._must_break:
            cause = f"a change of {where.describe()}, by which an object may end that tells when it ends"
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
        self._told += told

    def check(self, kept: Iterable[Value], changed: Iterable[Value]) -> None:
        """Raise EndsTooLate unless what was taken out is held by one of the `kept` values, or by what these hold.

        `changed` are the values that no longer hold what the real objects do."""
        if not self._told:
            return
        alive = {id(obj) for obj in _held_in_the_end(kept, {id(real_object(value)) for value in changed})}
        if any(id(obj) not in alive for obj in self._told):
            raise EndsTooLate


def contents_of(obj: Any) -> Iterator[Any]:
    """What a real object holds: items, values and keys, attributes; nothing for other kinds."""
    kind = type(obj)
    if issubclass(kind, dict):
        yield from dict.values(obj)
        yield from dict.keys(obj)
    base = next((base for base in _SEQUENCES if issubclass(kind, base)), None)
    if base is not None:
        yield from base.__iter__(obj)
    if kind is CellType:
        try:
            yield obj.cell_contents
        except ValueError:
            return
    namespace = _native.instance_dict(obj)
    if namespace and has_plain_names(namespace):
        yield from namespace.values()


def real_object(value: Value) -> Any:
    """The object that existed before the frame and that a value stands for, if it is of a kind that holds others."""
    obj = getattr(value, "obj", None)
    return getattr(value, "cell", None) if obj is None else obj


def _reachable(obj: Any, closed: Set[int] = frozenset()) -> Iterator[Any]:
    """An object and all that it holds, but for what those in `closed` hold."""
    seen: set[int] = set()
    waiting = [obj]
    while waiting and len(seen) < _MOST_LOOKED_AT:
        found = waiting.pop()
        if id(found) not in seen:
            seen.add(id(found))
            yield found
            if id(found) not in closed:
                waiting += contents_of(found)


def _held_in_the_end(values: Iterable[Value], changed: Set[int]) -> Iterator[Any]:
    """The real objects that values stand for, and all that these hold, as the frame left it."""
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if value.source is not None:
            yield from _reachable(real_object(value), changed)
        waiting += value.children()
