"""The block stack of CPython 3.10, read off the code: which handlers cover an instruction, and at what stack depth.

From 3.11 an exception table says so; before, SETUP_FINALLY and its kin push blocks while the code runs. Blocks nest
statically, so a forward pass finds them, and the interpreter, the region search and liveness see one model. Code that
is entered in its middle pushes the same blocks again. Invariant: without such opcodes there are no blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bytecode import Instr, Label

from . import version
from .emitter import Emitter, Instruction

BLOCK_SETUPS = frozenset({"SETUP_FINALLY", "SETUP_WITH", "SETUP_ASYNC_WITH"})
HANDLER_PUSHES = 6  # the exception state from before and the exception: three values each


class BlockStackError(Exception):
    """Code that no compiler makes: paths with different blocks, or a block popped that is not there."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block: `handler` is the index of the instruction where an exception continues, with `depth` values kept below
    it. In the block of a handler that is running, `handler` is -1."""

    handler: int
    depth: int

    @property
    def is_handling(self) -> bool:
        return self.handler < 0


Blocks = tuple[Block, ...]
# Where control goes after an instruction that does not raise: (index, net values pushed on the way).
Successors = Callable[[int], Iterable[tuple[int, int]]]


def block_stacks(names: Sequence[str], handlers: Sequence[int], successors: Successors) -> list[Blocks]:
    """The blocks before each instruction, outermost first; empty where nothing leads.

    `names` are the opcodes, `handlers` what a block set-up at that index points to (-1 for other instructions).
    Raises BlockStackError.
    """
    found: list[tuple[int, Blocks] | None] = [None] * len(names)
    pending: list[tuple[int, int, Blocks]] = [(0, 0, ())]
    while pending:
        index, depth, blocks = pending.pop()
        if index >= len(names):
            continue
        known = found[index]
        if known is not None:
            if known[1] != blocks:
                raise BlockStackError(f"instruction {index} is reached with blocks {blocks} and {known[1]}")
            continue
        found[index] = (depth, blocks)
        after = _after(names[index], depth, blocks, handlers[index])
        if handlers[index] >= 0:
            kept = after[-1].depth
            pending.append((handlers[index], kept + HANDLER_PUSHES, (*blocks, Block(-1, kept))))
        pending += [(target, depth + effect, after) for target, effect in successors(index)]
    return [() if state is None else state[1] for state in found]


def _after(name: str, depth: int, blocks: Blocks, handler: int) -> Blocks:
    if name == "SETUP_ASYNC_WITH":
        return (*blocks, Block(handler, depth - 1))  # below the awaited result
    if name in BLOCK_SETUPS:
        return (*blocks, Block(handler, depth))
    if name == "POP_BLOCK" or name == "POP_EXCEPT":
        if not blocks or blocks[-1].is_handling != (name == "POP_EXCEPT"):
            raise BlockStackError(f"{name} with blocks {blocks}")
        return blocks[:-1]
    return blocks


def covering(blocks: Blocks) -> Block | None:
    """The block whose handler an exception enters; None where it leaves the frame."""
    return next((block for block in reversed(blocks) if not block.is_handling), None)


def listed_block_stacks(instructions: Sequence[Instruction]) -> list[Blocks]:
    """`block_stacks` of an instruction list with labels, by index into it; handlers are the index of their label."""
    labels = {item: index for index, item in enumerate(instructions) if isinstance(item, Label)}
    names: list[str] = []
    handlers: list[int] = []
    for item in instructions:
        name = item.name if isinstance(item, Instr) else ""
        names.append(name)
        is_setup = isinstance(item, Instr) and isinstance(item.arg, Label) and name in BLOCK_SETUPS
        handlers.append(labels[item.arg] if is_setup else -1)  # type: ignore[union-attr, index]

    def successors(index: int) -> list[tuple[int, int]]:
        item = instructions[index]
        if not isinstance(item, Instr):
            return [(index + 1, 0)]
        after: list[tuple[int, int]] = []
        if version.falls_through(item):
            after.append((index + 1, version.stack_effect(item, False if item.has_jump() else None)))
        if isinstance(item.arg, Label) and handlers[index] < 0:
            after.append((labels[item.arg], version.stack_effect(item, True)))
        return after

    return block_stacks(names, handlers, successors)


# Entering code in its middle, and leaving it


def push_with_blocks(
    emitter: Emitter, pushes: Sequence[Callable[[], None]], blocks: Blocks, label_of: Callable[[int], Label]
) -> None:
    """Lay out a stack, each `push` one value from the bottom up, with the blocks pushed where the code had them.

    No `push` may raise: an exception between two of them would enter the handler of the user's program.
    """
    for depth in range(len(pushes) + 1):
        for block in blocks:
            if block.depth == depth:
                emitter.emit("SETUP_FINALLY", label_of(block.handler))
        if depth < len(pushes):
            pushes[depth]()


def leave_blocks(emitter: Emitter, blocks: Blocks) -> None:
    """Pop the blocks, outside of every handler; the values on the stack stay."""
    for _ in blocks:
        emitter.emit("POP_BLOCK")
