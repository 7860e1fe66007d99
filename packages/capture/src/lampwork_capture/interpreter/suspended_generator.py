"""Suspended generators: the frame behind a generator that is traced, between two of its steps.

`variables/generator.py` asks it for the next item; it runs the frame above the present one. Invariant: what a generator
handles when it yields is what it handles when it goes on, whatever its caller handles meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bytecode.version import PY311, PYTHON
from ..variables.base import ObservedException, Value
from ..variables.exception import ExceptionValue, stop_iteration_value
from ..variables.generator import GeneratorValue
from .dispatch import Signal
from .instructions import DecodedCode

if TYPE_CHECKING:
    from .frame import SymbolicFrame
    from .tracer import FrameTracer

SKIPS_END_FOR = PYTHON >= (3, 12)


class SuspendedGenerator:
    """The frame behind a GeneratorValue."""

    def __init__(self, tracer: FrameTracer, frame: SymbolicFrame) -> None:
        self._tracer = tracer
        self.frame = frame
        self._handled: Value | None = None
        self._finished = False

    def waits_for_cleanup(self) -> bool:
        """Whether it is suspended inside a `try` or `with`."""
        if self._finished:
            return False
        decoded = self.frame.decoded
        entry = decoded.handler_at(self.frame.index)
        if entry is None:
            return False
        first = decoded.instructions[entry.target]
        return first.name != "CALL_INTRINSIC_1"  # from 3.12 all of a generator stands under this one

    def resume(self, sent: Value) -> tuple[bool, Value]:
        self.frame.push(sent)
        return self._run()

    def throw(self, error: Value) -> tuple[bool, Value]:
        frame = self.frame
        if not is_delegating(frame.decoded, frame.index):
            return self._raise(error)
        try:
            answer = self._throw_below(frame.stack[-1].realize(), error)
        except ObservedException as raised:
            if not isinstance(raised.value, ExceptionValue) or not issubclass(raised.value.cls, StopIteration):
                return self._raise(raised.value)
            answer = None
            if not SKIPS_END_FOR:
                frame.stack.pop()  # from 3.12 END_SEND pops the receiver
            frame.stack.append(stop_iteration_value(self._tracer, raised.value))
            frame.pc = frame.decoded.instructions[frame.index - 1].target if PY311 else frame.index + 1
        return self._run() if answer is None else (False, answer)

    def _throw_below(self, receiver: Value, error: Value) -> Value:
        """Throw into what the generator delegates to; what that yields."""
        tracer = self._tracer
        is_exit = issubclass(error.python_type(), GeneratorExit)
        if isinstance(receiver, GeneratorValue) and isinstance(error, ExceptionValue):
            if not is_exit:
                return receiver.throw(tracer, error)
            receiver.close(tracer)
        elif hasattr(receiver.python_type(), "close" if is_exit else "throw"):
            answer = receiver.call_method(tracer, "close" if is_exit else "throw", [] if is_exit else [error], {})
            if not is_exit:
                return answer
        raise ObservedException(error)

    def _raise(self, error: Value) -> tuple[bool, Value]:
        """Continue by raising at the yield."""
        try:
            self.frame.unwind(ObservedException(error))
        except ObservedException:
            self._finished = True
            raise
        return self._run()

    def _run(self) -> tuple[bool, Value]:
        tracer = self._tracer
        outer = tracer.handled
        if self._handled is not None:
            tracer.handled = self._handled
        self._finished = True
        try:
            signal = tracer.continue_frame(self.frame)
            self._finished = signal is Signal.RETURNED
        finally:
            self._handled = tracer.handled if tracer.handled is not outer else None
            tracer.handled = outer
        assert self.frame.result is not None
        return signal is Signal.RETURNED, self.frame.result


def is_delegating(decoded: DecodedCode, index: int) -> bool:
    """Whether a generator that is suspended at an instruction waits in a `yield from`."""
    if decoded.instructions[index].name == "YIELD_FROM":
        return True
    return index > 0 and decoded.instructions[index - 1].name == "SEND"
