"""TupleValue: a tuple, a torch.Size, or a struct sequence that a torch operation returns.

Named tuples and other subclasses of users are objects that hold a TupleValue as contents. Invariant: items never
change; a tuple of constants is itself a constant.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..guards.facts import LengthIs, TypeIs
from ..source import ItemSource, Source
from . import operators
from .base import Tracer, Value
from .constant import fold, is_known, snapshot
from .lazy import LazyValue
from .registry import wraps_type
from .sequence import SequenceValue
from .sym_scalar import is_symbolic

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class TupleValue(SequenceValue):
    """An exact tuple, torch.Size, or a struct sequence (`cls`). `obj`: the real one, if it existed before the frame or
    is a constant made of literals."""

    kind = "a tuple"
    __slots__ = ("cls", "obj")

    def __init__(
        self,
        items: Sequence[Value],
        cls: type = tuple,
        source: Source | None = None,
        obj: tuple[Any, ...] | None = None,
        owner: Value | None = None,
    ) -> None:
        super().__init__(source)
        self.items = list(items)
        self.cls = cls
        self.obj = obj
        self.owner = owner

    def python_type(self) -> type:
        return self.cls

    def like(self, items: list[Value]) -> TupleValue:
        return TupleValue(items, torch.Size if self.cls is torch.Size else tuple)

    def is_constant(self) -> bool:
        return self.cls in (tuple, torch.Size) and all(item.is_constant() for item in self.all_items())

    def as_constant(self) -> Any:
        if self.obj is not None and self.source is None:
            return self.obj
        return self.cls(item.as_constant() for item in self.all_items())

    def snapshot(self) -> Any:
        """The tuple of constants it is now (a struct sequence stays one)."""
        return self.cls(snapshot(item) for item in self.all_items())

    def as_graph_argument(self) -> tuple[Any, ...]:
        return tuple(item.as_graph_argument() for item in self.all_items())

    def hash_key(self, tracer: Tracer) -> Hashable:
        return tuple(operators.hash_key(tracer, item) for item in self.all_items())

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if self.cls is torch.Size and op in (operator.add, operator.mul):
            items = self.all_items()
            if isinstance(other, TupleValue) and any(map(is_symbolic, (*items, *other.all_items()))):
                joined = [*other.all_items(), *items] if reflected else [*items, *other.all_items()]
                return self.like(joined) if op is operator.add else None
            if is_known(other):
                mine, theirs = snapshot(self), snapshot(other)
                return tracer.constant(fold(tracer, op, theirs, mine) if reflected else fold(tracer, op, mine, theirs))
        return super().binary(tracer, op, other, reflected)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if self.cls not in (tuple, torch.Size):
            fields = struct_fields(self.cls)
            if name in fields:
                return self.at(fields.index(name))
        return super().get_attribute(tracer, name)

    def call_unmodelled(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.cls is torch.Size and name == "numel":
            total: Value = tracer.constant(1)
            for size in self.all_items():
                total = operators.binary(tracer, operator.mul, total, size)
            return total
        return super().call_unmodelled(tracer, name, args, kwargs)

    def m___hash__(self, tracer: Tracer) -> Value:
        return tracer.constant(fold(tracer, hash, snapshot(self)))

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.obj is not None:  # a constant: the very object
            emitter.load_constant(self.obj)
            return
        if self.cls is not tuple:
            emitter.begin_call(self.cls)
        for item in self.items:
            emitter.load_value(item)
        emitter.build_tuple(len(self.items))
        if self.cls is not tuple:
            emitter.call(1)


def struct_fields(cls: type) -> list[str]:
    """The field names of a struct sequence type, in order (empty for another type)."""
    members = [(name, value) for name, value in vars(cls).items() if type(value).__name__ == "member_descriptor"]
    return [name for name, _ in members]


def is_struct_sequence(cls: type) -> bool:
    """Whether a type is one of the tuples with named fields that torch operations return."""
    return cls.__module__ == "torch.return_types"


@wraps_type(tuple, torch.Size)
def wrap_tuple(tracer: Tracer, obj: tuple[Any, ...], source: Source) -> Value:
    """A tuple that existed before the frame."""
    cls = type(obj)
    tracer.guard(TypeIs(source, cls))
    tracer.guard(LengthIs(source, len(obj)))
    items = [LazyValue(tracer, item, ItemSource(source, index)) for index, item in enumerate(obj)]
    return TupleValue(items, cls, source, obj)
