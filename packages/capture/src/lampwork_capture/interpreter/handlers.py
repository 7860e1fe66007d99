"""Exception handlers that a graph may be in without the program seeing any difference.

An operation that raises while the graph runs does so before any side effect is replayed. So a handler that only takes
back what the frame itself did has nothing to do: torch's own contexts, the resetting of a context variable that the
frame set. Invariant: what is not recognised counts as a handler that does more.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

from ..bytecode.version import PY311
from ..variables.base import Value
from ..variables.context_manager import ContextMethodValue
from ..variables.function import MethodValue

if TYPE_CHECKING:
    from .frame import SymbolicFrame
    from .instructions import HandlerEntry

_LONGEST = 40
_CALLS = frozenset({"CALL", "CALL_METHOD"})
_SILENT = frozenset({"NOP", "PRECALL", "CACHE", "PUSH_NULL"})


def undoes_only(frame: SymbolicFrame, entry: HandlerEntry) -> bool:
    """Whether a handler raises the exception again and does nothing else that could be seen."""
    instructions = frame.decoded.instructions
    names = [instruction.name for instruction in instructions[entry.target : entry.target + 3]]
    if names == ["COPY", "POP_EXCEPT", "RERAISE"] or names[0] == "CALL_INTRINSIC_1":
        return True
    first = entry.target
    if PY311:
        if names[0] != "PUSH_EXC_INFO":
            return False
        first += 1
    if instructions[first].name == "WITH_EXCEPT_START":
        leave = frame.stack[entry.depth - 1] if 0 < entry.depth <= len(frame.stack) else None
        if isinstance(leave, MethodValue):  # a function mode is no more than a place on a stack
            return getattr(leave.function.realize(), "function", None) is TorchFunctionMode.__exit__
        return isinstance(leave, ContextMethodValue)
    return _resets_only(frame, first) is not None


def objects_reset(frame: SymbolicFrame, entry: HandlerEntry) -> list[object]:
    """The context variables that a handler, which `undoes_only`, brings back to what they were before they
    were set in the `try`."""
    first = entry.target
    if PY311:
        if frame.decoded.instructions[first].name != "PUSH_EXC_INFO":
            return []
        first += 1
    reset = _resets_only(frame, first) or []
    return [obj for obj in reset if not getattr(obj, "compiling", False)]


def is_for_missing_kernels(frame: SymbolicFrame, entry: HandlerEntry) -> bool:
    """Whether a handler lets every exception pass but NotImplementedError: `except NotImplementedError: ...`."""
    instructions = frame.decoded.instructions
    names = ("PUSH_EXC_INFO", "LOAD_GLOBAL", "CHECK_EXC_MATCH") if PY311 else ("DUP_TOP", "LOAD_GLOBAL")
    found = instructions[entry.target : entry.target + len(names) + 1]
    if tuple(instruction.name for instruction in found[: len(names)]) != names:
        return False
    load, jump = found[1], found[-1]
    if not jump.name.endswith(("IF_FALSE", "IF_NOT_EXC_MATCH")) or load.value != "NotImplementedError":
        return False
    if instructions[jump.target].name != "RERAISE":
        return False
    kind = frame.scope.load(frame.tracer, "NotImplementedError")  # guarded: it is that class in later calls
    return kind.is_constant() and kind.as_constant() is NotImplementedError


def _is_context_variable(obj: Any) -> bool:
    """A ContextVar, or the one of transformers that can be compiled."""
    cls = type(obj)
    return cls is ContextVar or (cls.__name__ == "CompileableContextVar" and cls.__module__.startswith("transformers."))


def _resets_only(frame: SymbolicFrame, index: int) -> list[object] | None:
    """Follow a `finally` from `index` to its RERAISE, over tests for None and resets of context variables: of which
    ones; None if it does more."""
    stack: list[Any] = []
    reset: list[object] = []
    for _ in range(_LONGEST):
        instruction = frame.decoded.instructions[index]
        index += 1
        name = instruction.name
        if name == "RERAISE":
            return reset
        if name in _SILENT:
            continue
        if name == "LOAD_CONST":
            stack.append(frame.tracer.literal(instruction.value))
        elif name == "IS_OP" and len(stack) >= 2:
            right, left = stack.pop(), stack.pop()
            if not all(isinstance(value, Value) and value.is_constant() for value in (left, right)):
                return None
            if right.as_constant() is not None:
                return None
            same = left.as_constant() is None
            stack.append(frame.tracer.constant(same != bool(instruction.arg)))
        elif name in ("POP_JUMP_IF_FALSE", "POP_JUMP_IF_TRUE") and stack:
            value = stack.pop()
            if not isinstance(value, Value) or not value.is_constant() or type(value.as_constant()) is not bool:
                return None
            if value.as_constant() == (name == "POP_JUMP_IF_TRUE"):
                index = instruction.target
        elif name == "LOAD_FAST":
            value = frame.slots[instruction.arg]
            stack.append(None if value is None else value.realize())
        elif name == "LOAD_GLOBAL":
            stack.append(frame.scope.variables.get(instruction.value))
        elif name.endswith(("IF_NONE", "IF_NOT_NONE")) and stack:
            value = stack.pop()
            if not isinstance(value, Value) or not value.is_constant():
                return None
            if (value.as_constant() is None) == name.endswith("IF_NONE"):
                index = instruction.target
        elif name in ("LOAD_METHOD", "LOAD_ATTR") and instruction.value == "reset" and len(stack) == 1:
            if not _is_context_variable(stack[0]):
                return None
        elif name in _CALLS and instruction.arg == 1 and len(stack) == 2 and _is_context_variable(stack[0]):
            token = stack.pop()
            if not isinstance(token, Value) or token.source is not None:
                return None
            reset.append(stack[0])
        elif name == "POP_TOP" and len(stack) == 1:
            stack.clear()
        else:
            return None
    return None
