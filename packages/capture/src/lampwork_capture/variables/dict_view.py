"""DictViewValue: `d.keys()`, `d.values()` and `d.items()`, and the iterators over a dict and over these.

Invariant: a view is live, and holds nothing but its dict; an iterator sees when the keys change under it.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from . import operators
from .base import Tracer, Value
from .class_lookup import is_iterable
from .iterator import End, StepIterator, make_tuple
from .method import BuiltinObject

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter
    from .dict import DictValue


def dict_base(cls: type) -> type:
    """The builtin class whose methods act on a dict of this class as it is, past what subclasses override."""
    return OrderedDict if issubclass(cls, OrderedDict) else dict


_VIEW_TYPES: dict[str, type] = {"keys": type({}.keys()), "values": type({}.values()), "items": type({}.items())}
_ITERATOR_TYPES: dict[str, type] = {name: type(iter(getattr({}, name)())) for name in _VIEW_TYPES}


_UPDATES: dict[Callable[..., Any], str] = {
    operator.or_: "update",
    operator.sub: "difference_update",
    operator.xor: "symmetric_difference_update",
}


class DictViewValue(BuiltinObject):
    """`d.keys()`, `d.values()`, `d.items()`: live."""

    kind = "a dict view"
    __slots__ = ("mapping", "what")

    def __init__(self, mapping: DictValue, what: str) -> None:
        super().__init__()
        self.mapping = mapping
        self.what = what

    def python_type(self) -> type:
        mapping = self.mapping if self.mapping.owner is None else self.mapping.owner
        if issubclass(mapping.python_type(), OrderedDict):
            return type(getattr(OrderedDict(), self.what)())
        return _VIEW_TYPES[self.what]

    def unpack(self, tracer: Tracer) -> list[Value]:
        if self.what == "keys":
            return self.mapping.keys(tracer)
        if self.what == "values":
            return self.mapping.values(tracer)
        pairs = zip(self.mapping.keys(tracer), self.mapping.values(tracer))
        return [make_tuple(tracer, list(pair)) for pair in pairs]

    def iterate(self, tracer: Tracer) -> Value:
        return DictIteratorValue(tracer, self.mapping, self.what)

    def truth(self, tracer: Tracer) -> bool:
        return self.mapping.truth(tracer)

    def length(self, tracer: Tracer) -> int | None:
        return self.mapping.length(tracer)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        if self.what == "keys":
            return self.mapping.contains(tracer, item)
        return any(operators.equal(tracer, mine, item) for mine in self.unpack(tracer))

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if self.what == "values" or (op not in operators.BINARY_METHODS):
            return None
        is_algebra = op in (operator.and_, operator.or_, operator.sub, operator.xor)
        if reflected and is_algebra and op is not operator.and_ and not isinstance(other, DictViewValue):
            made = tracer.constant(set).call(tracer, [other], {})
            made.call_method(tracer, _UPDATES[op], [self], {})
            return made
        if not is_algebra:
            mine = tracer.constant(set).call(tracer, [self], {})
            if isinstance(other, DictViewValue):
                other = tracer.constant(set).call(tracer, [other], {})
            return mine.binary(tracer, op, other, reflected)
        if not is_iterable(other.python_type()):
            return None
        if op is operator.and_:
            longer, shorter = other, self
            if other.kind == "a set" and operators.length(tracer, other) <= operators.length(tracer, self):
                longer, shorter = self, other
            found = [item for item in longer.unpack(tracer) if operators.contains(tracer, shorter, item)]
            return tracer.constant(set).call(tracer, [tracer.make_tuple(found)], {})
        whole: Value = self.mapping if self.what == "keys" and self.mapping.owner is None else self
        mine = tracer.constant(set).call(tracer, [whole], {})
        mine.call_method(tracer, _UPDATES[op], [other], {})
        return mine

    def m_isdisjoint(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(not any(self.contains(tracer, item) for item in other.unpack(tracer)))

    def m___iter__(self, tracer: Tracer) -> Value:
        return self.iterate(tracer)

    def m___len__(self, tracer: Tracer) -> Value:
        return tracer.constant(self.length(tracer))

    def children(self) -> Sequence[Value]:
        return (self.mapping,) if self.mapping.owner is None else (self.mapping.owner,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        target = self.children()[0]
        emitter.begin_call(getattr(dict_base(target.python_type()), self.what))
        emitter.load_value(target)
        emitter.call(1)


class DictIteratorValue(StepIterator):
    """An iterator over a dict or a view of it."""

    __slots__ = ("index", "mapping", "shape", "symbols", "what")

    def __init__(self, tracer: Tracer, mapping: DictValue, what: str) -> None:
        super().__init__()
        self.mapping = mapping
        self.what = what
        self.index = 0
        self.symbols: list[Hashable] = list(mapping.entries(tracer))
        self.shape = mapping.shape_changes

    def python_type(self) -> type:
        return _ITERATOR_TYPES[self.what]

    def advance(self, tracer: Tracer) -> Value:
        entries = self.mapping.entries(tracer)
        if len(entries) != len(self.symbols):
            tracer.raise_observed(RuntimeError, "dictionary changed size during iteration")
        if self.mapping.shape_changes != self.shape:
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, "a dict that gets other keys while it is iterated")
        if self.index >= len(self.symbols):
            raise End
        symbol = self.symbols[self.index]
        self.index += 1
        key, value = entries[symbol]
        if self.what == "keys":
            return key.realize()
        value = value.realize()
        entries[symbol] = (key, value)
        return value if self.what == "values" else make_tuple(tracer, [key.realize(), value])

    def children(self) -> Sequence[Value]:
        return (self.mapping,) if self.mapping.owner is None else (self.mapping.owner,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.mapping.shape_changes != self.shape:
            cause = "an iterator over a dict that got other keys since"
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, cause)
        emitter.begin_call(_iterator_past)
        emitter.load_value(self.children()[0])
        emitter.load_constant(self.what)
        emitter.load_constant(self.index)
        emitter.call(3)


def _iterator_past(mapping: dict[Any, Any], what: str, count: int) -> Any:
    """Run time: an iterator over a view that has already yielded `count` items."""
    iterator = iter(getattr(dict_base(type(mapping)), what)(mapping))
    for _ in range(count):
        next(iterator)
    return iterator
