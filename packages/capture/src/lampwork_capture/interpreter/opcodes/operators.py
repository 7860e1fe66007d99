"""Opcodes of operators: unary, binary, in-place, comparison, identity, membership, items.

They ask the function of the `operator` module that means the same, which is where operators are modelled. Invariant:
the order of evaluation, and reflected operators, are left to that one place.
"""

from __future__ import annotations

import dis
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .table import opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction

_UNARY: dict[str, Callable[..., Any]] = {
    "UNARY_POSITIVE": operator.pos,
    "UNARY_NEGATIVE": operator.neg,
    "UNARY_INVERT": operator.invert,
}
_BINARY: dict[str, Callable[..., Any]] = {
    "+": operator.add,
    "&": operator.and_,
    "//": operator.floordiv,
    "<<": operator.lshift,
    "@": operator.matmul,
    "*": operator.mul,
    "%": operator.mod,
    "|": operator.or_,
    "**": operator.pow,
    ">>": operator.rshift,
    "-": operator.sub,
    "/": operator.truediv,
    "^": operator.xor,
    "+=": operator.iadd,
    "&=": operator.iand,
    "//=": operator.ifloordiv,
    "<<=": operator.ilshift,
    "@=": operator.imatmul,
    "*=": operator.imul,
    "%=": operator.imod,
    "|=": operator.ior,
    "**=": operator.ipow,
    ">>=": operator.irshift,
    "-=": operator.isub,
    "/=": operator.itruediv,
    "^=": operator.ixor,
}
_COMPARE: dict[str, Callable[..., Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}
_BY_ARGUMENT: tuple[Callable[..., Any], ...] = tuple(_BINARY[symbol] for _, symbol in dis._nb_ops)  # type: ignore[attr-defined]


def apply(frame: SymbolicFrame, function: Callable[..., Any], count: int) -> None:
    """Replace the top `count` values by what an operator gives for them."""
    stack = frame.stack
    args = stack[-count:]
    result = frame.tracer.constant(function).call(frame.tracer, args, {})
    del stack[-count:]
    stack.append(result)


@opcode("UNARY_POSITIVE", "UNARY_NEGATIVE", "UNARY_INVERT")
def unary(frame: SymbolicFrame, instruction: Instruction) -> None:
    apply(frame, _UNARY[instruction.name], 1)


@opcode("UNARY_NOT")
def unary_not(frame: SymbolicFrame, instruction: Instruction) -> None:
    apply(frame, operator.not_, 1)


@opcode("BINARY_OP", since=(3, 11))
def binary_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    apply(frame, _BY_ARGUMENT[instruction.arg], 2)


@opcode("COMPARE_OP")
def compare_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    apply(frame, _COMPARE[instruction.value], 2)


@opcode("IS_OP")
def is_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    apply(frame, operator.is_not if instruction.arg else operator.is_, 2)


@opcode("CONTAINS_OP")
def contains_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    container = frame.stack.pop()
    item = frame.stack.pop()
    tracer = frame.tracer
    found = tracer.constant(operator.contains).call(tracer, [container, item], {})
    if instruction.arg:
        found = tracer.constant(not found.truth(tracer))
    frame.stack.append(found)


@opcode("BINARY_SUBSCR")
def binary_subscr(frame: SymbolicFrame, instruction: Instruction) -> None:
    apply(frame, operator.getitem, 2)


@opcode("STORE_SUBSCR")
def store_subscr(frame: SymbolicFrame, instruction: Instruction) -> None:
    value, container, key = frame.pop_many(3)
    container.set_item(frame.tracer, key, value)


@opcode("DELETE_SUBSCR")
def delete_subscr(frame: SymbolicFrame, instruction: Instruction) -> None:
    container, key = frame.pop_many(2)
    container.delete_item(frame.tracer, key)


@opcode("BINARY_SLICE", since=(3, 12))
def binary_slice(frame: SymbolicFrame, instruction: Instruction) -> None:
    start, stop = frame.pop_many(2)
    frame.push(frame.tracer.make_slice([start, stop]))
    apply(frame, operator.getitem, 2)


@opcode("STORE_SLICE", since=(3, 12))
def store_slice(frame: SymbolicFrame, instruction: Instruction) -> None:
    value, container, start, stop = frame.pop_many(4)
    container.set_item(frame.tracer, frame.tracer.make_slice([start, stop]), value)


@opcode("GET_LEN")
def get_len(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    frame.push(tracer.constant(len).call(tracer, [frame.stack[-1]], {}))


