"""Short circuits: a comparison of sizes whose outcome the rest of its condition makes irrelevant.

In `length > 1 and mask is None`, with a mask, the whole is false for every length; so what the comparison gives need
not become a fact, by which a length of 1 would be a capture of its own. Asked at the comparison, before it is decided.
Invariant: what is looked at ahead has no effect: locals, and functions that only ask whether they are being compiled.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType
from typing import TYPE_CHECKING

from ..variables.constant import ConstantValue
from .frame import SymbolicFrame, Unread

if TYPE_CHECKING:
    from types import CodeType

    from .instructions import Instruction

_MOST_OPERANDS = 8
_ASKS = frozenset({"is_compiling", "is_dynamo_compiling", "is_torchdynamo_compiling"})
_ON_THE_WAY = frozenset({"torch", "compiler", "_dynamo", "torch._dynamo", "dynamo", "external_utils", "Exception"})
_SKIPPED = frozenset({"TO_BOOL", "PRECALL", "NOP", "CACHE", "PUSH_NULL", "NOT_TAKEN"})


def is_false_anyway(frame: SymbolicFrame) -> bool:
    """Whether the condition that goes on behind the comparison at hand is false, or leaves it, whatever that gives."""
    steps = _Ahead(frame)
    first = steps.test()
    if first is None or not first.on_false:
        return False
    for _ in range(_MOST_OPERANDS):
        truth = steps.operand()
        then = None if truth is None else steps.test()
        if truth is None or then is None or then.target != first.target or then.keeps != first.keeps:
            return False
        if truth is not then.on_false:  # it jumps where the comparison would have jumped to
            return True
    return False


class _Test:
    """A conditional jump. `keeps`: with the tested value left on the stack."""

    __slots__ = ("keeps", "on_false", "target")

    def __init__(self, target: int, *, on_false: bool, keeps: bool) -> None:
        self.target, self.on_false, self.keeps = target, on_false, keeps


class _Ahead:
    """Reads the instructions behind the one at hand, one operand or test at a time."""

    def __init__(self, frame: SymbolicFrame) -> None:
        self._frame = frame
        self._instructions = self._following()
        self._next: Instruction | None = next(self._instructions, None)

    def _following(self) -> Iterator[Instruction]:
        instructions = self._frame.decoded.instructions
        for index in range(self._frame.index + 1, len(instructions)):
            if instructions[index].name not in _SKIPPED:
                yield instructions[index]

    def _take(self) -> Instruction | None:
        taken, self._next = self._next, next(self._instructions, None)
        return taken

    def test(self) -> _Test | None:
        """The conditional jump that comes next, if one does."""
        taken = self._take()
        if taken is None:
            return None
        keeps = taken.name == "COPY" and taken.arg == 1
        jump = self._take() if keeps else taken
        if jump is None:
            return None
        if jump.name in ("JUMP_IF_FALSE_OR_POP", "JUMP_IF_TRUE_OR_POP"):
            return _Test(jump.target, on_false="FALSE" in jump.name, keeps=True)
        if not jump.name.startswith("POP_JUMP"):
            return None
        if keeps:
            popped = self._take()
            if popped is None or popped.name != "POP_TOP":
                return None
        if jump.name.endswith("NONE"):
            return _Test(jump.target, on_false=jump.name.endswith("IF_NOT_NONE"), keeps=keeps)
        return _Test(jump.target, on_false=jump.name.endswith("FALSE"), keeps=keeps)

    def operand(self) -> bool | None:
        """The truth of the operand that comes next; None if that is not known without an effect."""
        load = self._take()
        if load is None:
            return None
        if load.name == "LOAD_GLOBAL":
            return self._call_of(load)
        if load.name not in ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"):
            return None
        value = self._frame.slots[load.value]
        if value is None or getattr(value, "realized", value) is None:
            return None
        if isinstance(value, Unread):  # for the outcome in this call it would be looked at next, most likely
            value = self._frame.slots[load.value] = self._frame.tracer.wrap_unread(value)
        known = value.realize()
        is_none = isinstance(known, ConstantValue) and known.obj is None
        following = self._next
        if following is not None and following.name.endswith(("IF_NONE", "IF_NOT_NONE")):
            return is_none
        if following is not None and following.name == "LOAD_CONST" and following.value is None:
            self._take()
            compare = self._take()
            return is_none != bool(compare.arg) if compare is not None and compare.name == "IS_OP" else None
        if isinstance(known, ConstantValue) and type(known.obj) is bool:
            return known.obj
        return None

    def _call_of(self, load: Instruction) -> bool | None:
        """The truth of `f()`, and of `not f()`, where `f` only asks whether the program is being compiled."""
        name, call = str(load.value), self._take()
        tracer, scope = self._frame.tracer, self._frame.scope
        function = scope.variables.get(name)
        if call is None or call.name not in ("CALL", "CALL_FUNCTION") or call.arg != 0:
            return None
        if type(function) is not FunctionType or not _asks_whether_compiling(function.__code__):
            return None
        if tracer.side_effects.pending_global(scope.variables, name) is not None:
            return None
        scope.load(tracer, name)  # guarded: it is this function in later calls
        if self._next is not None and self._next.name == "UNARY_NOT":
            self._take()
            return False
        return True


def _asks_whether_compiling(code: CodeType) -> bool:
    names = set(code.co_names)
    return code.co_argcount == 0 and bool(names & _ASKS) and names <= _ASKS | _ON_THE_WAY
