"""InstanceDictValue: `obj.__dict__`, a view of the attributes that an object itself holds.

Reads and writes go through the object, so both always agree. Invariant: nothing is copied; what observes all names
guards them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import _native
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import DictKeysAre
from ..interpreter.side_effects import DELETED
from ..source import AttributeSource
from . import operators
from .base import Tracer, Value
from .dict import DictValue
from .iterator import FixedIteratorValue
from .method import BuiltinObject

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class InstanceDictValue(BuiltinObject):
    """`owner.__dict__`."""

    kind = "an instance dict"
    __slots__ = ("owner",)

    def __init__(self, owner: Any) -> None:
        super().__init__()
        self.owner = owner

    def python_type(self) -> type:
        return dict

    def names(self, tracer: Tracer) -> list[str]:
        """All attribute names, in order, guarded."""
        names: list[str] = []
        if self.owner.obj is not None:
            names = list(_native.instance_dict(self.owner.obj) or ())
            tracer.guard(DictKeysAre(AttributeSource(self.owner.source, "__dict__"), tuple(names)))
        for name, write in tracer.side_effects.attribute_writes(self.owner).items():
            if write.value is DELETED:
                if name in names:
                    names.remove(name)
            elif name not in names:
                names.append(name)
        return names

    def lookup(self, tracer: Tracer, key: Value) -> Value | None:
        """The attribute that the object itself holds, or None."""
        name = key.as_constant()
        return self.owner.instance_attribute(tracer, name, in_class=False) if isinstance(name, str) else None

    def as_dict(self, tracer: Tracer) -> DictValue:
        """A copy as a dict."""
        entries: dict[Any, tuple[Value, Value]] = {}
        for name in self.names(tracer):
            value = self.owner.instance_attribute(tracer, name, in_class=False)
            assert value is not None
            entries[name] = (tracer.constant(name), value)
        return DictValue(entries)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return self.lookup(tracer, item) is not None

    def truth(self, tracer: Tracer) -> bool:
        return bool(self.names(tracer))

    def length(self, tracer: Tracer) -> int | None:
        return len(self.names(tracer))

    def unpack(self, tracer: Tracer) -> list[Value]:
        return [tracer.constant(name) for name in self.names(tracer)]

    def iterate(self, tracer: Tracer) -> Value:
        return FixedIteratorValue(self.unpack(tracer), type(iter({})))

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        found = self.lookup(tracer, key)
        return tracer.raise_observed(KeyError, key.as_constant()) if found is None else found

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        if key.python_type() is not str:
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"a key that is no name, put into {self.describe()}")
        tracer.side_effects.store_attribute(self.owner, key.as_constant(), item, raw=True)

    def delete_item(self, tracer: Tracer, key: Value) -> None:
        self.get_item(tracer, key)
        tracer.side_effects.delete_attribute(self.owner, key.as_constant(), raw=True)

    def m___getitem__(self, tracer: Tracer, key: Value) -> Value:
        return self.get_item(tracer, key)

    def m___setitem__(self, tracer: Tracer, key: Value, item: Value) -> Value:
        self.set_item(tracer, key, item)
        return tracer.constant(None)

    def m___contains__(self, tracer: Tracer, key: Value) -> Value:
        return tracer.constant(self.contains(tracer, key))

    def m_get(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        found = self.lookup(tracer, key)
        if found is not None:
            return found
        return tracer.constant(None) if default is None else default

    def m_pop(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        found = self.lookup(tracer, key)
        if found is None:
            return default if default is not None else tracer.raise_observed(KeyError, key.as_constant())
        self.delete_item(tracer, key)
        return found

    def m_setdefault(self, tracer: Tracer, key: Value, default: Value) -> Value:
        found = self.lookup(tracer, key)
        if found is None:
            self.set_item(tracer, key, default)
        return default if found is None else found

    def m_update(self, tracer: Tracer, *others: Value, **named: Value) -> Value:
        merged = DictValue({})
        merged.m_update(tracer, *others, **named)
        for key, value in zip(merged.keys(tracer), merged.values(tracer)):
            self.set_item(tracer, key, value)
        return tracer.constant(None)

    def m_keys(self, tracer: Tracer) -> Value:
        return self.as_dict(tracer).m_keys(tracer)

    def m_values(self, tracer: Tracer) -> Value:
        return self.as_dict(tracer).m_values(tracer)

    def m_items(self, tracer: Tracer) -> Value:
        return self.as_dict(tracer).m_items(tracer)

    def m_copy(self, tracer: Tracer) -> Value:
        return self.as_dict(tracer)

    def m___len__(self, tracer: Tracer) -> Value:
        return tracer.constant(operators.length(tracer, self))

    def m___iter__(self, tracer: Tracer) -> Value:
        return self.iterate(tracer)

    def children(self) -> Sequence[Value]:
        return (self.owner,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.owner)
        emitter.load_attribute("__dict__")
