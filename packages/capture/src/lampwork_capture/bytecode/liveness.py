"""Liveness: which locals and cells the rest of a code may still read, at each instruction.

Resume functions take exactly these as arguments. Exception edges count: what a handler reads is live in all of the
region that it covers. Invariant: over-approximates; a name left out is certainly not read again.
"""

from __future__ import annotations

from collections.abc import Sequence

from bytecode import Instr, Label
from bytecode.instr import CellVar, FreeVar

from .block_stack import covering, listed_block_stacks
from .emitter import Instruction
from .stack_depth import exception_regions, handler_label, label_positions
from .version import PY311, falls_through

_READS = frozenset({"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_AND_CLEAR", "DELETE_FAST"})
_WRITES = frozenset({"STORE_FAST"})
# Builtins that see all locals of the frame that calls them.
_REFLECTION = frozenset({"locals", "vars", "eval", "exec", "dir"})


class Liveness:
    """Live names before each instruction of one code."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self._instructions = instructions
        self._live = _solve(instructions)

    def before(self, index: int) -> frozenset[str]:
        """Names of locals, cells and free variables that may be read at or after instruction `index`.

        A local that is not bound there may be among them: only its value, if it has one, is needed.
        """
        return self._live[index]


def live_locals(instructions: Sequence[Instruction], index: int) -> frozenset[str]:
    """`Liveness(instructions).before(index)`, for one question."""
    return Liveness(instructions).before(index)


def uses_reflection(instructions: Sequence[Instruction]) -> bool:
    """Whether the code names a builtin that can see all its locals."""
    for item in instructions:
        if isinstance(item, Instr) and item.name in ("LOAD_GLOBAL", "LOAD_NAME"):
            name = item.arg[1] if isinstance(item.arg, tuple) else item.arg
            if name in _REFLECTION:
                return True
    return False


def _names_of(item: Instr) -> tuple[str, ...]:
    argument = item.arg
    if isinstance(argument, (CellVar, FreeVar)):
        return (argument.name,)
    if isinstance(argument, str):
        return (argument,)
    return ()


def _solve(instructions: Sequence[Instruction]) -> list[frozenset[str]]:
    n = len(instructions)
    labels = label_positions(instructions)
    handlers = _handlers(instructions, labels)
    everything: frozenset[str] = frozenset()
    if uses_reflection(instructions):
        everything = frozenset(
            name
            for item in instructions
            if isinstance(item, Instr) and (item.name.endswith(("_FAST", "_FAST_CHECK")) or _is_cell(item))
            for name in _names_of(item)
        )
    empty: frozenset[str] = frozenset()
    live: list[frozenset[str]] = [empty] * (n + 1)
    changed = True
    while changed:
        changed = False
        for index in range(n - 1, -1, -1):
            item = instructions[index]
            if not isinstance(item, Instr):
                after = live[index + 1]
            else:
                after = _after(item, live, labels, index)
                after = _through(item, after) | everything
                handler = handlers[index]
                if handler is not None:
                    after |= live[handler]
            if after != live[index]:
                live[index] = after
                changed = True
    return live[:n]


def _handlers(instructions: Sequence[Instruction], labels: dict[Label, int]) -> list[int | None]:
    """Where an exception of each instruction continues."""
    if PY311:
        regions = exception_regions(instructions)
        return [None if region is None else labels[handler_label(region)] for region in regions]
    blocks = [covering(stack) for stack in listed_block_stacks(instructions)]
    return [None if block is None else block.handler for block in blocks]


def _after(item: Instr, live: list[frozenset[str]], labels: dict[Label, int], index: int) -> frozenset[str]:
    result: frozenset[str] = live[index + 1] if falls_through(item) else frozenset()
    if isinstance(item.arg, Label):
        result |= live[labels[item.arg]]
    return result


def _through(item: Instr, after: frozenset[str]) -> frozenset[str]:
    if item.name in _WRITES:
        return after.difference(_names_of(item))
    if item.name in _READS or _is_cell(item):
        return after.union(_names_of(item))
    return after


def _is_cell(item: Instr) -> bool:
    return isinstance(item.arg, (CellVar, FreeVar)) and item.name != "MAKE_CELL"
