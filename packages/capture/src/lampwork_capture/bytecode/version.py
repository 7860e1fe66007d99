"""What differs between CPython versions in bytecode, in one place.

The emitter and the assembler ask here for instruction sequences instead of naming version-dependent opcodes.
Invariant: a version that is not listed in `SUPPORTED` raises `UnsupportedPythonError` before anything is emitted.
"""

from __future__ import annotations

import sys
from typing import Any, cast

from bytecode import Instr, Label
from bytecode.instr import CellVar

PYTHON: tuple[int, int] = (sys.version_info[0], sys.version_info[1])
SUPPORTED: frozenset[tuple[int, int]] = frozenset({(3, 11), (3, 12), (3, 13)})
PY312 = PYTHON >= (3, 12)

# Opcodes whose argument is a jump direction chosen by the assembler: (base meaning) -> (forward, backward or None).
# A None means that the version has no such jump and the assembler inverts the condition around a plain jump.
_CONDITIONS = ("IF_TRUE", "IF_FALSE", "IF_NONE", "IF_NOT_NONE")
_INVERSE = {"IF_TRUE": "IF_FALSE", "IF_FALSE": "IF_TRUE", "IF_NONE": "IF_NOT_NONE", "IF_NOT_NONE": "IF_NONE"}


class UnsupportedPythonError(ImportError):
    """The running interpreter has a bytecode that this release does not write yet."""

    def __init__(self) -> None:
        wanted = ", ".join(f"{major}.{minor}" for major, minor in sorted(SUPPORTED))
        super().__init__(
            f"CPython {PYTHON[0]}.{PYTHON[1]} is not supported yet by lampwork-capture; use one of {wanted}."
        )


def require_supported() -> None:
    """Raise `UnsupportedPythonError` on an interpreter whose bytecode is not modelled."""
    if PYTHON not in SUPPORTED or sys.implementation.name != "cpython":
        raise UnsupportedPythonError


def before_callable() -> list[Instr]:
    """What goes below a callable on the stack."""
    return [Instr("PUSH_NULL")]


def call_sequence(n_positional: int, keyword_names: tuple[str, ...]) -> list[Instr]:
    """Call what stands below `n_positional` values and one value for each keyword name."""
    n = n_positional + len(keyword_names)
    sequence: list[Instr] = []
    if keyword_names:
        sequence.append(Instr("KW_NAMES", cast(Any, keyword_names)))
    if not PY312:
        sequence.append(Instr("PRECALL", n))
    sequence.append(Instr("CALL", n))
    return sequence


def load_global(name: str) -> Instr:
    """A global, without pushing NULL."""
    return Instr("LOAD_GLOBAL", (False, name))


def load_attribute(name: str) -> Instr:
    """`TOS.name`, not as a method."""
    return Instr("LOAD_ATTR", (False, name)) if PY312 else Instr("LOAD_ATTR", name)


def jump_always(label: Label) -> Instr:
    """An unconditional jump; the assembler corrects the direction."""
    return Instr("JUMP_FORWARD", label)


def pop_jump(condition: str, label: Label) -> Instr:
    """`condition` is one of IF_TRUE, IF_FALSE, IF_NONE, IF_NOT_NONE; the assembler corrects the direction."""
    return Instr(f"POP_JUMP_{condition}" if PY312 else f"POP_JUMP_FORWARD_{condition}", label)


def redirect(instruction: Instr, backward: bool) -> list[Instr | Label] | None:
    """A replacement for a jump that points the wrong way; None where it points as asked or may not be turned."""
    name = instruction.name
    target = instruction.arg
    assert isinstance(target, Label)
    location = instruction.location
    if name in ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"):
        if backward == name.startswith("JUMP_BACKWARD"):
            return None
        return [Instr("JUMP_BACKWARD" if backward else "JUMP_FORWARD", target, location=location)]
    if not name.startswith("POP_JUMP_"):
        return None
    condition = name.removeprefix("POP_JUMP_").removeprefix("FORWARD_").removeprefix("BACKWARD_")
    if condition not in _CONDITIONS:
        return None
    if not PY312:
        wanted = f"POP_JUMP_{'BACKWARD' if backward else 'FORWARD'}_{condition}"
        return None if wanted == name else [Instr(wanted, target, location=location)]
    if not backward:
        return None
    over = Label()
    return [
        Instr(f"POP_JUMP_{_INVERSE[condition]}", over, location=location),
        Instr("JUMP_BACKWARD", target, location=location),
        over,
    ]


_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "INTERPRETER_EXIT"})


def falls_through(instruction: Instr) -> bool:
    """Whether execution can go on to the instruction below."""
    return instruction.name not in _ENDS and not instruction.is_uncond_jump()


_PROLOGUE = frozenset({"COPY_FREE_VARS", "MAKE_CELL", "RESUME"})


def is_prologue(instruction: Instr) -> bool:
    """Whether it belongs to the set-up of cells at the start of a function."""
    return instruction.name in _PROLOGUE


LOADS_CONSTANT = frozenset({"LOAD_CONST", "RETURN_CONST"})


def prologue(cellvars: list[str], freevars: list[str]) -> list[Instr]:
    """COPY_FREE_VARS, MAKE_CELL and RESUME as the compiler orders them."""
    sequence: list[Instr] = []
    if freevars:
        sequence.append(Instr("COPY_FREE_VARS", len(freevars)))
    sequence.extend(Instr("MAKE_CELL", CellVar(name)) for name in cellvars)
    sequence.append(Instr("RESUME", 0))
    return sequence


def stack_effect(instruction: Instr, jump: bool | None) -> int:
    """Net values pushed. A resumed generator finds the value sent to it, which `dis` does not count."""
    if instruction.name == "RETURN_GENERATOR":
        return 1
    return instruction.stack_effect(jump=jump)
