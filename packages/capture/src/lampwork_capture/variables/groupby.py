"""GroupByValue: `itertools.groupby`, whose groups take their items from the same iterator below.

Invariant: that iterator is advanced exactly when the real one would be; a group ends when the groupby moves on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from . import operators
from .base import Tracer, Value
from .iterator import (
    End,
    StepIterator,
    iterator_of,
    make_tuple,
    rebuild_by_call,
    step,
)
from .registry import handles

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class _Group(StepIterator):
    """One group of a groupby: ends when the groupby moves on."""

    __slots__ = ("key", "owner")

    def __init__(self, owner: GroupByValue, key: Value) -> None:
        super().__init__()
        self.owner = owner
        self.key = key

    def python_type(self) -> type:
        return type(next(itertools.groupby("a"))[1])

    def advance(self, tracer: Tracer) -> Value:
        owner = self.owner
        if owner.group is not self:
            raise End
        if owner.value is None and not owner.take(tracer):
            raise End
        assert owner.key is not None and owner.value is not None
        if not operators.equal(tracer, self.key, owner.key):
            raise End
        value, owner.value = owner.value, None
        return value

    def children(self) -> Sequence[Value]:
        return (self.owner, self.key)


class GroupByValue(StepIterator):
    """`itertools.groupby(iterable, key)`."""

    __slots__ = ("function", "group", "iterator", "key", "value")

    def __init__(self, iterator: Value, function: Value) -> None:
        super().__init__()
        self.iterator = iterator
        self.function = function
        self.key: Value | None = None  # of the item that was taken last
        self.value: Value | None = None  # an item that no group has yielded yet
        self.group: _Group | None = None

    def python_type(self) -> type:
        return itertools.groupby

    def take(self, tracer: Tracer) -> bool:
        """Take the next item from below."""
        item = step(tracer, self.iterator)
        if item is None:
            return False
        self.key = item if tracer.is_none(self.function) else tracer.call(self.function, [item]).realize()
        self.value = item
        return True

    def advance(self, tracer: Tracer) -> Value:
        target = None if self.group is None else self.group.key
        self.group = None
        while self.key is None or (target is not None and operators.equal(tracer, target, self.key)):
            if not self.take(tracer):
                raise End
        group = self.group = _Group(self, self.key)
        return make_tuple(tracer, [self.key, group])

    def children(self) -> Sequence[Value]:
        return (self.iterator, self.function)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.key is not None:
            super().reconstruct(emitter)
        rebuild_by_call(itertools.groupby, self.iterator, self.function)(emitter)


@handles(itertools.groupby)
def make_groupby(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    key = args[1].realize() if len(args) > 1 else tracer.constant(None)
    return GroupByValue(iterator_of(tracer, args[0]), key)
