"""What `id(x)` and the like give: a number that differs from call to call, known only by whose it is.

Programs use it to tell objects apart: as a key, in comparisons. Invariant: two such numbers are equal exactly where
their objects are the same one, which the guards hold; the number itself is never known while tracing, nor whether two
objects that the frame made, and may have dropped, had different ones.
"""

from __future__ import annotations

import _thread
import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from . import operators
from .base import Tracer, Value
from .keys import IdentityKey
from .registry import handles

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


_LASTING = (type, FunctionType, BuiltinFunctionType, ModuleType)  # objects of the program, not of a moment


class UnknownNumberValue(Value):
    """An integer that only a call can tell: `function(*args)`."""

    kind = "a number that differs from call to call"
    __slots__ = ("args", "function", "is_lasting")

    def __init__(self, function: Callable[..., Any], args: Sequence[Value], *, is_lasting: bool = True) -> None:
        super().__init__()
        self.is_lasting = is_lasting  # whether it can be asked for later: not if its object may be gone by then
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
        return all(_is_same(tracer, mine, theirs) for mine, theirs in zip(self.args, other.args))

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        is_alike = isinstance(other, UnknownNumberValue) and other.function is self.function
        if op in (operator.eq, operator.ne) and is_alike:
            return tracer.constant(self.is_same_number(tracer, other) is (op is operator.eq))
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"arithmetic on {self.describe()}")

    def hash_key(self, tracer: Tracer) -> Hashable:
        if not self.is_lasting:
            cause = "the identity of an object that nothing holds: another may come to stand in its place"
            raise GraphBreak(BreakId.NOT_A_CONSTANT, cause)
        return _NumberKey(tracer, self)

    def children(self) -> Sequence[Value]:
        return self.args

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if not self.is_lasting:
            raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, "the identity of an object that nothing holds")
        emitter.begin_call(self.function)
        for arg in self.args:
            emitter.load_value(arg)
        emitter.call(len(self.args))


def _is_same(tracer: Tracer, left: Value, right: Value) -> bool:
    """Whether two objects have the same number. Raises GraphBreak where one may have been made in the other's place."""
    if operators.is_same(tracer, left, right):
        return True
    new = [value for value in (left, right) if _is_new(value)]
    if len(new) == 2 and not _are_held(tracer, new):
        raise GraphBreak(
            BreakId.NOT_A_CONSTANT, "the identities of objects of the frame, which last as long as these do"
        )
    return False


def _is_new(value: Value) -> bool:
    """Whether the frame made the object, and may drop it."""
    return value.source is None and not issubclass(value.python_type(), _LASTING)


def _are_held(tracer: Tracer, values: Sequence[Value]) -> bool:
    """Whether values are in locals, on stacks, or in what these hold: alive, as a number does not keep its object."""
    held = [value for value in tracer.held_values() if value.kind != UnknownNumberValue.kind]
    wanted = {id(value) for value in values} - {id(value) for value in held}
    for value in held:
        if not wanted:
            break
        wanted.difference_update(map(id, value.children()))
    return not wanted


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
    obj = operators.identity_of(value)
    return id(value if obj is None else obj)


@handles(id)
def identity(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) != 1 or kwargs:
        tracer.raise_observed(TypeError, f"id() takes exactly one argument ({len(args)} given)")
    value = args[0].realize()
    return UnknownNumberValue(id, [value], is_lasting=not _is_new(value) or _are_held(tracer, [value]))


@handles(_thread.get_ident)
def thread_identity(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return UnknownNumberValue(_thread.get_ident, [])
