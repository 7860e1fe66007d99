"""TeeValue: the iterators that `itertools.tee` makes of one below.

Invariant: they share what was read from below, which is advanced when the first of them needs an item.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from . import operators
from .base import Tracer, Value
from .iterator import (
    End,
    StepIterator,
    iterator_of,
    make_tuple,
    step,
)
from .registry import handles


class TeeValue(StepIterator):
    """One of the iterators that `itertools.tee` gives; they share what was read from below."""

    __slots__ = ("index", "iterator", "shared")

    def __init__(self, iterator: Value, shared: list[Value], index: int = 0) -> None:
        super().__init__()
        self.iterator = iterator
        self.shared = shared
        self.index = index

    def python_type(self) -> type:
        return type(itertools.tee(())[0])

    def advance(self, tracer: Tracer) -> Value:
        if self.index == len(self.shared):
            item = step(tracer, self.iterator)
            if item is None:
                raise End
            self.shared.append(item)
        self.index += 1
        return self.shared[self.index - 1]

    def children(self) -> Sequence[Value]:
        return (self.iterator, *self.shared)


@handles(itertools.tee)
def make_tee(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    count = 2 if len(args) < 2 else operators.index_of(tracer, args[1])
    if count < 0:
        tracer.raise_observed(ValueError, "n must be >= 0")
    iterator = iterator_of(tracer, args[0])
    if isinstance(iterator, TeeValue):
        below, shared, index = iterator.iterator, iterator.shared, iterator.index
    else:
        below, shared, index = iterator, [], 0
    return make_tuple(tracer, [TeeValue(below, shared, index) for _ in range(count)])
