"""Clearance: whether nobody is told when an object ends, and the facts by which that holds in later calls too.

Asked of what a frame lets go (`dropped_objects`, `opcodes/names`). An object is cleared if it is held by something in
the end, or if its type, and what it holds in turn, says that its end runs nothing of the program. Invariants: nothing
of the program runs; an object that is neither is not cleared, so the frame breaks and eager lets it go.
Not told by facts: what hangs on a tensor, and a weak reference with a callback that somebody makes in a later call to
an object of a kind that was cleared.
"""

from __future__ import annotations

import collections
import enum
import sys
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch

from .. import _native
from ..guards.facts import (
    AttributePresent,
    ByIdentity,
    DictKeysAre,
    Fact,
    IdentityIs,
    LengthIs,
    SameObject,
    TypeIs,
    TypeIsAmong,
)
from ..guards.namespaces import flags_of, is_plain_class, mro_of, namespace_of
from ..source import AttributeSource, ItemSource, Source, TypeSource
from ..variables.class_lookup import (
    guard_special_methods,
    has_plain_names,
    is_immutable,
    is_overridden,
    is_plain_dict_getter,
    is_slot,
    looks_up_itself,
)
from ..variables.finalizer import reaches_code_at_an_end, runs_code_at_its_end

if TYPE_CHECKING:
    from .tracer import FrameTracer

_MOST_FACTS = 300  # of what one frame lets go
_HAS_GC = 1 << 14  # Py_TPFLAGS_HAVE_GC
_SEQUENCES: tuple[type, ...] = (list, tuple, collections.deque)
_DICTS: tuple[type, ...] = (dict, collections.OrderedDict, collections.defaultdict)
_PLAIN_KEYS = frozenset({int, str, bytes, bool, type(None)})
_FOLLOWED_BASES: tuple[type, ...] = (object, list, tuple, dict)


class MaySeeItsEnd(Exception):
    """An object is not cleared."""


@dataclass(frozen=True, slots=True)
class Place:
    """An object, and where it stands when the frame starts; None for what stands there by a guard on its identity."""

    obj: Any
    source: Source | None


class Clearance:
    """Clears what one frame lets go. `held`: the real objects that are held in the end, and where they came from.

    `into_objects`: whether what instances of the program's classes hold is asked too."""

    def __init__(self, held: Iterable[tuple[Any, Source]] = (), *, into_objects: bool = True) -> None:
        self._into_objects = into_objects
        self._held_places: set[Source] = set()
        self._sources: dict[int, Source] = {}  # of the objects that are held, and of those that were cleared
        for obj, source in held:
            self._held_places.add(source)
            if obj is not None and not _holds_nothing(obj):
                self._sources.setdefault(id(obj), source)
        self._cleared: set[int] = set()
        self._classes: dict[ByIdentity, Source] = {}
        self._count = 0

    def is_cleared(self, place: Place) -> bool:
        try:
            self.facts(place)
        except MaySeeItsEnd:
            return False
        return True

    def facts(self, place: Place) -> list[Fact]:
        """What must hold in later calls for what stands at a place to be as harmless. Raises MaySeeItsEnd."""
        found: list[Fact] = []
        waiting = [place]
        while waiting:
            obj, source = (last := waiting.pop()).obj, last.source
            if source is not None and source in self._held_places:
                continue
            if source is None:
                if id(obj) not in self._sources and reaches_code_at_an_end(obj):
                    raise MaySeeItsEnd
                continue
            first = self._sources.get(id(obj))
            if first is not None:
                found.append(SameObject(source, first))
                continue
            waiting += self._told_by(obj, source, found)
            self._count += 1
            if self._count > _MOST_FACTS:
                raise MaySeeItsEnd
        return found

    def guard_classes(self, tracer: FrameTracer) -> None:
        """Record that no class of what was cleared gets a `__del__`."""
        for cls, source in self._classes.items():
            guard_special_methods(tracer, cls.value, TypeSource(source))

    def _told_by(self, obj: Any, source: Source, found: list[Fact]) -> Iterable[Place]:
        """Add the facts about one object, by which its end is seen by nobody; what it holds in turn."""
        if runs_code_at_its_end(obj):
            raise MaySeeItsEnd
        cls = type(obj)
        if cls in _ATOMS:  # what was None in one call is often a tensor in the next
            found.append(TypeIsAmong(source, _ATOMS))
            return ()
        found.append(TypeIs(source, cls))
        self._classes.setdefault(ByIdentity(cls), source)
        if _holds_nothing(obj):
            return ()
        self._sources[id(obj)] = source
        if _is_held_elsewhere(obj):
            found.append(IdentityIs(source, ByIdentity(obj)))
            return ()
        if cls in _SEQUENCES or cls is torch.Size:
            return _items(obj, source, found)
        if cls in _DICTS:
            return _entries(obj, source, found)
        if not self._into_objects:
            return ()
        return _parts(obj, source, found)


_ATOMS: tuple[type, ...] = (
    type(None), bool, int, float, complex, str, bytes, torch.Tensor, torch.nn.Parameter, torch.dtype, torch.device,
)  # fmt: skip


def _holds_nothing(obj: Any) -> bool:
    """Whether the type of an object says that it holds nothing whose end could be seen."""
    cls = type(obj)
    if not flags_of(cls) & _HAS_GC:
        return True
    return issubclass(cls, (torch.Tensor, type, enum.Enum)) or cls is weakref.ref


def _is_held_elsewhere(obj: Any) -> bool:
    """Whether it is this very object's nature to outlive the frame, and to hold nothing of one: a module, a function
    without a closure."""
    cls = type(obj)
    if issubclass(cls, ModuleType):
        return any(module is obj for module in list(sys.modules.values()))
    if cls is BuiltinFunctionType:
        return obj.__self__ is None or issubclass(type(obj.__self__), (ModuleType, type))
    if cls is FunctionType:
        parts = (obj.__closure__, obj.__defaults__, obj.__kwdefaults__, _native.instance_dict(obj))
        return not any(parts)
    return False


def _items(obj: Any, source: Source, found: list[Fact]) -> list[Place]:
    if len(obj) > _MOST_FACTS:
        raise MaySeeItsEnd
    found.append(LengthIs(source, len(obj)))
    return [Place(item, ItemSource(source, index)) for index, item in enumerate(list(obj))]


def _entries(obj: Any, source: Source, found: list[Fact]) -> list[Place]:
    keys = list(dict.keys(obj))
    if len(keys) > _MOST_FACTS or not all(type(key) in _PLAIN_KEYS for key in keys):
        raise MaySeeItsEnd
    found.append(DictKeysAre(source, tuple(keys)))
    places = [Place(item, ItemSource(source, key)) for key, item in zip(keys, list(dict.values(obj)))]
    if isinstance(obj, collections.defaultdict):
        places.append(Place(obj.default_factory, AttributeSource(source, "default_factory")))
    return places


def _parts(obj: Any, source: Source, found: list[Fact]) -> list[Place]:
    """What an instance of a class of the program holds: its attributes, and its contents as a container."""
    cls = type(obj)
    base = next(base for base in mro_of(cls) if is_immutable(base))
    is_followed = base in _FOLLOWED_BASES and base is not cls and is_plain_class(cls) and not looks_up_itself(cls)
    if not is_followed or is_overridden(cls, "__getattribute__"):
        raise MaySeeItsEnd
    places: list[Place] = []
    if base in (list, tuple):
        places += _items_past_class(obj, base, source, found)
    elif base is dict:
        raise MaySeeItsEnd
    namespace = _native.instance_dict(obj)
    if namespace is not None:
        if not is_plain_dict_getter(cls) or not has_plain_names(namespace):
            raise MaySeeItsEnd
        places += _entries(namespace, AttributeSource(source, "__dict__"), found)
    for owner in mro_of(cls):
        for name, raw in namespace_of(owner).items():
            if is_slot(raw):
                try:
                    places.append(Place(raw.__get__(obj), AttributeSource(source, name)))
                except AttributeError:
                    found.append(AttributePresent(source, name, False))
                except TypeError:  # of another class
                    raise MaySeeItsEnd from None
    return places


def _items_past_class(obj: Any, base: Any, source: Source, found: list[Fact]) -> list[Place]:
    if base.__len__(obj) > _MOST_FACTS:
        raise MaySeeItsEnd
    found.append(LengthIs(source, base.__len__(obj)))
    return [Place(item, ItemSource(source, index)) for index, item in enumerate(base.__iter__(obj))]
