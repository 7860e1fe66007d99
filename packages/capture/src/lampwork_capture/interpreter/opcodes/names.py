"""Opcodes that load, store and delete names: locals, cells, globals, constants.

Invariant: a local of the root frame is wrapped, and thereby guarded, at its first load, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ...bytecode.version import PY311
from ...graph_break import BreakId, GraphBreak
from ...variables.cell import CellValue
from ..dispatch import decline, opcode
from ..frame import NULL, Null, Unread
from ..side_effects import DELETED

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


@opcode("LOAD_CONST")
def load_const(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = instruction.constant
    if value is None:
        value = frame.tracer.literal(instruction.value)
        if value.is_constant():
            instruction.constant = value
    frame.stack.append(value)


def _unbound(frame: SymbolicFrame, name: str) -> NoReturn:
    raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the local variable `{name}` is read before it is assigned")


@opcode("LOAD_FAST", "LOAD_FAST_CHECK")
def load_fast(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.slots[instruction.arg]
    if value is None:
        _unbound(frame, frame.decoded.slot_names[instruction.arg])
    if type(value) is Unread:
        assert value.source is not None
        value = frame.slots[instruction.arg] = frame.tracer.wrap(value.obj, value.source)
    frame.stack.append(value)


@opcode("LOAD_FAST_AND_CLEAR", since=(3, 12))
def load_fast_and_clear(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.slots[instruction.arg]
    if type(value) is Unread:
        assert value.source is not None
        value = frame.tracer.wrap(value.obj, value.source)
    frame.slots[instruction.arg] = None
    frame.stack.append(NULL if value is None else value)


@opcode("STORE_FAST")
def store_fast(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.stack.pop()
    frame.slots[instruction.arg] = None if type(value) is Null else value


@opcode("DELETE_FAST")
def delete_fast(frame: SymbolicFrame, instruction: Instruction) -> None:
    if frame.slots[instruction.arg] is None:
        _unbound(frame, frame.decoded.slot_names[instruction.arg])
    frame.slots[instruction.arg] = None


def _cell(frame: SymbolicFrame, slot: int) -> CellValue:
    cell = frame.slots[slot]
    if not isinstance(cell, CellValue):
        raise GraphBreak(BreakId.FRAME_NOT_MODELLED, f"`{frame.decoded.slot_names[slot]}` is no cell here")
    return cell


@opcode("LOAD_CLOSURE")
def load_closure(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.append(_cell(frame, instruction.value))


@opcode("LOAD_DEREF")
def load_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = _cell(frame, instruction.value).load(frame.tracer)
    if value is None:
        _unbound(frame, frame.decoded.slot_names[instruction.value])
    frame.stack.append(value)


@opcode("STORE_DEREF")
def store_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    _cell(frame, instruction.value).store(frame.tracer, frame.stack.pop())


@opcode("DELETE_DEREF")
def delete_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    cell = _cell(frame, instruction.value)
    if cell.load(frame.tracer) is None:
        _unbound(frame, frame.decoded.slot_names[instruction.value])
    cell.store(frame.tracer, None)


@opcode("LOAD_GLOBAL")
def load_global(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.scope.load(frame.tracer, instruction.value)
    if PY311 and instruction.arg & 1:
        frame.push_callable(value)
    else:
        frame.stack.append(value)


@opcode("STORE_GLOBAL")
def store_global(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.tracer.side_effects.store_global(frame.scope, instruction.value, frame.stack.pop())


@opcode("DELETE_GLOBAL")
def delete_global(frame: SymbolicFrame, instruction: Instruction) -> None:
    name: str = instruction.value
    pending = frame.tracer.side_effects.pending_global(frame.scope.variables, name)
    if pending is DELETED or (pending is None and name not in frame.scope.variables):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"the global `{name}` is not bound")
    frame.tracer.side_effects.store_global(frame.scope, name, DELETED)


decline(
    "names of a class body or a module are looked up dynamically",
    "LOAD_NAME",
    "STORE_NAME",
    "DELETE_NAME",
    "LOAD_CLASSDEREF",
    "LOAD_FROM_DICT_OR_DEREF",
    "LOAD_FROM_DICT_OR_GLOBALS",
    "LOAD_LOCALS",
    "SETUP_ANNOTATIONS",
    "IMPORT_STAR",
    "LOAD_BUILD_CLASS",
)
decline(
    "only the interpreter itself uses it",
    "INTERPRETER_EXIT",
    "PRINT_EXPR",
    "RESERVED",
    "ENTER_EXECUTOR",
    "EXIT_INIT_CHECK",
)
