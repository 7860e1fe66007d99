"""SequenceValue: what lists and tuples share: items by position, slices, search, comparison, concatenation.

Items of a sequence that existed before the frame are wrapped when they are read. Invariant: `items` always has the
length that the real sequence would have now.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..graph_break import BreakId, GraphBreak
from . import operators
from .base import Tracer, Value
from .class_lookup import has_special
from .constant import fold, snapshot
from .iterator import SequenceIteratorValue
from .method import BuiltinObject

_MOST_REPEATED = 1_000_000  # items


class SequenceValue(BuiltinObject):
    """A list or a tuple. `owner` is the object of a user's subclass that this is the contents of."""

    __slots__ = ("items", "owner")
    items: list[Value]
    owner: Value | None

    def like(self, items: list[Value]) -> SequenceValue:
        """A new sequence of the same builtin type."""
        raise NotImplementedError

    def at(self, index: int) -> Value:
        """The item at a valid index."""
        item = self.items[index]
        real = item.realize()
        if real is not item:
            self.items[index] = real
        return real

    def all_items(self) -> list[Value]:
        """Every item, realized; a new list."""
        return [self.at(index) for index in range(len(self.items))]

    def truth(self, tracer: Tracer) -> bool:
        return bool(self.items)

    def length(self, tracer: Tracer) -> int | None:
        return len(self.items)

    def unpack(self, tracer: Tracer) -> list[Value]:
        return self.all_items()

    def iterate(self, tracer: Tracer) -> Value:
        return SequenceIteratorValue(self)

    def children(self) -> Sequence[Value]:
        return tuple(self.items)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        if key.python_type() is slice:
            places = range(len(self.items))
            chosen: range = fold(tracer, lambda: places[self._slice(key)])
            return self.like([self.at(index) for index in chosen])
        if not key.is_constant() and not has_special(key.python_type(), "__index__"):
            return self._bad_index(tracer, key)
        if key.is_constant() and not hasattr(key.as_constant(), "__index__"):
            return self._bad_index(tracer, key)
        index = operators.index_of(tracer, key)
        if not -len(self.items) <= index < len(self.items):
            fold(tracer, operator.getitem, [] if self.kind == "a list" else (), index)
        return self.at(index)

    def _slice(self, key: Value) -> slice:
        return snapshot(key)

    def _bad_index(self, tracer: Tracer, key: Value) -> Value:
        name = self.python_type().__name__
        return tracer.raise_observed(
            TypeError, f"{name} indices must be integers or slices, not {key.python_type().__name__}"
        )

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return any(operators.equal(tracer, self.at(index), item) for index in range(len(self.items)))

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op in operators.COMPARISONS and self._comparable(other):
            assert isinstance(other, SequenceValue) or hasattr(other, "payload")
            theirs = contents_of(other)
            lengths = len(self.items), len(theirs.items)
            answer = operators.compare_sequences(tracer, op, self.all_items(), theirs.all_items())
            if lengths != (len(self.items), len(theirs.items)):
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a sequence that changes while it is compared")
            return tracer.constant(answer)
        if op is operator.mul and other.is_constant() and isinstance(other.as_constant(), int):
            if self.python_type() is tuple and self.owner is None and other.as_constant() == 1:
                return self  # a tuple once is the tuple itself
            return self.like(self.repeated(tracer, int(other.as_constant())))
        if op is operator.add and not reflected and self._comparable(other):
            return self.like([*self.all_items(), *contents_of(other).all_items()])
        return None

    def repeated(self, tracer: Tracer, count: int) -> list[Value]:
        """All items, `count` times."""
        fold(tracer, operator.mul, [], count)  # refuses what is no size
        if count > 0 and count * len(self.items) > _MOST_REPEATED:
            raise GraphBreak(BreakId.NOT_A_CONSTANT, f"{self.describe()} times {count}, which may not fit in memory")
        return self.all_items() * count

    def _comparable(self, other: Value) -> bool:
        mine = list if self.kind == "a list" else tuple
        return issubclass(other.python_type(), mine) and (
            isinstance(other, SequenceValue) or isinstance(getattr(other, "payload", None), SequenceValue)
        )

    # Methods that both have

    def m_index(self, tracer: Tracer, item: Value, start: Value | None = None, stop: Value | None = None) -> Value:
        first = 0 if start is None else operators.index_of(tracer, start)
        last = len(self.items) if stop is None else operators.index_of(tracer, stop)
        for index in range(*slice(first, last).indices(len(self.items))):
            if operators.equal(tracer, self.at(index), item):
                return tracer.constant(index)
        what = "tuple.index(x): x not in tuple"
        if self.kind != "a tuple":
            what = f"{operators.text_of(tracer, item, repr)} is not in list"
        return tracer.raise_observed(ValueError, what)

    def m_count(self, tracer: Tracer, item: Value) -> Value:
        return tracer.constant(sum(operators.equal(tracer, mine, item) for mine in self.all_items()))

    def m___len__(self, tracer: Tracer) -> Value:
        return tracer.constant(len(self.items))

    def m___iter__(self, tracer: Tracer) -> Value:
        return self.iterate(tracer)

    def m___contains__(self, tracer: Tracer, item: Value) -> Value:
        return tracer.constant(bool(self.contains(tracer, item)))

    def m___getitem__(self, tracer: Tracer, key: Value) -> Value:
        return self.get_item(tracer, key.realize())

    def m___add__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.add, self, other)

    def m___mul__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.mul, self, other)

    def m___eq__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.eq, self, other)

    def m___ne__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.ne, self, other)

    def m___lt__(self, tracer: Tracer, other: Value) -> Value:
        return operators.binary(tracer, operator.lt, self, other)

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        """`str` or `repr` of a sequence: that of its items, joined."""
        inner = [operators.text_of(tracer, item, ascii if convert is ascii else repr) for item in self.all_items()]
        if self.kind == "a list":
            return f"[{', '.join(inner)}]"
        return f"({inner[0]},)" if len(inner) == 1 else f"({', '.join(inner)})"


def contents_of(value: Value) -> SequenceValue:
    """The sequence that a value is, or holds as an instance of a subclass."""
    contents = getattr(value, "payload", value)
    if not isinstance(contents, SequenceValue):
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"{value.describe()} is not modelled as a sequence")
    return contents
