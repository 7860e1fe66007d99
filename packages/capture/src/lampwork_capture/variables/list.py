"""ListValue: a list, with its items as values and every mutating method.

Mutations change the value at once and are told to the side effects; the real list is brought to the final state after
the graph. Invariant: the length of a list that existed before the frame is guarded when it is wrapped.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..bytecode.version import SORT_TAKES_INTEGER
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import LengthIs, TypeIs
from ..source import ItemSource, Source
from . import operators
from .base import Tracer, Value
from .class_lookup import has_special, is_iterable
from .constant import fold, is_known, snapshot
from .lazy import LazyValue
from .length_hint import listed
from .registry import wraps_type
from .sequence import SequenceValue
from .stand_in import refuse

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


_MOST_ITEMS = 5_000  # that are written back


class ListValue(SequenceValue):
    """A list. `obj` is the real one if it existed before the frame."""

    kind = "a list"
    __slots__ = ("is_touched", "obj")

    def __init__(
        self,
        items: Sequence[Value],
        source: Source | None = None,
        obj: list[Any] | None = None,
        owner: Value | None = None,
    ) -> None:
        super().__init__(source)
        self.items = list(items)
        self.obj = obj
        self.owner = owner
        self.is_touched = False  # by a change that is seen while it is sorted: of none, or to none, is not

    def python_type(self) -> type:
        return list

    def like(self, items: list[Value]) -> ListValue:
        return ListValue(items)

    def as_graph_argument(self) -> list[Any]:
        return [item.as_graph_argument() for item in self.all_items()]

    def snapshot(self) -> list[Any]:
        """The list of constants it is now."""
        return [snapshot(item) for item in self.all_items()]

    def changed(self, tracer: Tracer) -> None:
        """The contents were changed. Raises GraphBreak where writing all of them back would take long."""
        whole = self if self.owner is None else self.owner
        if whole.source is not None and len(self.items) > _MOST_ITEMS:
            cause = f"a change of {whole.describe()}, which has more than {_MOST_ITEMS} items"
            raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, cause)
        self.is_touched = self.is_touched or bool(self.items)
        tracer.side_effects.mutated(whole)

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        if key.python_type() is slice:
            if not is_iterable(item.python_type()):
                refuse(tracer, lambda where, new: operator.setitem([], where, new), key, item)
            self._assign(tracer, snapshot(key), item.unpack(tracer))
            return
        index = self._index(tracer, key)
        if not -len(self.items) <= index < len(self.items):
            fold(tracer, operator.setitem, [], index, None)
        self.items[index] = item
        self.changed(tracer)

    def _index(self, tracer: Tracer, key: Value) -> int:
        if not has_special(key.python_type(), "__index__"):
            self._bad_index(tracer, key)
        return operators.index_of(tracer, key)

    def _assign(self, tracer: Tracer, where: slice, items: list[Value]) -> None:
        updated = list(self.items)
        fold(tracer, updated.__setitem__, where, items)
        self.items[:] = updated
        self.changed(tracer)

    def delete_item(self, tracer: Tracer, key: Value) -> None:
        if key.python_type() is slice:
            fold(tracer, self.items.__delitem__, snapshot(key))
        else:
            index = self._index(tracer, key)
            if not -len(self.items) <= index < len(self.items):
                fold(tracer, operator.delitem, [], index)
            del self.items[index]
        self.changed(tracer)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op is operator.iadd:
            self.m_extend(tracer, other)
            return self
        if op is operator.imul:
            self.items[:] = self.repeated(tracer, operators.index_of(tracer, other))
            self.changed(tracer)
            return self
        return super().binary(tracer, op, other, reflected)

    # Methods

    def m_append(self, tracer: Tracer, item: Value) -> Value:
        self.items.append(item)
        self.changed(tracer)
        return tracer.constant(None)

    def m_extend(self, tracer: Tracer, items: Value) -> Value:
        self.items.extend(self._taken(tracer, items))
        self.changed(tracer)
        return tracer.constant(None)

    def _taken(self, tracer: Tracer, items: Value) -> list[Value]:
        """All items of an iterable, with what is asked of it first."""
        return listed(tracer, items)

    def m_insert(self, tracer: Tracer, index: Value, item: Value) -> Value:
        fold(tracer, self.items.insert, operators.index_of(tracer, index), item)
        self.changed(tracer)
        return tracer.constant(None)

    def m_pop(self, tracer: Tracer, index: Value | None = None) -> Value:
        where = -1 if index is None else operators.index_of(tracer, index)
        if not self.items:
            fold(tracer, [].pop, where)
        if not -len(self.items) <= where < len(self.items):
            fold(tracer, [None].pop, where)
        item = self.items.pop(where).realize()
        self.changed(tracer)
        return item

    def m_remove(self, tracer: Tracer, item: Value) -> Value:
        for index in range(len(self.items)):
            if operators.equal(tracer, self.at(index), item):
                del self.items[index]
                self.changed(tracer)
                return tracer.constant(None)
        return tracer.raise_observed(ValueError, "list.remove(x): x not in list")

    def m_clear(self, tracer: Tracer) -> Value:
        self.items.clear()
        self.changed(tracer)
        return tracer.constant(None)

    def m_copy(self, tracer: Tracer) -> Value:
        return ListValue(self.all_items())

    def m_reverse(self, tracer: Tracer) -> Value:
        self.items.reverse()
        self.changed(tracer)
        return tracer.constant(None)

    def m_sort(self, tracer: Tracer, *, key: Value | None = None, reverse: Value | None = None) -> Value:
        descending = is_descending(tracer, reverse)
        items = self.all_items()
        order = list(range(len(items)))
        self.items.clear()  # as the program sees it meanwhile
        self.is_touched = False
        try:
            sort_order(tracer, order, items, key, descending)
            is_touched = self.is_touched
        finally:  # half sorted, where a comparison failed
            self.items[:] = [items[index] for index in order]
            self.changed(tracer)
        if is_touched:
            tracer.raise_observed(ValueError, "list modified during sort")
        return tracer.constant(None)

    def m___setitem__(self, tracer: Tracer, key: Value, item: Value) -> Value:
        self.set_item(tracer, key.realize(), item)
        return tracer.constant(None)

    def m___delitem__(self, tracer: Tracer, key: Value) -> Value:
        self.delete_item(tracer, key.realize())
        return tracer.constant(None)

    def m___iadd__(self, tracer: Tracer, other: Value) -> Value:
        self.m_extend(tracer, other)
        return self

    def m___reversed__(self, tracer: Tracer) -> Value:
        return tracer.constant(reversed).call(tracer, [self], {})

    def m___init__(self, tracer: Tracer, items: Value | None = None) -> Value:
        self.items[:] = [] if items is None else items.unpack(tracer)
        self.changed(tracer)
        return tracer.constant(None)

    # Back into the real world

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.build_list(0)
        emitter.remember(self)  # it may contain itself
        for item in self.items:
            emitter.load_value(item)
            emitter.emit("LIST_APPEND", 1)

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit code that gives the real list its final items."""
        emit_assign_all(emitter, self if self.owner is None else self.owner, self.items)


def emit_assign_all(emitter: ValueEmitter, target: Value, items: Sequence[Value]) -> None:
    """Emit `target[:] = items`, past an overridden `__setitem__`."""
    if not items:
        emitter.begin_call(_make_empty)
        emitter.load_value(target)
        emitter.call(1)
        emitter.pop()
        return
    emitter.begin_call(list.__setitem__)
    emitter.load_value(target)
    emitter.load_constant(slice(None))
    for item in items:
        emitter.load_value(item)
    emitter.build_list(len(items))
    emitter.call(3)
    emitter.pop()


def _make_empty(target: list[Any]) -> None:
    """Clear a list by a change that is seen also where it is empty: by a `sort` that is under way."""
    list.append(target, None)
    list.clear(target)


class _SortKey:
    """A traced value ordered by the traced program's own `<`."""

    __slots__ = ("tracer", "value")

    def __init__(self, tracer: Tracer, value: Value) -> None:
        self.tracer = tracer
        self.value = value

    def __lt__(self, other: _SortKey) -> bool:
        return operators.binary(self.tracer, operator.lt, self.value, other.value).truth(self.tracer)


def is_descending(tracer: Tracer, reverse: Value | None) -> bool:
    """What `reverse` says to `list.sort` and `sorted`: an integer, later the truth of anything."""
    if reverse is None:
        return False
    reverse = reverse.realize()
    if SORT_TAKES_INTEGER and not is_known(reverse):
        if not has_special(reverse.python_type(), "__index__"):
            refuse(tracer, lambda given: [].sort(reverse=given), reverse)
        reverse = tracer.constant(operators.index_of(tracer, reverse))
    if is_known(reverse):
        fold(tracer, [].sort, reverse=snapshot(reverse))
    return reverse.truth(tracer)


def sort_order(tracer: Tracer, order: list[int], items: list[Value], key: Value | None, descending: bool) -> None:
    """Sort the indices of items as `sorted(items, key=key, reverse=descending)` sorts the items; stable."""
    no_key = key is None or (key.is_constant() and key.as_constant() is None)
    keys = items if no_key or key is None else [tracer.call(key, [item]) for item in items]
    if all(is_known(k) for k in keys):
        plain = [snapshot(k) for k in keys]
        fold(tracer, order.sort, key=plain.__getitem__, reverse=descending)
    else:
        wrapped = [_SortKey(tracer, k) for k in keys]
        order.sort(key=wrapped.__getitem__, reverse=descending)


@wraps_type(list)
def wrap_list(tracer: Tracer, obj: list[Any], source: Source) -> Value:
    """A list that existed before the frame."""
    tracer.guard(TypeIs(source, list))
    tracer.guard(LengthIs(source, len(obj)))
    items = [LazyValue(tracer, item, ItemSource(source, index)) for index, item in enumerate(obj)]
    return ListValue(items, source, obj)
