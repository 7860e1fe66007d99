"""The iterators of `itertools`, stepped while tracing.

Each has a rule that gives its next item, and a way to be built anew at the point where it stands. Invariant: an
iterator below is advanced exactly when the real one would be, so that iterators that share one agree.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import operators
from .base import Tracer, Value
from .constant import fold, snapshot
from .iterator import (
    ComputedIterator,
    End,
    FilterValue,
    Rebuild,
    StepIterator,
    iterator_of,
    make_tuple,
    rebuild_by_call,
    step,
)
from .registry import handles

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_Args = Sequence[Value]
_Named = Mapping[str, Value]


def _optional(tracer: Tracer, args: _Args, index: int, default: Any = None) -> Value:
    return args[index].realize() if len(args) > index else tracer.constant(default)


def _is_none(value: Value) -> bool:
    return value.is_constant() and value.as_constant() is None


@handles(itertools.filterfalse)
def make_filterfalse(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    return FilterValue(args[0].realize(), iterator_of(tracer, args[1]), itertools.filterfalse, keep=False)


@handles(itertools.chain)
def make_chain(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    return chain_of(make_tuple(tracer, [arg.realize() for arg in args]).iterate(tracer))


def chain_of(iterables: Value) -> Value:
    """`itertools.chain.from_iterable(iterables)`, of an iterator."""
    current: list[Value] = []

    def produce(tracer: Tracer) -> Value | None:
        while True:
            if not current:
                following = step(tracer, iterables)
                if following is None:
                    return None
                current.append(iterator_of(tracer, following))
            item = step(tracer, current[0])
            if item is not None:
                return item
            current.clear()

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(_chain_from)
        emitter.load_value(iterables)
        for part in current:
            emitter.load_value(part)
        emitter.call(1 + len(current))

    return _Chain(itertools.chain, [iterables], produce, rebuild, current)


class _Chain(ComputedIterator):
    """A chain: besides its iterables, it holds the iterator that it is in."""

    __slots__ = ("_current",)

    def __init__(
        self,
        real_type: type,
        parts: Sequence[Value],
        produce: Callable[[Tracer], Value | None],
        rebuild: Rebuild,
        current: list[Value],
    ) -> None:
        super().__init__(real_type, parts, produce, rebuild)
        self._current = current

    def children(self) -> Sequence[Value]:
        return (*self.parts, *self._current)


def _chain_from(iterables: Any, *current: Any) -> Any:
    """Run time: a chain that is in the middle of one of its iterables."""
    return itertools.chain.from_iterable(itertools.chain(current, iterables) if current else iterables)


@handles(itertools.islice)
def make_islice(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    bounds = [snapshot(arg) for arg in args[1:]]
    fold(tracer, itertools.islice, (), *bounds)
    iterator = iterator_of(tracer, args[0])
    chosen = slice(*bounds)
    stride = chosen.step or 1
    state = {"at": 0, "next": chosen.start or 0}

    def produce(tracer: Tracer) -> Value | None:
        wanted = state["next"] if chosen.stop is None else min(state["next"], chosen.stop)
        while state["at"] < wanted:
            if step(tracer, iterator) is None:
                return None
            state["at"] += 1
        if chosen.stop is not None and state["next"] >= chosen.stop:
            return None
        item = step(tracer, iterator)
        state["at"] += 1
        state["next"] += stride
        return item

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(itertools.islice)
        emitter.load_value(iterator)
        at = state["at"]
        stop = None if chosen.stop is None else max(chosen.stop - at, 0)
        first = max(state["next"] - at, 0)
        for bound in (first if stop is None else min(first, stop), stop, stride):
            emitter.load_constant(bound)
        emitter.call(4)

    return ComputedIterator(itertools.islice, [iterator], produce, rebuild)


@handles(itertools.repeat)
def make_repeat(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    item = args[0].realize()
    times = args[1] if len(args) > 1 else None
    left = [None if times is None else max(operators.index_of(tracer, times), 0)]

    def produce(tracer: Tracer) -> Value | None:
        if left[0] is None:
            return item
        if left[0] <= 0:
            return None
        left[0] -= 1
        return item

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(itertools.repeat)
        emitter.load_value(item)
        if left[0] is not None:
            emitter.load_constant(left[0])
        emitter.call(1 if left[0] is None else 2)

    return ComputedIterator(itertools.repeat, [item], produce, rebuild)


def _is_number(value: Value) -> bool:
    """What C code takes for a number."""
    cls = value.python_type()
    return issubclass(cls, complex) or any(hasattr(cls, name) for name in ("__index__", "__int__", "__float__"))


@handles(itertools.count)
def make_count(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    stride = _optional(tracer, args, 1, 1)
    state = [_optional(tracer, args, 0, 0).realize()]
    if not all(_is_number(part) for part in (stride, *state)):
        tracer.raise_observed(TypeError, "a number is required")
    if state[0].is_constant() and issubclass(state[0].python_type(), int) and stride.realize().is_constant():
        step = stride.realize().as_constant()
        if isinstance(step, int) and step == 1:  # counted in C, from the number that a bool or the like is
            state[0] = tracer.constant(int(state[0].as_constant()))

    def produce(tracer: Tracer) -> Value | None:
        item = state[0]
        state[0] = operators.binary(tracer, operator.add, item, stride)
        return item

    def rebuild(emitter: ValueEmitter) -> None:
        rebuild_by_call(itertools.count, state[0], stride)(emitter)

    return ComputedIterator(itertools.count, [state[0], stride], produce, rebuild)


@handles(itertools.accumulate)
def make_accumulate(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    iterator = iterator_of(tracer, args[0])
    function = _optional(tracer, args, 1)
    initial = kwargs["initial"].realize() if "initial" in kwargs else tracer.constant(None)
    combine = tracer.constant(operator.add) if _is_none(function) else function
    state: list[Value] = []

    def produce(tracer: Tracer) -> Value | None:
        if not state and not _is_none(initial):
            state.append(initial)
            return initial
        item = step(tracer, iterator)
        if item is None:
            return None
        state[:] = [tracer.call(combine, [state[0], item]) if state else item]
        return state[0]

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(_accumulate_from)
        for part in (iterator, function, state[0] if state else initial):
            emitter.load_value(part)
        emitter.load_constant(bool(state))
        emitter.call(4)

    return ComputedIterator(itertools.accumulate, [iterator, function, initial], produce, rebuild)


def _accumulate_from(iterator: Any, function: Any, total: Any, is_started: bool) -> Any:
    """Run time: an accumulate that has already yielded its total."""
    if not is_started:
        return itertools.accumulate(iterator, function, initial=total)
    made: Any = itertools.accumulate(itertools.chain((total,), iterator), function)  # also of None
    next(made)
    return made


@handles(itertools.cycle)
def make_cycle(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    iterator = iterator_of(tracer, args[0])
    seen: list[Value] = []
    state = {"is_drained": False, "index": 0}

    def produce(tracer: Tracer) -> Value | None:
        if not state["is_drained"]:
            item = step(tracer, iterator)
            if item is not None:
                seen.append(item)
                return item
            state["is_drained"] = True
        if not seen:
            return None
        state["index"] += 1
        return seen[(state["index"] - 1) % len(seen)]

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(_cycle_from)
        if state["is_drained"]:
            emitter.load_constant(())
        else:
            emitter.load_value(iterator)
        for item in seen:
            emitter.load_value(item)
        emitter.build_tuple(len(seen))
        emitter.load_constant(state["index"] if state["is_drained"] else len(seen))
        emitter.call(3)

    return _Chain(itertools.cycle, [iterator], produce, rebuild, seen)


def _cycle_from(iterator: Any, seen: tuple[Any, ...], count: int) -> Any:
    """Run time: a cycle that has yielded `count` items, those seen first."""
    made = itertools.cycle(itertools.chain(seen, iterator))
    for _ in range(count):
        next(made)
    return made


class _Rows(StepIterator):
    """Rows that depend on positions only: product, permutations, combinations. `items`: one pool, or several."""

    __slots__ = ("function", "index", "named", "plain", "pools", "rows")

    def __init__(self, function: Any, pools: list[list[Value]], plain: tuple[Any, ...], named: dict[str, Any]) -> None:
        super().__init__()
        self.function = function
        self.pools = pools
        self.plain = plain
        self.named = named
        self.index = 0
        self.rows = list(function(*(range(len(pool)) for pool in pools), *plain, **named))

    def python_type(self) -> type:
        return self.function

    def advance(self, tracer: Tracer) -> Value:
        if self.index >= len(self.rows):
            raise End
        row = self.rows[self.index]
        self.index += 1
        pools = self.pools * (len(row) // max(len(self.pools), 1) or 1)
        return make_tuple(tracer, [pools[column if len(self.pools) > 1 else 0][i] for column, i in enumerate(row)])

    def children(self) -> Sequence[Value]:
        return tuple(item for pool in self.pools for item in pool)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(_advanced)
        emitter.load_constant(self.index)
        emitter.load_constant(self.function)
        for pool in self.pools:
            for item in pool:
                emitter.load_value(item)
            emitter.build_tuple(len(pool))
        for part in (*self.plain, *self.named.values()):
            emitter.load_constant(part)
        emitter.call(2 + len(self.pools) + len(self.plain), tuple(self.named))


def _advanced(count: int, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run time: an iterator that has already yielded `count` items."""
    made = function(*args, **kwargs)
    for _ in range(count):
        next(made)
    return made


@handles(itertools.product)
def make_product(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    pools = [iterator_of(tracer, arg).unpack(tracer) for arg in args]
    named = {name: snapshot(value) for name, value in kwargs.items()}
    fold(tracer, itertools.product, **named)
    return _Rows(itertools.product, pools, (), named)


def _register_rows() -> None:
    for function in (itertools.permutations, itertools.combinations, itertools.combinations_with_replacement):

        @handles(function)
        def make_rows(tracer: Tracer, args: _Args, kwargs: _Named, function: Any = function) -> Value:
            pool = iterator_of(tracer, args[0]).unpack(tracer)
            sizes = tuple(snapshot(arg) for arg in args[1:])
            fold(tracer, function, (), *sizes)
            return _Rows(function, [pool], sizes, {})


_register_rows()


@handles(itertools.pairwise)
def make_pairwise(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    iterator = iterator_of(tracer, args[0])
    last: list[Value] = []
    has_ended = [False]  # perhaps while its own iterator asked it for an item

    def produce(tracer: Tracer) -> Value | None:
        if not last:
            first = step(tracer, iterator)
            if first is None or has_ended[0]:
                has_ended[0] = True
                return None
            last[:] = [first]
        old = last[0]
        item = step(tracer, iterator)
        if item is None:
            has_ended[0] = True
            last.clear()
            return None
        last[:] = [item]
        return make_tuple(tracer, [old, item])

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(_pairwise_from)
        emitter.load_value(iterator)
        for item in last:
            emitter.load_value(item)
        emitter.call(1 + len(last))

    return _Chain(itertools.pairwise, [iterator], produce, rebuild, last)


def _pairwise_from(iterator: Any, *last: Any) -> Any:
    """Run time: a pairwise that has yielded a pair with `last` at its end."""
    return itertools.pairwise(itertools.chain(last, iterator))


@handles(itertools.starmap)
def make_starmap(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    function, iterator = args[0].realize(), iterator_of(tracer, args[1])

    def produce(tracer: Tracer) -> Value | None:
        item = step(tracer, iterator)
        return None if item is None else tracer.call(function, iterator_of(tracer, item).unpack(tracer))

    parts = [function, iterator]
    return ComputedIterator(itertools.starmap, parts, produce, rebuild_by_call(itertools.starmap, *parts))


@handles(itertools.takewhile)
def make_takewhile(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    test, iterator = args[0].realize(), iterator_of(tracer, args[1])

    def produce(tracer: Tracer) -> Value | None:
        item = step(tracer, iterator)
        return item if item is not None and tracer.call(test, [item]).truth(tracer) else None

    return ComputedIterator(
        itertools.takewhile, [test, iterator], produce, rebuild_by_call(itertools.takewhile, test, iterator)
    )


@handles(itertools.dropwhile)
def make_dropwhile(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    test, iterator = args[0].realize(), iterator_of(tracer, args[1])
    state = {"is_dropping": True}

    def produce(tracer: Tracer) -> Value | None:
        while (item := step(tracer, iterator)) is not None:
            if not state["is_dropping"] or not tracer.call(test, [item]).truth(tracer):
                state["is_dropping"] = False
                return item
        return None

    def rebuild(emitter: ValueEmitter) -> None:
        if state["is_dropping"]:
            rebuild_by_call(itertools.dropwhile, test, iterator)(emitter)
            return
        emitter.begin_call(_dropwhile_from)
        emitter.load_value(iterator)
        emitter.call(1)

    return ComputedIterator(itertools.dropwhile, [test, iterator], produce, rebuild)


def _dropwhile_from(iterator: Any) -> Any:
    """Run time: a dropwhile that drops no more."""
    made = itertools.dropwhile(lambda item: False, itertools.chain((None,), iterator))
    next(made)
    return made


@handles(itertools.compress)
def make_compress(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    data = iterator_of(tracer, args[0])
    selectors = iterator_of(tracer, args[1])

    def produce(tracer: Tracer) -> Value | None:
        while (item := step(tracer, data)) is not None:
            chosen = step(tracer, selectors)
            if chosen is None:
                return None
            if chosen.truth(tracer):
                return item
        return None

    return ComputedIterator(
        itertools.compress, [data, selectors], produce, rebuild_by_call(itertools.compress, data, selectors)
    )


@handles(itertools.zip_longest)
def make_zip_longest(tracer: Tracer, args: _Args, kwargs: _Named) -> Value:
    columns: list[Value | None] = [iterator_of(tracer, arg) for arg in args]
    fill = kwargs["fillvalue"].realize() if "fillvalue" in kwargs else tracer.constant(None)

    def produce(tracer: Tracer) -> Value | None:
        row: list[Value] = []
        for index, column in enumerate(columns):
            item = None if column is None else step(tracer, column)
            if item is None:
                columns[index] = None
                if all(other is None for other in columns):
                    return None
            row.append(fill if item is None else item)
        return make_tuple(tracer, row) if row else None

    def rebuild(emitter: ValueEmitter) -> None:
        emitter.begin_call(itertools.zip_longest)
        for column in columns:
            if column is None:
                emitter.load_constant(())
            else:
                emitter.load_value(column)
        emitter.load_value(fill)
        emitter.call(len(columns), ("fillvalue",))

    parts = [column for column in columns if column is not None]
    return ComputedIterator(itertools.zip_longest, [*parts, fill], produce, rebuild)
