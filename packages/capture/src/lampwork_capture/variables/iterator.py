"""Iterators: positions in sequences and dicts, and zip, enumerate, map, filter, reversed and itertools over them.

An iterator is stepped while tracing, so a loop over it is unrolled. Invariant: what an iterator has yielded is gone:
rebuilding it after a break gives one that yields exactly what is left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..graph_break import BreakId, GraphBreak
from .base import ObservedException, Tracer, Value
from .class_lookup import is_iterable
from .method import BuiltinObject

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


Rebuild = Callable[["ValueEmitter"], None]


class _Indexable(Protocol):
    items: list[Value]

    def at(self, index: int) -> Value: ...


_MOST_ITEMS = 2_000  # taken at once


class IteratorValue(BuiltinObject):
    """Base of the iterators: iterating gives itself, unpacking drains it."""

    kind = "an iterator"
    __slots__ = ()

    def iterate(self, tracer: Tracer) -> Value:
        return self

    def truth(self, tracer: Tracer) -> bool:
        return True

    def unpack(self, tracer: Tracer) -> list[Value]:
        return list(each(tracer, self))

    def m___iter__(self, tracer: Tracer) -> Value:
        return self

    def m___next__(self, tracer: Tracer) -> Value:
        return self.next(tracer)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return None


class End(Exception):
    """An iterator is exhausted (internal: `next` turns it into the program's StopIteration)."""


class StepIterator(IteratorValue):
    """An iterator whose `advance` gives the next item or raises End."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def advance(self, tracer: Tracer) -> Value:
        raise NotImplementedError

    def next(self, tracer: Tracer) -> Value:
        if not self.ended:
            try:
                return self.advance(tracer)
            except End:
                self.ended = True
        return tracer.raise_observed(StopIteration)


def step(tracer: Tracer, iterator: Value) -> Value | None:
    """The next item, or None at the end; without making an exception where the iterator is one of ours."""
    if isinstance(iterator, StepIterator):
        if iterator.ended:
            return None
        try:
            return iterator.advance(tracer)
        except End:
            iterator.ended = True
            return None
    try:
        return iterator.next(tracer)
    except ObservedException as error:
        if issubclass(error.value.python_type(), StopIteration):
            return None
        raise


def each(tracer: Tracer, iterator: Value) -> Iterator[Value]:
    """What an iterator still yields, taken from it one by one. Raises GraphBreak where that is too much."""
    count = 0
    while (item := step(tracer, iterator)) is not None:
        count += 1
        if count > _MOST_ITEMS:
            cause = f"{iterator.describe()} of more than {_MOST_ITEMS} items"
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, cause)
        yield item


class SequenceIteratorValue(StepIterator):
    """`iter(list)` or `iter(tuple)`: a position; the list may grow meanwhile."""

    __slots__ = ("index", "sequence")

    def __init__(self, sequence: _Indexable, index: int = 0) -> None:
        super().__init__()
        self.sequence = sequence
        self.index = index

    def python_type(self) -> type:
        kind = getattr(self.sequence, "kind", "a list")
        return type(iter(())) if kind == "a tuple" else type(iter([]))

    def advance(self, tracer: Tracer) -> Value:
        if self.index >= len(self.sequence.items):
            raise End
        self.index += 1
        return self.sequence.at(self.index - 1)

    def children(self) -> Sequence[Value]:
        return (self.sequence,) if isinstance(self.sequence, Value) else tuple(self.sequence.items)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.ended and self.python_type() is _LIST_ITERATOR:
            emitter.begin_call(iter)
            emitter.build_list(0)
            emitter.call(1)
            return
        if self.ended or not isinstance(self.sequence, Value):
            _emit_iterator_over(emitter, [] if self.ended else self.sequence.items[self.index :])
            return
        emitter.begin_call(iterator_at)
        emitter.load_value(self.sequence)
        emitter.load_constant(self.index)
        emitter.call(2)


class FixedIteratorValue(StepIterator):
    """An iterator over items that are all known now (ranges, strings, dict and set iterators, drained views)."""

    __slots__ = ("index", "items", "real_type")

    def __init__(self, items: Sequence[Value], real_type: type) -> None:
        super().__init__()
        self.items = list(items)
        self.index = 0
        self.real_type = real_type

    def python_type(self) -> type:
        return self.real_type

    def advance(self, tracer: Tracer) -> Value:
        if self.index >= len(self.items):
            raise End
        self.index += 1
        return self.items[self.index - 1].realize()

    def children(self) -> Sequence[Value]:
        return tuple(self.items[self.index :])

    def reconstruct(self, emitter: ValueEmitter) -> None:
        left = self.items[self.index :]
        if self.real_type is reversed:
            _emit_iterator_over(emitter, left[::-1], reversed)
        else:
            _emit_iterator_over(emitter, left)


class ZipValue(StepIterator):
    """`zip(*iterables)`."""

    __slots__ = ("parts", "strict")

    def __init__(self, parts: Sequence[Value], strict: bool) -> None:
        super().__init__()
        self.parts = list(parts)
        self.strict = strict

    def python_type(self) -> type:
        return zip

    def advance(self, tracer: Tracer) -> Value:
        row: list[Value] = []
        for index, part in enumerate(self.parts):
            item = step(tracer, part)
            if item is None:
                if self.strict:
                    self._check_strict(tracer, index)
                raise End
            row.append(item)
        if not row:
            raise End
        return make_tuple(tracer, row)

    def _check_strict(self, tracer: Tracer, index: int) -> None:
        if index > 0:
            before = "argument 1" if index == 1 else f"arguments 1-{index}"
            tracer.raise_observed(ValueError, f"zip() argument {index + 1} is shorter than {before}")
        for later, part in enumerate(self.parts[1:], start=2):
            if step(tracer, part) is not None:
                before = "argument 1" if later == 2 else f"arguments 1-{later - 1}"
                tracer.raise_observed(ValueError, f"zip() argument {later} is longer than {before}")

    def children(self) -> Sequence[Value]:
        return tuple(self.parts)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(zip)
        for part in self.parts:
            emitter.load_value(part)
        if self.strict:
            emitter.load_constant(True)
            emitter.call(len(self.parts), ("strict",))
        else:
            emitter.call(len(self.parts))


class EnumerateValue(StepIterator):
    """`enumerate(iterable, start)`."""

    __slots__ = ("index", "part")

    def __init__(self, part: Value, start: int) -> None:
        super().__init__()
        self.part = part
        self.index = start

    def python_type(self) -> type:
        return enumerate

    def advance(self, tracer: Tracer) -> Value:
        item = step(tracer, self.part)
        if item is None:
            raise End
        self.index += 1
        return make_tuple(tracer, [tracer.constant(self.index - 1), item])

    def children(self) -> Sequence[Value]:
        return (self.part,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(enumerate)
        emitter.load_value(self.part)
        emitter.load_constant(self.index)
        emitter.call(2)


class MapValue(StepIterator):
    """`map(function, *iterables)`: the function is traced when an item is asked for."""

    __slots__ = ("function", "parts")

    def __init__(self, function: Value, parts: Sequence[Value]) -> None:
        super().__init__()
        self.function = function
        self.parts = list(parts)

    def python_type(self) -> type:
        return map

    def advance(self, tracer: Tracer) -> Value:
        row: list[Value] = []
        for part in self.parts:
            item = step(tracer, part)
            if item is None:
                raise End
            row.append(item)
        return tracer.call(self.function, row)

    def children(self) -> Sequence[Value]:
        return (self.function, *self.parts)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(map)
        emitter.load_value(self.function)
        for part in self.parts:
            emitter.load_value(part)
        emitter.call(len(self.parts) + 1)


class FilterValue(StepIterator):
    """`filter(function, iterable)`; with `keep=False`, `itertools.filterfalse`."""

    __slots__ = ("function", "keep", "part", "real_type")

    def __init__(self, function: Value, part: Value, real_type: type, keep: bool = True) -> None:
        super().__init__()
        self.function = function
        self.part = part
        self.real_type = real_type
        self.keep = keep

    def python_type(self) -> type:
        return self.real_type

    def advance(self, tracer: Tracer) -> Value:
        while (item := step(tracer, self.part)) is not None:
            known_none = self.function.is_constant() and self.function.as_constant() in (None, bool)
            verdict = item if known_none else tracer.call(self.function, [item])
            if verdict.truth(tracer) is self.keep:
                return item
        raise End

    def children(self) -> Sequence[Value]:
        return (self.function, self.part)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(self.real_type)
        emitter.load_value(self.function)
        emitter.load_value(self.part)
        emitter.call(2)


class ReversedIteratorValue(StepIterator):
    """`reversed(list)` or `reversed(tuple)`: a position; it ends where the list has shrunk below it."""

    __slots__ = ("index", "sequence")

    def __init__(self, sequence: Any) -> None:
        super().__init__()
        self.sequence = sequence
        self.index = len(sequence.items) - 1

    def python_type(self) -> type:
        return reversed if self.sequence.python_type() is tuple else type(reversed([]))

    def advance(self, tracer: Tracer) -> Value:
        if not 0 <= self.index < len(self.sequence.items):
            raise End
        self.index -= 1
        return self.sequence.at(self.index + 1)

    def children(self) -> Sequence[Value]:
        return (self.sequence,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(reversed_at)
        emitter.load_value(self.sequence)
        emitter.load_constant(-1 if self.ended else self.index)
        emitter.call(2)


def reversed_at(sequence: Any, index: int) -> Any:
    """Run time: a reversed iterator whose next item is the one at an index; -1: it has ended."""
    iterator: Any = reversed(sequence)
    iterator.__setstate__(index)
    return iterator


class ComputedIterator(StepIterator):
    """An itertools object: `produce` gives the next item or None; `rebuild` emits one that yields what is left.

    `produce` closes over the iterators it reads; `parts` names them so that they stay alive."""

    __slots__ = ("parts", "produce", "real_type", "rebuild")

    def __init__(
        self,
        real_type: type,
        parts: Sequence[Value],
        produce: Callable[[Tracer], Value | None],
        rebuild: Callable[[ValueEmitter], None] | None = None,
    ) -> None:
        super().__init__()
        self.real_type = real_type
        self.parts = tuple(parts)
        self.produce = produce
        self.rebuild = rebuild

    def python_type(self) -> type:
        return self.real_type

    def advance(self, tracer: Tracer) -> Value:
        item = self.produce(tracer)
        if item is None:
            raise End
        return item

    def children(self) -> Sequence[Value]:
        return self.parts

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.ended:
            emitter.begin_call(ended)
            emitter.load_constant(self.real_type)
            emitter.call(1)
        elif self.rebuild is None:
            super().reconstruct(emitter)
        else:
            self.rebuild(emitter)


def ended(real_type: type) -> Any:
    """Run time: an iterator that is exhausted."""
    if real_type in (itertools.repeat,):
        return itertools.repeat(None, 0)
    if real_type in (itertools.takewhile, itertools.dropwhile, itertools.filterfalse, itertools.starmap):
        return real_type(bool, ())  # type: ignore[call-arg]
    if real_type is itertools.islice:
        return itertools.islice((), 0)
    if real_type is itertools.compress:
        return itertools.compress((), ())
    return iter(()) if real_type not in _FROM_NOTHING else real_type(())  # type: ignore[call-arg]


_FROM_NOTHING = frozenset(
    {itertools.chain, itertools.accumulate, itertools.cycle, itertools.groupby, itertools.zip_longest}
)


def make_tuple(tracer: Tracer, items: Sequence[Value]) -> Value:
    """A new tuple value."""
    builder: Any = tracer.constant(())
    return builder.like(list(items))


def iterate(tracer: Tracer, value: Value) -> Value:
    """`iter(value)`."""
    return value.realize().iterate(tracer)


def _emit_iterator_over(emitter: ValueEmitter, items: Sequence[Value], make: Any = iter) -> None:
    emitter.begin_call(make)
    for item in items:
        emitter.load_value(item)
    emitter.build_tuple(len(items))
    emitter.call(1)


_ITER, _REVERSED = iter, reversed  # the program may delete the builtins
_LIST_ITERATOR = type(iter([]))


def iterator_at(sequence: Any, index: int) -> Any:
    """Run time: `iter(sequence)` moved to a position."""
    iterator = _ITER(sequence)
    iterator.__setstate__(index)
    return iterator


def iterator_of(tracer: Tracer, value: Value) -> Value:
    """`iter(value)`."""
    value = value.realize()
    cls = value.python_type()
    if not is_iterable(cls):
        tracer.raise_observed(TypeError, f"'{cls.__name__}' object is not iterable")
    return value.iterate(tracer)


def rebuild_by_call(real_type: Any, *parts: Value) -> Rebuild:
    """Built anew by calling the type with the same parts, which have moved on meanwhile."""

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(real_type)
        for part in parts:
            emitter.load_value(part)
        emitter.call(len(parts))

    return rebuild
