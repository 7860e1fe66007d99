"""Short circuits: a comparison of sizes whose outcome the rest of its condition makes irrelevant.

In `length > 1 and mask is None`, with a mask, the whole is false for every length, and `length == 1 or keys == length`
is true for every length where keys and length are one symbol; so what the comparison gives need not become a fact, by
which a length of 1 would be a capture of its own. Asked at the comparison, before it is decided. Invariant: what is
looked at ahead has no effect: locals, and functions that only ask whether they are being compiled.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from ..variables.base import Value
from ..variables.constant import ConstantValue
from ..variables.sym_scalar import possible_outcomes
from ..variables.sym_truth import SymTruthValue
from .frame import SymbolicFrame, Unread

if TYPE_CHECKING:
    from types import CodeType

    from .instructions import Instruction

COMPARISONS: Mapping[str, Callable[..., Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
}
"""What COMPARE_OP does, by its argument."""
_MOST_STEPS = 24
_ASKS = frozenset({"is_compiling", "is_dynamo_compiling", "is_torchdynamo_compiling"})
_ON_THE_WAY = frozenset({"torch", "compiler", "_dynamo", "torch._dynamo", "dynamo", "external_utils", "Exception"})
_SKIPPED = frozenset({"TO_BOOL", "PRECALL", "NOP", "CACHE", "PUSH_NULL", "NOT_TAKEN"})
_JUMPS = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE"})
_LOADS = frozenset({"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"})


def is_irrelevant(frame: SymbolicFrame, index: int) -> bool:
    """Whether the code from an instruction on, which takes a truth value, comes to one place and value anyway."""
    ahead = _Ahead(frame)
    on_false, on_true = (_State(index, outcome) for outcome in (False, True))
    return ahead.surely_meets(on_true, ahead.way(on_false)) or ahead.surely_meets(on_false, ahead.way(on_true))


def stored_outcome(frame: SymbolicFrame) -> tuple[int, bool] | None:
    """Where what the comparison at hand gives is stored in a local, as all else in its condition is true; and whether
    its negation is."""
    ahead = _Ahead(frame)
    on_false, on_true = (ahead.way(_State(frame.index + 1, outcome)) for outcome in (False, True))
    for state in on_true:
        is_stored = state.top is not None and frame.decoded.instructions[state.index].name == "STORE_FAST"
        if is_stored and _State(state.index, not state.top) in on_false:
            return state.index, not state.top
    return None


@dataclass(frozen=True, slots=True)
class _State:
    """Before an instruction. `top`: the truth value that was pushed and is not yet consumed, None: there is none."""

    index: int
    top: bool | None


class _Ahead:
    """Runs instructions behind the one at hand, as far as they are operands and jumps of one condition."""

    def __init__(self, frame: SymbolicFrame) -> None:
        self._frame = frame
        self._instructions = frame.decoded.instructions
        self._at = 0

    def way(self, state: _State) -> set[_State]:
        """Where execution comes by for certain."""
        found: set[_State] = set()
        while len(found) < _MOST_STEPS:
            after = self._after(state)
            if len(after) != 1:
                break
            state = after[0]
            found.add(state)
        return found

    def surely_meets(self, state: _State, places: Collection[_State]) -> bool:
        """Whether execution comes to one of these places, whatever the operands on the way give that are not known."""
        pending, seen = [state], {state}
        while pending and len(seen) < _MOST_STEPS:
            after = self._after(pending.pop())
            if not after:
                return False
            new = set(after).difference(places, seen)
            seen |= new
            pending += new
        return not pending

    def _after(self, state: _State) -> Sequence[_State]:
        """The states after the next operand, negation or jump; none if that is no part of a condition."""
        self._at = state.index
        if state.top is None:
            truths = self._operand()
            at = self._at
            return [self._state(at, truth) for truth in truths]
        after = self._consumed(state.top)
        return () if after is None else (after,)

    def _state(self, index: int, top: bool | None) -> _State:
        """With nothing that is skipped in front, and no jump, so that equal places are equal."""
        self._at = index
        for _ in range(_MOST_STEPS):  # a loop may be nothing but a jump to itself
            ahead = self._peek()
            if ahead is None or ahead.name not in _JUMPS:
                break
            self._at = ahead.target
        return _State(self._at, top)

    def _peek(self) -> Instruction | None:
        while self._at < len(self._instructions) and self._instructions[self._at].name in _SKIPPED:
            self._at += 1
        return self._instructions[self._at] if self._at < len(self._instructions) else None

    def _take(self) -> Instruction | None:
        taken = self._peek()
        self._at += 1
        return taken

    def _consumed(self, truth: bool) -> _State | None:
        """After the jump that tests a truth value, or after its negation."""
        taken = self._take()
        if taken is not None and taken.name == "UNARY_NOT":
            return self._state(self._at, not truth)
        keeps = taken is not None and taken.name == "COPY" and taken.arg == 1
        jump = self._take() if keeps else taken
        if jump is None:
            return None
        if jump.name in ("JUMP_IF_FALSE_OR_POP", "JUMP_IF_TRUE_OR_POP"):
            return self._state(jump.target, truth) if truth is ("TRUE" in jump.name) else self._state(self._at, None)
        if not jump.name.startswith("POP_JUMP"):
            return None
        if jump.name.endswith("NONE"):  # the truth is that of `is None`
            jumps = truth is not jump.name.endswith("NOT_NONE")
        else:
            jumps = truth is jump.name.endswith("TRUE")
        if jumps:
            return self._state(jump.target, truth if keeps else None)
        popped = self._take() if keeps else None
        if keeps and (popped is None or popped.name != "POP_TOP"):
            return None
        return self._state(self._at, None)

    def _operand(self) -> Sequence[bool]:
        """What the truth of the operand that comes next may be; nothing if it cannot be told without an effect."""
        load = self._take()
        if load is None:
            return ()
        if load.name == "LOAD_GLOBAL":
            return (True,) if self._asks_whether_compiling(load) else ()
        known = self._local(load)
        following = self._peek()
        if known is None or following is None:
            return ()
        is_none = isinstance(known, ConstantValue) and known.obj is None
        if following.name.endswith(("IF_NONE", "IF_NOT_NONE")):
            return (is_none,)
        if following.name == "LOAD_CONST" and following.value is None:
            self._take()
            compare = self._take()
            return (is_none != bool(compare.arg),) if compare is not None and compare.name == "IS_OP" else ()
        if following.name == "LOAD_CONST" or following.name in _LOADS:
            return self._comparison(known)
        if isinstance(known, SymTruthValue):
            return (False, True)
        if isinstance(known, ConstantValue) and type(known.obj) is bool:
            return (known.obj,)
        return ()

    def _local(self, load: Instruction) -> Value | None:
        """The value of a local, where that was looked at, or would be for the outcome in this call, most likely."""
        value = self._frame.slots[load.value] if load.name in _LOADS else None
        if value is None or getattr(value, "realized", value) is None:
            return None
        if isinstance(value, Unread):
            value = self._frame.slots[load.value] = self._frame.tracer.wrap_unread(value)
        return value.realize()

    def _comparison(self, left: Value) -> Sequence[bool]:
        """What a comparison of integers may give, the left one of which was loaded."""
        load, compare = self._take(), self._take()
        if load is None or compare is None or compare.name != "COMPARE_OP":
            return ()
        tracer = self._frame.tracer
        right = tracer.constant(load.value) if load.name == "LOAD_CONST" else self._local(load)
        return () if right is None else possible_outcomes(tracer, COMPARISONS[compare.value], left, right)

    def _asks_whether_compiling(self, load: Instruction) -> bool:
        """Whether this is `f()`, where `f` only asks whether the program is being compiled."""
        name, call = str(load.value), self._take()
        tracer, scope = self._frame.tracer, self._frame.scope
        function = scope.variables.get(name)
        if call is None or call.name not in ("CALL", "CALL_FUNCTION") or call.arg != 0:
            return False
        if type(function) is not FunctionType or not _asks_whether_compiling(function.__code__):
            return False
        if tracer.side_effects.pending_global(scope.variables, name) is not None:
            return False
        scope.load(tracer, name)  # guarded: it is this function in later calls
        return True


def _asks_whether_compiling(code: CodeType) -> bool:
    names = set(code.co_names)
    return code.co_argcount == 0 and bool(names & _ASKS) and names <= _ASKS | _ON_THE_WAY
