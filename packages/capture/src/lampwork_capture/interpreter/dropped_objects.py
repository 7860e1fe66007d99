"""Dropped objects: what a frame takes out of containers and attributes, and what then ends.

In eager an object ends where its last holder lets it go, and its `__del__`, or the callback of a weak reference to it,
runs there; a captured frame lets go at replay. So a change of a real object tells what it held. A trace goes on: most
such objects are held by a value in the end (`a[0], a[1] = a[1], a[0]`), and of most others facts say that their end is
seen by nobody (`clearance`). If neither is so, the frame is traced again, and then breaks at the first change that
could end one. Invariants: nothing of the program runs; what else may hold an object is not asked, so a break may be
needless, never missing but where a name was bound to nothing in this call and holds such an object in a later one.
"""

from __future__ import annotations

import collections
import gc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import CellType
from typing import TYPE_CHECKING, Any

from .. import _native
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import UserLine
from ..guards.namespaces import namespace_of
from ..source import AttributeSource, ClassAttributeSource, DictValueSource, ItemSource, Source
from ..variables.class_lookup import find_in_class, has_plain_names, is_slot
from .clearance import Clearance, MaySeeItsEnd, Place

if TYPE_CHECKING:
    from ..variables.base import Value
    from .tracer import FrameTracer

_SEQUENCES: tuple[Any, ...] = (list, tuple, collections.deque)
_SETS: tuple[Any, ...] = (set, frozenset)
_PLAIN_KEYS = (int, str, bytes, float, type(None))


class EndsTooLate(Exception):
    """An object that the frame took out of where it was would end at replay."""


@dataclass(frozen=True, slots=True)
class _Taken:
    place: Place
    line: UserLine


class DroppedObjects:
    """What was taken out during one trace. `must_break`: a change that could end something raises GraphBreak."""

    def __init__(self, tracer: FrameTracer, *, must_break: bool) -> None:
        self._tracer = tracer
        self._taken: list[_Taken] = []
        self._first = Clearance() if must_break else None

    def note(self, places: Iterable[Place], where: Value | str) -> None:
        """`where` held what stands at these places, before a change that replay will make."""
        line = self._tracer.user_line
        for place in places:
            if self._first is not None and not self._first.is_cleared(place):
                name = where if isinstance(where, str) else where.describe()
                cause = f"a change of {name}, by which an object may end that tells when it ends"
                raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
            self._taken.append(_Taken(place, line))

    def check(self, kept: Iterable[Value]) -> None:
        """Record why nobody sees what was taken out end; raise EndsTooLate if somebody may.

        It is held by one of the `kept` values, or by what these hold; or else facts tell what it is."""
        if not self._taken:
            return
        clearance = Clearance(list(_held_in_the_end(kept)))
        for taken in self._taken:
            try:
                facts = clearance.facts(taken.place)
            except MaySeeItsEnd:
                raise EndsTooLate from None
            for fact in facts:
                self._tracer.guards.add(fact, taken.line)
        clearance.guard_classes(self._tracer)


def real_object(value: Value) -> Any:
    """The object that existed before the frame and that a value stands for, if it is of a kind that holds others."""
    obj = getattr(value, "obj", None)
    return getattr(value, "cell", None) if obj is None else obj


def places_in(value: Value) -> Iterator[Place]:
    """What the real object of a value holds as a container, before it changes for the first time."""
    obj, source = real_object(value), value.source
    kind = type(obj)
    if obj is None or source is None:
        return
    if issubclass(kind, dict):
        for index, (key, held) in enumerate(zip(list(dict.keys(obj)), list(dict.values(obj)))):
            is_plain = isinstance(key, (*_PLAIN_KEYS, type))
            yield Place(held, ItemSource(source, key) if is_plain else DictValueSource(source, index))
            if type(key) not in _PLAIN_KEYS:
                yield Place(key, None)
        return
    base = next((base for base in _SEQUENCES if issubclass(kind, base)), None)
    if base is not None:
        for index, held in enumerate(base.__iter__(obj)):
            yield Place(held, ItemSource(source, index))
    elif kind is CellType:
        try:
            yield Place(obj.cell_contents, getattr(value, "contents_source", None))
        except ValueError:
            return
    else:
        base = next((base for base in _SETS if issubclass(kind, base)), None)
        for held in gc.get_referents(obj) if base is None else base.__iter__(obj):
            yield Place(held, None)


def place_of_attribute(value: Value, name: str) -> Place | None:
    """What an attribute of a real object holds, in its `__dict__` or a slot; None if there is nothing.

    Raises GraphBreak where the name is compared with keys of the program's own kind."""
    obj, source = real_object(value), value.source
    if obj is None:
        return None
    if issubclass(type(obj), type):
        owner: Any = value
        namespace, source = namespace_of(obj), owner.known_source()
        if name not in namespace:
            return None
        return Place(namespace[name], None if source is None else ClassAttributeSource(source, name))
    namespace = _native.instance_dict(obj)
    if namespace is not None and not has_plain_names(namespace):
        cause = f"a write to {value.describe()}, whose `__dict__` has keys that are no names"
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, cause)
    if namespace is not None and name in namespace:
        named = getattr(value, "instance_source", None)
        if source is not None:
            source = AttributeSource(source, name) if named is None else named(name)
        return Place(namespace[name], source)
    if source is None:
        return None
    raw, _ = find_in_class(type(obj), name)
    try:
        if is_slot(raw):
            return Place(raw.__get__(obj), AttributeSource(source, name))
    except AttributeError:
        pass
    return None


def _held_in_the_end(values: Iterable[Value]) -> Iterator[tuple[Any, Source]]:
    """The real objects that values stand for, and those that these hold, as the frame left it."""
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if value.source is not None:
            yield real_object(value), value.source
        waiting += value.children()
        realized = getattr(value, "realized", None)
        if realized is not None:
            waiting.append(realized)
