"""Stack depth: how many values stand on the stack before each instruction, and the most there can be.

The assembler takes the stack size and the depths of exception entries from here. Invariant: every path to an
instruction arrives with the same depth, else `StackDepthError` names the instruction; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bytecode import Instr, Label
from bytecode.instr import UNSET, TryBegin, TryEnd

from .emitter import Instruction
from .version import falls_through, stack_effect


class StackDepthError(Exception):
    """Two paths reach an instruction with different depths, the stack underflows, or a jump has no target."""

    def __init__(self, index: int, instruction: object, problem: str) -> None:
        super().__init__(f"instruction {index}, {instruction!r}: {problem}")
        self.index = index


@dataclass(frozen=True, slots=True)
class StackDepths:
    """`before[i]` is the depth before instruction i (None: unreachable); `maximum` covers every point between."""

    before: tuple[int | None, ...]
    maximum: int


def label_positions(instructions: Sequence[Instruction]) -> dict[Label, int]:
    """Index of each placed label."""
    return {item: index for index, item in enumerate(instructions) if isinstance(item, Label)}


def exception_regions(instructions: Sequence[Instruction]) -> list[TryBegin | None]:
    """For each index the exception entry that covers it, or None."""
    regions: list[TryBegin | None] = []
    current: TryBegin | None = None
    for item in instructions:
        if isinstance(item, TryBegin):
            current = item
        elif isinstance(item, TryEnd):
            current = None
        regions.append(current if isinstance(item, Instr) else None)
    return regions


def handler_label(entry: TryBegin) -> Label:
    """Where an exception entry continues."""
    assert isinstance(entry.target, Label)
    return entry.target


def compute_depths(instructions: Sequence[Instruction], start_depth: int = 0) -> StackDepths:
    """Depths of a whole code. Fills in `stack_depth` of exception entries that have none; raises StackDepthError."""
    labels = label_positions(instructions)
    regions = exception_regions(instructions)
    before: list[int | None] = [None] * len(instructions)
    entry_depth: dict[int, int] = {}  # of entries without a recorded depth, by id
    maximum = start_depth
    pending: list[tuple[int, int]] = [(0, start_depth)]

    def arrive(index: int, label: Label, depth: int) -> None:
        if label not in labels:
            raise StackDepthError(index, instructions[index], "the target label is placed nowhere")
        pending.append((labels[label], depth))

    while pending:
        index, depth = pending.pop()
        while index < len(instructions):
            known = before[index]
            if known is not None:
                if known != depth:
                    raise StackDepthError(index, instructions[index], f"reached with depth {depth} and {known}")
                break
            before[index] = depth
            item = instructions[index]
            if isinstance(item, TryBegin):
                if item.stack_depth is UNSET:
                    item.stack_depth = depth
                handler_depth = item.stack_depth + int(item.push_lasti) + 1
                maximum = max(maximum, handler_depth)
                arrive(index, handler_label(item), handler_depth)
            if not isinstance(item, Instr):
                index += 1
                continue
            region = regions[index]
            if region is not None and id(region) not in entry_depth:
                # Reached by a jump into the middle of the region, past its begin.
                entry_depth[id(region)] = depth
                if region.stack_depth is not UNSET:
                    handler_depth = region.stack_depth + int(region.push_lasti) + 1
                    maximum = max(maximum, handler_depth)
                    arrive(index, handler_label(region), handler_depth)
            if isinstance(item.arg, Label):
                jumped = depth + stack_effect(item, jump=True)
                if jumped < 0:
                    raise StackDepthError(index, item, f"takes more than the {depth} values on the stack")
                maximum = max(maximum, jumped)
                arrive(index, item.arg, jumped)
            if not falls_through(item):
                break
            depth += stack_effect(item, jump=False if item.has_jump() else None)
            if depth < 0:
                raise StackDepthError(index, item, "takes more values than there are on the stack")
            maximum = max(maximum, depth)
            index += 1
        else:
            if index > 0 and depth >= 0:
                raise StackDepthError(len(instructions) - 1, instructions[-1], "runs past the end of the code")
    for index, item in enumerate(instructions):
        if isinstance(item, TryBegin) and item.stack_depth is UNSET:
            if id(item) in entry_depth:
                raise StackDepthError(index, item, "an exception entry without a depth is only entered in its middle")
            item.stack_depth = 0  # unreachable
    return StackDepths(tuple(before), maximum)
