"""Opcodes that only move values on the stack, and those that prepare a frame's slots.

First family on the run loop's path. Invariant: the layout of the stack is the interpreter's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...bytecode.version import rotation_depth
from ...variables.cell import CellValue
from ...variables.generator import GeneratorValue, drop
from ..dispatch import opcode
from ..frame import NULL

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


@opcode("NOP", "RESUME", "PRECALL", "CACHE", "EXTENDED_ARG", "COPY_FREE_VARS", "POP_BLOCK")
def nothing(frame: SymbolicFrame, instruction: Instruction) -> None:
    """Free variables are in their slots before a frame starts; blocks are known from the code; the rest has no effect
    on values."""


@opcode("POP_TOP")
def pop_top(frame: SymbolicFrame, instruction: Instruction) -> None:
    held = [frame.stack.pop()]
    if isinstance(held[0], GeneratorValue):
        drop(frame.tracer, held)


@opcode("PUSH_NULL")
def push_null(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.append(NULL)


@opcode("COPY", since=(3, 11))
def copy(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.append(frame.stack[-instruction.arg])


@opcode("SWAP", since=(3, 11))
def swap(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack, depth = frame.stack, instruction.arg
    stack[-1], stack[-depth] = stack[-depth], stack[-1]


@opcode("ROT_TWO", "ROT_THREE", "ROT_FOUR", "ROT_N", until=(3, 10))
def rotate(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack = frame.stack
    top = stack.pop()
    stack.insert(len(stack) + 1 - rotation_depth(instruction.name, instruction.arg), top)


@opcode("DUP_TOP", until=(3, 10))
def duplicate_top(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.append(frame.stack[-1])


@opcode("DUP_TOP_TWO", until=(3, 10))
def duplicate_top_two(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack += frame.stack[-2:]


@opcode("MAKE_CELL", since=(3, 11))
def make_cell(frame: SymbolicFrame, instruction: Instruction) -> None:
    slot = instruction.arg
    name = frame.decoded.slot_names[slot]
    in_prologue = not frame.stack and not any(i.name == "RESUME" for i in frame.decoded.instructions[: frame.pc])
    own = frame.parent is None and in_prologue
    frame.slots[slot] = CellValue.new(name, frame.slots[slot], in_root=own)
