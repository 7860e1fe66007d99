"""Opcodes that load, store and delete names: locals, cells, globals, constants.

Invariant: a local of the root frame is wrapped, and thereby guarded, at its first load, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ...bytecode.emitter import OWN_PREFIX
from ...bytecode.version import PY311
from ...graph_break import BreakId, GraphBreak
from ...guards.facts import TypeIs
from ...source import LocalSource
from ...variables.base import Value
from ...variables.cell import CellValue
from ...variables.deque import DequeValue
from ...variables.dict import DictValue
from ...variables.finalizer import reaches_code_at_an_end, tells_its_end
from ...variables.function import SourcedFunctionValue
from ...variables.generator import GeneratorValue, drop
from ...variables.list import ListValue
from ...variables.opaque import OpaqueValue
from ...variables.tuple import TupleValue
from ...variables.user_object import ObjectValue
from ..clearance import Clearance, MaySeeItsEnd, Place
from ..dispatch import decline, opcode
from ..dropped_objects import real_object
from ..frame import NULL, Null, Unread
from ..reconstruct import is_held
from ..side_effects import DELETED

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction

# Kinds of values whose real objects may end, or may hold some that do, where a local lets them go
_ENDING = (Unread, ObjectValue, OpaqueValue, ListValue, TupleValue, DictValue, DequeValue)


@opcode("LOAD_CONST")
def load_const(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = instruction.constant
    if value is None:
        value = frame.tracer.literal(instruction.value)
        if value.is_constant():
            instruction.constant = value
    frame.stack.append(value)


def _unbound(frame: SymbolicFrame, slot: int) -> NoReturn:
    """The user reads or deletes a variable that is not bound."""
    name = frame.decoded.slot_names[slot]
    is_free = name in frame.code.co_freevars
    kind = NameError if is_free else UnboundLocalError
    if PY311:
        where = "free variable" if is_free else "local variable"
        place = " in enclosing scope" if is_free else ""
        words = f"cannot access {where} '{name}' where it is not associated with a value{place}"
    elif is_free:
        words = f"free variable '{name}' referenced before assignment in enclosing scope"
    else:
        words = f"local variable '{name}' referenced before assignment"
    frame.tracer.raise_observed(kind, words)


@opcode("LOAD_FAST", "LOAD_FAST_CHECK")
def load_fast(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.slots[instruction.arg]
    if value is None:
        _unbound(frame, instruction.arg)
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
    before = [frame.slots[instruction.arg]]
    if before[0] is not None and before[0].source is not None:
        _check_overwritten(frame, instruction.arg, before[0])
    frame.slots[instruction.arg] = None if type(value) is Null else value
    if isinstance(before[0], GeneratorValue):
        drop(frame.tracer, before)


def _check_overwritten(frame: SymbolicFrame, slot: int, value: Value) -> None:
    """Raise GraphBreak where a store to a local may end an object that tells when it ends: eager runs it then.

    Only one that came as a local, or a place of the stack, and that no other place of the traced frames holds."""
    name = frame.decoded.slot_names[slot]
    if not isinstance(value.source, LocalSource) or name.startswith(OWN_PREFIX):
        return
    if isinstance(value, _ENDING) and _holders_of(value, frame.tracer.frame) < 2:
        _check_end(frame, value, f"a store to `{name}`")


def _check_end(frame: SymbolicFrame, value: Value, what: str) -> None:
    """Raise GraphBreak if an object, or one that it holds, tells when it ends; record that there is none.

    That is recorded as far as the containers of Python go: mostly a caller holds what it passed, so to let an object of
    another kind go does not break, whatever it holds in a later call."""
    obj, source = real_object(value), value.source
    assert source is not None
    if reaches_code_at_an_end(obj):
        cause = f"{what}, which may end an object that tells when it ends"
        raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
    clearance = Clearance(into_objects=False)
    try:
        facts = clearance.facts(Place(obj, source))
    except MaySeeItsEnd:
        facts = [TypeIs(source, type(obj))]
    for fact in facts:
        frame.tracer.guard(fact)
    clearance.guard_classes(frame.tracer)


def _holders_of(value: Value, innermost: SymbolicFrame) -> int:
    """How many places of the program hold a value, in the frames under tracing: not those that only a continuation has,
    from which a value goes to its place in the program."""
    count, frame = 0, innermost
    while frame is not None:
        slots = zip(frame.decoded.slot_names, frame.slots)
        count += sum(held is value and not name.startswith(OWN_PREFIX) for name, held in slots)
        count += sum(held is value for held in frame.stack)
        frame = frame.parent
    return count


@opcode("DELETE_FAST")
def delete_fast(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.slots[instruction.arg]
    if value is None:
        _unbound(frame, instruction.arg)
    before: list[Value | None] = [value]
    name = frame.decoded.slot_names[instruction.arg]
    if value.source is not None and not name.startswith(OWN_PREFIX) and is_held(value):
        _check_deleted(frame, value, f"`del {name}`")
    frame.slots[instruction.arg] = None
    if isinstance(before[0], GeneratorValue):
        drop(frame.tracer, before)


def _check_deleted(frame: SymbolicFrame, value: Value, what: str) -> None:
    """Raise GraphBreak where a deletion may end an object of which it can be seen that it ended."""
    is_asked = isinstance(value, _ENDING)
    if isinstance(value, SourcedFunctionValue) or (is_asked and tells_its_end(value)):
        cause = f"{what}, which may end an object that tells when it ends"
        raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
    if is_asked:
        _check_end(frame, value, what)


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
        _unbound(frame, instruction.value)
    frame.stack.append(value)


@opcode("STORE_DEREF")
def store_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    _cell(frame, instruction.value).store(frame.tracer, frame.stack.pop())


@opcode("DELETE_DEREF")
def delete_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    cell = _cell(frame, instruction.value)
    if cell.load(frame.tracer) is None:
        _unbound(frame, instruction.value)
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
    if pending is None and name not in frame.scope.variables:
        frame.scope.guard_missing(frame.tracer, name)
    if pending is DELETED or (pending is None and name not in frame.scope.variables):
        frame.tracer.raise_observed(NameError, f"name '{name}' is not defined")
    frame.tracer.side_effects.store_global(frame.scope, name, DELETED)


# Names of a class body


def _namespace(frame: SymbolicFrame) -> Value:
    if frame.namespace is None:
        raise GraphBreak(BreakId.OPCODE_NOT_MODELLED, "names that are looked up dynamically")
    return frame.namespace


def _named(frame: SymbolicFrame, namespace: Value, name: str) -> Value | None:
    key = frame.tracer.constant(name)
    return namespace.get_item(frame.tracer, key) if namespace.contains(frame.tracer, key) else None


@opcode("LOAD_NAME")
def load_name(frame: SymbolicFrame, instruction: Instruction) -> None:
    found = _named(frame, _namespace(frame), instruction.value)
    frame.stack.append(found or frame.scope.load(frame.tracer, instruction.value))


@opcode("STORE_NAME")
def store_name(frame: SymbolicFrame, instruction: Instruction) -> None:
    _namespace(frame).set_item(frame.tracer, frame.tracer.constant(instruction.value), frame.stack.pop())


@opcode("DELETE_NAME")
def delete_name(frame: SymbolicFrame, instruction: Instruction) -> None:
    name = frame.tracer.constant(instruction.value)
    if not _namespace(frame).contains(frame.tracer, name):
        frame.tracer.raise_observed(NameError, f"name '{instruction.value}' is not defined")
    _namespace(frame).delete_item(frame.tracer, name)


@opcode("LOAD_CLASSDEREF", until=(3, 11))
def load_class_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    found = _named(frame, _namespace(frame), frame.decoded.slot_names[instruction.value])
    if found is None:
        load_deref(frame, instruction)
    else:
        frame.stack.append(found)


@opcode("LOAD_LOCALS", since=(3, 12))
def load_locals(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.append(_namespace(frame))


@opcode("LOAD_FROM_DICT_OR_DEREF", since=(3, 12))
def load_from_dict_or_deref(frame: SymbolicFrame, instruction: Instruction) -> None:
    found = _named(frame, frame.stack.pop(), frame.decoded.slot_names[instruction.value])
    if found is None:
        load_deref(frame, instruction)
    else:
        frame.stack.append(found)


@opcode("LOAD_FROM_DICT_OR_GLOBALS", since=(3, 12))
def load_from_dict_or_globals(frame: SymbolicFrame, instruction: Instruction) -> None:
    found = _named(frame, frame.stack.pop(), instruction.value)
    frame.stack.append(found or frame.scope.load(frame.tracer, instruction.value))


@opcode("SETUP_ANNOTATIONS")
def setup_annotations(frame: SymbolicFrame, instruction: Instruction) -> None:
    if _named(frame, _namespace(frame), "__annotations__") is None:
        name = frame.tracer.constant("__annotations__")
        _namespace(frame).set_item(frame.tracer, name, frame.tracer.make_dict([]))


@opcode("LOAD_BUILD_CLASS")
def load_build_class(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack.append(frame.scope.load_builtin(frame.tracer, "__build_class__"))


decline("it binds names that are not known before", "IMPORT_STAR")
decline(
    "only the interpreter itself uses it",
    "INTERPRETER_EXIT",
    "PRINT_EXPR",
    "RESERVED",
    "ENTER_EXECUTOR",
    "EXIT_INIT_CHECK",
)
