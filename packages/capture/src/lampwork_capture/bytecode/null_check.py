"""NULLs on the stack: that no instruction of assembled code takes one where the interpreter expects an object.

Calls keep a NULL below a plain function, and CPython does not check for it: a call emitted with a wrong count, or a
stack rebuilt in a wrong layout, would crash the process. The assembler walks every path once before code is made.
Invariant: only a NULL that is surely there is refused; what may be either (a method pair) passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from bytecode import Instr, Label
from bytecode.instr import TryBegin

from .emitter import Instruction
from .stack_depth import StackDepthError, exception_regions, handler_label, label_positions
from .version import NULL_METHOD, PY311, PY313, beside_callable, falls_through, rotation_depth, stack_effect


class Item(Enum):
    """What is known about a place on the stack."""

    VALUE = "an object"
    NULL = "NULL"
    UNKNOWN = "an object or NULL"


_Stack = tuple[Item, ...]


class NullConsumedError(StackDepthError):
    """An instruction would take a NULL, or too few values, where it expects objects."""


def check_nulls(instructions: Sequence[Instruction]) -> None:
    """Raise NullConsumedError if some path to an instruction brings NULL where it expects an object.

    The depths must have been computed before (`compute_depths` fills in those of the exception entries).
    """
    labels = label_positions(instructions)
    regions = exception_regions(instructions)
    before: dict[int, _Stack] = {}
    pending: list[tuple[int, _Stack]] = [(0, ())]
    while pending:
        index, stack = pending.pop()
        while index < len(instructions):
            merged = _merged(before.get(index), stack)
            if before.get(index) == merged:
                break
            before[index] = stack = merged
            item = instructions[index]
            if isinstance(item, Instr):
                region = regions[index]
                if region is not None:
                    pending.append((labels[handler_label(region)], _at_handler(stack, region)))
                if isinstance(item.arg, Label):
                    pending.append((labels[item.arg], _step(index, item, stack, jump=True)))
                after = _step(index, item, stack, jump=False)
                if not falls_through(item):
                    break
                stack = after
            index += 1


def _merged(known: _Stack | None, stack: _Stack) -> _Stack:
    if known is None or known == stack:
        return stack
    return tuple(a if a is b else Item.UNKNOWN for a, b in zip(known, stack))


def _at_handler(stack: _Stack, region: TryBegin) -> _Stack:
    depth = region.stack_depth
    assert isinstance(depth, int)
    return stack[:depth] + (Item.VALUE,) * (1 + int(region.push_lasti))


def _step(index: int, item: Instr, stack: _Stack, *, jump: bool) -> _Stack:
    """The stack after an instruction."""
    name = item.name
    match name:
        case "PUSH_NULL":
            return (*stack, Item.NULL)
        case "PRECALL" | "KW_NAMES" | "GEN_START":  # the call, or the start, takes what dis counts here
            return stack
        case "CALL" | "CALL_KW":
            assert isinstance(item.arg, int)
            return _call(index, item, stack, item.arg + (name == "CALL_KW"))
        case "CALL_METHOD":
            assert isinstance(item.arg, int)
            return _call(index, item, stack, item.arg)
        case "CALL_FUNCTION_EX" if PY311:
            assert isinstance(item.arg, int)
            return _call(index, item, stack, 1 + (item.arg & 1))
        case "ROT_TWO" | "ROT_THREE" | "ROT_FOUR" | "ROT_N":
            depth = rotation_depth(name, item.arg if isinstance(item.arg, int) else 0)
            _require(index, item, stack, depth, 0)
            return (*stack[: len(stack) - depth], stack[-1], *stack[len(stack) - depth : -1])
        case "SWAP":
            assert isinstance(item.arg, int)
            _require(index, item, stack, item.arg, 0)
            swapped = list(stack)
            swapped[-1], swapped[-item.arg] = swapped[-item.arg], swapped[-1]
            return tuple(swapped)
        case "COPY":
            assert isinstance(item.arg, int)
            _require(index, item, stack, item.arg, 0)
            if stack[-item.arg] is Item.NULL:
                raise NullConsumedError(index, item, "takes a NULL where an object is expected")
            return (*stack, stack[-item.arg])
        case "STORE_FAST":  # a slot may be set back to unbound
            _require(index, item, stack, 1, 0)
            return stack[:-1]
        case "LOAD_METHOD":
            _require(index, item, stack, 1, 1)
            below = Item.NULL if item.arg == NULL_METHOD else Item.UNKNOWN
            return (*stack[:-1], below, Item.VALUE)
        case "LOAD_FAST_AND_CLEAR":
            return (*stack, Item.UNKNOWN)
        case _:
            return _general(index, item, stack, jump=jump)


def _general(index: int, item: Instr, stack: _Stack, *, jump: bool) -> _Stack:
    branch = jump if item.has_jump() else None
    effect = stack_effect(item, branch)
    taken = max(-item.pre_and_post_stack_effect(branch)[0], -effect, 0)
    if effect == 0 and taken == 0:
        return stack
    _require(index, item, stack, taken, taken)
    pushed = taken + effect
    left = stack[: len(stack) - taken]
    if item.name == "LOAD_GLOBAL" and pushed == 2:
        return (*left, *beside_callable(Item.VALUE, Item.NULL))
    if item.name in ("LOAD_ATTR", "LOAD_SUPER_ATTR") and pushed == 2:
        return (*left, *beside_callable(Item.VALUE, Item.UNKNOWN))
    return left + (Item.VALUE,) * pushed


def _call(index: int, item: Instr, stack: _Stack, arguments: int) -> _Stack:
    """Take arguments and callable; NULL may stand below the callable, from 3.13 above it."""
    if not PY313:
        return _take(index, item, stack, arguments + 1, 1)
    _take(index, item, stack, arguments, 2)
    if stack[-arguments - 2] is Item.NULL:
        raise NullConsumedError(index, item, "calls a NULL")
    return (*stack[: len(stack) - arguments - 2], Item.VALUE)


def _take(index: int, item: Instr, stack: _Stack, objects: int, below: int) -> _Stack:
    """Take `objects` objects and the `below` places under them, which may be NULL; push the result."""
    _require(index, item, stack, objects + below, objects)
    return (*stack[: len(stack) - objects - below], Item.VALUE)


def _require(index: int, item: Instr, stack: _Stack, places: int, objects: int) -> None:
    if len(stack) < places:
        raise NullConsumedError(index, item, f"takes {places} values, there are {len(stack)}")
    if objects and Item.NULL in stack[-objects:]:
        raise NullConsumedError(index, item, "takes a NULL where an object is expected")
