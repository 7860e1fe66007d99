"""SetValue: sets and frozensets whose elements are known while tracing.

A set is mirrored by a real set of what stands for its elements, on which every operation is done as the program does
it: so its order is Python's own. Invariants: elements are told apart as Python would; the order of a set is only used
where it is the same in every call: not of objects hashed by address, nor of a given set that was changed since.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, DictKeysAre, TypeIs
from ..source import Source
from . import operators
from .base import Tracer, Value
from .constant import is_literal, snapshot
from .iterator import FixedIteratorValue
from .keys import check_rebuilt, has_fixed_hash
from .method import BuiltinObject
from .registry import wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_ALGEBRA: dict[Callable[..., Any], str] = {
    operator.or_: "union",
    operator.and_: "intersection",
    operator.sub: "difference",
    operator.xor: "symmetric_difference",
}
_INPLACE: dict[Callable[..., Any], str] = {
    operator.ior: "update",
    operator.iand: "intersection_update",
    operator.isub: "difference_update",
    operator.ixor: "symmetric_difference_update",
}


class SetValue(BuiltinObject):
    """A set or frozenset (`cls`). `members` mirrors it; `values` has the element of each of its symbols."""

    kind = "a set"
    __slots__ = (
        "_is_table_known", "_log", "_origin", "cls", "is_changed", "literal", "members", "obj", "owner", "values"
    )  # fmt: skip

    def __init__(
        self,
        members: Any = (),
        values: dict[Hashable, Value] | None = None,
        cls: type = set,
        source: Source | None = None,
        obj: Any = None,
        owner: Value | None = None,
        *,
        is_table_known: bool = True,
    ) -> None:
        super().__init__(source)
        self.members: Any = cls(members) if type(members) is not cls else members
        self.values: dict[Hashable, Value] = values or {}
        self.cls = cls
        self.obj = obj
        self.owner = owner
        self.is_changed = False
        self.literal: frozenset[Any] | None = None  # the frozenset itself, where it is a constant
        # Whether the mirror grew as the real set did; one that came with the call may have another table
        self._is_table_known = is_table_known and obj is None
        # How a set came to be, and what was done to it since: doing the same makes one of the same order
        self._origin: tuple[Callable[..., Any] | None, list[Value]] = (None, list(self.values.values()))
        self._log: list[tuple[str, list[Value]]] = []

    def python_type(self) -> type:
        return self.cls

    def is_constant(self) -> bool:
        return self.cls is frozenset and all(self.values[symbol].is_constant() for symbol in self.members)

    def as_constant(self) -> Any:
        return self.snapshot() if self.cls is frozenset else super().as_constant()

    def snapshot(self) -> Any:
        """The set of constants it is now, in its order."""
        wanted = self._ordered()
        copy = self.members.copy()
        if list(copy) == wanted and all(map(is_literal, copy)):  # symbols that are the constants themselves
            return copy
        found = self.cls(snapshot(self.values[symbol]) for symbol in wanted)
        if list(found) == [snapshot(self.values[symbol]) for symbol in wanted]:
            return found
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the order of {self.describe()} cannot be repeated")

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        """`str` or `repr`: elements in order."""
        if not self.members:
            return f"{self.cls.__name__}()"
        inner = [operators.text_of(tracer, item, ascii if convert is ascii else repr) for item in self.unpack(tracer)]
        shown = "{" + ", ".join(inner) + "}"
        return shown if self.cls is set else f"frozenset({shown})"

    def truth(self, tracer: Tracer) -> bool:
        return bool(self.members)

    def length(self, tracer: Tracer) -> int | None:
        return len(self.members)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        contents = set_contents(item)
        if contents is not None and contents.cls is set:  # a set as an element means the frozenset that it equals
            return contents.symbols() in self.members
        return operators.hash_key(tracer, item) in self.members

    def hash_key(self, tracer: Tracer) -> Hashable:
        return self.symbols()

    def symbols(self) -> frozenset[Hashable]:
        """What stands for the elements."""
        return frozenset(self.members)

    def is_order_known(self) -> bool:
        """Whether every call that reaches this point has the elements in the same order."""
        if len(self.members) < 2 or (self.obj is not None and not self.is_changed):
            return True
        return self._is_table_known and all(map(has_fixed_hash, self.members))

    def _ordered(self) -> list[Hashable]:
        if not self.is_order_known():
            cause = f"the order of the elements of {self.describe()} may be another in each call"
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, cause)
        return list(self.members if self.obj is None or self.is_changed else self.obj)

    def elements(self) -> list[Value]:
        """The elements, in an order that means nothing."""
        return [self.values[symbol] for symbol in self.members]

    def unpack(self, tracer: Tracer) -> list[Value]:
        return [self.values[symbol] for symbol in self._ordered()]

    def iterate(self, tracer: Tracer) -> Value:
        return SetIteratorValue(self, self.unpack(tracer))

    def children(self) -> Sequence[Value]:
        done = [operand for _, operands in self._log for operand in operands]
        return (*self.elements(), *self._origin[1], *done)

    def _did(self, tracer: Tracer, method: str, operands: Sequence[Value]) -> None:
        """The set was changed by a method with these operands."""
        self.is_changed = True
        self._log.append((method, list(operands)))
        tracer.side_effects.mutated(self if self.owner is None else self.owner)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        theirs = set_contents(other)
        if theirs is None:
            return None
        if op in operators.COMPARISONS:
            return tracer.constant(op(self.members, theirs.members))
        if op in _INPLACE and self.cls is set:
            self._update(tracer, _INPLACE[op], [theirs])
            return self
        if op in _ALGEBRA:
            first, second = (theirs, self) if reflected else (self, theirs)
            return first.combined(_ALGEBRA[op], [second])
        return None

    def combined(self, method: str, others: Sequence[Value]) -> SetValue:
        """A new set: `set.union(self, *others)` or the like. `others` are sets or sequences of what they hold."""
        operands = [other.members if isinstance(other, SetValue) else other for other in others]
        made = getattr(self.members, method)(*operands)
        values = dict(self.values)
        for other in others:
            assert isinstance(other, SetValue)
            for symbol, value in other.values.items():
                values.setdefault(symbol, value)
        is_known = all(s._is_table_known for s in (self, *others) if isinstance(s, SetValue))
        result = SetValue(made, values, self.cls, is_table_known=is_known)
        how = getattr(self.cls, method)
        if self.cls is set and self.source is not None:
            how = partial(_on_copy, method)  # what is kept of it is a frozenset
        result._origin = (how, [s.frozen() for s in (self, *others) if isinstance(s, SetValue)])
        return result

    def _update(self, tracer: Tracer, method: str, others: Sequence[SetValue]) -> None:
        """Change in place by another set, as `set.method` does."""
        operands = [other.frozen() for other in others]
        for other in others:
            for symbol, value in other.values.items():
                if symbol not in self.members or symbol not in self.values:
                    self.values[symbol] = value
            self._is_table_known = self._is_table_known and other._is_table_known
        getattr(self.members, method)(*(other.members for other in others))
        self._did(tracer, method, operands)

    def frozen(self) -> SetValue:
        """The set as it is now, whatever is done to it later."""
        if self.cls is frozenset:
            return self
        made = SetValue(self.members.copy(), dict(self.values), self.cls, is_table_known=self._is_table_known)
        made._origin = (frozenset, [self]) if self.source is not None else self._origin
        made._log = list(self._log)
        return made

    # Methods

    def m_add(self, tracer: Tracer, item: Value) -> Value:
        symbol = operators.hash_key(tracer, item)
        if symbol not in self.members:
            self.members.add(symbol)
            self.values[symbol] = item.realize()
            self._did(tracer, "add", [item.realize()])
        return tracer.constant(None)

    def m_discard(self, tracer: Tracer, item: Value) -> Value:
        self._drop(tracer, self._symbol_of(tracer, item))
        return tracer.constant(None)

    def _symbol_of(self, tracer: Tracer, item: Value) -> Hashable:
        contents = set_contents(item)
        return contents.symbols() if contents is not None else operators.hash_key(tracer, item)

    def _drop(self, tracer: Tracer, symbol: Hashable) -> bool:
        if symbol not in self.members:
            return False
        self.members.discard(symbol)
        self._did(tracer, "discard", [self.values[symbol]])
        return True

    def m_remove(self, tracer: Tracer, item: Value) -> Value:
        if not self._drop(tracer, self._symbol_of(tracer, item)):
            tracer.raise_observed(KeyError, item.realize())
        return tracer.constant(None)

    def m_pop(self, tracer: Tracer) -> Value:
        if not self.members:
            tracer.raise_observed(KeyError, "pop from an empty set")
        if len(self.members) > 1 and (self.obj is not None or not self.is_order_known()):
            # A set goes on where its last `pop` was, which does not show
            cause = f"which element `pop` takes from {self.describe()} may differ from call to call"
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, cause)
        taken = self.values[self.members.pop()]
        self._did(tracer, "pop", [])
        return taken

    def m_clear(self, tracer: Tracer) -> Value:
        self.members.clear()
        self._did(tracer, "clear", [])
        self._is_table_known = True
        return tracer.constant(None)

    def m_copy(self, tracer: Tracer) -> Value:
        if self.cls is frozenset and self.owner is None:
            return self
        made = SetValue(self.members.copy(), dict(self.values), self.cls, is_table_known=self._is_table_known)
        copier = set if self.cls is set else self.cls.copy  # what is copied may be kept as a frozenset
        made._origin = (copier, [self.frozen()])
        return made

    def m_update(self, tracer: Tracer, *others: Value) -> Value:
        for other in others:
            known = set_contents(other)
            if known is not None:
                self._update(tracer, "update", [known])
            else:
                for item in other.realize().unpack(tracer):
                    self.m_add(tracer, item)
        return tracer.constant(None)

    def m_union(self, tracer: Tracer, *others: Value) -> Value:
        if self.cls is frozenset:
            return self.combined("union", [as_set(tracer, other) for other in others])
        made = self.m_copy(tracer)
        made.call_method(tracer, "update", others, {})
        return made

    def m_intersection(self, tracer: Tracer, *others: Value) -> Value:
        return self.combined("intersection", [as_set(tracer, other) for other in others])

    def m_difference(self, tracer: Tracer, *others: Value) -> Value:
        return self.combined("difference", [as_set(tracer, other) for other in others])

    def m_symmetric_difference(self, tracer: Tracer, other: Value) -> Value:
        return self.combined("symmetric_difference", [as_set(tracer, other)])

    def m_intersection_update(self, tracer: Tracer, *others: Value) -> Value:
        self._update(tracer, "intersection_update", [as_set(tracer, other) for other in others])
        return tracer.constant(None)

    def m_difference_update(self, tracer: Tracer, *others: Value) -> Value:
        self._update(tracer, "difference_update", [as_set(tracer, other) for other in others])
        return tracer.constant(None)

    def m_symmetric_difference_update(self, tracer: Tracer, other: Value) -> Value:
        self._update(tracer, "symmetric_difference_update", [as_set(tracer, other)])
        return tracer.constant(None)

    def m_issubset(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(self.members.issubset(as_set(tracer, other).members))

    def m_issuperset(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(self.members.issuperset(as_set(tracer, other).members))

    def m_isdisjoint(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(self.members.isdisjoint(as_set(tracer, other).members))

    def m___contains__(self, tracer: Tracer, item: Value) -> Value:
        return tracer.constant(bool(self.contains(tracer, item.realize())))

    def m___len__(self, tracer: Tracer) -> Value:
        return tracer.constant(len(self.members))

    def m___iter__(self, tracer: Tracer) -> Value:
        return self.iterate(tracer)

    def m___init__(self, tracer: Tracer, items: Value | None = None) -> Value:
        self.m_clear(tracer)
        return tracer.constant(None) if items is None else self.m_update(tracer, items)

    # Back into the real world

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.literal is not None:
            emitter.load_constant(self.literal)
            return
        check_rebuilt(self.members, self.describe())
        symbols = self._order_that_rebuilds()
        if symbols is None:
            self._repeat(emitter)
            return
        if self.cls is frozenset:
            emitter.begin_call(frozenset)
        for symbol in symbols:
            emitter.load_value(self.values[symbol])
        emitter.build_tuple(len(symbols)) if self.cls is frozenset else emitter.build_set(len(symbols))
        if self.cls is frozenset:
            emitter.call(1)

    def _order_that_rebuilds(self) -> list[Hashable] | None:
        """The elements in an order in which adding them gives a set of the same order, if there is one."""
        wanted = list(self.members)
        if not self.is_order_known():
            return None
        for symbols in (wanted, [symbol for symbol in self.values if symbol in self.members]):
            built: Any = set()
            for symbol in symbols:
                built.add(symbol)
            if list(frozenset(symbols) if self.cls is frozenset else built) == wanted:
                return symbols
        return None

    def _repeat(self, emitter: ValueEmitter) -> None:
        """Emit the operations that made the set."""
        how, operands = self._origin
        if any(s.is_changed for s in operands if isinstance(s, SetValue) and s.source is not None):
            cause = f"{self.describe()} was made of a set that changed since"
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, cause)
        if how is not None:
            emitter.begin_call(how)
        elif self.cls is frozenset:
            emitter.begin_call(frozenset)
        for operand in operands:
            emitter.load_value(operand)
        if how is not None:
            emitter.call(len(operands))
        elif self.cls is frozenset:
            emitter.build_tuple(len(operands))
            emitter.call(1)
        else:
            emitter.build_set(len(operands))
        emitter.remember(self)
        self.write_back(emitter)

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit what was done to the real set, in the order in which it was done."""
        target = self if self.owner is None else self.owner
        check_rebuilt(self.values, self.describe())
        for method, operands in self._log:
            emitter.begin_call(getattr(set, method))
            emitter.load_value(target)
            for operand in operands:
                emitter.load_value(operand)
            emitter.call(1 + len(operands))
            emitter.pop()


def _on_copy(method: str, kept: frozenset[Any], *others: frozenset[Any]) -> set[Any]:
    """Run time: `set.method` of a set that is kept as a frozenset."""
    made: set[Any] = getattr(set, method)(set(kept), *others)
    return made


class SetIteratorValue(FixedIteratorValue):
    """An iterator over a set: that it grows or shrinks meanwhile is the user's error."""

    __slots__ = ("owner", "size")

    def __init__(self, owner: SetValue, items: Sequence[Value]) -> None:
        super().__init__(items, type(iter(set())))
        self.owner = owner
        self.size = len(items)

    def advance(self, tracer: Tracer) -> Value:
        if len(self.owner.members) != self.size:
            tracer.raise_observed(RuntimeError, "Set changed size during iteration")
        return super().advance(tracer)


def set_contents(value: Value) -> SetValue | None:
    """The set that a value is, or holds; None if it is no set."""
    value = value.realize()
    contents = getattr(value, "payload", value)
    return contents if isinstance(contents, SetValue) else None


def as_set(tracer: Tracer, value: Value) -> SetValue:
    """`set(value)` for any iterable of known items."""
    known = set_contents(value)
    if known is not None:
        return known
    return make_set(tracer, value.realize().unpack(tracer), set)


def make_set(tracer: Tracer, items: Iterable[Value], cls: type) -> SetValue:
    """A new set of these items, added one by one."""
    members: set[Hashable] = set()
    values: dict[Hashable, Value] = {}
    for item in items:
        symbol = operators.hash_key(tracer, item)
        if symbol not in members:
            members.add(symbol)
            values[symbol] = item.realize()
    return SetValue(frozenset(iter(values)) if cls is frozenset else members, values, cls)


def convert_set(tracer: Tracer, value: Value, cls: type) -> SetValue:
    """`set(value)` or `frozenset(value)`: the table of a set is copied as a whole, that of a dict made at once."""
    value = value.realize()
    contents = set_contents(value)
    if contents is not None:
        if cls is frozenset and contents.cls is frozenset and contents.owner is None:
            return contents
        copied = SetValue(cls(contents.members), dict(contents.values), cls, is_table_known=contents._is_table_known)
        copied._origin = (cls, [contents.frozen()])
        return copied
    made = make_set(tracer, value.unpack(tracer), cls)
    if value.python_type() is dict:
        made.members = cls(dict.fromkeys(made.values))
        made._origin = (cls, [value.call_method(tracer, "copy", [], {})])
    return made


def constant_set(tracer: Tracer, obj: Any) -> SetValue:
    """The value of a set that is known while tracing: a frozenset as it is, a set as a copy."""
    values: dict[Hashable, Value] = {}
    for item in obj:
        value = tracer.constant(item)
        values[operators.hash_key(tracer, value)] = value
    is_same = all(symbol is item for symbol, item in zip(values, obj))
    made = SetValue(obj if is_same and type(obj) is frozenset else type(obj)(values), values, type(obj))
    if is_same and type(obj) is frozenset:
        made.literal = obj
    return made


_MOST_ITEMS = 1_000


@wraps_type(set, frozenset)
def wrap_set(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A set that existed before the frame: modelled if its elements are literals or types, and not too many: all of
    them are guarded."""
    if len(obj) > _MOST_ITEMS:
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a set of {len(obj)} objects")
    if not all(is_literal(item) or isinstance(item, type) for item in obj):
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a set of objects that are not constants")
    tracer.guard(TypeIs(source, type(obj)))
    tracer.guard(DictKeysAre(source, tuple(item if is_literal(item) else ByIdentity(item) for item in obj)))
    mirror = obj if type(obj) is frozenset else obj.copy()
    values: dict[Hashable, Value] = {item: tracer.constant(item) for item in obj}
    return SetValue(mirror, values, type(obj), source, obj)
