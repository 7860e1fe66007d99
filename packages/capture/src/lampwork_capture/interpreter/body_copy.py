"""Copies of a user's code, open for editing, that become the replacement of a frame or functions of their own.

Breaks continue in such copies: entered in the middle, with exits put in. Invariant: what is not edited behaves as in
the original; the cells of the original are the same cells in every copy.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from types import CodeType
from typing import Any

from bytecode.instr import CellVar, FreeVar, Instr, Label

from ..bytecode.assemble import EditableCode, assemble, disassemble, prologue, prologue_end
from ..bytecode.code_map import CodeMap
from ..bytecode.emitter import OWN_PREFIX, Emitter
from ..bytecode.emitter import Instruction as CodeItem
from ..bytecode.liveness import Liveness
from ..bytecode.reachability import drop_unreachable
from ..bytecode.version import load_closure, qualified_name, through_cell
from ..skip_policy import PROTECTED_MARK
from .instructions import decode

SELF = "__lampwork_self"


class CodeCopy:
    """What resuming needs to know about a code object; made once."""

    def __init__(self, code: CodeType) -> None:
        items = disassemble(code).instructions
        self.positions = [index for index, item in enumerate(items) if isinstance(item, Instr)]
        self.liveness = Liveness(items)
        names = [instruction.name for instruction in decode(code).instructions]
        listed = [item.name for item in items if isinstance(item, Instr)]
        if names != listed:
            raise ValueError(f"two readings of {qualified_name(code)} differ")
        self.makes_inner_cells = any(
            isinstance(item, Instr) and item.name == "MAKE_CELL" for item in items[prologue_end(items) :]
        )
        own = {*code.co_cellvars, *code.co_freevars}
        self.user_locals = frozenset(
            name for name in code.co_varnames if name not in own and not name.startswith(OWN_PREFIX)
        )
        self.has_shapes_of_data = False  # resumes behind an operation whose result has a shape that depends on data
        self._made: dict[Any, Any] = {}

    def made(self, key: Any, make: Callable[[], Any]) -> Any:
        """What was made of the code for `key`, made once."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def live_before(self, index: int) -> frozenset[str]:
        """Names that may be read at or after an instruction."""
        return self.liveness.before(self.positions[index])


_copies: CodeMap[CodeCopy] = CodeMap()


def copy_of(code: CodeType) -> CodeCopy:
    """The `CodeCopy` of a code object, made once while it lives."""
    copy = _copies.get(code, None)
    if copy is None:
        copy = _copies[code] = CodeCopy(code)
    return copy


_LONGEST_REST = 50_000  # instructions that the resume functions of one function may have between them, about
_resumed: CodeMap[int] = CodeMap()


def times_resumed(code: CodeType) -> int:
    """How many resumes a code object is away from the function that the user wrote."""
    return _resumed.get(code, 0)


def note_resume(code: CodeType, original: CodeType) -> None:
    """`code` goes on with what `original` leaves."""
    _resumed[code] = times_resumed(original) + 1


def is_resumed_too_often(code: CodeType) -> bool:
    """Whether the rest of a function shall run natively: every break copies all that follows it, and it has many."""
    return times_resumed(code) * len(decode(code).instructions) > _LONGEST_REST


class BodyCopy:
    """The body of a code, open for editing by instruction number; `items` ends it.

    `free`: the copy will stand in a function of its own, to which the cells of the original are free variables.
    `in_cells` names plain locals of the original that get cells in the copy; `shared` those that are cells of a copy
    around it. `is_protected`: handlers of the user stand around it.
    """

    def __init__(self, code: CodeType, *, free: bool) -> None:
        self.code = code
        self.in_cells: set[str] = set()
        self.shared: tuple[str, ...] = ()
        self.is_protected = False
        self.editable = disassemble(code)
        self.begin = prologue_end(self.editable.instructions)
        self.tails: list[CodeItem] = []
        self.ready: list[CodeItem] = []  # runs before the copy is entered
        self.is_free = free
        self._positions = copy_of(code).positions
        self._before: dict[int, list[CodeItem]] = {}
        self._instead: dict[int, list[CodeItem]] = {}

    def emitter(self) -> Emitter:
        """An emitter of instructions that will stand in the copy."""
        if self.is_free:
            return Emitter((), [*self.code.co_cellvars, *self.code.co_freevars])
        return Emitter(self.code.co_cellvars, self.code.co_freevars)

    def load_cell_of(self, emitter: Emitter, name: str) -> None:
        """Push the cell of a local that is in `in_cells`."""
        emitter.extend([load_closure(CellVar(name))])

    def label_at(self, index: int) -> Label:
        """A new label before an instruction."""
        label = Label()
        self.put_before(index, [label])
        return label

    def label_in_front(self, index: int) -> Label:
        """A new label before an instruction and all that was put before it."""
        label = Label()
        self._before.setdefault(self._positions[index], []).insert(0, label)
        return label

    def put_before(self, index: int, items: list[CodeItem]) -> None:
        self._before.setdefault(self._positions[index], []).extend(items)

    def put_instead(self, index: int, items: list[CodeItem]) -> None:
        self._instead[self._positions[index]] = items

    def put_behind(self, index: int, target: Label, items: list[CodeItem]) -> None:
        """Add `items`, which begin at `target`, behind the body; they count as the line of an instruction."""
        location = self.instruction(index).location
        self.tails.append(target)
        for item in items:
            if isinstance(item, Instr) and item.location is None:
                item = Instr(item.name, item.arg, location=location)
            self.tails.append(item)

    def position(self, index: int) -> int:
        """Where an instruction stands among the items of the original."""
        return self._positions[index]

    def handler_label(self, index: int) -> Label:
        """The label of an instruction that something jumps to."""
        for item in reversed(self.editable.instructions[: self._positions[index]]):
            if isinstance(item, Label):
                return item
            if isinstance(item, Instr):
                break
        raise ValueError(f"nothing jumps to instruction {index} of {self.code.co_name}")

    def instruction(self, index: int) -> Instr:
        item = self.editable.instructions[self._positions[index]]
        assert isinstance(item, Instr)
        return item

    def items(self) -> list[CodeItem]:
        """The edited body with its tails."""
        original = self.editable.instructions
        body: list[CodeItem] = []
        for position in range(self.begin, len(original)):
            body += self._before.get(position, ())
            body += self._instead.get(position, (original[position],))
        return self.adapted([*body, *self.tails])

    def adapted(self, items: Sequence[CodeItem]) -> list[CodeItem]:
        """Instructions as they stand in the copy, given where its variables are."""
        own = frozenset(self.code.co_cellvars) if self.is_free else frozenset[str]()
        return [_placed(item, own, self.in_cells, self.shared) for item in items]


def _placed(item: CodeItem, freed: Collection[str], in_cells: Collection[str], shared: Collection[str]) -> CodeItem:
    if not isinstance(item, Instr):
        return item
    if isinstance(item.arg, CellVar) and item.arg.name in freed:
        return Instr(item.name, FreeVar(item.arg.name), location=item.location)
    if isinstance(item.arg, str) and item.name.endswith(("_FAST", "_FAST_CHECK")):
        if item.arg in in_cells:
            return through_cell(item, CellVar(item.arg))
        if item.arg in shared:
            return through_cell(item, FreeVar(item.arg))
    return item


def emit_mark(emitter: Emitter, name: str) -> None:
    """Make a local with this name, which tells by being there; it is never bound when the program can look."""
    emitter.load_constant(None)
    emitter.emit("STORE_FAST", name)
    emitter.emit("DELETE_FAST", name)


def needs_self(code: CodeType) -> bool:
    """Whether the code may call `super()` without arguments, which looks at the first argument of its frame."""
    return "__class__" in code.co_freevars and bool(code.co_varnames) and code.co_argcount > 0


def function_code(body: BodyCopy, arguments: list[str], prefix: list[CodeItem], start: Label) -> CodeType:
    """A function of an edited copy, which begins with a prefix and goes on at `start`."""
    code = body.code
    cells = sorted(body.in_cells)
    freevars = [*body.shared, *code.co_cellvars, *code.co_freevars]
    mark = Emitter()
    if PROTECTED_MARK in code.co_varnames or body.is_protected:
        emit_mark(mark, PROTECTED_MARK)
    begin = body.adapted([*mark.instructions, *prefix, Instr("JUMP_FORWARD", start)])
    entered = EditableCode(
        name=code.co_name,
        qualified_name=qualified_name(code),
        filename=code.co_filename,
        first_line=code.co_firstlineno,
        flags=body.editable.flags,
        argument_names=arguments,
        positional_count=len(arguments),
        cellvars=cells,
        freevars=freevars,
        docstring=None,
        instructions=drop_unreachable([*prologue(cells, freevars), *begin, *body.items()]),
    )
    entered.take_plain_arguments()
    return assemble(entered)
