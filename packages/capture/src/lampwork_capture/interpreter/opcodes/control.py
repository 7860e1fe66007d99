"""Opcodes of control flow: jumps, tests, return.

Invariant: a test that depends on tensor data breaks the graph at the jump itself, where both targets can be resumed;
unless one of them only raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..dispatch import Signal, opcode
from ..raising_branch import truth_at_jump

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


@opcode("JUMP_FORWARD", "JUMP_BACKWARD_NO_INTERRUPT")
def jump(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.pc = instruction.target


@opcode("JUMP_BACKWARD", since=(3, 11))
def jump_backward(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.tracer.count_iteration()
    frame.pc = instruction.target


@opcode("JUMP_ABSOLUTE", until=(3, 10))
def jump_absolute(frame: SymbolicFrame, instruction: Instruction) -> None:
    if instruction.target <= instruction.index:
        frame.tracer.count_iteration()
    frame.pc = instruction.target


@opcode("POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_BACKWARD_IF_TRUE", "POP_JUMP_IF_TRUE")
def pop_jump_if_true(frame: SymbolicFrame, instruction: Instruction) -> None:
    if truth_at_jump(frame, instruction, frame.stack[-1]):
        if instruction.target <= instruction.index:
            frame.tracer.count_iteration()
        frame.pc = instruction.target
    frame.stack.pop()


@opcode("POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_BACKWARD_IF_FALSE", "POP_JUMP_IF_FALSE")
def pop_jump_if_false(frame: SymbolicFrame, instruction: Instruction) -> None:
    if not truth_at_jump(frame, instruction, frame.stack[-1]):
        if instruction.target <= instruction.index:
            frame.tracer.count_iteration()
        frame.pc = instruction.target
    frame.stack.pop()


@opcode("POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_IF_NONE")
def pop_jump_if_none(frame: SymbolicFrame, instruction: Instruction) -> None:
    if frame.tracer.is_none(frame.stack[-1]):
        frame.pc = instruction.target
    frame.stack.pop()


@opcode("POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE", "POP_JUMP_IF_NOT_NONE")
def pop_jump_if_not_none(frame: SymbolicFrame, instruction: Instruction) -> None:
    if not frame.tracer.is_none(frame.stack[-1]):
        frame.pc = instruction.target
    frame.stack.pop()


@opcode("JUMP_IF_TRUE_OR_POP", until=(3, 11))
def jump_if_true_or_pop(frame: SymbolicFrame, instruction: Instruction) -> None:
    if frame.stack[-1].truth(frame.tracer):
        frame.pc = instruction.target
    else:
        frame.stack.pop()


@opcode("JUMP_IF_FALSE_OR_POP", until=(3, 11))
def jump_if_false_or_pop(frame: SymbolicFrame, instruction: Instruction) -> None:
    if not frame.stack[-1].truth(frame.tracer):
        frame.pc = instruction.target
    else:
        frame.stack.pop()


@opcode("RETURN_VALUE")
def return_value(frame: SymbolicFrame, instruction: Instruction) -> Signal:
    frame.result = frame.stack.pop()
    return Signal.RETURNED


@opcode("RETURN_CONST", since=(3, 12))
def return_const(frame: SymbolicFrame, instruction: Instruction) -> Signal:
    frame.result = frame.tracer.literal(instruction.value)
    return Signal.RETURNED
