"""What `id(x)` and the like give: a number that differs from call to call, known only by whose it is.

Programs use it to tell objects apart: as a key, in comparisons. Invariant: two such numbers are equal exactly where
their objects are the same one, which the guards hold; the number itself is never known while tracing.
"""

from __future__ import annotations

import _thread
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from . import operators
from .base import Tracer, Value
from .keys import IdentityKey
from .registry import handles

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class UnknownNumberValue(Value):
    """An integer that only a call can tell: `function(*args)`."""

    kind = "a number that differs from call to call"
    __slots__ = ("args", "function")

    def __init__(self, function: Callable[..., Any], args: Sequence[Value]) -> None:
        super().__init__()
        self.function = function
        self.args = tuple(args)

    def python_type(self) -> type:
        return int

    def truth(self, tracer: Tracer) -> bool:
        return True

    def is_same_number(self, tracer: Tracer, other: Value) -> bool:
        """Whether both are the number of the same object."""
        if not isinstance(other, UnknownNumberValue) or other.function is not self.function:
            return False
        return all(operators.is_same(tracer, mine, theirs) for mine, theirs in zip(self.args, other.args))

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        is_alike = isinstance(other, UnknownNumberValue) and other.function is self.function
        if op in (operator.eq, operator.ne) and is_alike:
            return tracer.constant(self.is_same_number(tracer, other) is (op is operator.eq))
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"arithmetic on {self.describe()}")

    def hash_key(self, tracer: Tracer) -> Hashable:
        return _NumberKey(tracer, self)

    def children(self) -> Sequence[Value]:
        return self.args

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(self.function)
        for arg in self.args:
            emitter.load_value(arg)
        emitter.call(len(self.args))


class _NumberKey(IdentityKey):
    """The number as a key: equal to that of the same object."""

    __slots__ = ("_tracer",)
    value: UnknownNumberValue

    def __init__(self, tracer: Tracer, value: UnknownNumberValue) -> None:
        super().__init__(value)
        self._tracer = tracer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _NumberKey) and self.value.is_same_number(self._tracer, other.value)

    def __hash__(self) -> int:
        return hash((self.value.function, *map(_anchor, self.value.args)))


def _anchor(value: Value) -> Hashable:
    """Equal for values that may be one object."""
    value = value.realize()
    if value.is_constant():
        constant = value.as_constant()
        return type(constant) if type(constant).__hash__ is None else hash((type(constant), constant))
    return id(operators.identity_of(value) or value)


@handles(id)
def identity(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) != 1 or kwargs:
        tracer.raise_observed(TypeError, f"id() takes exactly one argument ({len(args)} given)")
    value = args[0].realize()
    if value.source is None and value.python_type() is tuple:
        # Tuples come and go, as those that `enumerate` and `zip` give: one may stand where another was
        raise GraphBreak(BreakId.NOT_A_CONSTANT, "the id of a tuple that the frame made")
    return UnknownNumberValue(id, [value])


@handles(_thread.get_ident)
def thread_identity(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return UnknownNumberValue(_thread.get_ident, [])
