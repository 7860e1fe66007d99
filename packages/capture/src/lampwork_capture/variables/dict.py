"""DictValue: a dict, OrderedDict or defaultdict.

A dict that existed before the frame is read key by key: a look-up guards that one key; only what observes all keys
(iteration, length, mutation) guards them all. Invariant: once `entries` is filled it is the dict's exact contents, in
order.
"""

from __future__ import annotations

import operator
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, DictContains, DictKeysAre, LengthIs, TypeIs
from ..source import AttributeSource, DictKeySource, DictValueSource, ItemSource, Source
from . import operators, ordered_dict
from .base import Tracer, Value
from .class_lookup import find_in_class, has_special, is_iterable, is_overridden
from .constant import is_literal, snapshot
from .dict_view import DictIteratorValue, DictViewValue, dict_base
from .iterator import make_tuple
from .keys import check_rebuilt, is_simple_key, key_of_object
from .lazy import LazyValue
from .mapping_proxy import MappingProxyValue
from .method import BuiltinObject
from .registry import wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class DictValue(BuiltinObject):
    """A dict. `obj` is the real one if it existed before; `owner` the subclass instance that it is the contents of."""

    kind = "a dict"
    __slots__ = (
        "_entries",
        "_looked_up",
        "cls",
        "factory",
        "is_cleared",
        "obj",
        "original",
        "owner",
        "removed",
        "shape_changes",
    )

    def __init__(
        self,
        entries: Mapping[Any, tuple[Value, Value]] | None = None,
        cls: type = dict,
        source: Source | None = None,
        obj: Any = None,
        owner: Value | None = None,
        factory: Value | None = None,
    ) -> None:
        super().__init__(source)
        self.cls = cls
        self.obj = obj
        self.owner = owner
        self.factory = factory
        self._entries: dict[Hashable, tuple[Value, Value]] | None = dict(entries or {}) if obj is None else None
        self._looked_up: dict[Hashable, Value] = {}
        self.shape_changes = 0  # grows with every key that comes, goes or moves
        self.is_cleared = False
        self.removed: set[Hashable] = set()  # keys that went, if only for a while: they come back last
        # What the real dict holds, once all of it was read
        self.original: dict[Hashable, tuple[Value, Value]] = {}

    def python_type(self) -> type:
        return self.cls

    # Reading

    def entries(self, tracer: Tracer) -> dict[Hashable, tuple[Value, Value]]:
        """All entries in order, guarded; the live dict: who changes it calls `changed`."""
        if self._entries is None:
            self._entries = self._read_all(tracer)
            self.original = dict(self._entries)
        return self._entries

    def _read_all(self, tracer: Tracer) -> dict[Hashable, tuple[Value, Value]]:
        source = self._contents_source()
        is_dict = isinstance(self.obj, dict)
        keys = list(dict.keys(self.obj) if is_dict else self.obj)  # past what a subclass iterates
        if isinstance(self.obj, OrderedDict):
            stored, keys = keys, list(OrderedDict.keys(self.obj))
            if stored != keys and not all(map(is_literal, keys)):  # read by position in the order of insertion
                raise GraphBreak(BreakId.GENERIC_OBJECT, f"the order of {self.describe()} was changed in place")
        if all(map(is_simple_key, keys)):
            symbols = [key_of_object(key) for key in keys]
            tracer.guard(DictKeysAre(source, tuple(k if is_literal(k) else ByIdentity(k) for k in keys)))
        else:
            tracer.guard(LengthIs(source, len(keys)))
            wrapped = [tracer.wrap(key, DictKeySource(source, index)) for index, key in enumerate(keys)]
            before = tracer.side_effects.count
            symbols = [operators.hash_key(tracer, key) for key in wrapped]
            if tracer.side_effects.count != before:
                raise GraphBreak(BreakId.GENERIC_OBJECT, f"{self.describe()}, whose keys change as their hash is asked")
        entries: dict[Hashable, tuple[Value, Value]] = {}
        for index, (key, symbol) in enumerate(zip(keys, symbols)):
            known = self._looked_up.get(symbol)
            value = known if known is not None else LazyValue(tracer, self._real(key), self._value_source(key, index))
            entries[symbol] = (self._key_value(tracer, key, index), value)
        return entries

    def _key_value(self, tracer: Tracer, key: Any, index: int) -> Value:
        if is_literal(key) or isinstance(key, type) or (type(key) is tuple and is_simple_key(key)):
            return tracer.constant(key)
        return LazyValue(tracer, key, DictKeySource(self._contents_source(), index))

    def _value_source(self, key: Any, index: int) -> Source:
        if isinstance(key, (int, str, bytes, float, type, type(None))):
            return ItemSource(self._contents_source(), key)
        return DictValueSource(self._contents_source(), index)

    def _contents_source(self) -> Source:
        source = self.source if self.owner is None else self.owner.source
        assert source is not None
        return source

    def _real(self, key: Any) -> Any:
        return dict.__getitem__(self.obj, key) if isinstance(self.obj, dict) else self.obj[key]

    def lookup(self, tracer: Tracer, key: Value) -> Value | None:
        """`dict.get(self, key)` with None for a missing key."""
        return self._find(tracer, operators.hash_key(tracer, key))

    def _find(self, tracer: Tracer, symbol: Hashable) -> Value | None:
        if self._entries is None and isinstance(symbol, (int, str, bytes, float, type, type(None))):
            return self._lookup_one(tracer, symbol)
        entry = self.entries(tracer).get(symbol)
        if entry is None:
            return None
        real = entry[1].realize()
        if real is not entry[1]:
            self.entries(tracer)[symbol] = (entry[0], real)
        return real

    def _lookup_one(self, tracer: Tracer, key: Any) -> Value | None:
        known = self._looked_up.get(key)
        if known is not None:
            return known
        source = self._contents_source()
        present = dict.__contains__(self.obj, key) if isinstance(self.obj, dict) else key in self.obj
        if not present:
            tracer.guard(DictContains(source, key, False))
            return None
        value = self._looked_up[key] = tracer.wrap(self._real(key), ItemSource(source, key))
        return value

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        symbol = operators.hash_key(tracer, item)
        if self._entries is None and isinstance(symbol, (int, str, bytes, float, type, type(None))):
            if symbol in self._looked_up:
                return True
            present = dict.__contains__(self.obj, symbol) if isinstance(self.obj, dict) else symbol in self.obj
            tracer.guard(DictContains(self._contents_source(), symbol, present))
            return present
        return symbol in self.entries(tracer)

    def truth(self, tracer: Tracer) -> bool:
        return bool(self.entries(tracer))

    def length(self, tracer: Tracer) -> int | None:
        return len(self.entries(tracer))

    def keys(self, tracer: Tracer) -> list[Value]:
        return [key.realize() for key, _ in self.entries(tracer).values()]

    def values(self, tracer: Tracer) -> list[Value]:
        entries = self.entries(tracer)
        for symbol, (key, value) in entries.items():
            entries[symbol] = (key, value.realize())
        return [value for _, value in entries.values()]

    def unpack(self, tracer: Tracer) -> list[Value]:
        return self.keys(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        return DictIteratorValue(tracer, self, "keys")

    def children(self) -> Sequence[Value]:
        if self._entries is None:
            return ()
        extra = () if self.factory is None else (self.factory,)
        return (*(part for entry in self._entries.values() for part in entry), *extra)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        found = self.lookup(tracer, key)
        if found is not None:
            return found
        if self.factory is not None and not (self.factory.is_constant() and self.factory.as_constant() is None):
            made = tracer.call(self.factory, [])
            self.set_item(tracer, key, made)
            return made
        if self.owner is not None and has_special(self.owner.python_type(), "__missing__"):
            return self.owner.call_method(tracer, "__missing__", [key], {})
        return tracer.raise_observed(KeyError, key)

    def snapshot(self) -> Any:
        """The dict of constants it is now."""
        if self._entries is None:
            raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the value of {self.describe()} is not known while tracing")
        if self.cls not in (dict, OrderedDict):
            raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the value of {self.describe()} is not known while tracing")
        return self.cls((snapshot(key), snapshot(value)) for key, value in self._entries.values())

    def as_graph_argument(self) -> dict[Any, Any]:
        if self._entries is None:
            raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{self.describe()} cannot be passed to a torch operation")
        return {key.as_constant(): value.as_graph_argument() for key, value in self._entries.values()}

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        """`str` or `repr` of an exact dict."""
        if self.cls is not dict:
            raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the text of {self.describe()} is not modelled")
        inner = ascii if convert is ascii else repr
        pairs = zip(self.keys(tracer), self.values(tracer))
        shown = [f"{operators.text_of(tracer, k, inner)}: {operators.text_of(tracer, v, inner)}" for k, v in pairs]
        return "{" + ", ".join(shown) + "}"

    # Writing

    def changed(self, tracer: Tracer) -> None:
        """The contents were changed."""
        tracer.side_effects.mutated(self if self.owner is None else self.owner)

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        entries = self.entries(tracer)
        self._store(tracer, entries, operators.hash_key(tracer, key), key, item)

    def _store(
        self, tracer: Tracer, entries: dict[Hashable, tuple[Value, Value]], symbol: Hashable, key: Value, item: Value
    ) -> None:
        known = entries.get(symbol)
        entries[symbol] = (key if known is None else known[0], item)
        self.shape_changes += known is None
        self.changed(tracer)

    def delete_item(self, tracer: Tracer, key: Value) -> None:
        self._remove(tracer, operators.hash_key(tracer, key), key)

    def _remove(self, tracer: Tracer, symbol: Hashable, key: Value) -> None:
        if symbol not in self.entries(tracer):
            tracer.raise_observed(KeyError, key)
        del self.entries(tracer)[symbol]
        self.reshaped(tracer, [symbol])

    def reshaped(self, tracer: Tracer, symbols: Iterable[Hashable]) -> None:
        """Keys went or moved."""
        self.shape_changes += 1
        self.removed.update(symbols)
        self.changed(tracer)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op is operator.ior:
            return self._update_in_place(tracer, other)
        theirs = dict_contents(other)
        if theirs is None:
            return None
        if op in (operator.eq, operator.ne):
            return tracer.constant(self._equals(tracer, theirs) is (op is operator.eq))
        if op is operator.or_:
            first, second = (theirs, self) if reflected else (self, theirs)
            self._check_makes_base("|")
            merged = first.copied(tracer, self.cls, self.factory)
            merged.update_from(tracer, second.whole)
            return merged
        return None

    @property
    def whole(self) -> Value:
        """The dict itself, or the object that it is the contents of."""
        return self if self.owner is None else self.owner

    def _check_makes_base(self, what: str) -> None:
        """Raise GraphBreak if the type makes its copies by calling the class of the object, not as its own base."""
        if self.owner is not None and issubclass(self.owner.python_type(), (OrderedDict, defaultdict)):
            raise GraphBreak(
                BreakId.CALL_NOT_MODELLED, f"`{what}` of {self.owner.describe()} makes another of its class"
            )

    def copied(self, tracer: Tracer, cls: type, factory: Value | None) -> DictValue:
        """A new dict as `dict.copy` makes it: one that is iterated its own way is read through its `keys`."""
        self.values(tracer)
        entries = self.entries(tracer)
        if not entries or is_read_as_dict(self.whole):
            return DictValue(entries, cls, factory=factory)
        made = DictValue({}, cls, factory=factory)
        made.update_from(tracer, self.whole)
        return made

    def _update_in_place(self, tracer: Tracer, other: Value) -> Value | None:
        """`self |= other`: an OrderedDict stores by `__setitem__`, a dict past it."""
        kind = other.python_type()
        if not (is_iterable(kind) or hasattr(kind, "keys")):
            return None
        cls = self.whole.python_type()
        if issubclass(cls, OrderedDict) and is_overridden(cls, "__setitem__"):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`|=` of {self.whole.describe()}, which stores in its own way")
        self.update_from(tracer, other)
        return self

    def _equals(self, tracer: Tracer, other: DictValue) -> bool:
        mine, theirs = self.entries(tracer), other.entries(tracer)
        if len(mine) != len(theirs):
            return False
        if self.cls is OrderedDict and other.cls is OrderedDict and list(mine) != list(theirs):
            return False
        return all(
            symbol in theirs and operators.equal(tracer, value, theirs[symbol][1])
            for symbol, (_, value) in list(mine.items())
        )

    def update_from(self, tracer: Tracer, other: Value) -> None:
        """`self.update(other)` for a mapping or an iterable of pairs."""
        contents = dict_contents(other) if is_read_as_dict(other, self.cls) else None
        before = 0 if contents is None else contents.shape_changes
        if contents is not None:
            pairs = list(zip(contents.keys(tracer), contents.values(tracer)))
        elif hasattr(other.python_type(), "keys"):
            keys = tracer.call(other.get_attribute(tracer, "keys"), []).unpack(tracer)
            pairs = [(key, operators.get_item(tracer, other, key)) for key in keys]
        else:
            pairs = []
            for index, pair in enumerate(other.unpack(tracer)):
                kind = pair.realize().python_type()
                what = f"dictionary update sequence element #{index}"
                if not is_iterable(kind):
                    tracer.raise_observed(TypeError, f"cannot convert {what} to a sequence")
                parts = pair.realize().unpack(tracer)
                if len(parts) != 2:
                    tracer.raise_observed(ValueError, f"{what} has length {len(parts)}; 2 is required")
                pairs.append((parts[0], parts[1]))
        for key, value in pairs:
            self.set_item(tracer, key, value)
            if contents is not None and contents is not self and contents.shape_changes != before:
                cause = "a dict that changes while another is updated from it: eager raises"
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
        if not pairs:
            self.entries(tracer)

    # Methods

    def call_slot(self, tracer: Tracer, method: Any, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        name: str = method.__name__
        if method.__objclass__ is dict and self.cls is OrderedDict and name in OrderedDict.__dict__:
            cause = f"`dict.{name}` of an OrderedDict, past what keeps its order"
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, cause)
        return super().call_slot(tracer, method, args, kwargs)

    def m_get(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        found = self.lookup(tracer, key.realize())
        if found is not None:
            return found
        return tracer.constant(None) if default is None else default

    def m_pop(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        symbol = operators.hash_key(tracer, key)
        found = self._find(tracer, symbol)
        if found is None:
            return default if default is not None else tracer.raise_observed(KeyError, key)
        self._remove(tracer, symbol, key)
        return found

    def m_popitem(self, tracer: Tracer, last: Value | None = None) -> Value:
        entries = self.entries(tracer)
        if not entries:
            what = "popitem(): dictionary is empty" if self.cls is not OrderedDict else "dictionary is empty"
            tracer.raise_observed(KeyError, what)
        symbol = next(reversed(entries)) if last is None or last.truth(tracer) else next(iter(entries))
        key, value = entries.pop(symbol)
        self.reshaped(tracer, [symbol])
        return make_tuple(tracer, [key.realize(), value.realize()])

    def m_setdefault(self, tracer: Tracer, key: Value, default: Value | None = None) -> Value:
        symbol = operators.hash_key(tracer, key)
        found = self._find(tracer, symbol)
        if found is not None:
            return found
        value = tracer.constant(None) if default is None else default
        self._store(tracer, self.entries(tracer), symbol, key.realize(), value)
        return value

    def m_update(self, tracer: Tracer, /, *others: Value, **named: Value) -> Value:
        if len(others) > 1:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "update expected at most 1 argument: eager raises")
        for other in others:
            self.update_from(tracer, other.realize())
        for name, value in named.items():
            self.set_item(tracer, tracer.constant(name), value)
        return tracer.constant(None)

    def m_clear(self, tracer: Tracer) -> Value:
        entries = self.entries(tracer)
        symbols = list(entries)
        entries.clear()
        self.is_cleared = True
        self.reshaped(tracer, symbols)
        return tracer.constant(None)

    def m_copy(self, tracer: Tracer) -> Value:
        self._check_makes_base("copy")
        return self.copied(tracer, self.cls, self.factory)

    def m_move_to_end(self, tracer: Tracer, key: Value, last: Value | None = None) -> Value:
        entries = self.entries(tracer)
        symbol = operators.hash_key(tracer, key)
        if symbol not in entries:
            tracer.raise_observed(KeyError, key.as_constant())
        moved = entries.pop(symbol)
        if last is None or last.truth(tracer):
            entries[symbol] = moved
        else:
            rest = dict(entries)
            entries.clear()
            entries[symbol] = moved
            entries.update(rest)
        self.reshaped(tracer, [symbol])
        return tracer.constant(None)

    def m_keys(self, tracer: Tracer) -> Value:
        return DictViewValue(self, "keys")

    def m_values(self, tracer: Tracer) -> Value:
        return DictViewValue(self, "values")

    def m_items(self, tracer: Tracer) -> Value:
        return DictViewValue(self, "items")

    def m___iter__(self, tracer: Tracer) -> Value:
        return self.iterate(tracer)

    def m___len__(self, tracer: Tracer) -> Value:
        return tracer.constant(self.length(tracer))

    def m___contains__(self, tracer: Tracer, key: Value) -> Value:
        return tracer.constant(self.contains(tracer, key.realize()))

    def m___getitem__(self, tracer: Tracer, key: Value) -> Value:
        return self.get_item(tracer, key.realize())

    def m___setitem__(self, tracer: Tracer, key: Value, item: Value) -> Value:
        self.set_item(tracer, key.realize(), item)
        return tracer.constant(None)

    def m___delitem__(self, tracer: Tracer, key: Value) -> Value:
        self.delete_item(tracer, key.realize())
        return tracer.constant(None)

    def m___eq__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.eq, self, other)

    def m___or__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.or_, self, other)

    def m___ior__(self, tracer: Tracer, other: Value) -> Value:
        return operators.inplace(tracer, operator.ior, self, other)

    def m___reversed__(self, tracer: Tracer) -> Value:
        return tracer.constant(reversed).call(tracer, [self], {})

    def m___init__(self, tracer: Tracer, *others: Value, **named: Value) -> Value:
        return self.m_update(tracer, *others, **named)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "default_factory" and self.cls is defaultdict:
            return tracer.constant(None) if self.factory is None else self.factory
        found = ordered_dict.read_attribute(tracer, self, name) if self._may_hold(name) else None
        return super().get_attribute(tracer, name) if found is None else found

    def _may_hold(self, name: str) -> bool:
        return ordered_dict.has_attributes(self) and not hasattr(OrderedDict, name)

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        if ordered_dict.has_attributes(self):
            ordered_dict.write_attribute(tracer, self, name, value)
        else:
            super().set_attribute(tracer, name, value)

    # Back into the real world

    def reconstruct(self, emitter: ValueEmitter) -> None:
        check_rebuilt(self._entries or (), self.describe())
        if self.cls is dict:
            emitter.build_dict(0)
            emitter.remember(self)
            for key, value in (self._entries or {}).values():
                emitter.load_value(key)
                emitter.load_value(value)
                emitter.emit("MAP_ADD", 1)
            return
        emitter.begin_call(self.cls)
        if self.cls is defaultdict:
            emitter.load_constant(None) if self.factory is None else emitter.load_value(self.factory)
        emitter.call(1 if self.cls is defaultdict else 0)
        emitter.remember(self)
        for key, value in (self._entries or {}).values():
            emitter.load_value(value)
            emitter.copy(2)
            emitter.load_value(key)
            emitter.store_item()
        if self.cls is OrderedDict:
            ordered_dict.emit_attributes(emitter, self)

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit code that gives the real dict its final entries, changing no more than needed."""
        emit_write_back(emitter, self if self.owner is None else self.owner, self)


def emit_write_back(emitter: ValueEmitter, target: Value, contents: DictValue) -> None:
    """Emit the changes that bring the real dict of `target` to `contents`, past overridden methods."""
    base: Any = dict_base(target.python_type())
    entries = contents._entries or {}
    check_rebuilt(entries, contents.describe())
    kept = [symbol for symbol in contents.original if symbol in entries and symbol not in contents.removed]
    in_order = list(entries)[: len(kept)] == kept and not contents.is_cleared
    if in_order:
        stays = set(kept)
        for symbol in contents.original:
            if symbol not in stays:
                emitter.begin_call(base.__delitem__)
                emitter.load_value(target)
                emitter.load_value(contents.original[symbol][0])
                emitter.call(2)
                emitter.pop()
    else:
        emitter.begin_call(base.clear)
        emitter.load_value(target)
        emitter.call(1)
        emitter.pop()
    for symbol, (key, value) in entries.items():
        before = None if symbol in contents.removed else contents.original.get(symbol)
        if in_order and before is not None and before[1].realize() is value.realize():
            continue
        emitter.begin_call(base.__setitem__)
        emitter.load_value(target)
        emitter.load_value(key)
        emitter.load_value(value)
        emitter.call(3)
        emitter.pop()


def dict_contents(value: Value) -> DictValue | None:
    """The dict that a value is, or holds as an instance of a subclass; None if it is no dict."""
    value = value.realize()
    if isinstance(value, MappingProxyValue):
        return dict_contents(value.mapping)
    contents = getattr(value, "payload", value)
    return contents if isinstance(contents, DictValue) else None


def is_read_as_dict(value: Value, reader: type = dict) -> bool:
    """Whether `update`, `{**value}` and `f(**value)` read the entries of a value past what its class overrides.

    A dict does so of what is iterated as dicts are, an OrderedDict of dicts themselves only: of any other they ask
    `keys()`, and then for each item."""
    cls = value.realize().python_type()
    if cls in (dict, OrderedDict, defaultdict):
        return True
    is_dict = issubclass(cls, dict) and not issubclass(reader, OrderedDict)
    return is_dict and find_in_class(cls, "__iter__")[0] is dict.__dict__["__iter__"]


@wraps_type(dict, OrderedDict, defaultdict)
def wrap_dict(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A dict that existed before the frame."""
    cls = type(obj)
    tracer.guard(TypeIs(source, cls))
    factory = None
    if cls is defaultdict:
        factory = tracer.wrap(obj.default_factory, AttributeSource(source, "default_factory"))
    return DictValue(None, cls, source, obj, factory=factory)
