"""Opcodes of attributes and methods.

A method load pushes NULL and the bound method, which every version's CALL accepts. Invariant: an attribute is looked
up when Python looks it up, before the arguments of a call are evaluated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...bytecode.version import PYTHON
from ..dispatch import opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction

_METHOD_BIT = PYTHON >= (3, 12)


@opcode("LOAD_ATTR")
def load_attr(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack = frame.stack
    value = stack[-1].get_attribute(frame.tracer, instruction.value)
    if _METHOD_BIT and instruction.arg & 1:
        stack.pop()
        frame.push_callable(value)
    else:
        stack[-1] = value


@opcode("LOAD_METHOD", until=(3, 11))
def load_method(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack = frame.stack
    value = stack[-1].get_attribute(frame.tracer, instruction.value)
    stack.pop()
    frame.push_callable(value)


@opcode("LOAD_SUPER_ATTR", since=(3, 12))
def load_super_attr(frame: SymbolicFrame, instruction: Instruction) -> None:
    callee, cls, instance = frame.pop_many(3)
    proxy = callee.call(frame.tracer, [cls, instance], {})
    value = proxy.get_attribute(frame.tracer, instruction.value)
    if instruction.arg & 1:
        frame.push_callable(value)
    else:
        frame.push(value)


@opcode("STORE_ATTR")
def store_attr(frame: SymbolicFrame, instruction: Instruction) -> None:
    value, owner = frame.pop_many(2)
    owner.set_attribute(frame.tracer, instruction.value, value)


@opcode("DELETE_ATTR")
def delete_attr(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.pop().delete_attribute(frame.tracer, instruction.value)
