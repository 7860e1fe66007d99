"""SlotMethodValue: a method implemented in C, bound to a value.

What it does is the receiver's to say (`Value.call_slot`). Invariant: it is the method of the builtin base class, past
what the class of the receiver overrides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MethodWrapperType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from .base import Tracer, Value

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class SlotMethodValue(Value):
    """A method implemented in C, found on an object: `object.__setattr__`, `dict.get`, `list.append` ... bound."""

    kind = "a builtin method"
    __slots__ = ("method", "owner", "receiver")

    def __init__(self, method: Any, owner: type, receiver: Value) -> None:
        super().__init__()
        self.method = method
        self.owner = owner
        self.receiver = receiver

    def python_type(self) -> type:
        return MethodWrapperType if isinstance(self.method, WrapperDescriptorType) else type([].append)

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return self.receiver.realize().call_slot(tracer, self.method, args, kwargs)

    def children(self) -> Sequence[Value]:
        return (self.receiver,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(self.method.__get__)
        emitter.load_value(self.receiver)
        emitter.call(1)
