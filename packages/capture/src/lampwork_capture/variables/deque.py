"""DequeValue: a `collections.deque`: a list that also grows on the left, with an optional bound.

Invariant: a deque with a bound never holds more items than that; the far end drops what does not fit, as Python does.
"""

from __future__ import annotations

import collections
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import LengthIs, TypeIs
from ..source import AttributeSource, ItemSource, Source
from . import operators
from .base import Tracer, Value
from .constant import fold
from .iterator import ReversedIteratorValue, SequenceIteratorValue
from .lazy import LazyValue
from .list import ListValue
from .registry import handles, wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class DequeValue(ListValue):
    """A deque; `bound` is its maxlen or None."""

    kind = "a deque"
    __slots__ = ("bound", "version")

    def __init__(
        self, items: Sequence[Value], bound: int | None, source: Source | None = None, obj: Any = None
    ) -> None:
        super().__init__(items, source, obj)
        self.bound = bound
        self.version = 0  # grows with every change of what is where: an iterator notices
        self._trim(left=True)

    def python_type(self) -> type:
        return collections.deque

    def like(self, items: list[Value]) -> DequeValue:
        return DequeValue(items, self.bound)

    def snapshot(self) -> Any:
        """A deque of the constants that it holds now."""
        return collections.deque(super().snapshot(), self.bound)

    def _trim(self, *, left: bool) -> None:
        while self.bound is not None and len(self.items) > self.bound:
            self.items.pop(0 if left else -1)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        return tracer.constant(self.bound) if name == "maxlen" else super().get_attribute(tracer, name)

    def changed(self, tracer: Tracer) -> None:
        self.version += 1
        super().changed(tracer)

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        """No change to an iterator: it finds the new item."""
        index = self._index_of(tracer, key)
        self.items[index] = item
        super().changed(tracer)

    def iterate(self, tracer: Tracer) -> Value:
        return DequeIteratorValue(self)

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        return self.at(self._index_of(tracer, key))

    def _index_of(self, tracer: Tracer, key: Value) -> int:
        if key.python_type() is slice:
            tracer.raise_observed(TypeError, "sequence index must be integer, not 'slice'")
        index = operators.index_of(tracer, key)
        if not -len(self.items) <= index < len(self.items):
            fold(tracer, operator.getitem, collections.deque(), index)
        return index

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if isinstance(other, DequeValue) and op in operators.COMPARISONS:
            return tracer.constant(operators.compare_sequences(tracer, op, self.all_items(), other.all_items()))
        if op is operator.iadd:
            self.m_extend(tracer, other)
            return self
        if op is operator.add and isinstance(other, DequeValue):
            return self.like([*self.all_items(), *other.all_items()])
        return None

    def text(self, tracer: Tracer, convert: Callable[[Any], str]) -> str:
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the text of {self.describe()} is not known while tracing")

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if not hasattr(collections.deque, name):  # what only lists have
            return self.call_unmodelled(tracer, name, args, kwargs)
        return super().call_method(tracer, name, args, kwargs)

    def m_append(self, tracer: Tracer, item: Value) -> Value:
        super().m_append(tracer, item)
        self._trim(left=True)
        return tracer.constant(None)

    def m_remove(self, tracer: Tracer, item: Value) -> Value:
        for index in range(len(self.items)):
            if operators.equal(tracer, self.at(index), item):
                del self.items[index]
                self.changed(tracer)
                return tracer.constant(None)
        return tracer.raise_observed(ValueError, f"{operators.text_of(tracer, item, repr)} is not in deque")

    def m_index(self, tracer: Tracer, item: Value, start: Value | None = None, stop: Value | None = None) -> Value:
        first = 0 if start is None else operators.index_of(tracer, start)
        last = len(self.items) if stop is None else operators.index_of(tracer, stop)
        for index in range(*slice(first, last).indices(len(self.items))):
            if operators.equal(tracer, self.at(index), item):
                return tracer.constant(index)
        return tracer.raise_observed(ValueError, f"{operators.text_of(tracer, item, repr)} is not in deque")

    def m_appendleft(self, tracer: Tracer, item: Value) -> Value:
        self.items.insert(0, item)
        self._trim(left=False)
        self.changed(tracer)
        return tracer.constant(None)

    def m_extend(self, tracer: Tracer, items: Value) -> Value:
        super().m_extend(tracer, items)
        self._trim(left=True)
        return tracer.constant(None)

    def _taken(self, tracer: Tracer, items: Value) -> list[Value]:
        return items.realize().unpack(tracer)

    def m_insert(self, tracer: Tracer, index: Value, item: Value) -> Value:
        place = tracer.constant(operators.index_of(tracer, index))
        if len(self.items) == self.bound:
            tracer.raise_observed(IndexError, "deque already at its maximum size")
        return super().m_insert(tracer, place, item)

    def m_extendleft(self, tracer: Tracer, items: Value) -> Value:
        for item in items.realize().unpack(tracer):
            self.m_appendleft(tracer, item)
        return tracer.constant(None)

    def m_pop(self, tracer: Tracer, index: Value | None = None) -> Value:
        if not self.items:
            tracer.raise_observed(IndexError, "pop from an empty deque")
        return super().m_pop(tracer)

    def m_popleft(self, tracer: Tracer) -> Value:
        if not self.items:
            tracer.raise_observed(IndexError, "pop from an empty deque")
        item = self.items.pop(0).realize()
        self.changed(tracer)
        return item

    def m_rotate(self, tracer: Tracer, n: Value | None = None) -> Value:
        steps = 1 if n is None else operators.index_of(tracer, n)
        if self.items:
            cut = -steps % len(self.items)
            self.items[:] = self.items[cut:] + self.items[:cut]
            self.changed(tracer)
        return tracer.constant(None)

    def m_copy(self, tracer: Tracer) -> Value:
        return self.like(self.all_items())

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(collections.deque)
        emitter.load_constant(())
        emitter.load_constant(self.bound)
        emitter.call(2)
        emitter.remember(self)  # it may contain itself
        self._emit(emitter, collections.deque.extend)

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit code that gives the real deque its final items."""
        if not self.version:
            self._emit(emitter, _replace_items)
            return
        emitter.begin_call(collections.deque.clear)
        emitter.load_value(self)
        emitter.call(1)
        emitter.pop()
        self._emit(emitter, collections.deque.extend)

    def _emit(self, emitter: ValueEmitter, method: Any) -> None:
        emitter.begin_call(method)
        emitter.load_value(self)
        for item in self.items:
            emitter.load_value(item)
        emitter.build_tuple(len(self.items))
        emitter.call(2)
        emitter.pop()


class DequeIteratorValue(SequenceIteratorValue):
    """An iterator over a deque: that it changes meanwhile is the user's error."""

    __slots__ = ("deque", "version")

    def __init__(self, deque: DequeValue) -> None:
        super().__init__(deque)
        self.deque = deque
        self.version = deque.version

    def python_type(self) -> type:
        return type(iter(collections.deque()))

    def advance(self, tracer: Tracer) -> Value:
        if self.version != self.deque.version:
            tracer.raise_observed(RuntimeError, "deque mutated during iteration")
        return super().advance(tracer)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        _check_unchanged(self.deque, self.version)
        emitter.begin_call(_iterator_past)
        emitter.load_value(self.deque)
        emitter.load_constant(len(self.deque.items) if self.ended else self.index)
        emitter.call(2)


class ReversedDequeIteratorValue(ReversedIteratorValue):
    """`reversed(deque)`: that the deque changes meanwhile is the user's error."""

    __slots__ = ("version",)

    def __init__(self, deque: DequeValue) -> None:
        super().__init__(deque)
        self.version = deque.version

    def python_type(self) -> type:
        return type(reversed(collections.deque()))

    def advance(self, tracer: Tracer) -> Value:
        if self.version != self.sequence.version:
            tracer.raise_observed(RuntimeError, "deque mutated during iteration")
        return super().advance(tracer)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        _check_unchanged(self.sequence, self.version)
        count = len(self.sequence.items)
        emitter.begin_call(_reversed_past)
        emitter.load_value(self.sequence)
        emitter.load_constant(count if self.ended else count - 1 - self.index)
        emitter.call(2)


def _check_unchanged(deque: DequeValue, version: int) -> None:
    if deque.version != version:
        raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, "an iterator over a deque that changed since")


def _replace_items(target: collections.deque[Any], items: tuple[Any, ...]) -> None:
    """Run time: other items in the same places."""
    for index, item in enumerate(items):
        target[index] = item


def _iterator_past(items: collections.deque[Any], count: int) -> Any:
    """Run time: an iterator that has already yielded `count` items."""
    return _past(iter(items), count)


def _reversed_past(items: collections.deque[Any], count: int) -> Any:
    """Run time: a reversed iterator that has already yielded `count` items."""
    return _past(reversed(items), count)


def _past(iterator: Iterator[Any], count: int) -> Iterator[Any]:
    for _ in range(count):
        next(iterator)
    return iterator


@handles(collections.deque)
def make_deque(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    bound = args[1] if len(args) > 1 else None
    limit = None if bound is None else bound.realize().as_constant()
    limit = fold(tracer, collections.deque, (), limit).maxlen
    return DequeValue(args[0].realize().unpack(tracer) if args else [], limit)


@wraps_type(collections.deque)
def wrap_deque(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A deque that existed before the frame."""
    tracer.guard(TypeIs(source, collections.deque))
    tracer.guard(LengthIs(source, len(obj)))
    tracer.wrap(obj.maxlen, AttributeSource(source, "maxlen")).as_constant()
    items = [LazyValue(tracer, item, ItemSource(source, index)) for index, item in enumerate(obj)]
    return DequeValue(items, obj.maxlen, source, obj)
