"""Opcodes of exceptions and `with`.

They follow the exception handling of CPython step by step. From 3.11 the run loop pushes the exception, PUSH_EXC_INFO
saves what was handled before, POP_EXCEPT restores it; in 3.10 the run loop saves and restores, in three values each.
Invariant: `tracer.handled` is what `sys.exception()` would be, but for what a caller of the frame handles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...bytecode.version import PY311
from ...variables.base import ObservedException, Value
from ...variables.class_lookup import has_special, is_in_mro, shown_name
from ...variables.exception import TracebackValue, exception_classes, handled_now, instantiate, raise_value
from ...variables.exception_group import match_star, prepare_reraise
from ..dispatch import opcode
from ..frame import SavedException

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


@opcode("PUSH_EXC_INFO", since=(3, 11))
def push_exc_info(frame: SymbolicFrame, instruction: Instruction) -> None:
    error = frame.pop()
    frame.push(SavedException(frame.tracer.handled))
    frame.push(error)
    frame.tracer.handled = error
    frame.handler_origins.append(frame.raised.get(error, frame.index))


@opcode("SETUP_FINALLY", until=(3, 10))
def setup_finally(frame: SymbolicFrame, instruction: Instruction) -> None:
    """The block that it pushes is known from the code (`DecodedCode.handler_at`)."""


@opcode("SETUP_WITH", until=(3, 10))
def setup_with(frame: SymbolicFrame, instruction: Instruction) -> None:
    manager = frame.stack[-1].realize()
    for name in ("__enter__", "__exit__"):
        if not has_special(manager.python_type(), name):
            frame.tracer.raise_observed(AttributeError, name)
    manager.get_attribute(frame.tracer, "__enter__")  # looked up before `__exit__`
    leave = manager.get_attribute(frame.tracer, "__exit__")
    entered = manager.call_method(frame.tracer, "__enter__", [], {})
    frame.stack[-1] = leave
    frame.push(entered)


@opcode("POP_EXCEPT", until=(3, 10))
def pop_saved_state(frame: SymbolicFrame, instruction: Instruction) -> None:
    """The exception state from before, in three values."""
    saved = frame.pop_many(3)[2]
    assert isinstance(saved, SavedException)
    frame.tracer.handled = saved.previous
    if frame.handler_origins:
        frame.handler_origins.pop()


@opcode("JUMP_IF_NOT_EXC_MATCH", until=(3, 10))
def jump_if_not_exc_match(frame: SymbolicFrame, instruction: Instruction) -> None:
    kind, named = frame.stack[-2:]
    classes = exception_classes(frame.tracer, named)
    matches = issubclass(kind.as_constant(), classes)
    frame.pop_many(2)
    if not matches:
        frame.pc = instruction.target


@opcode("RERAISE", until=(3, 10))
def reraise_triple(frame: SymbolicFrame, instruction: Instruction) -> None:
    """Traceback, exception and type."""
    raise ObservedException(frame.pop_many(3)[1])


@opcode("POP_EXCEPT", since=(3, 11))
def pop_except(frame: SymbolicFrame, instruction: Instruction) -> None:
    saved = frame.pop()
    assert isinstance(saved, SavedException)
    frame.tracer.handled = saved.previous
    if frame.handler_origins:
        frame.handler_origins.pop()


@opcode("CHECK_EXC_MATCH", since=(3, 11))
def check_exc_match(frame: SymbolicFrame, instruction: Instruction) -> None:
    classes = exception_classes(frame.tracer, frame.pop())
    frame.push(frame.tracer.constant(any(is_in_mro(kind, frame.stack[-1].python_type()) for kind in classes)))


@opcode("RERAISE", since=(3, 11))
def reraise(frame: SymbolicFrame, instruction: Instruction) -> None:
    raise ObservedException(frame.pop())


@opcode("RAISE_VARARGS")
def raise_varargs(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    args = frame.pop_many(instruction.arg)
    if not args:
        handled = handled_now(tracer)
        if handled is None:
            tracer.raise_observed(RuntimeError, "No active exception to reraise")
        raise ObservedException(handled)
    error = instantiate(tracer, args[0])
    if len(args) == 2:
        cause = args[1].realize() if tracer.is_none(args[1]) else instantiate(tracer, args[1], "exception causes")
        error.relate(tracer, "__cause__", cause)
    raise_value(tracer, error)


@opcode("LOAD_ASSERTION_ERROR")
def load_assertion_error(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.push(frame.tracer.constant(AssertionError))


@opcode("BEFORE_WITH", since=(3, 11))
def before_with(frame: SymbolicFrame, instruction: Instruction) -> None:
    manager = frame.stack[-1].realize()
    kind = manager.python_type()
    for name, missed in (("__enter__", ""), ("__exit__", " (missed __exit__ method)")):
        if not has_special(kind, name):
            words = f"'{shown_name(kind)}' object does not support the context manager protocol{missed}"
            frame.tracer.raise_observed(TypeError, words)
    leave = manager.get_attribute(frame.tracer, "__exit__")
    entered = manager.call_method(frame.tracer, "__enter__", [], {})
    frame.stack[-1] = leave
    frame.push(entered)


@opcode("WITH_EXCEPT_START")
def with_except_start(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    error: Value = frame.stack[-1 if PY311 else -2]
    leave = frame.stack[-4 if PY311 else -7]
    kind = tracer.constant(error.python_type())
    frame.push(leave.call(tracer, [kind, error, TracebackValue(error)], {}))


@opcode("CHECK_EG_MATCH", since=(3, 11))
def check_group_match(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    error, kind = frame.pop_many(2)
    rest, matching = match_star(tracer, error, kind)
    frame.stack.extend((rest, matching))
    if not tracer.is_none(matching):
        tracer.handled = matching


@opcode("PREP_RERAISE_STAR", since=(3, 11), until=(3, 11))
def prepare_reraise_star(frame: SymbolicFrame, instruction: Instruction) -> None:
    original, collected = frame.pop_many(2)
    frame.push(prepare_reraise(frame.tracer, original, collected.unpack(frame.tracer)))
