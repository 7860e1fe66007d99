"""SetValue: sets and frozensets whose elements are known while tracing.

Invariant: elements are told apart as Python would, by equality of constants and identity of objects; a set that existed
before the frame has all its elements guarded.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, ConstantIs, DictContains, LengthIs, TypeIs
from ..source import Source
from . import operators
from .base import Tracer, Value
from .constant import is_literal, snapshot
from .iterator import FixedIteratorValue
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
_INPLACE: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.ior: operator.or_,
    operator.iand: operator.and_,
    operator.isub: operator.sub,
    operator.ixor: operator.xor,
}


class SetValue(BuiltinObject):
    """A set or frozenset (`cls`), elements by what stands for them as keys."""

    kind = "a set"
    __slots__ = ("cls", "elements", "is_given", "obj", "owner")

    def __init__(
        self,
        elements: Mapping[Hashable, Value],
        cls: type = set,
        source: Source | None = None,
        obj: Any = None,
        owner: Value | None = None,
    ) -> None:
        super().__init__(source)
        self.elements = dict(elements)
        self.cls = cls
        self.obj = obj
        self.owner = owner
        # Holds elements of a set that existed before the frame: another of equal elements passes the same guards
        self.is_given = obj is not None

    def python_type(self) -> type:
        return self.cls

    def is_constant(self) -> bool:
        return self.cls is frozenset and all(element.is_constant() for element in self.elements.values())

    def as_constant(self) -> Any:
        if self.cls is not frozenset:
            return super().as_constant()
        return frozenset(element.as_constant() for element in self.elements.values())

    def snapshot(self) -> Any:
        """The set of constants it is now."""
        return self.cls(snapshot(element) for element in self.elements.values())

    def truth(self, tracer: Tracer) -> bool:
        return bool(self.elements)

    def length(self, tracer: Tracer) -> int | None:
        return len(self.elements)

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        return operators.hash_key(tracer, item) in self.elements

    def hash_key(self, tracer: Tracer) -> Hashable:
        return frozenset(self.elements)

    def unpack(self, tracer: Tracer) -> list[Value]:
        if self.is_given and (
            len(self.elements) > 1 or any(isinstance(symbol, (int, float, complex)) for symbol in self.elements)
        ):
            cause = f"the order and types of the elements of {self.describe()} are not guarded"
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, cause)
        if all(element.is_constant() for element in self.elements.values()):
            return [self.elements[symbol] for symbol in (self.obj if self._unchanged() else set(self.elements))]
        return list(self.elements.values())

    def _unchanged(self) -> bool:
        return self.obj is not None and set(self.elements) == self.obj

    def iterate(self, tracer: Tracer) -> Value:
        return FixedIteratorValue(self.unpack(tracer), type(iter(set())))

    def children(self) -> Sequence[Value]:
        return tuple(self.elements.values())

    def changed(self, tracer: Tracer) -> None:
        """The contents were changed."""
        tracer.side_effects.mutated(self if self.owner is None else self.owner)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        theirs = set_contents(other)
        if theirs is None:
            return None
        mine_keys, their_keys = set(self.elements), set(theirs.elements)
        if op in operators.COMPARISONS:
            return tracer.constant(op(mine_keys, their_keys))
        if op in _INPLACE and self.cls is set:
            self.elements = self._combine(_INPLACE[op], theirs)
            self.is_given = self.is_given or theirs.is_given
            self.changed(tracer)
            return self
        if op in _ALGEBRA:
            first, second = (theirs, self) if reflected else (self, theirs)
            return first._made(first._combine(op, second), second)
        return None

    def _combine(self, op: Callable[..., Any], other: SetValue) -> dict[Hashable, Value]:
        merged = {**other.elements, **self.elements}
        chosen = op(set(self.elements), set(other.elements))
        return {symbol: value for symbol, value in {**self.elements, **merged}.items() if symbol in chosen}

    def _made(self, elements: Mapping[Hashable, Value], other: SetValue | None = None) -> SetValue:
        """A new set of elements of this one (and another)."""
        made = SetValue(elements, self.cls)
        made.is_given = self.is_given or (other is not None and other.is_given)
        return made

    def _with(self, tracer: Tracer, op: Callable[..., Any], others: Sequence[Value]) -> dict[Hashable, Value]:
        result = self
        for other in others:
            more = as_set(tracer, other)
            self.is_given = self.is_given or more.is_given
            result = SetValue(result._combine(op, more), self.cls)
        return dict(result.elements)

    # Methods

    def m_add(self, tracer: Tracer, item: Value) -> Value:
        symbol = operators.hash_key(tracer, item)
        if symbol not in self.elements:
            self.elements[symbol] = item.realize()
            self.changed(tracer)
        return tracer.constant(None)

    def m_discard(self, tracer: Tracer, item: Value) -> Value:
        if self.elements.pop(operators.hash_key(tracer, item), None) is not None:
            self.changed(tracer)
        return tracer.constant(None)

    def m_remove(self, tracer: Tracer, item: Value) -> Value:
        if operators.hash_key(tracer, item) not in self.elements:
            tracer.raise_observed(KeyError, item.as_constant())
        return self.m_discard(tracer, item)

    def m_pop(self, tracer: Tracer) -> Value:
        if not self.elements:
            tracer.raise_observed(KeyError, "pop from an empty set")
        first = self.unpack(tracer)[0]
        self.m_discard(tracer, first)
        return first

    def m_clear(self, tracer: Tracer) -> Value:
        self.elements.clear()
        self.changed(tracer)
        return tracer.constant(None)

    def m_copy(self, tracer: Tracer) -> Value:
        return self._made(self.elements)

    def m_update(self, tracer: Tracer, *others: Value) -> Value:
        for other in others:
            known = set_contents(other)
            self.is_given = self.is_given or (known is not None and known.is_given)
            items = other.realize().unpack(tracer) if known is None else list(known.elements.values())
            for item in items:
                self.m_add(tracer, item)
        return tracer.constant(None)

    def m_union(self, tracer: Tracer, *others: Value) -> Value:
        return self._made(self._with(tracer, operator.or_, others))

    def m_intersection(self, tracer: Tracer, *others: Value) -> Value:
        return self._made(self._with(tracer, operator.and_, others))

    def m_difference(self, tracer: Tracer, *others: Value) -> Value:
        return self._made(self._with(tracer, operator.sub, others))

    def m_symmetric_difference(self, tracer: Tracer, other: Value) -> Value:
        return self._made(self._with(tracer, operator.xor, [other]))

    def m_intersection_update(self, tracer: Tracer, *others: Value) -> Value:
        self.elements = self._with(tracer, operator.and_, others)
        self.changed(tracer)
        return tracer.constant(None)

    def m_difference_update(self, tracer: Tracer, *others: Value) -> Value:
        self.elements = self._with(tracer, operator.sub, others)
        self.changed(tracer)
        return tracer.constant(None)

    def m_issubset(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(set(self.elements) <= set(as_set(tracer, other).elements))

    def m_issuperset(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(set(self.elements) >= set(as_set(tracer, other).elements))

    def m_isdisjoint(self, tracer: Tracer, other: Value) -> Value:
        return tracer.constant(set(self.elements).isdisjoint(as_set(tracer, other).elements))

    def m___contains__(self, tracer: Tracer, item: Value) -> Value:
        return tracer.constant(bool(self.contains(tracer, item.realize())))

    def m___len__(self, tracer: Tracer) -> Value:
        return tracer.constant(len(self.elements))

    def m___iter__(self, tracer: Tracer) -> Value:
        return self.iterate(tracer)

    # Back into the real world

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.cls is frozenset:
            emitter.begin_call(frozenset)
        for element in self.elements.values():
            emitter.load_value(element)
        emitter.build_set(len(self.elements))
        if self.cls is frozenset:
            emitter.call(1)

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit code that gives the real set its final elements."""
        target = self if self.owner is None else self.owner
        for method, amount in ((set.clear, 0), (set.update, 1)):
            emitter.begin_call(method)
            emitter.load_value(target)
            if amount:
                for element in self.elements.values():
                    emitter.load_value(element)
                emitter.build_tuple(len(self.elements))
            emitter.call(1 + amount)
            emitter.pop()


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


def make_set(tracer: Tracer, items: Sequence[Value], cls: type) -> SetValue:
    """A new set of these items."""
    elements: dict[Hashable, Value] = {}
    for item in items:
        elements.setdefault(operators.hash_key(tracer, item), item.realize())
    return SetValue(elements, cls)


@wraps_type(set)
def wrap_set(tracer: Tracer, obj: set[Any], source: Source) -> Value:
    """A set that existed before the frame: modelled if its elements are literals or types."""
    if not all(is_literal(item) or isinstance(item, type) for item in obj):
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a set of objects that are not constants")
    tracer.guard(TypeIs(source, set))
    tracer.guard(LengthIs(source, len(obj)))
    for item in obj:
        tracer.guard(DictContains(source, item, True))
    return SetValue({item: tracer.constant(item) for item in obj}, set, source, obj)


@wraps_type(frozenset)
def wrap_frozenset(tracer: Tracer, obj: frozenset[Any], source: Source) -> Value:
    """A frozenset that existed before the frame: modelled if its elements are literals or types."""
    if not all(is_literal(item) or isinstance(item, type) for item in obj):
        raise GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is a set of objects that are not constants")
    tracer.guard(TypeIs(source, frozenset))
    tracer.guard(LengthIs(source, len(obj)))
    if all(is_literal(item) for item in obj):
        tracer.guard(ConstantIs(source, ByIdentity(obj)))
    else:
        for item in obj:
            tracer.guard(DictContains(source, item, True))
    return SetValue({item: tracer.constant(item) for item in obj}, frozenset, source, obj)
