"""Opcodes of operators: unary, binary, in-place, comparison, identity, membership, items.

They hand on to `variables.operators`, where operators are modelled for opcodes and builtins alike. Invariant: the order
in which operands are asked, and reflected operators, are left to that one place.
"""

from __future__ import annotations

import dis
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...variables import operators
from ...variables.base import Value
from ...variables.sym_scalar import compares_numbers, is_symbolic, open_comparison
from ..dispatch import opcode
from ..raising_branch import truth_at_jump
from ..short_circuit import COMPARISONS, is_irrelevant, stored_outcome

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
_NUMBERED: list[tuple[str, str]] = getattr(dis, "_nb_ops", [])  # the arguments of BINARY_OP
_BY_ARGUMENT: tuple[Callable[..., Any], ...] = tuple(_BINARY[symbol] for _, symbol in _NUMBERED)
_FIRST_INPLACE = next((i for i, (_, symbol) in enumerate(_NUMBERED) if symbol == "+="), 0)
_SYMBOLS = {
    "ADD": "+",
    "AND": "&",
    "FLOOR_DIVIDE": "//",
    "LSHIFT": "<<",
    "MATRIX_MULTIPLY": "@",
    "MULTIPLY": "*",
    "MODULO": "%",
    "OR": "|",
    "POWER": "**",
    "RSHIFT": ">>",
    "SUBTRACT": "-",
    "TRUE_DIVIDE": "/",
    "XOR": "^",
}
_BY_NAME: dict[str, Callable[..., Any]] = {}  # before 3.11 each operator is an opcode
for _name, _symbol in _SYMBOLS.items():
    _BY_NAME[f"BINARY_{_name}"] = _BINARY[_symbol]
    _BY_NAME[f"INPLACE_{_name}"] = _BINARY[f"{_symbol}="]


@opcode("UNARY_POSITIVE", "UNARY_NEGATIVE", "UNARY_INVERT")
def unary(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack[-1] = operators.unary(frame.tracer, _UNARY[instruction.name], frame.stack[-1])


@opcode("TO_BOOL", since=(3, 13))
def to_bool(frame: SymbolicFrame, instruction: Instruction) -> None:
    following = frame.decoded.instructions[instruction.index + 1]
    if following.name.startswith("POP_JUMP_IF"):
        truth = truth_at_jump(frame, following, frame.stack[-1])
    else:
        truth = frame.stack[-1].truth(frame.tracer)
    frame.stack[-1] = frame.tracer.constant(truth)


@opcode("UNARY_NOT")
def unary_not(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack[-1] = frame.tracer.constant(not frame.stack[-1].truth(frame.tracer))


@opcode("BINARY_OP", since=(3, 11))
def binary_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    left, right = frame.stack[-2:]
    act = operators.inplace if instruction.arg >= _FIRST_INPLACE else operators.binary
    result = act(frame.tracer, _BY_ARGUMENT[instruction.arg], left, right)
    frame.stack.pop()
    frame.stack[-1] = result


@opcode(*_BY_NAME, until=(3, 10))
def named_binary_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    left, right = frame.stack[-2:]
    act = operators.inplace if instruction.name.startswith("INPLACE") else operators.binary
    result = act(frame.tracer, _BY_NAME[instruction.name], left, right)
    frame.stack.pop()
    frame.stack[-1] = result


@opcode("COMPARE_OP")
def compare_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    left, right = frame.stack[-2:]
    compare = COMPARISONS[instruction.value]
    result: Value | None = None
    if compares_numbers(left, right) and (is_symbolic(left) or is_symbolic(right)):
        if is_irrelevant(frame, instruction.index + 1):
            result = frame.tracer.constant(False)
        else:
            stored = stored_outcome(frame)
            if stored is not None:
                result = open_comparison(frame.tracer, compare, left, right, negated=stored[1])
                frame.pc = frame.pc if result is None else stored[0]
    if result is None:
        result = operators.binary(frame.tracer, compare, left, right)
    frame.stack.pop()
    frame.stack[-1] = result


@opcode("IS_OP")
def is_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    right, left = frame.stack.pop(), frame.stack.pop()
    same = operators.is_same(frame.tracer, left, right)
    frame.stack.append(frame.tracer.constant(same != bool(instruction.arg)))


@opcode("CONTAINS_OP")
def contains_op(frame: SymbolicFrame, instruction: Instruction) -> None:
    container, item = frame.stack.pop(), frame.stack.pop()
    found = operators.contains(frame.tracer, container, item)
    frame.stack.append(frame.tracer.constant(found != bool(instruction.arg)))


@opcode("BINARY_SUBSCR")
def binary_subscr(frame: SymbolicFrame, instruction: Instruction) -> None:
    key = frame.stack.pop()
    frame.stack[-1] = operators.get_item(frame.tracer, frame.stack[-1], key)


@opcode("STORE_SUBSCR")
def store_subscr(frame: SymbolicFrame, instruction: Instruction) -> None:
    value, container, key = frame.pop_many(3)
    operators.set_item(frame.tracer, container, key, value)


@opcode("DELETE_SUBSCR")
def delete_subscr(frame: SymbolicFrame, instruction: Instruction) -> None:
    container, key = frame.pop_many(2)
    operators.delete_item(frame.tracer, container, key)


@opcode("BINARY_SLICE", since=(3, 12))
def binary_slice(frame: SymbolicFrame, instruction: Instruction) -> None:
    container, start, stop = frame.pop_many(3)
    key = frame.tracer.make_slice([start, stop])
    frame.push(operators.get_item(frame.tracer, container, key))


@opcode("STORE_SLICE", since=(3, 12))
def store_slice(frame: SymbolicFrame, instruction: Instruction) -> None:
    value, container, start, stop = frame.pop_many(4)
    operators.set_item(frame.tracer, container, frame.tracer.make_slice([start, stop]), value)


@opcode("GET_LEN")
def get_len(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(operators.length_value(frame.tracer, frame.stack[-1]))
