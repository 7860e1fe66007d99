"""Code objects as editable instruction lists, and back.

`disassemble` gives a copy that may be edited in place (labels, exception entries and line positions included);
`assemble` makes a code object of it. Invariants: an unedited copy behaves as the original; constants of any type keep
their identity; stack size and exception depths are computed and checked, never trusted.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, cast

from bytecode import Bytecode, CompilerFlags, ConcreteBytecode, Instr, Label
from bytecode.instr import UNSET

from . import version
from .code_map import CodeMap
from .emitter import Instruction
from .line_table import line_table
from .null_check import check_nulls
from .stack_depth import compute_depths, label_positions

_LITERALS = (int, float, complex, bool, str, bytes, type(None), type(Ellipsis))
_PLAIN_ARGUMENTS_MASK = ~(inspect.CO_VARARGS | inspect.CO_VARKEYWORDS)


@dataclass(slots=True)
class EditableCode:
    """A function's code, open for editing. `argument_names` are its slots in `co_varnames` order."""

    name: str
    qualified_name: str
    filename: str
    first_line: int
    flags: int
    argument_names: list[str]
    positional_count: int
    positional_only_count: int = 0
    keyword_only_count: int = 0
    cellvars: list[str] = field(default_factory=list[str])
    freevars: list[str] = field(default_factory=list[str])
    docstring: Any = UNSET
    stack_size: int = 0  # at least this much
    instructions: list[Instruction] = field(default_factory=list[Instruction])

    def take_plain_arguments(self, more: Sequence[str] = ()) -> None:
        """Make every argument slot, then `more`, plain positional arguments: the convention for replacement code."""
        self.argument_names += more
        self.positional_count = len(self.argument_names)
        self.positional_only_count = 0
        self.keyword_only_count = 0
        self.flags &= _PLAIN_ARGUMENTS_MASK


class _Held:
    """Stands for a constant while the library compares constants by their marshalled bytes."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def argument_slots(code: CodeType) -> int:
    """How many argument slots a frame of the code has: positional, keyword-only, *args, **kwargs."""
    stars = bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_argcount + code.co_kwonlyargcount + stars


_listings: CodeMap[EditableCode] = CodeMap()


def disassemble(code: CodeType) -> EditableCode:
    """An editable copy of a code object; reading the code is done once while it lives, its instructions are shared."""
    listing = _listings.get(code, None)
    if listing is None:
        listing = _listings[code] = _disassemble(code)
    return dataclasses.replace(
        listing,
        argument_names=list(listing.argument_names),
        cellvars=list(listing.cellvars),
        freevars=list(listing.freevars),
        instructions=list(listing.instructions),
    )


def _disassemble(code: CodeType) -> EditableCode:
    version.require_supported()
    concrete = ConcreteBytecode.from_code(code)
    concrete.varnames = list(version.local_names(code))
    listing = concrete.to_bytecode(conserve_exception_block_stackdepth=True)
    return EditableCode(
        name=code.co_name,
        qualified_name=version.qualified_name(code),
        filename=code.co_filename,
        first_line=code.co_firstlineno,
        flags=code.co_flags,
        argument_names=list(code.co_varnames[: argument_slots(code)]),
        positional_count=code.co_argcount,
        positional_only_count=code.co_posonlyargcount,
        keyword_only_count=code.co_kwonlyargcount,
        cellvars=list(code.co_cellvars),
        freevars=list(code.co_freevars),
        docstring=listing.docstring,
        stack_size=code.co_stacksize,
        instructions=_plain(listing),
    )


def _plain(listing: Bytecode) -> list[Instruction]:
    """The instructions with joined ones split, and slots that hold cells named as such."""
    items: list[Instruction] = []
    for item in listing:
        items += version.plain(item, listing.cellvars) if isinstance(item, Instr) else [item]
    return items


def prologue_end(instructions: list[Instruction]) -> int:
    """Index after the instructions that set up cells and RESUME: where a prefix is inserted."""
    end = 0
    for index, item in enumerate(instructions):
        if not isinstance(item, Instr):
            continue
        if version.is_prologue(item):
            end = index + 1
            if item.name == "RESUME":
                break
        else:
            break
    return end


def new_function_code(name: str, argument_names: list[str], like: CodeType) -> EditableCode:
    """An empty function that takes `argument_names`, with file and lines of `like`; it starts with its prologue."""
    return EditableCode(
        name=name,
        qualified_name=name,
        filename=like.co_filename,
        first_line=like.co_firstlineno,
        flags=inspect.CO_OPTIMIZED | inspect.CO_NEWLOCALS,
        argument_names=list(argument_names),
        positional_count=len(argument_names),
        docstring=None,
        instructions=prologue([], []),
    )


def prologue(cellvars: list[str], freevars: list[str]) -> list[Instruction]:
    """The instructions that set up cells at the start of a function, up to RESUME."""
    return list(version.prologue(cellvars, freevars))


def assemble(editable: EditableCode) -> CodeType:
    """A code object of the edited instructions; the editable one is left as it is.

    Raises StackDepthError, also where a NULL would be taken for an object.
    """
    instructions = _directed_jumps(editable.instructions)
    held: list[_Held] = []  # kept alive: the library tells constants apart by id
    instructions = [_hold(item, held) for item in instructions]
    listing = Bytecode(instructions)
    listing.name = editable.name
    listing.qualname = editable.qualified_name
    listing.filename = editable.filename
    listing.first_lineno = editable.first_line
    listing.flags = CompilerFlags(editable.flags)
    listing.argnames = list(editable.argument_names)
    listing.argcount = editable.positional_count
    listing.posonlyargcount = editable.positional_only_count
    listing.kwonlyargcount = editable.keyword_only_count
    listing.cellvars = list(editable.cellvars)
    listing.freevars = list(editable.freevars)
    listing.docstring = editable.docstring
    depths = compute_depths(instructions)
    check_nulls(instructions)
    stack_size = max(editable.stack_size, depths.maximum)
    concrete = listing.to_concrete_bytecode(compute_exception_stack_depths=False)
    code = concrete.to_code(stacksize=stack_size, compute_exception_stack_depths=False)
    if not version.PY311:
        code = code.replace(co_linetable=line_table(concrete, editable.first_line))
    if held:
        constants = tuple(item.value if type(item) is _Held else item for item in code.co_consts)
        code = code.replace(co_consts=constants)
    return code


def _is_code_constant(value: Any) -> bool:
    """Whether a code object may hold a value as it is: compared by what it is when constants are shared."""
    if type(value) in _LITERALS:
        return True
    return type(value) in (tuple, frozenset) and all(_is_code_constant(item) for item in value)


def _hold(item: Instruction, held: list[_Held]) -> Instruction:
    if not isinstance(item, Instr) or item.name not in version.LOADS_CONSTANT or _is_code_constant(item.arg):
        return item
    for known in held:
        if known.value is item.arg:
            break
    else:
        known = _Held(item.arg)
        held.append(known)
    return Instr(item.name, cast(Any, known), location=item.location)


def _directed_jumps(instructions: list[Instruction]) -> list[Instruction]:
    """A copy in which every jump has the opcode for the direction that it goes."""
    positions = label_positions(instructions)
    result: list[Instruction] = []
    for index, item in enumerate(instructions):
        if isinstance(item, Instr) and isinstance(item.arg, Label) and item.arg in positions:
            replaced = version.redirect(item, backward=positions[item.arg] < index)
            if replaced is not None:
                result.extend(replaced)
                continue
        result.append(item)
    return result
