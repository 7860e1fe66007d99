"""Opcodes of calls and function construction.

Invariant: whatever is called, its arguments were evaluated in Python's order and stand on the stack until the call, so
that a graph break before the call can rebuild them.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from ... import _native
from ...bytecode.version import PY311, qualified_name
from ...graph_break import BreakId, GraphBreak
from ...variables.base import Value
from ...variables.class_lookup import is_iterable
from ...variables.exception_group import prepare_reraise
from ...variables.function import MadeFunctionValue
from ...variables.generator import stopped_inside
from ...variables.length_hint import listed
from ...variables.operators import unary
from ..dispatch import Signal, opcode
from ..frame import NULL, Null
from .containers import name_of_callable

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


@opcode("KW_NAMES", until=(3, 12))
def kw_names(frame: SymbolicFrame, instruction: Instruction) -> None:
    frame.keyword_names = instruction.value


@opcode("CALL", since=(3, 11))
def call(frame: SymbolicFrame, instruction: Instruction) -> None:
    count = instruction.arg
    names, frame.keyword_names = frame.keyword_names, ()
    stack = frame.stack
    base = len(stack) - count - 2
    result = _call_at(frame, base, stack[base + 2 :], names)
    del stack[base:]
    stack.append(result)


@opcode("CALL_KW", since=(3, 13))
def call_kw(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack = frame.stack
    base = len(stack) - instruction.arg - 3
    names: tuple[str, ...] = stack[-1].as_constant()
    result = _call_at(frame, base, stack[base + 2 : -1], names)
    del stack[base:]
    stack.append(result)


def _call_at(frame: SymbolicFrame, base: int, args: list[Value], names: tuple[str, ...]) -> Value:
    """Call what stands at `base`: a callable and NULL, or the function of a method and the receiver."""
    function, receiver = _callable_at(frame, base)
    if type(receiver) is not Null:
        args.insert(0, receiver)
    kwargs: dict[str, Value] = {}
    if names:
        first = len(args) - len(names)
        kwargs = dict(zip(names, args[first:]))
        del args[first:]
    return call_value(frame, function, args, kwargs)


def _callable_at(frame: SymbolicFrame, base: int) -> tuple[Value, Value]:
    """A callable and NULL, or the function of a method and its receiver; the NULL is above from 3.13, else below."""
    first, second = frame.stack[base], frame.stack[base + 1]
    return (second, first) if type(first) is Null else (first, second)


@opcode("CALL_FUNCTION", until=(3, 10))
def call_function(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack = frame.stack
    base = len(stack) - instruction.arg - 1
    result = call_value(frame, stack[base], stack[base + 1 :], {})
    del stack[base:]
    stack.append(result)


@opcode("CALL_FUNCTION_KW", until=(3, 10))
def call_function_kw(frame: SymbolicFrame, instruction: Instruction) -> None:
    stack = frame.stack
    names: tuple[str, ...] = stack[-1].as_constant()
    base = len(stack) - instruction.arg - 2
    first = len(stack) - 1 - len(names)
    kwargs = dict(zip(names, stack[first:-1]))
    result = call_value(frame, stack[base], stack[base + 1 : first], kwargs)
    del stack[base:]
    stack.append(result)


@opcode("CALL_METHOD", until=(3, 10))
def call_method(frame: SymbolicFrame, instruction: Instruction) -> None:
    """NULL, bound method, arguments: what our LOAD_METHOD leaves."""
    stack = frame.stack
    base = len(stack) - instruction.arg - 2
    assert type(stack[base]) is Null
    result = call_value(frame, stack[base + 1], stack[base + 2 :], {})
    del stack[base:]
    stack.append(result)


def call_value(frame: SymbolicFrame, function: Value, args: list[Value], kwargs: dict[str, Value]) -> Value:
    """Call a value from a frame: the few callables that look at their caller's frame are told about it."""
    if not args and not kwargs and function.is_constant() and function.as_constant() is super:
        args = list(zero_argument_super(frame))
    if len(args) == 2 and function.is_constant() and function.as_constant() is _native.call_unfinished:
        function, args = args[0], args[1].unpack(frame.tracer)
    frame.callee = function
    try:
        return function.call(frame.tracer, args, kwargs)
    finally:
        frame.callee = None


def zero_argument_super(frame: SymbolicFrame) -> tuple[Value, Value]:
    """The class and the instance that `super()` without arguments means in this frame."""
    slot = frame.decoded.slot_of.get("__class__")
    first = frame.first_argument()
    if slot is None or first is None:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "super() outside a method")
    return frame.cell_contents(slot), first


@opcode("CALL_FUNCTION_EX")
def call_function_ex(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    stack = frame.stack
    base = len(stack) - 2 - (instruction.arg & 1) - PY311
    kwargs: dict[str, Value] = {}
    if instruction.arg & 1:
        for key, value in tracer.items_of_mapping(stack[-1]):
            if not isinstance(key, str):
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "keyword names must be strings")
            kwargs[key] = value
    if PY311:
        iterable = stack[base + 2]
        function, receiver = _callable_at(frame, base)
        assert type(receiver) is Null
    else:
        function, iterable = stack[base], stack[base + 1]
    kind = iterable.python_type()
    if not is_iterable(kind):
        words = f"argument after * must be an iterable, not {kind.__name__}"
        tracer.raise_observed(TypeError, f"{name_of_callable(tracer, function)} {words}")
    args = listed(tracer, iterable)
    result = call_value(frame, function, args, kwargs)
    del stack[base:]
    stack.append(result)


@opcode("MAKE_FUNCTION", until=(3, 12))
def make_function(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    qualified = None if PY311 else frame.pop().as_constant()
    code = frame.pop().as_constant()
    flags = instruction.arg
    cells = frame.pop().unpack(tracer) if flags & 0x08 else []
    annotations = frame.pop() if flags & 0x04 else None
    keyword_defaults = frame.pop() if flags & 0x02 else None
    defaults = frame.pop() if flags & 0x01 else None
    qualified = qualified or qualified_name(code)
    frame.push(MadeFunctionValue(code, frame.scope, cells, defaults, keyword_defaults, annotations, qualified))


@opcode("MAKE_FUNCTION", since=(3, 13))
def make_plain_function(frame: SymbolicFrame, instruction: Instruction) -> None:
    code = frame.pop().as_constant()
    frame.push(MadeFunctionValue(code, frame.scope, (), None, None, None, qualified_name(code)))


@opcode("SET_FUNCTION_ATTRIBUTE", since=(3, 13))
def set_function_attribute(frame: SymbolicFrame, instruction: Instruction) -> None:
    """Nothing else refers to the function yet."""
    attribute, function = frame.pop_many(2)
    assert isinstance(function, MadeFunctionValue)
    frame.push(function.with_part(instruction.arg, attribute, frame.tracer))


@opcode("CALL_INTRINSIC_1", since=(3, 12))
def call_intrinsic_1(frame: SymbolicFrame, instruction: Instruction) -> Signal | None:
    tracer = frame.tracer
    match instruction.arg:
        case 3:  # INTRINSIC_STOPITERATION_ERROR
            frame.push(stop_iteration_error(frame, frame.pop()))
        case 5:  # INTRINSIC_UNARY_POSITIVE
            frame.push(unary(tracer, operator.pos, frame.pop()))
        case 6:  # INTRINSIC_LIST_TO_TUPLE
            frame.push(tracer.make_tuple(frame.pop().unpack(tracer)))
        case _:
            raise GraphBreak(BreakId.OPCODE_NOT_MODELLED, f"CALL_INTRINSIC_1 {instruction.arg} is not modelled")


def stop_iteration_error(frame: SymbolicFrame, error: Value) -> Value:
    """A StopIteration that leaves a generator becomes a RuntimeError."""
    if issubclass(error.python_type(), StopIteration):
        return stopped_inside(frame.tracer, error)
    return error


@opcode("CALL_INTRINSIC_2", since=(3, 12))
def call_intrinsic_2(frame: SymbolicFrame, instruction: Instruction) -> None:
    if instruction.arg != 1:  # INTRINSIC_PREP_RERAISE_STAR; the others are of type parameters
        raise GraphBreak(BreakId.OPCODE_NOT_MODELLED, f"CALL_INTRINSIC_2 {instruction.arg} is not modelled")
    original, collected = frame.pop_many(2)
    frame.push(prepare_reraise(frame.tracer, original, collected.unpack(frame.tracer)))


__all__ = ["NULL", "call_value", "zero_argument_super"]
