"""Opcodes of iteration and generators.

Loops over known lengths are unrolled by running them. Generators are frames that are suspended at a yield. Invariant:
an iterator is stepped once for each FOR_ITER that runs, never ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...bytecode.version import PYTHON
from ...variables.base import ObservedException, Value
from ...variables.exception import is_exception_of, stop_iteration_value
from ...variables.generator import GeneratorValue
from ..dispatch import Signal, decline, opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction

_HAS_END_SEND = PYTHON >= (3, 12)
_AFTER_LOOP = 2 if PYTHON >= (3, 13) else 1 if PYTHON >= (3, 12) else 0  # END_FOR, which pops both; or END_FOR, POP_TOP


@opcode("GET_ITER")
def get_iter(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.stack[-1] = frame.stack[-1].iterate(frame.tracer)


@opcode("FOR_ITER")
def for_iter(frame: SymbolicFrame, instruction: Instruction) -> None:
    try:
        item = frame.stack[-1].next(frame.tracer)
    except ObservedException as error:
        if not is_exception_of(error.value, StopIteration):
            raise
        frame.stack.pop()
        frame.pc = instruction.target + _AFTER_LOOP
        return
    frame.stack.append(item)


@opcode("GET_YIELD_FROM_ITER")
def get_yield_from_iter(frame: SymbolicFrame, instruction: Instruction) -> None:
    value = frame.stack[-1].realize()
    if not isinstance(value, GeneratorValue):
        frame.stack[-1] = value.iterate(frame.tracer)


@opcode("RETURN_GENERATOR", since=(3, 11))
def return_generator(frame: SymbolicFrame, instruction: Instruction) -> Signal:
    """The frame of a generator suspends before its first instruction; the first resume pushes a None."""
    return Signal.YIELDED


@opcode("YIELD_VALUE")
def yield_value(frame: SymbolicFrame, instruction: Instruction) -> Signal:
    frame.result = frame.stack.pop()
    return Signal.YIELDED


def _send(frame: SymbolicFrame, sent: Value) -> Value:
    """What the iterator on top of the stack yields for a value sent to it. Raises an observed StopIteration."""
    tracer = frame.tracer
    receiver = frame.stack[-1].realize()
    if isinstance(receiver, GeneratorValue):
        return receiver.send(tracer, sent)
    if tracer.is_none(sent):
        return receiver.next(tracer)
    return receiver.call_method(tracer, "send", [sent], {})


@opcode("SEND", since=(3, 11))
def send(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    sent = frame.stack.pop()
    try:
        result = _send(frame, sent)
    except ObservedException as error:
        if not is_exception_of(error.value, StopIteration):
            raise
        if not _HAS_END_SEND:
            frame.stack.pop()  # from 3.12 END_SEND pops the receiver
        frame.stack.append(stop_iteration_value(tracer, error.value))
        frame.pc = instruction.target
        return
    frame.stack.append(result)


@opcode("GEN_START", until=(3, 10))
def gen_start(frame: SymbolicFrame, instruction: Instruction) -> None:
    """Take off the None that starts the generator."""
    frame.stack.pop()


@opcode("YIELD_FROM", until=(3, 10))
def yield_from(frame: SymbolicFrame, instruction: Instruction) -> Signal | None:
    """The instruction is run again for each value that is sent, until the receiver is exhausted."""
    sent = frame.stack.pop()
    try:
        frame.result = _send(frame, sent)
    except ObservedException as error:
        if not is_exception_of(error.value, StopIteration):
            raise
        frame.stack[-1] = stop_iteration_value(frame.tracer, error.value)
        return None
    frame.pc = instruction.index
    return Signal.YIELDED


@opcode("END_SEND", since=(3, 12))
def end_send(frame: SymbolicFrame, instruction: Instruction) -> None:
    del frame.stack[-2]


@opcode("END_FOR", since=(3, 12))
def end_for(frame: SymbolicFrame, instruction: Instruction) -> None:
    """Only reached by specialised loops of the real interpreter."""
    del frame.stack[-1 if PYTHON >= (3, 13) else -2 :]


@opcode("CLEANUP_THROW", since=(3, 12))
def cleanup_throw(frame: SymbolicFrame, instruction: Instruction) -> None:
    """An exception came out of what the generator delegates to."""
    error = frame.stack[-1]
    if not is_exception_of(error, StopIteration):
        raise ObservedException(error)
    value = stop_iteration_value(frame.tracer, error)
    del frame.stack[-3:]
    frame.stack.extend((frame.tracer.constant(None), value))


decline(
    "coroutines and asynchronous generators run as plain Python",
    "GET_AWAITABLE",
    "GET_AITER",
    "GET_ANEXT",
    "END_ASYNC_FOR",
    "BEFORE_ASYNC_WITH",
    "SETUP_ASYNC_WITH",
    "ASYNC_GEN_WRAP",
)
