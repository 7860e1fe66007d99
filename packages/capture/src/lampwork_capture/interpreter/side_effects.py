"""Side effects: what the traced program changed and the real program must still see.

Values record their mutations here while the frame is traced; after the graph call the emitted code replays them, each
mutated object once, brought to its final state. Invariants: nothing real is touched while tracing; an object made in
the frame needs no replay, it is built in its final state; replay keeps aliasing because every value is built once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .clearance import Place
from .dropped_objects import DroppedObjects, place_of_attribute, places_in

if TYPE_CHECKING:
    from ..source import Source
    from ..variables.base import Value
    from .reconstruct import ValueEmitter


class Deleted(enum.Enum):
    """Marks an attribute, a global or a cell that the frame deleted."""

    DELETED = "deleted"


DELETED = Deleted.DELETED


class Prior(enum.Enum):
    """What happened to a name before its last write, as far as replay has to repeat it."""

    DELETED = "it was there, and was deleted"
    PASSING = "it was stored and deleted: whether it was there before is not known"


def prior_of(known: Value | Deleted | None, before: Prior | None, new: Value | Deleted) -> Prior | None:
    """The prior of a write of `new` over the pending write `known`, which itself came after `before`."""
    if known is None:
        return None
    if isinstance(new, Deleted):
        return before if isinstance(known, Deleted) else _PRIOR_OF_DELETION[before]
    return (before or Prior.DELETED) if isinstance(known, Deleted) else before


# A deletion after a store: of a name that replay deleted before, it need only be left out
_PRIOR_OF_DELETION: dict[Prior | None, Prior | None] = {
    None: Prior.PASSING,
    Prior.DELETED: None,
    Prior.PASSING: Prior.PASSING,
}


class Namespace(Protocol):
    """The globals of one module as side effects see them (`interpreter.scope.GlobalScope`)."""

    @property
    def variables(self) -> dict[str, Any]: ...

    def source_of(self, name: str) -> Source: ...

    def emit_store(self, emitter: ValueEmitter, name: str) -> None:
        """value -> (nothing)"""
        ...

    def emit_delete(self, emitter: ValueEmitter, name: str) -> None: ...


@dataclass(slots=True)
class AttributeWrite:
    """The final state of one attribute. `raw`: past a user-defined `__setattr__` (`object.__setattr__`)."""

    value: Value | Deleted
    raw: bool
    prior: Prior | None = None


class SideEffects:
    """The mutations of one traced frame, inlined calls included."""

    def __init__(self, dropped: DroppedObjects) -> None:
        self._dropped = dropped
        self._mutated: dict[int, Value] = {}
        self._attributes: dict[int, dict[str, AttributeWrite]] = {}
        self._owners: dict[int, Value] = {}
        self._globals: dict[tuple[int, str], Value | Deleted] = {}
        self._global_priors: dict[tuple[int, str], Prior | None] = {}
        self._namespaces: dict[tuple[int, str], Namespace] = {}
        self._order: dict[tuple[str, Any], None] = {}
        self._actions: dict[str, Callable[[ValueEmitter], None]] = {}
        self.class_writes: dict[type, dict[str, Value | Deleted]] = {}  # attributes of classes, by class
        self.count = 0  # grows with every recorded change: tells whether anything happened between two moments
        self.changed_values: list[Value] = []  # the objects of all changes so far, in order
        self.changes_elsewhere = 0  # changes of what is no object: globals, torch's state

    # Containers

    def mutated(self, value: Value) -> None:
        """The contents of a list, dict, set, cell ... changed. At replay its `write_back` runs, if it has a source."""
        self.count += 1
        self.changed_values.append(value)
        if value.source is None:
            return  # made in this frame: built in its final state
        if id(value) not in self._mutated:
            self._dropped.note(places_in(value), value)
            self._mutated[id(value)] = value
            self._order[("mutated", id(value))] = None

    def is_mutated(self, value: Value) -> bool:
        """Whether the real object differs from the value until replay."""
        return id(value) in self._mutated or id(value) in self._attributes

    def is_new(self, value: Value) -> bool:
        """Whether the frame made the object."""
        return value.source is None

    # Attributes

    def store_attribute(self, value: Value, name: str, new: Value, *, raw: bool = False) -> None:
        """`value.name = new`. Replayed by plain assignment, or by `object.__setattr__` if `raw`."""
        self._write_attribute(value, name, AttributeWrite(new, raw))

    def delete_attribute(self, value: Value, name: str, *, raw: bool = False) -> None:
        """`del value.name`."""
        self._write_attribute(value, name, AttributeWrite(DELETED, raw))

    def _write_attribute(self, value: Value, name: str, write: AttributeWrite) -> None:
        self.count += 1
        self.changed_values.append(value)
        writes = self._attributes.setdefault(id(value), {})
        self._owners[id(value)] = value
        known = writes.get(name)
        if known is None and value.source is not None:
            held = place_of_attribute(value, name)
            if held is not None:
                self._dropped.note([held], value)
        if known is not None:
            write.prior = prior_of(known.value, known.prior, write.value)
            if isinstance(known.value, Deleted) or isinstance(write.value, Deleted):
                del writes[name]  # an attribute made again after it was deleted stands last
            if value.source is None:
                if isinstance(write.value, Deleted) and known.prior is None:
                    return  # a new object: the attribute never was
                write.prior = None
        writes[name] = write
        if value.source is not None:
            self._order[("attributes", id(value))] = None

    def pending_attribute(self, value: Value, name: str) -> Value | Deleted | None:
        """What the frame last wrote to `value.name`: a value, DELETED, or None if it wrote nothing."""
        writes = self._attributes.get(id(value))
        if writes is None:
            return None
        write = writes.get(name)
        return None if write is None else write.value

    def attribute_writes(self, value: Value) -> Mapping[str, AttributeWrite]:
        """All pending writes of one object, in order of the last write of each."""
        return self._attributes.get(id(value), {})

    # Classes

    def write_class_attribute(self, value: Value, cls: type, name: str, new: Value | Deleted) -> None:
        """`cls.name = new`, or its deletion; `value` is the class."""
        self.class_writes.setdefault(cls, {})[name] = new
        self._write_attribute(value, name, AttributeWrite(new, raw=False))

    def pending_class_attribute(self, cls: type, name: str) -> tuple[type, Value | Deleted] | None:
        """What the frame wrote to the first class in the MRO that has the name, if it wrote to that one."""
        if not self.class_writes:
            return None
        for owner in cls.__mro__:
            written = self.class_writes.get(owner, {}).get(name)
            if written is not None and not isinstance(written, Deleted):
                return owner, written
            if written is None and name in owner.__dict__:
                return None
        return (cls, DELETED) if any(name in self.class_writes.get(owner, {}) for owner in cls.__mro__) else None

    # Globals

    def store_global(self, namespace: Namespace, name: str, new: Value | Deleted) -> None:
        """A write to a module's globals."""
        self.count += 1
        self.changes_elsewhere += 1
        key = (id(namespace.variables), name)
        if key not in self._globals:
            self._note_global(namespace, name)
        self._global_priors[key] = prior_of(self._globals.get(key), self._global_priors.get(key), new)
        self._globals[key] = new
        self._namespaces[key] = namespace
        self._order[("global", key)] = None

    def _note_global(self, namespace: Namespace, name: str) -> None:
        """Tell what a global holds before its first write."""
        if name in namespace.variables:
            place = Place(namespace.variables[name], namespace.source_of(name))
            self._dropped.note([place], f"the global `{name}`")

    def written_namespaces(self) -> list[dict[str, Any]]:
        """The dicts of globals that replay will write to."""
        return [namespace.variables for namespace in self._namespaces.values()]

    def pending_global(self, variables: dict[str, Any], name: str) -> Value | Deleted | None:
        """What the frame last wrote to that global, or None."""
        return self._globals.get((id(variables), name))

    # Anything else

    def at_replay(self, key: str, action: Callable[[ValueEmitter], None] | None) -> None:
        """Emit `action` after the others (grad mode ...); a later one of the same key replaces it, None removes it."""
        self.count += 1
        self.changes_elsewhere += 1
        if action is None:
            self._actions.pop(key, None)
        else:
            self._actions[key] = action

    # Replay

    def is_empty(self) -> bool:
        """Whether there is nothing to replay."""
        return not self._order and not self._actions

    def is_only_about(self, objects: Sequence[object]) -> bool:
        """Whether replay writes to attributes of these objects and to nothing else."""
        if self._actions or any(kind != "attributes" for kind, _ in self._order):
            return False
        owners = [getattr(self._owners[key], "obj", self) for _, key in self._order]
        return all(any(owner is obj for obj in objects) for owner in owners)

    def written_objects(self) -> list[Value]:
        """The objects that replay will write to."""
        owners = [self._owners[key] for kind, key in self._order if kind == "attributes"]
        return [*self._mutated.values(), *owners]

    def written_values(self) -> Iterator[Value]:
        """Every value that replay will load: what must survive the graph."""
        for kind, key in self._order:
            if kind == "mutated":
                yield from self._mutated[key].children()
            elif kind == "attributes":
                for write in self._attributes[key].values():
                    if not isinstance(write.value, Deleted):
                        yield write.value
            else:
                new = self._globals[key]
                if not isinstance(new, Deleted):
                    yield new

    def emit(self, emitter: ValueEmitter) -> None:
        """Emit the replay. Raises GraphBreak where an object cannot be rebuilt."""
        for kind, key in self._order:
            if kind == "mutated":
                self._mutated[key].write_back(emitter)
            elif kind == "attributes":
                self._emit_attributes(emitter, self._owners[key])
            else:
                self._emit_global(emitter, key)
        for action in self._actions.values():
            action(emitter)

    def _emit_attributes(self, emitter: ValueEmitter, owner: Value) -> None:
        for name, write in self._attributes[id(owner)].items():
            emit_attribute_write(emitter, owner, name, write)

    def _emit_global(self, emitter: ValueEmitter, key: tuple[int, str]) -> None:
        namespace, new, prior = self._namespaces[key], self._globals[key], self._global_priors[key]
        if prior is Prior.PASSING:
            emitter.load_constant(None)
            namespace.emit_store(emitter, key[1])
        if prior is not None and not isinstance(new, Deleted):
            namespace.emit_delete(emitter, key[1])
        if isinstance(new, Deleted):
            namespace.emit_delete(emitter, key[1])
        else:
            emitter.load_value(new)
            namespace.emit_store(emitter, key[1])


def emit_attribute_write(emitter: ValueEmitter, owner: Value, name: str, write: AttributeWrite) -> None:
    """Emit one attribute write on the real object of `owner` (also used by values that build new objects)."""
    if write.prior is Prior.PASSING:  # makes the name, so that deleting it succeeds
        _emit_store(emitter, owner, name, None, write.raw)
    if write.prior is not None and not isinstance(write.value, Deleted):
        _emit_delete(emitter, owner, name, write.raw)
    if isinstance(write.value, Deleted):
        _emit_delete(emitter, owner, name, write.raw)
    else:
        _emit_store(emitter, owner, name, write.value, write.raw)


def _emit_delete(emitter: ValueEmitter, owner: Value, name: str, raw: bool) -> None:
    if raw:
        emitter.begin_call(object.__delattr__)
        emitter.load_value(owner)
        emitter.load_constant(name)
        emitter.call(2)
        emitter.pop()
    else:
        emitter.load_value(owner)
        emitter.delete_attribute(name)


def _emit_store(emitter: ValueEmitter, owner: Value, name: str, new: Value | None, raw: bool) -> None:
    """`owner.name = new`, of None as a constant if `new` is None."""
    if raw:
        emitter.begin_call(object.__setattr__)
        emitter.load_value(owner)
        emitter.load_constant(name)
    if new is None:
        emitter.load_constant(None)
    else:
        emitter.load_value(new)
    if raw:
        emitter.call(3)
        emitter.pop()
    else:
        emitter.load_value(owner)
        emitter.store_attribute(name)
