"""The dispatch table: opcode name to handler, with the CPython versions that have the opcode.

Families register with `@opcode`; what is not modelled is named in `decline`, so that leaving one out is a choice.
Invariant: filled while `interpreter.opcodes` is imported, read-only afterwards.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..bytecode.version import PYTHON
from ..graph_break import BreakId, GraphBreak

if TYPE_CHECKING:
    from .frame import SymbolicFrame
    from .instructions import Instruction


class Signal(enum.Enum):
    """Why the run loop leaves a frame."""

    RETURNED = "returned"
    YIELDED = "yielded"
    STOPPED = "stopped"  # a root frame reached the instruction of its graph break


Handler = Callable[["SymbolicFrame", "Instruction"], "Signal | None"]

_HANDLERS: dict[str, Handler] = {}
_DECLINED: dict[str, str] = {}
_FIRST, _LAST = (3, 10), (3, 13)


def opcode(
    *names: str, since: tuple[int, int] = _FIRST, until: tuple[int, int] = _LAST
) -> Callable[[Handler], Handler]:
    """Decorator: the handler of these opcodes in CPython `since` to `until`, both included."""

    def register(handler: Handler) -> Handler:
        if since <= PYTHON <= until:
            for name in names:
                assert name not in _HANDLERS, name
                _HANDLERS[name] = handler
        return handler

    return register


def decline(reason: str, *names: str) -> None:
    """Name opcodes that always break the graph, and why."""
    for name in names:
        _DECLINED[name] = reason


def handler_for(name: str) -> Handler:
    """The handler of an opcode; a declined or unknown one breaks the graph."""
    return _HANDLERS.get(name, _not_modelled)


def is_handled(name: str) -> bool:
    return name in _HANDLERS


def is_declined(name: str) -> bool:
    return name in _DECLINED


def _not_modelled(frame: SymbolicFrame, instruction: Instruction) -> Any:
    reason = _DECLINED.get(instruction.name, "this instruction is unknown")
    raise GraphBreak(BreakId.OPCODE_NOT_MODELLED, f"{instruction.name}: {reason}")
