"""Opcodes of iteration and generators.

Loops over known lengths are unrolled by running them. Generators are frames that are suspended at a yield. Invariant:
an iterator is stepped once for each FOR_ITER that runs, never ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...bytecode.version import PYTHON
from ...variables.base import ObservedException
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


@opcode("SEND", since=(3, 11))
def send(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    sent = frame.stack.pop()
    receiver = frame.stack[-1].realize()
    try:
        if isinstance(receiver, GeneratorValue):
            result = receiver.send(tracer, sent)
        elif tracer.is_none(sent):
            result = receiver.next(tracer)
        else:
            result = receiver.call_method(tracer, "send", [sent], {})
    except ObservedException as error:
        if not is_exception_of(error.value, StopIteration):
            raise
        if not _HAS_END_SEND:
            frame.stack.pop()  # from 3.12 END_SEND pops the receiver
        frame.stack.append(stop_iteration_value(tracer, error.value))
        frame.pc = instruction.target
        return
    frame.stack.append(result)


@opcode("END_SEND", since=(3, 12))
def end_send(frame: SymbolicFrame, instruction: Instruction) -> None:
    del frame.stack[-2]


@opcode("END_FOR", since=(3, 12))
def end_for(frame: SymbolicFrame, instruction: Instruction) -> None:
    """Only reached by specialised loops of the real interpreter."""
    del frame.stack[-1 if PYTHON >= (3, 13) else -2 :]


decline("throwing into a generator that delegates is not modelled", "CLEANUP_THROW")
decline(
    "coroutines and asynchronous generators run as plain Python",
    "GET_AWAITABLE",
    "GET_AITER",
    "GET_ANEXT",
    "END_ASYNC_FOR",
    "BEFORE_ASYNC_WITH",
    "ASYNC_GEN_WRAP",
)
