"""TensorNumberValue: a Python float that eager reads from a tensor, and what is computed of such floats.

Steps of optimizers count in tensors and compute with what those hold, for each parameter the same. The arithmetic is
kept as an expression until an operation on tensors takes it; then it becomes tensors of 64 bits without dimensions, for
a list of parameters by operators on lists. Invariant: it stands for what the tensor held when it was read, and like a
Python number it does not decide the dtype of what it is used with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..graph.subgraph import EXAMPLE
from ..graph_break import BreakId, GraphBreak
from ..guards.exact import exact_key
from .base import Tracer, Value
from .constant import ConstantValue
from .operators import binary

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_TORCH: Any = torch  # for its parts that have no stubs
Function = Callable[..., Any]
_WITH_NUMBER: Mapping[Function, Function] = {
    operator.add: _TORCH._foreach_add,
    operator.sub: _TORCH._foreach_sub,
    operator.mul: _TORCH._foreach_mul,
    operator.truediv: _TORCH._foreach_div,
    operator.pow: _TORCH._foreach_pow,
}
_TENSOR = "a tensor"


class TensorNumberValue(Value):
    """`function(*operands)`, or without a function the number that a tensor holds, its only operand.

    `form` is equal for numbers that are computed in one way from whatever tensors.
    """

    kind = "a number of a tensor"
    __slots__ = ("form", "function", "made", "operands", "tracer", "version")

    def __init__(self, tracer: Tracer, function: Function | None, operands: tuple[Value, ...]) -> None:
        super().__init__()
        self.tracer = tracer
        self.function = function
        self.operands = operands
        self.form: Hashable = None if function is None else (function, *map(_form_of, operands))
        self.version = _fake(operands[0])._version if function is None else 0
        self.made: Value | None = None

    def __repr__(self) -> str:
        return f"TensorNumberValue({self.function}, {self.operands})"

    def python_type(self) -> type:
        return float

    def children(self) -> Sequence[Value]:
        return self.operands

    def tensor(self) -> Value:
        """The number as a tensor of 64 bits."""
        if self.made is None:
            if self.function is None:
                node = _node(self._read())
                self.made = self.tracer.add_node("call_method", "to", (node, torch.float64), {"copy": True})
            else:
                self.made = self.tracer.add_node(
                    "call_function", self.function, tuple(map(_argument, self.operands)), {}
                )
        return self.made

    def beside(self, other: Value) -> Value:
        """The number as a tensor for an operation with another one, the dtype of which is the result's."""
        return as_number_for(self.tracer, self.tensor(), other)

    def _read(self) -> Value:
        """The tensor that holds the number. Raises GraphBreak if it was written to meanwhile."""
        if _fake(self.operands[0])._version != self.version:
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, "a number that a tensor held before it was written to")
        return self.operands[0]

    def as_graph_argument(self) -> torch.fx.Node:
        return _node(self.tensor())

    def truth(self, tracer: Tracer) -> bool:
        return self.tensor().truth(tracer)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        return self.tensor().get_attribute(tracer, name)

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if name == "__neg__":
            return TensorNumberValue(tracer, operator.mul, (self, tracer.constant(-1.0)))
        return self.tensor().call_method(tracer, name, args, kwargs)

    def binary(self, tracer: Tracer, op: Function, other: Value, reflected: bool) -> Value | None:
        other = other.realize()
        if other.kind == _TENSOR:
            mine = self.beside(other)
            return binary(tracer, op, other, mine) if reflected else binary(tracer, op, mine, other)
        is_number = isinstance(other, TensorNumberValue) or other.python_type() in (int, float)
        operands = (other, self) if reflected else (self, other)
        if op in _WITH_NUMBER and is_number:
            return TensorNumberValue(tracer, op, operands)
        left, right = (o.tensor() if isinstance(o, TensorNumberValue) else o for o in operands)
        return binary(tracer, op, left, right)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        self.tensor().reconstruct(emitter)


def as_number_for(tracer: Tracer, number: Value, other: Value) -> Value:
    """A tensor without dimensions, in the dtype of another one where that has none either: it would decide."""
    fake = _fake(other)
    if fake.dim() or not fake.is_floating_point() or fake.dtype is torch.float64:
        return number
    return tracer.add_node("call_method", "to", (_node(number), fake.dtype), {})


def tensors_of(tracer: Tracer, numbers: Sequence[TensorNumberValue]) -> list[Value]:
    """`tensor` of each: by operators on lists where all are computed in one way."""
    if all(number.made is not None for number in numbers):
        return [number.tensor() for number in numbers]
    first = numbers[0]
    if len(numbers) == 1 or any(number.form != first.form for number in numbers):
        return [number.tensor() for number in numbers]
    found = _read_all(tracer, numbers) if first.function is None else _computed(tracer, first.function, numbers)
    for number, tensor in zip(numbers, found, strict=True):
        number.made = tensor
    return found


def _read_all(tracer: Tracer, numbers: Sequence[TensorNumberValue]) -> list[Value]:
    tensors = [number._read() for number in numbers]
    device = _fake(tensors[0]).device
    if any(_fake(tensor).device != device or _fake(tensor).dtype is torch.float64 for tensor in tensors):
        return [number.tensor() for number in numbers]
    # No operator converts a list: the sum with a zero of 64 bits is the number
    zero = _node(_filled(tracer, 0.0, device))
    return _apply(tracer, _TORCH._foreach_add, [zero] * len(tensors), [_node(tensor) for tensor in tensors])


def _computed(tracer: Tracer, function: Function, numbers: Sequence[TensorNumberValue]) -> list[Value]:
    columns: list[Any] = []
    for place in range(2):
        operands = [number.operands[place] for number in numbers]
        inner = [operand for operand in operands if isinstance(operand, TensorNumberValue)]
        if inner:  # then all are, as all are computed in one way
            columns.append([_node(tensor) for tensor in tensors_of(tracer, inner)])
        else:
            columns.append(operands[0].as_graph_argument())
    left, right = columns
    if isinstance(left, list) or function is operator.pow:
        return _apply(tracer, _WITH_NUMBER[function], left, right)
    if function is operator.sub:
        negated = _apply(tracer, _TORCH._foreach_neg, right)
        return _apply(tracer, _TORCH._foreach_add, [_node(tensor) for tensor in negated], left)
    if function is operator.truediv:
        numerator = _node(_filled(tracer, left, _example(right[0]).device))
        return _apply(tracer, _TORCH._foreach_div, [numerator] * len(right), right)
    return _apply(tracer, _WITH_NUMBER[function], right, left)


def _apply(tracer: Tracer, function: Function, *arguments: Any) -> list[Value]:
    return tracer.add_node("call_function", function, arguments, {}).unpack(tracer)


def _filled(tracer: Tracer, number: Any, device: torch.device) -> Value:
    return tracer.add_node("call_function", torch.full, ((), number), {"dtype": torch.float64, "device": device})


def _form_of(operand: Value) -> Hashable:
    if isinstance(operand, TensorNumberValue):
        return operand.form
    # To ask whether a symbolic number is constant would decide what it is
    return exact_key(operand.obj) if isinstance(operand, ConstantValue) else operand.as_graph_argument()


def _argument(operand: Value) -> Any:
    return operand.as_graph_argument()


def _node(tensor: Value) -> torch.fx.Node:
    return tensor.as_graph_argument()


def _fake(tensor: Any) -> torch.Tensor:
    return tensor.fake


def _example(node: torch.fx.Node) -> torch.Tensor:
    return node.meta[EXAMPLE]
