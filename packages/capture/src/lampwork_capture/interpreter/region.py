"""Native regions: which part of a frame runs as plain Python at a graph break, and where tracing can take over again.

A break is one instruction, or a whole loop, or a raising instruction with its handler. The region is left through
exits: instructions where the stack is known and no exception is being handled. Invariant: an instruction that is no
exit simply runs on natively, which is always correct.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from ..bytecode.version import beside_callable, pushes_null, rotation_depth
from .instructions import DecodedCode, Instruction


class Item(Enum):
    """What is known about a place on the stack."""

    VALUE = "an object"
    NULL = "NULL"
    UNKNOWN = "an object or NULL"


@dataclass(frozen=True, slots=True)
class Exit:
    """Control leaves the region before instruction `index`: stack from the bottom (True: NULL), locals passed on.

    `calls`: at the call that begins there, which is made by a function that is passed on too; callee and arguments are
    not on the stack."""

    index: int
    stack: tuple[bool, ...]
    local_names: tuple[str, ...]
    calls: bool = False
    unsure_names: tuple[str, ...] = ()  # locals that may be unbound: their cells tell


@dataclass(frozen=True, slots=True)
class State:
    """What is known before an instruction: the stack, and which locals are surely bound and which perhaps."""

    stack: tuple[Item, ...]
    handled: int  # exceptions being handled
    surely: frozenset[str]
    maybe: frozenset[str]

    def merged(self, other: State) -> State:
        if len(self.stack) != len(other.stack):
            stack = tuple([Item.UNKNOWN] * min(len(self.stack), len(other.stack)))
        else:
            stack = tuple(a if a is b else Item.UNKNOWN for a, b in zip(self.stack, other.stack))
        handled = max(self.handled, other.handled)
        return State(stack, handled, self.surely & other.surely, self.maybe | other.maybe)


_PURE_POPS = frozenset(
    {"POP_TOP", "STORE_FAST", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME", "STORE_ATTR", "STORE_SUBSCR", "STORE_SLICE",
     "DELETE_SUBSCR", "DELETE_ATTR", "LIST_APPEND", "SET_ADD", "MAP_ADD", "LIST_EXTEND", "SET_UPDATE", "DICT_UPDATE",
     "DICT_MERGE", "POP_EXCEPT", "POP_BLOCK", "SETUP_FINALLY", "GEN_START", "END_FOR", "END_SEND", "KW_NAMES",
     "PRECALL", "RESUME", "NOP"}
)  # fmt: skip
_TRIVIAL = frozenset(
    {"NOP", "POP_TOP", "LOAD_CONST", "LOAD_FAST", "RETURN_VALUE", "RETURN_CONST", "STORE_FAST", "DELETE_FAST",
     "JUMP_FORWARD", "RESUME", "LOAD_DEREF", "BUILD_TUPLE", "SWAP", "COPY", "ROT_TWO", "DUP_TOP", "POP_BLOCK"}
)  # fmt: skip
_NEVER_RAISES = frozenset(
    {"POP_EXCEPT", "PUSH_EXC_INFO", "POP_TOP", "SWAP", "COPY", "NOP", "JUMP_FORWARD", "JUMP_BACKWARD", "LOAD_CONST",
     "JUMP_BACKWARD_NO_INTERRUPT", "PUSH_NULL", "STORE_FAST", "LOAD_FAST_AND_CLEAR", "PRECALL", "KW_NAMES", "MAKE_CELL",
     "LOAD_CLOSURE", "SET_FUNCTION_ATTRIBUTE", "POP_BLOCK", "SETUP_FINALLY", "JUMP_ABSOLUTE", "ROT_TWO", "ROT_THREE",
     "ROT_FOUR", "ROT_N", "DUP_TOP", "DUP_TOP_TWO"}
)  # fmt: skip
_DEEPEST = 8  # exceptions handled at a time; a path through handlers that cannot happen must not count for ever
_NEVER_EXITS = frozenset(
    {"END_FOR", "END_SEND", "PUSH_EXC_INFO", "POP_EXCEPT", "RERAISE", "RESUME", "PRECALL", "CALL", "CALL_KW",
     "SET_FUNCTION_ATTRIBUTE"}
)  # fmt: skip


def find_exits(
    decoded: DecodedCode,
    start: int,
    region: frozenset[int],
    stack: Iterable[bool],
    bound: frozenset[str],
    live_before: Callable[[int], frozenset[str]],
    carried: frozenset[str],
) -> list[Exit]:
    """The exits of a region entered at `start` with this stack and these bound locals.

    Of the locals that nothing reads later, those in `carried` are passed on where they are surely bound."""
    # One pass is enough: as more paths arrive a state only gets less certain, so what is refused stays refused.
    states = {start: State(tuple(Item.NULL if null else Item.VALUE for null in stack), 0, bound, bound)}
    native: set[int] = {start, *region}
    exits: dict[int, Exit] = {}
    pending = [start]
    while pending:
        index = pending.pop()
        state = states[index]
        if index not in native:
            found = _exit_at(decoded, index, state, live_before(index), carried)
            if found is not None:
                exits[index] = found
                continue
            exits.pop(index, None)
            native.add(index)
        for after, reached in successors(decoded, index, state):
            known = states.get(after)
            merged = reached if known is None else known.merged(reached)
            if merged != known:
                states[after] = merged
                pending.append(after)
    return [exits[index] for index in sorted(exits)]


def _exit_at(
    decoded: DecodedCode, index: int, state: State, live: frozenset[str], carried: frozenset[str]
) -> Exit | None:
    instruction = decoded.instructions[index]
    if state.handled or _is_handling(decoded, index) or instruction.name in _NEVER_EXITS or Item.UNKNOWN in state.stack:
        return None
    if index > 0 and decoded.instructions[index - 1].name == "TO_BOOL":
        return None  # the test that it is for: behind it are two places to go on, and neither depends on the result
    if _is_trivial_tail(decoded, index):
        return None
    if instruction.name in ("POP_TOP", "NOP", "JUMP_FORWARD", "POP_BLOCK") or (
        instruction.name.startswith(("JUMP_BACKWARD", "JUMP_ABSOLUTE")) and decoded.loop_of[index] < 0
    ):
        return None  # a little further there is less to hand over
    names = [name for name in decoded.slot_names if name in live and name in state.maybe]
    unsure = tuple(name for name in names if name not in state.surely)
    if not decoded.cleared_names.isdisjoint(unsure):
        return None
    passed = live | carried
    sure = tuple(name for name in decoded.slot_names if name in passed and name in state.surely)
    return Exit(index, tuple(item is Item.NULL for item in state.stack), sure, unsure_names=unsure)


def _is_handling(decoded: DecodedCode, index: int) -> bool:
    """Whether an exception is being handled, as far as the blocks of the code tell."""
    return any(block.is_handling for block in decoded.blocks_at(index))


def _is_trivial_tail(decoded: DecodedCode, index: int, left: int = 12) -> bool:
    """Whether all that is left to do from an instruction is to load, test and return a few things."""
    while left > 0:
        left -= 1
        instruction = decoded.instructions[index]
        if instruction.name.startswith("POP_JUMP") and instruction.target > index:
            return all(_is_trivial_tail(decoded, after, left) for after in decoded.successors(index))
        if instruction.name not in _TRIVIAL:
            return False
        if instruction.name.startswith("RETURN"):
            return True
        index = instruction.target if instruction.target >= 0 else index + 1
    return False


def successors(
    decoded: DecodedCode, index: int, state: State, base: int = 0, outside: frozenset[int] = frozenset()
) -> list[tuple[int, State]]:
    """Where control goes from an instruction, and with what; handlers included, but for those `outside`.

    `base` is how many places of the frame's stack the state leaves out.
    """
    instruction = decoded.instructions[index]
    after: list[tuple[int, State]] = []
    for target in decoded.successors(index):
        jump = target == instruction.target and instruction.target >= 0
        if jump and target == index + 1:
            jump = False
        after.append((target, _step(decoded, instruction, state, jump)))
    handler = decoded.handler_at(index)
    if handler is not None and handler.target not in outside and instruction.name not in _NEVER_RAISES:
        stack = state.stack[: handler.depth - base] + (Item.VALUE,) * handler.pushes
        after.append((handler.target, State(stack, state.handled, state.surely, state.maybe)))
    return after


def _step(decoded: DecodedCode, instruction: Instruction, state: State, jump: bool) -> State:
    name = instruction.name
    stack = list(state.stack)
    surely, maybe, handled = state.surely, state.maybe, state.handled
    match name:
        case "SWAP":
            stack[-1], stack[-instruction.arg] = stack[-instruction.arg], stack[-1]
        case "COPY":
            stack.append(stack[-instruction.arg])
        case "PUSH_NULL":
            stack.append(Item.NULL)
        case "LOAD_GLOBAL":
            pair = beside_callable(Item.VALUE, Item.NULL)
            stack.extend(pair if pushes_null(name, instruction.arg) else [Item.VALUE])
        case "ROT_TWO" | "ROT_THREE" | "ROT_FOUR" | "ROT_N":
            stack.insert(len(stack) - rotation_depth(name, instruction.arg), stack.pop())
        case "PUSH_EXC_INFO":
            stack.append(Item.VALUE)
            handled += 1
        case _:
            _apply_effect(instruction, stack, jump)
    if name == "POP_EXCEPT":
        handled -= 1
    elif name == "STORE_FAST":
        local = decoded.slot_names[instruction.arg]
        maybe |= {local}
        if state.stack and state.stack[-1] is Item.VALUE:
            surely |= {local}
        else:
            surely -= {local}
    elif name in ("DELETE_FAST", "LOAD_FAST_AND_CLEAR"):
        local = decoded.slot_names[instruction.arg]
        surely -= {local}
        maybe -= {local}
    return State(tuple(stack), min(max(handled, 0), _DEEPEST), surely, maybe)


def _apply_effect(instruction: Instruction, stack: list[Item], jump: bool) -> None:
    name = instruction.name
    op = dis.opmap[name]
    effect = dis.stack_effect(op, instruction.arg if op >= dis.HAVE_ARGUMENT else None, jump=jump)
    if effect < 0:
        del stack[effect:]
    else:
        stack.extend([Item.VALUE] * effect)
    if name == "LOAD_METHOD" or (name in ("LOAD_ATTR", "LOAD_SUPER_ATTR") and effect == _METHOD_EFFECT[name]):
        stack[-2:] = beside_callable(Item.VALUE, Item.UNKNOWN)
    elif name == "LOAD_FAST_AND_CLEAR":
        stack[-1] = Item.UNKNOWN
    elif stack and name not in _PURE_POPS and not name.startswith(("POP_JUMP", "DELETE_")):
        stack[-1] = Item.VALUE


_METHOD_EFFECT = {"LOAD_ATTR": 1, "LOAD_SUPER_ATTR": -1}


def call_group(decoded: DecodedCode, index: int) -> tuple[int, frozenset[int]]:
    """An instruction with the ones that belong to it: KW_NAMES and PRECALL in front of CALL."""
    start = index
    while start > 0 and decoded.instructions[start - 1].name in ("KW_NAMES", "PRECALL"):
        start -= 1
    return start, frozenset(range(start, index + 1))


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
