"""Instructions: a code object decoded once into what the run loop dispatches on.

Caches and EXTENDED_ARG are folded away, joined instructions are split, arguments are resolved (names, constants, slots,
jump targets), and the exception table and the loops of the control flow are known by instruction index. Invariant:
decoded code is immutable and shared by every trace of the same code object.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any

from ..bytecode.block_stack import BLOCK_SETUPS, HANDLER_PUSHES, Block, Blocks, block_stacks, covering
from ..bytecode.code_map import CodeMap
from ..bytecode.version import PY311, PY313, PYTHON, local_names, qualified_name, split_raw
from ..guards.facts import UserLine
from .dispatch import handler_for

_EXTENDED_ARG = dis.opmap["EXTENDED_ARG"]
_CACHE = dis.opmap.get("CACHE", -1)
_NAMES = frozenset(dis.hasname)
_CONSTS = frozenset(dis.hasconst)
_RELATIVE = frozenset(dis.hasjrel)
_ABSOLUTE = frozenset(dis.hasjabs)
_FREE = frozenset(dis.hasfree)
_COMPARE = dis.opmap["COMPARE_OP"]
_COMPARE_SHIFT = 5 if PY313 else 4 if PYTHON >= (3, 12) else 0
_NO_FALLTHROUGH = frozenset(
    {
        "RETURN_VALUE",
        "RETURN_CONST",
        "RAISE_VARARGS",
        "RERAISE",
        "JUMP_FORWARD",
        "JUMP_BACKWARD",
        "JUMP_BACKWARD_NO_INTERRUPT",
        "JUMP_ABSOLUTE",
        "INTERPRETER_EXIT",
    }
)


class Instruction:
    """One instruction. `value` is the resolved argument: a name, a constant, a slot index, or the plain number."""

    __slots__ = ("arg", "constant", "handler", "index", "line", "name", "offset", "target", "value")

    def __init__(self, index: int, offset: int, name: str, arg: int, line: int) -> None:
        self.index = index
        self.offset = offset
        self.name = name
        self.arg = arg
        self.value: Any = arg
        self.target = -1
        self.line = line
        self.handler: Callable[..., Any] = handler_for(name)
        self.constant: Any = None  # the traced value of a constant, made once

    def __repr__(self) -> str:
        return f"{self.index}:{self.name} {self.value!r}"


@dataclass(frozen=True, slots=True)
class HandlerEntry:
    """Where an exception continues: at `target`, with `depth` values kept and `pushes` more pushed by the interpreter,
    the number of the raising instruction first where `push_lasti`."""

    target: int
    depth: int
    push_lasti: bool
    pushes: int


class DecodedCode:
    """A code object as the interpreter reads it."""

    def __init__(self, code: CodeType) -> None:
        self.filename = code.co_filename
        self.function = qualified_name(code)
        self.slot_names = _slot_names(code)
        self.slot_of = {name: index for index, name in enumerate(self.slot_names)}
        self.first_free = len(self.slot_names) - len(code.co_freevars)
        self.instructions, index_of = _decode(code, self.slot_names)
        self._user_lines: dict[int, UserLine] = {}
        self._handler_at: dict[int, HandlerEntry] = {}
        self._blocks: list[Blocks] | None = None
        if PY311:
            for covered, entry in _handlers(code, index_of):  # the table is sorted and does not overlap
                self._handler_at.update(dict.fromkeys(covered, entry))
        elif any(instruction.name in BLOCK_SETUPS for instruction in self.instructions):
            self._blocks = self._find_blocks()
            entries: dict[Block, HandlerEntry] = {}
            for index, blocks in enumerate(self._blocks):
                block = covering(blocks)
                if block is not None:
                    made = HandlerEntry(block.handler, block.depth, False, HANDLER_PUSHES)
                    self._handler_at[index] = entries.setdefault(block, made)

    def _find_blocks(self) -> list[Blocks]:
        handlers = [i.value if i.name in BLOCK_SETUPS else -1 for i in self.instructions]
        names = [instruction.name for instruction in self.instructions]
        return block_stacks(
            names, handlers, lambda index: [(after, self._effect(index, after)) for after in self.successors(index)]
        )

    def blocks_at(self, index: int) -> Blocks:
        """The blocks on CPython 3.10's block stack before an instruction; none from 3.11."""
        return () if self._blocks is None else self._blocks[index]

    def _effect(self, index: int, after: int) -> int:
        """Net values pushed on the way from an instruction to a successor."""
        instruction = self.instructions[index]
        if instruction.name == "GEN_START":
            return 0
        op = dis.opmap[instruction.name]
        jump = after == instruction.target and after != index + 1
        return dis.stack_effect(op, instruction.arg if op >= dis.HAVE_ARGUMENT else None, jump=jump)

    def handler_at(self, index: int) -> HandlerEntry | None:
        """The handler that protects an instruction."""
        return self._handler_at.get(index)

    @property
    def has_handlers(self) -> bool:
        """Whether any of it stands in a `try` or `with`."""
        return bool(self._handler_at)

    def user_line(self, index: int) -> UserLine:
        """The line of the user's program that an instruction stands for."""
        line = self.instructions[index].line
        known = self._user_lines.get(line)
        if known is None:
            known = self._user_lines[line] = UserLine(self.filename, line, self.function)
        return known

    def successors(self, index: int) -> list[int]:
        """Where control goes after an instruction that does not raise."""
        instruction = self.instructions[index]
        after: list[int] = []
        if instruction.name not in _NO_FALLTHROUGH and index + 1 < len(self.instructions):
            after.append(index + 1)
        if instruction.target >= 0 and instruction.target not in after:
            after.append(instruction.target)
        return after

    @cached_property
    def jump_targets(self) -> frozenset[int]:
        """Instructions that are jumped to, or that handle exceptions."""
        targets = {instruction.target for instruction in self.instructions if instruction.target >= 0}
        return frozenset(targets | {entry.target for entry in self._handler_at.values()})

    @cached_property
    def cleared_names(self) -> frozenset[str]:
        """Locals that an inlined comprehension saves and takes for itself (3.12)."""
        saves = (i for i in self.instructions if i.name == "LOAD_FAST_AND_CLEAR")
        return frozenset(self.slot_names[i.arg] for i in saves)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Stack depth before each instruction; -1 where nothing leads."""
        depths = [-1] * len(self.instructions)
        pending = [(0, 0)]
        while pending:
            index, depth = pending.pop()
            if index >= len(depths) or depths[index] >= 0:
                continue
            depths[index] = depth
            for after in self.successors(index):
                pending.append((after, depth + self._effect(index, after)))
            handler = self._handler_at.get(index)
            if handler is not None:
                pending.append((handler.target, handler.depth + handler.pushes))
        return tuple(depths)

    @cached_property
    def loop_of(self) -> tuple[int, ...]:
        """For each instruction a number of the outermost loop around it (equal numbers, one loop), or -1."""
        return _loops(len(self.instructions), self._edges)

    def _edges(self, index: int) -> list[int]:
        handler = self._handler_at.get(index)
        after = self.successors(index)
        if handler is not None:
            after = [*after, handler.target]
        return after


_decoded: CodeMap[DecodedCode] = CodeMap()


def decode(code: CodeType) -> DecodedCode:
    """The decoded form of `code`, made once while the code object lives."""
    decoded = _decoded.get(code, None)
    if decoded is None:
        decoded = _decoded[code] = DecodedCode(code)
    return decoded


def _slot_names(code: CodeType) -> tuple[str, ...]:
    cells = tuple(name for name in code.co_cellvars if name not in code.co_varnames)
    return local_names(code) + cells + code.co_freevars


def _decode(code: CodeType, slot_names: tuple[str, ...]) -> tuple[tuple[Instruction, ...], dict[int, int]]:
    raw = code.co_code
    lines: dict[int, int] = {}
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        for offset in range(start, end, 2):
            lines[offset] = number if number is not None else -1
    instructions: list[Instruction] = []
    index_of: dict[int, int] = {}
    jumps: list[tuple[Instruction, int]] = []
    extended = 0
    first_offset = -1  # of an instruction with its EXTENDED_ARGs, which is where jumps may land
    for offset in range(0, len(raw), 2):
        op = raw[offset]
        if op == _CACHE:
            continue
        arg = raw[offset + 1] | extended
        if first_offset < 0:
            first_offset = offset
        if op == _EXTENDED_ARG:
            extended = arg << 8
            continue
        extended = 0
        found = lines.get(offset, -1)
        if found >= 0:
            line = found
        for place in range(first_offset, offset + 2, 2):
            index_of[place] = len(instructions)
        first_offset = -1
        for name, part in split_raw(dis.opname[op], arg):
            instruction = Instruction(len(instructions), offset, name, part, line)
            instructions.append(instruction)
            if op in _RELATIVE or op in _ABSOLUTE:
                jumps.append((instruction, _jump_target(raw, op, instruction)))
            else:
                _resolve(code, slot_names, dis.opmap[name], instruction)
    index_of[len(raw)] = len(instructions)
    for instruction, target in jumps:
        if instruction.name in BLOCK_SETUPS:
            instruction.value = index_of[target]  # goes there only when something raises
        else:
            instruction.target = index_of[target]
    return tuple(instructions), index_of


def _jump_target(raw: bytes, op: int, instruction: Instruction) -> int:
    if op in _ABSOLUTE:
        return instruction.arg * 2
    after = instruction.offset + 2
    while after < len(raw) and raw[after] == _CACHE:
        after += 2
    sign = -1 if "BACKWARD" in instruction.name else 1
    return after + sign * instruction.arg * 2


def _resolve(code: CodeType, slot_names: tuple[str, ...], op: int, instruction: Instruction) -> None:
    name, arg = instruction.name, instruction.arg
    if op in _CONSTS:
        instruction.value = code.co_consts[arg]
    elif op in _FREE and not PY311:  # cells are numbered apart from the other slots
        instruction.value = slot_names.index((code.co_cellvars + code.co_freevars)[arg])
    elif (name == "LOAD_GLOBAL" and PY311) or (name == "LOAD_ATTR" and PYTHON >= (3, 12)):
        instruction.value = code.co_names[arg >> 1]
    elif name == "LOAD_SUPER_ATTR":
        instruction.value = code.co_names[arg >> 2]
    elif op == _COMPARE:
        instruction.value = dis.cmp_op[arg >> _COMPARE_SHIFT]
    elif name == "KW_NAMES":
        instruction.value = code.co_consts[arg]
    elif op in _NAMES:
        instruction.value = code.co_names[arg]


def _handlers(code: CodeType, index_of: dict[int, int]) -> Iterator[tuple[range, HandlerEntry]]:
    """The rows of the exception table, with the instructions that each covers."""
    table = iter(code.co_exceptiontable)

    def varint() -> int:
        byte = next(table)
        number = byte & 63
        while byte & 64:
            byte = next(table)
            number = (number << 6) | (byte & 63)
        return number

    while True:
        try:
            start = varint() * 2
        except StopIteration:
            return
        length, target, packed = varint() * 2, varint() * 2, varint()
        first, end = _index_from(index_of, start), _index_from(index_of, start + length)
        lasti = packed & 1
        yield range(first, end), HandlerEntry(index_of[target], packed >> 1, lasti == 1, 1 + lasti)


def _index_from(index_of: dict[int, int], offset: int) -> int:
    while offset not in index_of:  # a range may begin or end at a cache
        offset += 2
    return index_of[offset]


def _loops(count: int, edges: Callable[[int], list[int]]) -> tuple[int, ...]:
    """Strongly connected components (Tarjan, without recursion); -1 for instructions in no cycle."""
    order: dict[int, int] = {}
    low = [0] * count
    on_stack = [False] * count
    component = [-1] * count
    stack: list[int] = []
    for root in range(count):
        if root in order:
            continue
        work: list[tuple[int, Iterator[int]]] = []
        order[root] = low[root] = len(order)
        stack.append(root)
        on_stack[root] = True
        work.append((root, iter(edges(root))))
        while work:
            node, remaining = work[-1]
            advanced = False
            for after in remaining:
                if after not in order:
                    order[after] = low[after] = len(order)
                    stack.append(after)
                    on_stack[after] = True
                    work.append((after, iter(edges(after))))
                    advanced = True
                    break
                if on_stack[after]:
                    low[node] = min(low[node], order[after])
            if advanced:
                continue
            work.pop()
            if work:
                parent = work[-1][0]
                low[parent] = min(low[parent], low[node])
            if low[node] == order[node]:
                members: list[int] = []
                while True:
                    member = stack.pop()
                    on_stack[member] = False
                    members.append(member)
                    if member == node:
                        break
                if len(members) > 1 or node in edges(node):
                    for member in members:
                        component[member] = node
    return tuple(component)
