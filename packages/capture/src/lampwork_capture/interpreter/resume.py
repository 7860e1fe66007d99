"""Resume functions and the copy of the original code that runs a graph break natively.

The replacement of a frame that breaks is: the generated prefix, then a jump into a copy of the original code at the
breaking instruction, whose handlers stay in place; at each exit of the native region the copy packs stack and locals
and hands over to a resume function (a TailCall, so that one frame stays one frame): the original code again, entered
behind the break. Invariant: a resume function depends
only on the code, the exit and its stack layout, so all breaks that leave there share it.
"""

from __future__ import annotations

import weakref
from types import CodeType
from typing import Any

from bytecode.instr import CellVar, FreeVar, Instr, Label, TryBegin, TryEnd

from .. import _native
from ..bytecode.assemble import EditableCode, assemble, disassemble, prologue, prologue_end
from ..bytecode.emitter import Emitter
from ..bytecode.emitter import Instruction as CodeItem
from ..bytecode.liveness import Liveness
from ..bytecode.stack_depth import exception_regions, handler_label, label_positions
from ..bytecode.version import PY313, PYTHON, falls_through, load_attribute
from .instructions import DecodedCode, decode
from .region import Exit

_SELF = "__lampwork_self"


class CodeCopy:
    """What resuming needs to know about a code object; made once."""

    def __init__(self, code: CodeType) -> None:
        items = disassemble(code).instructions
        self.positions = [index for index, item in enumerate(items) if isinstance(item, Instr)]
        self.liveness = Liveness(items)
        names = [instruction.name for instruction in decode(code).instructions]
        listed = [item.name for item in items if isinstance(item, Instr)]
        if names != listed:
            raise ValueError(f"two readings of {code.co_qualname} differ")
        self.makes_inner_cells = any(
            isinstance(item, Instr) and item.name == "MAKE_CELL" for item in items[prologue_end(items) :]
        )
        self.resumes: dict[Exit, CodeType] = {}

    def live_before(self, index: int) -> frozenset[str]:
        """Names that may be read at or after an instruction."""
        return self.liveness.before(self.positions[index])


_copies: dict[int, tuple[weakref.ref[CodeType], CodeCopy]] = {}


def copy_of(code: CodeType) -> CodeCopy:
    """The `CodeCopy` of a code object, made once while it lives."""
    key = id(code)
    known = _copies.get(key)
    if known is not None and known[0]() is code:
        return known[1]
    copy = CodeCopy(code)

    def forget(_: object, copies: dict[int, tuple[weakref.ref[CodeType], CodeCopy]] = _copies) -> None:
        copies.pop(key, None)  # bound early: at exit the module may be empty already

    _copies[key] = (weakref.ref(code, forget), copy)
    return copy


def code_of_break(
    code: CodeType, prefix: list[CodeItem], start: int, exits: list[Exit], taken: Emitter
) -> tuple[CodeType, list[CodeType]]:
    """Replacement code: prefix, then the copy from instruction `start`; and the resume functions that it may call."""
    copy = copy_of(code)
    editable = disassemble(code)
    items = editable.instructions
    begin = prologue_end(items)
    entry = Label()
    placed: dict[int, list[CodeItem]] = {copy.positions[start]: [entry]}
    tails: list[CodeItem] = []
    resumes: list[CodeType] = []
    for leave in exits:
        target = Label()
        placed.setdefault(copy.positions[leave.index], []).append(Instr("JUMP_FORWARD", target))
        resume = resume_code(code, leave)
        resumes.append(resume)
        tails += [target, *_exit_block(code, leave, resume, taken)]
    body: list[CodeItem] = []
    for position in range(begin, len(items)):
        body += placed.get(position, ())
        item = items[position]
        if position == copy.positions[start] and isinstance(item, Instr):
            body += _without_method_pair(item)
        else:
            body.append(item)
    jump = Instr("JUMP_FORWARD", entry)
    editable.instructions = drop_unreachable([*items[:begin], *prefix, jump, *body, *tails])
    editable.take_plain_arguments()
    editable.stack_size = 0
    return assemble(editable), resumes


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
    return [
        Instr(load.name, load.arg, location=item.location),
        Instr("PUSH_NULL", location=item.location),
        *([] if PY313 else [Instr("SWAP", 2, location=item.location)]),
    ]


def _exit_block(code: CodeType, leave: Exit, resume: CodeType, taken: Emitter) -> list[CodeItem]:
    emitter = Emitter(code.co_cellvars, code.co_freevars)
    held: list[str] = []
    for null in reversed(leave.stack):
        if null:
            emitter.drop_null()
        else:
            held.append(taken.fresh_local("stack"))
            emitter.emit("STORE_FAST", held[-1])
    held.reverse()
    emitter.begin_call(_native.TailCall)
    emitter.make_function(resume, resume.co_freevars)
    emitter.callable_ready()
    own = {*code.co_cellvars, *code.co_freevars}
    count = 0
    if needs_self(code):
        emitter.load_local(code.co_varnames[0])
        count += 1
    plain = [name for name in leave.local_names if name not in own]
    for name in (*plain, *held):
        emitter.emit("LOAD_FAST", name)
        emitter.emit("DELETE_FAST", name)  # the resumed frame holds them now
        count += 1
    emitter.call(1 + count)
    emitter.return_value()
    return emitter.instructions


def needs_self(code: CodeType) -> bool:
    """Whether the code may call `super()` without arguments, which looks at the first argument of its frame."""
    return "__class__" in code.co_freevars and bool(code.co_varnames) and code.co_argcount > 0


def resume_code(code: CodeType, leave: Exit) -> CodeType:
    """The code of the resume function for an exit."""
    copy = copy_of(code)
    known = copy.resumes.get(leave)
    if known is None:
        known = copy.resumes[leave] = _make_resume_code(code, copy, leave)
    return known


def _make_resume_code(code: CodeType, copy: CodeCopy, leave: Exit) -> CodeType:
    original = disassemble(code)
    freevars = [*code.co_cellvars, *code.co_freevars]
    plain = [name for name in leave.local_names if name not in freevars]
    fresh = Emitter(freevars, (), code.co_varnames)
    stack_names = [None if null else fresh.fresh_local("stack") for null in leave.stack]
    arguments = [_SELF] if needs_self(code) else []
    arguments += plain
    arguments += [name for name in stack_names if name is not None]
    emitter = Emitter((), freevars)
    for name in stack_names:
        if name is None:
            emitter.push_null()
        else:
            emitter.emit("LOAD_FAST", name)
            emitter.emit("DELETE_FAST", name)
    entry = Label()
    emitter.jump(entry)
    items = original.instructions
    begin = prologue_end(items)
    body: list[CodeItem] = []
    for position in range(begin, len(items)):
        if position == copy.positions[leave.index]:
            body.append(entry)
        item = items[position]
        if isinstance(item, Instr) and isinstance(item.arg, CellVar):
            item = Instr(item.name, FreeVar(item.arg.name), location=item.location)
        body.append(item)
    resumed = EditableCode(
        name=code.co_name,
        qualified_name=code.co_qualname,
        filename=code.co_filename,
        first_line=code.co_firstlineno,
        flags=original.flags,
        argument_names=arguments,
        positional_count=len(arguments),
        freevars=freevars,
        docstring=None,
        instructions=drop_unreachable([*prologue([], freevars), *emitter.instructions, *body]),
    )
    resumed.take_plain_arguments()
    return assemble(resumed)


def drop_unreachable(items: list[CodeItem]) -> list[CodeItem]:
    """The list without instructions that nothing reaches, and without exception entries that cover none."""
    labels = label_positions(items)
    regions = exception_regions(items)
    reached: set[int] = set()
    pending = [0]
    while pending:
        index = pending.pop()
        while index < len(items) and index not in reached:
            reached.add(index)
            item = items[index]
            if isinstance(item, Instr):
                region = regions[index]
                if region is not None:
                    pending.append(labels[handler_label(region)])
                if isinstance(item.arg, Label):
                    pending.append(labels[item.arg])
                if not falls_through(item):
                    break
            index += 1
    used = {
        id(region)
        for index, region in enumerate(regions)
        if region is not None and index in reached and isinstance(items[index], Instr)
    }
    targets: set[Label] = set()
    for index in reached:
        item = items[index]
        if isinstance(item, Instr) and isinstance(item.arg, Label):
            targets.add(item.arg)
    targets |= {handler_label(r) for r in regions if r is not None and id(r) in used}
    kept: list[CodeItem] = []
    for index, item in enumerate(items):
        if isinstance(item, TryBegin):
            keep = id(item) in used
        elif isinstance(item, TryEnd):
            keep = id(item.entry) in used
        elif isinstance(item, Label):
            keep = item in targets
        else:
            keep = index in reached or not isinstance(item, Instr)
        if keep:
            kept.append(item)
    return kept


def loop_region(decoded: DecodedCode, index: int) -> tuple[int, frozenset[int]] | None:
    """The outermost loop around an instruction: (where it is entered, its instructions), or None outside loops."""
    loop = decoded.loop_of[index]
    if loop < 0:
        return None
    members = frozenset(i for i, number in enumerate(decoded.loop_of) if number == loop)
    outside = _live_code(decoded) - members
    entries = sorted({after for i in outside for after in decoded.successors(i) if after in members})
    if len(entries) != 1:
        return None
    entry = entries[0]
    if entry > 0 and decoded.instructions[entry - 1].name == "GET_ITER" and decoded.successors(entry - 1) == [entry]:
        return entry - 1, members | {entry - 1}
    return entry, members


def _live_code(decoded: DecodedCode) -> set[int]:
    """Instructions that can be reached from the start."""
    seen: set[int] = set()
    pending = [0]
    while pending:
        index = pending.pop()
        if index in seen or index >= len(decoded.instructions):
            continue
        seen.add(index)
        pending += decoded.successors(index)
        handler = decoded.handler_at(index)
        if handler is not None:
            pending.append(handler.target)
    return seen


def call_group(decoded: DecodedCode, index: int) -> tuple[int, frozenset[int]]:
    """An instruction with the ones that belong to it: KW_NAMES and PRECALL in front of CALL."""
    start = index
    while start > 0 and decoded.instructions[start - 1].name in ("KW_NAMES", "PRECALL"):
        start -= 1
    return start, frozenset(range(start, index + 1))
