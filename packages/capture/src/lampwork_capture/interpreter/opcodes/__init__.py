"""Opcodes by family: what each instruction does to a symbolic frame.

Importing this package fills the table; `dispatch.handler_for` finds the handler of an instruction by its name.
Invariant: every opcode of a supported interpreter is handled or declined by name (a test holds this).
"""

from . import (
    attributes,
    calls,
    containers,
    control,
    exceptions,
    imports,
    iteration,
    matching,
    names,
    operators,
    stack,
)

FAMILIES = (
    attributes,
    calls,
    containers,
    control,
    exceptions,
    imports,
    iteration,
    matching,
    names,
    operators,
    stack,
)
