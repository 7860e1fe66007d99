"""Loop bodies: one round of a loop that runs natively, made a function of its own.

A loop with a break inside is not unrolled: it runs in the copy of the code, where each round is one call of a function
that the hook captures as any other frame, its own breaks included. The locals that the body shares with the rest of the
frame live in cells of the frame, so that whatever happens in the body, an exception too, both see the same; the
function returns the number of the exit by which the round ends. Invariant: only a body whose every way out is known is
taken out; the loop head, and what reaches below the body's stack, stay in the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType

from bytecode.instr import Instr, Label, TryBegin, TryEnd

from ..bytecode.emitter import Emitter
from ..bytecode.emitter import Instruction as CodeItem
from ..bytecode.stack_depth import StackDepthError, exception_regions, handler_label, label_positions
from ..skip_policy import OUTLINED_MARK
from .body_copy import SELF, BodyCopy, copy_of, function_code, needs_self
from .frame import SymbolicFrame
from .handlers import undoes_only
from .instructions import DecodedCode, HandlerEntry
from .region import Item, State, successors

_BODY = "__lampwork_body"
_ITEM = "__lampwork_item"
_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "YIELD_VALUE", "MAKE_CELL"})
_INTO_BELOW = frozenset({"LIST_APPEND", "SET_ADD", "MAP_ADD"})


@dataclass(frozen=True, slots=True)
class LoopExit:
    """A round ends before an instruction, with so many values above the stack that the body leaves alone."""

    index: int
    values: int


@dataclass(frozen=True, slots=True)
class LoopBody:
    """A round of a loop: from `first` until an exit, of which the first is the loop's head."""

    head: int
    first: int
    base: int  # places of the stack that it leaves alone
    exits: tuple[LoopExit, ...]
    shared: tuple[str, ...]  # locals that it shares with the rest of the frame
    written: frozenset[str]  # locals that it binds or unbinds, shared or its own
    enclosing: frozenset[int]  # handlers around the loop, by their first instruction
    is_protected: bool

    @property
    def takes_item(self) -> bool:
        return self.first != self.head


def find_loop_body(frame: SymbolicFrame, region: frozenset[int], bound: frozenset[str]) -> LoopBody | None:
    """The body of the loop that is a native region, if it can be taken out; `bound` are the locals bound before it."""
    decoded, code = frame.decoded, frame.code
    copy = copy_of(code)
    members = frozenset(index for index in region if decoded.loop_of[index] >= 0)
    head = _head(decoded, members)
    if head is None or copy.makes_inner_cells or any(decoded.blocks_at(index) for index in members):
        return None
    first = head + 1 if decoded.instructions[head].name == "FOR_ITER" else head
    base = decoded.depths[first] - (first != head)
    enclosing = _handlers_of_all(decoded, members)
    found = _explore(decoded, members, head, first, base, enclosing)
    if found is None:
        return None
    inside, exits = found
    own = {*code.co_cellvars, *code.co_freevars}
    read, written, deleted = _names(decoded, inside)
    exposed = (read & copy.live_before(first)) - own
    if not exposed <= bound or not exposed.isdisjoint(deleted):
        return None  # whether it is bound is not known: an error would name it as a free variable
    after: set[str] = set()
    for leave in exits:
        after |= copy.live_before(leave.index)
    seen_by_handlers: set[str] = set()
    for target in enclosing:
        seen_by_handlers |= copy.live_before(target)
    shared = exposed | ((written - own) & (after | seen_by_handlers))
    if not shared.isdisjoint(decoded.cleared_names):
        return None
    entries = [entry for entry in _handlers_from(decoded, head) if entry.target in enclosing]
    is_protected = any(not undoes_only(frame, entry) for entry in entries)
    changed = frozenset(written | deleted)
    return LoopBody(head, first, base, tuple(exits), tuple(sorted(shared)), changed, enclosing, is_protected)


def _head(decoded: DecodedCode, members: frozenset[int]) -> int | None:
    """The instruction where the loop is entered."""
    inner = {after for index in members for after in decoded.successors(index)}
    heads = [index for index in sorted(members) if decoded.instructions[index].name == "FOR_ITER"]
    entries = [
        after
        for index in range(len(decoded.instructions))
        if index not in members and decoded.depths[index] >= 0
        for after in decoded.successors(index)
        if after in members
    ]
    if len(set(entries)) != 1 or entries[0] not in inner:
        return None
    if heads and entries[0] == heads[0]:
        return heads[0]
    return entries[0]


def _handlers_of_all(decoded: DecodedCode, members: Iterable[int]) -> frozenset[int]:
    """The handlers that protect every instruction of a loop: those around it."""
    common: frozenset[int] | None = None
    for index in members:
        if decoded.instructions[index].name == "NOP" and decoded.handler_at(index) is None:
            continue  # CPython protects no instruction that cannot raise, as the one that a `try: pass` leaves
        chain = frozenset(entry.target for entry in _handlers_from(decoded, index))
        common = frozenset(chain) if common is None else common & chain
        if not common:
            break
    return common or frozenset()


def _handlers_from(decoded: DecodedCode, index: int) -> list[HandlerEntry]:
    """The handler that protects an instruction, the one that protects that handler, and so on."""
    chain: list[HandlerEntry] = []
    entry = decoded.handler_at(index)
    while entry is not None and entry not in chain:
        chain.append(entry)
        entry = decoded.handler_at(entry.target)
    return chain


def _explore(
    decoded: DecodedCode, members: frozenset[int], head: int, first: int, base: int, enclosing: frozenset[int]
) -> tuple[set[int], list[LoopExit]] | None:
    """The instructions of a round and its exits; None where a way out is not known."""
    nothing: frozenset[str] = frozenset()
    item = (Item.VALUE,) if first != head else ()
    states = {first: State(item, 0, nothing, nothing)}
    inside: set[int] = set()
    exits: dict[int, int] = {head: 0}
    pending = [first]
    while pending:
        index = pending.pop()
        state = states[index]
        instruction = decoded.instructions[index]
        if (index not in members and not state.handled) or _reaches_below(instruction.name, instruction.arg, state):
            if state.handled or any(place is not Item.VALUE for place in state.stack):
                return None
            if exits.setdefault(index, len(state.stack)) != len(state.stack):
                return None
            continue
        if instruction.name in _ENDS:
            return None
        inside.add(index)
        try:
            reached = successors(decoded, index, state, base, enclosing)
        except IndexError:  # it looks at the stack below
            return None
        for after, there in reached:
            if after == head:
                if there.stack or there.handled:
                    return None
                continue
            known = states.get(after)
            merged = there if known is None else known.merged(there)
            if known is not None and (len(known.stack), known.handled) != (len(there.stack), there.handled):
                return None
            if merged != known:
                states[after] = merged
                pending.append(after)
    if not inside.isdisjoint(exits):
        return None
    return inside, [LoopExit(index, exits[index]) for index in sorted(exits, key=lambda index: index != head)]


def _reaches_below(name: str, arg: int, state: State) -> bool:
    """Whether an instruction fills a container that stands on the stack below the body."""
    if name not in _INTO_BELOW:
        return False
    return len(state.stack) - (2 if name == "MAP_ADD" else 1) < arg


def _names(decoded: DecodedCode, inside: Iterable[int]) -> tuple[set[str], set[str], set[str]]:
    """The locals that instructions read, write (or delete), and delete."""
    read: set[str] = set()
    written: set[str] = set()
    deleted: set[str] = set()
    for index in inside:
        instruction = decoded.instructions[index]
        if not instruction.name.endswith(("_FAST", "_FAST_CHECK", "_FAST_AND_CLEAR")):
            continue
        name = decoded.slot_names[instruction.arg]
        if instruction.name.startswith("LOAD"):
            read.add(name)
        else:
            written.add(name)
        if instruction.name.startswith("DELETE"):
            deleted.add(name)
    return read, written, deleted


# Code


def call_loop_body(body: BodyCopy, loop: LoopBody, taken: Emitter) -> None:
    """In a copy whose exits are in place: make each round a call of the loop's body."""
    code = body.code
    outlined = loop_body_code(code, loop)
    body.in_cells.update(loop.shared)
    ready = body.emitter()
    for name in outlined.co_freevars:
        if name in loop.shared:
            body.load_cell_of(ready, name)
        else:
            ready.load_closure(name)
    ready.build_tuple(len(outlined.co_freevars))
    ready.finish_function(outlined, 0x08 if outlined.co_freevars else 0)
    if not outlined.co_freevars:
        ready = body.emitter()
        ready.make_function(outlined)
    ready.emit("STORE_FAST", _BODY)
    body.ready += ready.instructions
    targets = [body.label_in_front(leave.index) for leave in loop.exits]
    call = Label()
    body.put_before(loop.first, [Instr("JUMP_FORWARD", call)])
    emitter = body.emitter()
    if loop.takes_item:
        emitter.emit("STORE_FAST", _ITEM)
    region = _region_around(body, loop)
    if region is not None:
        emitter.extend([region])
    emitter.begin_call()
    emitter.emit("LOAD_FAST", _BODY)
    emitter.callable_ready()
    count = 0
    if needs_self(code):
        emitter.emit("LOAD_FAST", SELF) if body.is_free else emitter.load_local(code.co_varnames[0])
        count += 1
    if loop.takes_item:
        emitter.emit("LOAD_FAST", _ITEM)
        emitter.emit("DELETE_FAST", _ITEM)
        count += 1
    emitter.call(count)
    if region is not None:
        emitter.extend([TryEnd(region)])
    _dispatch(emitter, loop.exits, targets)
    body.put_behind(loop.head, call, emitter.instructions)


def _dispatch(emitter: Emitter, exits: Sequence[LoopExit], targets: Sequence[Label]) -> None:
    """(number of the exit, then its values) -> the values, at the exit"""
    most = max(leave.values for leave in exits)
    if most:
        emitter.unpack_sequence(1 + most)
    for number, (leave, target) in enumerate(zip(exits, targets)):
        other = Label()
        if number + 1 < len(exits):
            emitter.copy(1)
            emitter.load_constant(number)
            emitter.emit("IS_OP", 0)
            emitter.pop_jump_if_false(other)
        for _ in range(1 + most - leave.values):
            emitter.pop()
        emitter.jump(target)
        emitter.place(other)


def _region_around(body: BodyCopy, loop: LoopBody) -> TryBegin | None:
    """An exception entry of its own for the handler that protects the loop's head from outside."""
    items = body.editable.instructions
    regions = exception_regions(items)
    labels = label_positions(items)
    around = regions[body.position(loop.head)]
    while around is not None:
        if _is_enclosing(body, loop, around, labels):
            return TryBegin(handler_label(around), around.push_lasti, around.stack_depth)
        around = regions[_next_instruction(items, labels[handler_label(around)])]
    return None


def _is_enclosing(body: BodyCopy, loop: LoopBody, entry: TryBegin, labels: dict[Label, int]) -> bool:
    target = _next_instruction(body.editable.instructions, labels[handler_label(entry)])
    return any(body.position(index) == target for index in loop.enclosing)


def _next_instruction(items: Sequence[CodeItem], position: int) -> int:
    while not isinstance(items[position], Instr):
        position += 1
    return position


def loop_body_code(code: CodeType, loop: LoopBody) -> CodeType:
    """The function of one round. Raises StackDepthError where it would reach below its stack."""
    return copy_of(code).made(loop, lambda: _make_loop_body(code, loop))


def _make_loop_body(code: CodeType, loop: LoopBody) -> CodeType:
    body = BodyCopy(code, free=True)
    body.shared = loop.shared
    body.is_protected = loop.is_protected
    _leave_handlers_out(body, loop)
    most = max(leave.values for leave in loop.exits)
    for number, leave in enumerate(loop.exits):
        target = Label()
        body.put_before(leave.index, [Instr("JUMP_FORWARD", target)])
        emitter = body.emitter()
        held = [emitter.fresh_local("value") for _ in range(leave.values)]
        for name in held:
            emitter.emit("STORE_FAST", name)
        emitter.load_constant(number)
        for _ in range(most - leave.values):
            emitter.load_constant(None)
        for name in held:
            emitter.emit("LOAD_FAST", name)
        if most:
            emitter.build_tuple(1 + most)
        emitter.return_value()
        body.put_behind(leave.index, target, emitter.instructions)
    start = body.label_at(loop.first)
    arguments = [SELF] if needs_self(code) else []
    prefix = Emitter()
    prefix.load_constant(None)
    prefix.emit("STORE_FAST", OUTLINED_MARK)
    if loop.takes_item:
        arguments.append(_ITEM)
        prefix.emit("LOAD_FAST", _ITEM)
        prefix.emit("DELETE_FAST", _ITEM)
    return function_code(body, arguments, prefix.instructions, start)


def _leave_handlers_out(body: BodyCopy, loop: LoopBody) -> None:
    """Take the handlers around the loop out of a copy, and let the others stand on the body's own stack."""
    items = body.editable.instructions
    labels = label_positions(items)
    moved: dict[int, TryBegin | None] = {}
    for position, item in enumerate(items):
        if isinstance(item, TryBegin):
            assert isinstance(item.stack_depth, int)
            if _is_enclosing(body, loop, item, labels):
                moved[id(item)] = None
            else:
                depth = max(item.stack_depth - loop.base, 0)
                moved[id(item)] = TryBegin(handler_label(item), item.push_lasti, depth)
            items[position] = moved[id(item)] or Label()
        elif isinstance(item, TryEnd):
            entry = moved[id(item.entry)]
            items[position] = Label() if entry is None else TryEnd(entry)


def try_loop_body(frame: SymbolicFrame, region: frozenset[int], bound: frozenset[str]) -> LoopBody | None:
    """`find_loop_body`, where code can be made of what it finds."""
    loop = find_loop_body(frame, region, bound)
    if loop is not None:
        try:
            loop_body_code(frame.code, loop)
        except StackDepthError:
            return None
    return loop
