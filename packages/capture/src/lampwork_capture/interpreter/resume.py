"""Resume functions and continuations: copies of a user's code that are entered in their middle.

The replacement of a frame that breaks is: the generated prefix, then a jump into a copy of the original code at the
breaking instruction, whose handlers stay in place. At each exit of the native region the copy packs stack and locals
and hands over to a resume function (a TailCall, so that one frame stays one frame): the original code again, entered
behind the break. Where the break lies in inlined calls, the copy is entered at the call, and calls the continuation of
the callee: the same construction on the callee's code, except that its exits hand a resume function back to the caller,
so that all frames resume in one trace. Invariant: a resume function depends only on the code, the exit and its stack
layout, so all breaks that leave there share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import CellType, CodeType
from typing import Any

from bytecode.instr import Instr, Label

from .. import _native
from ..bytecode.assemble import assemble
from ..bytecode.block_stack import leave_blocks, push_with_blocks
from ..bytecode.emitter import Emitter
from ..bytecode.emitter import Instruction as CodeItem
from ..bytecode.reachability import drop_unreachable
from ..bytecode.version import (
    PY313,
    PYTHON,
    call_sequence,
    load_attribute,
    make_cells,
    push_null,
    swap_value,
)
from ..skip_policy import NATIVE_MARK
from .body_copy import SELF, BodyCopy, copy_of, emit_mark, function_code, needs_self, note_resume
from .instructions import DecodedCode, decode
from .loop_body import LoopBody, call_loop_body
from .region import Exit

_NEXT = "__lampwork_next"
_NEXT_ARGUMENTS = "__lampwork_next_arguments"
_RESULT = "__lampwork_result"


class Unfinished(tuple[Any, ...]):
    """What a continuation returns when it reaches an exit: (function, arguments) that do the rest of its frame."""

    __slots__ = ()


class Unbound:
    """Stands for the value of a local that has none."""


def contents_or_unbound(cell: CellType) -> Any:
    """What a cell holds, or `Unbound`."""
    try:
        return cell.cell_contents
    except ValueError:
        return Unbound


@dataclass(frozen=True, slots=True)
class NativePart:
    """What runs natively in a copy: entered at `entry`, left at `exits`."""

    entry: Exit
    exits: tuple[Exit, ...]
    loop: LoopBody | None = None


# Replacement code


def code_of_break(
    code: CodeType, prefix: list[CodeItem], native: NativePart, taken: Emitter, extra_arguments: Sequence[str] = ()
) -> tuple[CodeType, list[CodeType]]:
    """Replacement code: prefix, then the copy from its entry; and the resume functions that it may call."""
    body = BodyCopy(code, free=False)
    entry, resumes = _edit_native_part(body, native, taken, hand_back=False)
    editable = body.editable
    jump = Instr("JUMP_FORWARD", entry)
    start = editable.instructions[: body.begin]
    cells = sorted(body.in_cells)
    editable.cellvars = [*editable.cellvars, *cells]
    blocks = _enter_blocks(body, native.entry, taken)
    ready = body.adapted([*prefix, *body.ready, *blocks])
    editable.instructions = drop_unreachable([*make_cells(cells), *start, *ready, jump, *body.items()])
    editable.take_plain_arguments(extra_arguments)
    editable.stack_size = 0
    return assemble(editable), resumes


def _enter_blocks(body: BodyCopy, entry: Exit, taken: Emitter) -> list[CodeItem]:
    """With the stack laid out, lay it out again so that each block of the code is pushed at its depth."""
    blocks = decode(body.code).blocks_at(entry.index)
    if not blocks:
        return []
    emitter = body.emitter()
    nulls = [*entry.stack, *([False] * 3 if entry.calls else [])]
    lowest = blocks[0].depth
    above: list[Callable[[], None]] = []
    for null in reversed(nulls[lowest:]):
        if null:
            emitter.drop_null()
            above.append(emitter.push_null)
        else:
            above.append(partial(_push_held, emitter, _hold_top(emitter, taken)))
    pushes = [*[_keep] * lowest, *reversed(above)]
    push_with_blocks(emitter, pushes, blocks, body.handler_label)
    return emitter.instructions


def _keep() -> None:
    """A value that is in its place already."""


def _hold_top(emitter: Emitter, taken: Emitter) -> str:
    """Pop into a fresh local."""
    name = taken.fresh_local("stack")
    emitter.emit("STORE_FAST", name)
    return name


def _push_held(emitter: Emitter, name: str) -> None:
    """Push a local, which holds the value no longer."""
    emitter.emit("LOAD_FAST", name)
    emitter.emit("DELETE_FAST", name)


def continuation_code(code: CodeType, native: NativePart) -> tuple[CodeType, tuple[CodeType, ...]]:
    """The code of a continuation, and the resume functions that it may hand back. It takes what those take."""
    return copy_of(code).made(native, lambda: _make_continuation(code, native))


def _make_continuation(code: CodeType, native: NativePart) -> tuple[CodeType, tuple[CodeType, ...]]:
    body = BodyCopy(code, free=True)
    taken = Emitter([*code.co_cellvars, *code.co_freevars], (), code.co_varnames)
    entry, resumes = _edit_native_part(body, native, taken, hand_back=True)
    return _entered_code(body, native.entry, entry, taken, is_native=True), tuple(resumes)


def _edit_native_part(
    body: BodyCopy, native: NativePart, taken: Emitter, *, hand_back: bool
) -> tuple[Label, list[CodeType]]:
    """Put the exits in; the label of the entry, and the code of the resume functions."""
    code = body.code
    start = native.entry.index
    entry = body.label_at(start)
    resumes: list[CodeType] = []
    for leave in native.exits:
        target = Label()
        body.put_before(leave.index, [Instr("JUMP_FORWARD", target)])
        resumes.append(resume_code(code, leave))
        emitter = body.emitter()
        _leave(body, emitter, leave, resumes[-1], taken, hand_back=hand_back)
        body.put_behind(leave.index, target, emitter.instructions)
    for leave in native.exits:
        body.in_cells.update(leave.unsure_names)
    if native.loop is not None:
        call_loop_body(body, native.loop, taken)
    if native.entry.calls:
        resumes.append(resume_code(code, native.entry))
        _call_continuation(body, native.entry, resumes[-1], taken, hand_back=hand_back)
    else:
        body.put_instead(start, _without_method_pair(body.instruction(start)))
    return entry, resumes


def _without_method_pair(item: Instr) -> list[CodeItem]:
    """A method load at the break, so that it surely leaves NULL and the bound method."""
    arg: Any = item.arg
    if item.name == "LOAD_METHOD":
        name = arg
    elif item.name == "LOAD_ATTR" and PYTHON >= (3, 12) and arg[0]:
        name = arg[1]
    else:
        return [item]
    load = load_attribute(name)
    pair = [load, *push_null(), *([] if PY313 else swap_value(2))]
    return [Instr(made.name, made.arg, location=item.location) for made in pair]


def _call_continuation(body: BodyCopy, entry: Exit, resume: CodeType, taken: Emitter, *, hand_back: bool) -> None:
    """Make the call at the entry one of the continuation on the stack; go on after it if it finished its frame."""
    emitter = body.emitter()
    unfinished = Label()
    emitter.emit("STORE_FAST", _RESULT)
    emitter.begin_call(type)
    emitter.emit("LOAD_FAST", _RESULT)
    emitter.call(1)
    emitter.load_constant(Unfinished)
    emitter.emit("IS_OP", 0)
    emitter.pop_jump_if_true(unfinished)
    emitter.emit("LOAD_FAST", _RESULT)
    emitter.emit("DELETE_FAST", _RESULT)
    _replace_call(body, entry.index, emitter.instructions)
    tail = body.emitter()
    tail.emit("LOAD_FAST", _RESULT)
    tail.emit("DELETE_FAST", _RESULT)
    tail.unpack_sequence(2)
    tail.emit("STORE_FAST", _NEXT)
    tail.emit("STORE_FAST", _NEXT_ARGUMENTS)
    _leave(body, tail, entry, resume, taken, hand_back=hand_back)
    body.put_behind(entry.index, unfinished, tail.instructions)


def _replace_call(body: BodyCopy, start: int, after: Sequence[CodeItem] = ()) -> None:
    """Put `call_unfinished`, whose arguments are on the stack, in place of the call that begins at `start`."""
    last = last_of_call(decode(body.code), start)
    for index in range(start, last):
        body.put_instead(index, [])
    location = body.instruction(last).location
    call = [Instr(item.name, item.arg, location=location) for item in call_sequence(2, ())]
    body.put_instead(last, [*call, *after])


def last_of_call(decoded: DecodedCode, start: int) -> int:
    """The instruction that makes the call whose preparation begins at `start`."""
    while decoded.instructions[start].name in ("KW_NAMES", "PRECALL"):
        start += 1
    return start


def _leave(body: BodyCopy, emitter: Emitter, leave: Exit, resume: CodeType, taken: Emitter, *, hand_back: bool) -> None:
    """At an exit: take stack and locals, and go on with them in the resume function, or hand both back."""
    code = body.code
    leave_blocks(emitter, decode(code).blocks_at(leave.index))
    held: list[str] = []
    for null in reversed(leave.stack):
        if null:
            emitter.drop_null()
        else:
            held.append(_hold_top(emitter, taken))
    held.reverse()
    emitter.begin_call(Unfinished if hand_back else _native.TailCall)
    emitter.make_function(resume, resume.co_freevars)
    own = {*code.co_cellvars, *code.co_freevars}
    count = 0
    if needs_self(code):
        if hand_back:
            emitter.emit("LOAD_FAST", SELF)  # a continuation got it so itself
        else:
            emitter.load_local(code.co_varnames[0])
        count += 1
    plain = [name for name in leave.local_names if name not in own]
    passed = [_NEXT, _NEXT_ARGUMENTS] if leave.calls else []
    for name in leave.unsure_names:
        emitter.begin_call(contents_or_unbound)
        body.load_cell_of(emitter, name)
        emitter.call(1)
        count += 1
    for name in (*plain, *held, *passed):
        _push_held(emitter, name)  # the resumed frame holds them now
        count += 1
    if hand_back:
        emitter.build_tuple(count)
        emitter.build_tuple(2)
        emitter.call(1)
    else:
        emitter.call(1 + count)
    emitter.return_value()


def resume_code(code: CodeType, leave: Exit) -> CodeType:
    """The code of the resume function for an exit."""
    return copy_of(code).made(leave, lambda: _make_resume(code, leave))


def _make_resume(code: CodeType, leave: Exit) -> CodeType:
    body = BodyCopy(code, free=True)
    entry = body.label_at(leave.index)
    if leave.calls:
        _replace_call(body, leave.index)
    taken = Emitter([*code.co_cellvars, *code.co_freevars], (), code.co_varnames)
    made = _entered_code(body, leave, entry, taken, is_native=False)
    note_resume(made, code)
    return made


def argument_names(code: CodeType, entry: Exit) -> list[str]:
    """The locals that a function entered at `entry` takes, in front of the stack."""
    own = {*code.co_cellvars, *code.co_freevars}
    return [name for name in entry.local_names if name not in own]


def _entered_code(body: BodyCopy, entry: Exit, start: Label, taken: Emitter, *, is_native: bool) -> CodeType:
    """A function of the edited copy that takes the state at `entry` as arguments: locals, stack, what to call."""
    code = body.code
    freevars = [*code.co_cellvars, *code.co_freevars]
    stack_names = [None if null else taken.fresh_local("stack") for null in entry.stack]
    arguments = [SELF] if needs_self(code) else []
    arguments += [*entry.unsure_names, *argument_names(code, entry)]
    arguments += [name for name in stack_names if name is not None]
    emitter = Emitter((), freevars)
    if is_native:
        emit_mark(emitter, NATIVE_MARK)
    for name in entry.unsure_names:
        bound = emitter.label()
        emitter.emit("LOAD_FAST", name)
        emitter.load_constant(Unbound)
        emitter.emit("IS_OP", 0)
        emitter.pop_jump_if_false(bound)
        emitter.emit("DELETE_FAST", name)
        emitter.place(bound)
    pushes = [emitter.push_null if name is None else partial(_push_held, emitter, name) for name in stack_names]
    push_with_blocks(emitter, pushes, decode(code).blocks_at(entry.index), body.handler_label)
    if entry.calls:
        arguments += [_NEXT, _NEXT_ARGUMENTS]
        emitter.begin_call(_native.call_unfinished)
        _push_held(emitter, _NEXT)
        _push_held(emitter, _NEXT_ARGUMENTS)
    return function_code(body, arguments, [*emitter.instructions, *body.ready], start)
