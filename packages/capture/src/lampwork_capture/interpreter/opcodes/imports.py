"""Opcodes of imports inside functions.

A module that is loaded already is found by name; importing one for the first time runs code, so it breaks the graph.
Invariant: tracing imports nothing.
"""

from __future__ import annotations

import builtins
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from ...graph_break import BreakId, GraphBreak
from ...source import ModuleSource
from ...variables.base import ObservedException
from ...variables.exception import is_exception_of
from ..dispatch import opcode

if TYPE_CHECKING:
    from ..frame import SymbolicFrame
    from ..instructions import Instruction


_IMPORT = builtins.__import__


@opcode("IMPORT_NAME")
def import_name(frame: SymbolicFrame, instruction: Instruction) -> None:
    level, names = (value.as_constant() for value in frame.pop_many(2))
    name: str = instruction.value
    if level:
        package = frame.scope.variables.get("__package__") or frame.scope.variables.get("__name__", "")
        name = importlib.util.resolve_name("." * level + name, package)
    if name not in sys.modules or is_being_imported(name):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the module `{name}` is imported for the first time")
    if frame.tracer.frame_scope.builtin_values.get("__import__") is not _IMPORT:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`__import__` was replaced")
    module = sys.modules[name]
    if not isinstance(module, ModuleType):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{name}` is no module")
    for part in names or () if hasattr(module, "__path__") else ():
        if part not in vars(module) and f"{name}.{part}" not in sys.modules:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{name}.{part}` may be imported for the first time")
    if not names and not level:
        name = name.partition(".")[0]
    frame.push(frame.tracer.wrap(sys.modules[name], ModuleSource(name)))


def is_being_imported(name: str) -> bool:
    """Whether the code of a loaded module still runs, in another thread perhaps: a real import waits for that."""
    return bool(getattr(getattr(sys.modules[name], "__spec__", None), "_initializing", False))


@opcode("IMPORT_FROM")
def import_from(frame: SymbolicFrame, instruction: Instruction) -> None:
    tracer = frame.tracer
    module = frame.stack[-1]
    try:
        frame.push(module.get_attribute(tracer, instruction.value))
    except ObservedException as error:
        if not is_exception_of(error.value, AttributeError):
            raise
        name = f"{module.get_attribute(tracer, '__name__').as_constant()}.{instruction.value}"
        if name not in sys.modules:
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"cannot import `{name}`") from error
        frame.push(tracer.wrap(sys.modules[name], ModuleSource(name)))
