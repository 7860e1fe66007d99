"""SymbolicFrame: the state of one Python frame under tracing: slots, stack, program counter.

The root frame is the one that the hook handed over; inlined calls and generators are frames above it. Invariant: the
stack has the same layout as the interpreter's own at the same instruction (NULLs and saved exceptions included), so
that a graph break can rebuild it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

from ..bytecode.version import PY311, beside_callable
from ..graph_break import BreakId, GraphBreak
from ..source import Source
from ..variables.base import ObservedException, Value
from ..variables.cell import CellValue
from ..variables.exception import ExceptionValue, TracebackValue
from ..variables.generator import GeneratorValue, drop
from .dispatch import Signal
from .instructions import Instruction, decode

if TYPE_CHECKING:
    from .scope import GlobalScope
    from .tracer import FrameTracer


class Null(Value):
    """The NULL that bytecode keeps below a callable, or in a slot saved while unbound."""

    kind = "NULL"
    __slots__ = ()


NULL = Null()


class LastInstruction(Value):
    """The instruction number that the exception table asks to be pushed."""

    kind = "a saved instruction number"
    __slots__ = ()


class SavedException(Value):
    """What PUSH_EXC_INFO saves: the exception that was being handled before."""

    kind = "a saved exception state"
    __slots__ = ("previous",)

    def __init__(self, previous: Value | None) -> None:
        super().__init__()
        self.previous = previous


class SavedPart(Value):
    """The other two of the three values that hold what was handled before, in CPython 3.10."""

    kind = "a part of a saved exception state"
    __slots__ = ()


SAVED_PART = SavedPart()


class Unread(Value):
    """A local of the root frame that was not looked at yet: no guard exists for it."""

    kind = "an unread local"
    __slots__ = ("obj",)

    def __init__(self, obj: Any, source: Source) -> None:
        super().__init__(source)
        self.obj = obj


@dataclass(frozen=True, slots=True)
class StopPlace:
    """Where a trace stops: before an instruction of the nth frame that it enters (0 is the root)."""

    serial: int
    index: int


@dataclass(frozen=True, slots=True)
class FramePlace:
    """A frame at one of its instructions; `handling`: at the one whose exception it was handling."""

    frame: SymbolicFrame
    index: int
    handling: bool = False


class SymbolicFrame:
    """One frame. `run` continues it until it returns, yields or reaches `stop_at`.

    `callee` is what the present instruction calls, as long as the result of that call is what the instruction pushes;
    `is_plain` says that the frame below entered this one so.
    """

    __slots__ = (
        "callee",
        "code",
        "decoded",
        "function",
        "handler_origins",
        "index",
        "is_plain",
        "keyword_names",
        "namespace",
        "parent",
        "pc",
        "raised",
        "result",
        "scope",
        "serial",
        "slots",
        "stack",
        "stop_at",
        "tracer",
    )

    def __init__(
        self,
        tracer: FrameTracer,
        code: CodeType,
        scope: GlobalScope,
        parent: SymbolicFrame | None,
        function: Value | None,
        serial: int = 0,
    ) -> None:
        self.serial = serial
        self.callee: Value | None = None
        self.is_plain = False
        self.tracer = tracer
        self.code = code
        self.decoded = decode(code)
        self.scope = scope
        self.parent = parent
        self.function = function
        self.slots: list[Value | None] = [None] * len(self.decoded.slot_names)
        self.stack: list[Value] = []
        self.pc = 0
        self.index = 0
        self.keyword_names: tuple[str, ...] = ()
        self.namespace: Value | None = None  # of a class body: what its names are looked up in first
        self.result: Value | None = None
        self.stop_at = -1
        self.handler_origins: list[int] = []  # instructions whose exceptions are being handled now, outermost first
        self.raised: dict[Value, int] = {}  # by exception that was seen: the instruction that first raised it

    def make_cells(self) -> None:
        """Put the frame's own cells in place, once its arguments are; from 3.11 MAKE_CELL does it."""
        if not PY311:
            for name in self.code.co_cellvars:
                slot = self.decoded.slot_of[name]
                self.slots[slot] = CellValue.new(name, self.slots[slot], in_root=self.parent is None)

    def release(self) -> None:
        """Let go of the program's objects."""
        self.slots.clear()
        self.stack.clear()
        self.raised.clear()
        self.parent = self.function = self.callee = self.namespace = self.result = None

    # Stack

    def push(self, value: Value) -> None:
        self.stack.append(value)

    def pop(self) -> Value:
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Value]:
        if count == 0:
            return []
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def push_callable(self, function: Value) -> None:
        """Push a callable with the NULL that stands beside it for a call."""
        self.stack += beside_callable(function, NULL)

    # Running

    def run(self) -> Signal:
        """Continue until the frame returns, yields or stops. Raises ObservedException when it does not catch it."""
        instructions = self.decoded.instructions
        stop_at = self.stop_at
        while True:
            index = self.pc
            if index == stop_at:
                return Signal.STOPPED
            instruction = instructions[index]
            self.index = index
            self.pc = index + 1
            try:
                signal = instruction.handler(self, instruction)
            except ObservedException as error:
                self.unwind(error)
                continue
            if signal is not None:
                return signal

    def unwind(self, error: ObservedException) -> None:
        """Enter the handler of an exception at the current instruction, or raise it to the caller."""
        if error.value not in self.raised:
            self.raised[error.value] = self.index
            self.tracer.note_raised(error.value)
        if isinstance(error.value, ExceptionValue):
            error.value.raised = True
        entry = self.decoded.handler_at(self.index)
        if entry is None:
            if not PY311:
                self._leave_handlers(0)
            value = error.value
            raise ObservedException(value) from None  # not `error`: with it, this frame would hold its own traceback
        dropped = self.stack[entry.depth :]
        if PY311:
            del self.stack[entry.depth :]
            if entry.push_lasti:
                self.stack.append(LastInstruction())
            self.stack.append(error.value)
        else:
            self._leave_handlers(entry.depth)
            del self.stack[entry.depth :]
            self._begin_handling(error.value)
        while dropped:
            held = [dropped.pop()]
            if isinstance(held[0], GeneratorValue):
                drop(self.tracer, held)
        self.pc = entry.target

    # Before 3.11 the interpreter itself saves and restores what is being handled, in three values each

    def _leave_handlers(self, depth: int) -> None:
        """An exception drops the stack down to `depth`: what the handlers there had saved is handled again."""
        saved = [value for value in self.stack[depth:] if isinstance(value, SavedException)]
        if saved:
            self.tracer.handled = saved[0].previous
            del self.handler_origins[-len(saved) :]

    def _begin_handling(self, error: Value) -> None:
        tracer = self.tracer
        saved = SavedException(tracer.handled)
        kind = tracer.constant(error.python_type())
        self.stack += [SAVED_PART, SAVED_PART, saved, TracebackValue(error), error, kind]
        tracer.handled = error
        self.handler_origins.append(self.raised.get(error, self.index))

    # What `super()` looks at

    def first_argument(self) -> Value | None:
        """The first argument of the frame as it is now."""
        if self.code.co_argcount == 0:
            return None
        return self.cell_contents(0)

    def cell_contents(self, slot: int) -> Value:
        """What a slot holds, through its cell if it has one."""
        value = self.slots[slot]
        name = self.decoded.slot_names[slot]
        if isinstance(value, CellValue) and (name in self.code.co_cellvars or name in self.code.co_freevars):
            value = value.load(self.tracer)
        if value is None:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"`{self.decoded.slot_names[slot]}` is not bound")
        return self.tracer.wrap_unread(value)

    def current(self) -> Instruction:
        return self.decoded.instructions[self.index]
