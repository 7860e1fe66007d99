"""What differs between CPython versions in bytecode, in one place.

The emitter and the assembler ask here for instruction sequences instead of naming version-dependent opcodes.
Invariant: a version that is not listed in `SUPPORTED` raises `UnsupportedPythonError` before anything is emitted.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable
from types import CodeType, SimpleNamespace
from typing import Any, TypeVar, cast

from bytecode import Instr, Label
from bytecode.instr import CellVar, Compare, FreeVar

PYTHON: tuple[int, int] = (sys.version_info[0], sys.version_info[1])
SUPPORTED: frozenset[tuple[int, int]] = frozenset({(3, 10), (3, 11), (3, 12), (3, 13)})
PY311 = PYTHON >= (3, 11)
PY312 = PYTHON >= (3, 12)
PY313 = PYTHON >= (3, 13)
SORT_TAKES_INTEGER = not PY312  # as `reverse`; the truth of anything, later

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


def qualified_name(code: CodeType) -> str:
    """`co_qualname`; before 3.11 a code object knows its plain name only."""
    return code.co_qualname if PY311 else code.co_name


def words_for_no_setter(cls: type, name: str) -> str:
    """What the interpreter says of a store to the property `name` of a `cls`, which has no setter."""
    return (
        f"property '{name}' of '{cls.__qualname__}' object has no setter" if PY311 else f"can't set attribute '{name}'"
    )


def words_for_no_place(shown: str, name: str) -> str:
    """What the interpreter says of a store to an attribute that neither a class, which is `shown` so, nor a `__dict__`
    has a place for."""
    return f"'{shown}' object has no attribute '{name}'" + " and no __dict__ for setting new attributes" * PY313


def words_for_nothing_deleted(cls: type, name: str) -> str:
    """What the interpreter says of deleting an attribute that the `__dict__` of a `cls` does not hold."""
    return f"'{cls.__name__}' object has no attribute '{name}'" if PY311 else name


def words_for_empty_slot(cls: type, name: str) -> str:
    """What the interpreter says of reading a slot of a `cls` that holds nothing."""
    named = cls.__name__
    if PY313:
        module: object = cls.__module__
        plain = not isinstance(module, str) or module in ("builtins", "__main__")
        named = cls.__qualname__ if plain else f"{module}.{cls.__qualname__}"
    return f"'{named}' object has no attribute '{name}'"


NULL_METHOD = "__lampwork_null__"
_holder = SimpleNamespace(**{NULL_METHOD: None})


def push_null() -> list[Instr]:
    """Push a NULL. 3.10 has no opcode for it, but a method load of what is no method leaves one below its result."""
    if PY311:
        return [Instr("PUSH_NULL")]
    return [Instr("LOAD_CONST", cast(Any, _holder)), Instr("LOAD_METHOD", NULL_METHOD), Instr("POP_TOP")]


def call_over_null() -> list[Instr]:
    """NULL, callable -> result of a call without arguments."""
    if not PY311:
        return [Instr("CALL_METHOD", 0)]
    turned = [Instr("SWAP", 2)] if PY313 else []
    return [*turned, *call_sequence(0, ())]


def before_callable() -> list[Instr]:
    """What goes below a callable on the stack."""
    return push_null() if PY311 and not PY313 else []


def after_callable() -> list[Instr]:
    """What goes above a callable, below its arguments."""
    return [Instr("PUSH_NULL")] if PY313 else []


_T = TypeVar("_T")


def beside_callable(function: _T, beside: _T) -> tuple[_T, _T]:
    """A callable and what stands beside it on the stack (NULL, or the receiver of a method), from the bottom."""
    return (function, beside) if PY313 else (beside, function)


def call_sequence(n_positional: int, keyword_names: tuple[str, ...]) -> list[Instr]:
    """Call what stands below `n_positional` values and one value for each keyword name."""
    n = n_positional + len(keyword_names)
    sequence: list[Instr] = []
    if not PY311:
        if not keyword_names:
            return [Instr("CALL_FUNCTION", n)]
        return [Instr("LOAD_CONST", cast(Any, keyword_names)), Instr("CALL_FUNCTION_KW", n)]
    if PY313 and keyword_names:
        return [Instr("LOAD_CONST", cast(Any, keyword_names)), Instr("CALL_KW", n)]
    if keyword_names:
        sequence.append(Instr("KW_NAMES", cast(Any, keyword_names)))
    if not PY312:
        sequence.append(Instr("PRECALL", n))
    sequence.append(Instr("CALL", n))
    return sequence


def make_function(code: CodeType, flags: int, qualified: str) -> list[Instr]:
    """(what `flags` ask for) -> a new function. From 3.11 the code itself knows its qualified name."""
    sequence = [Instr("LOAD_CONST", cast(Any, code))]
    if not PY311:
        sequence.append(Instr("LOAD_CONST", qualified))
    if not PY313:
        return [*sequence, Instr("MAKE_FUNCTION", flags)]
    attributes = [Instr("SET_FUNCTION_ATTRIBUTE", bit) for bit in (8, 4, 2, 1) if flags & bit]
    return [*sequence, Instr("MAKE_FUNCTION"), *attributes]


def load_closure(cell: CellVar | FreeVar) -> Instr:
    """Push the cell itself."""
    return Instr("LOAD_FAST" if PY313 else "LOAD_CLOSURE", cell)


def places_of_call(name: str, argument: int) -> int:
    """How many places of the stack a call instruction takes, the callable and what stands below it included."""
    if name == "CALL_FUNCTION_EX":
        return 2 + PY311 + (argument & 1)
    if name == "CALL_FUNCTION":
        return argument + 1
    return argument + (3 if name == "CALL_KW" else 2)


def call_with_tuple() -> Instr:
    """Call what stands below a tuple of its arguments."""
    return Instr("CALL_FUNCTION_EX", 0)


def load_global(name: str) -> Instr:
    """A global, without pushing NULL."""
    return Instr("LOAD_GLOBAL", (False, name)) if PY311 else Instr("LOAD_GLOBAL", name)


def copy_value(depth: int) -> list[Instr]:
    """Push a copy of the value at `depth` (1 is the top)."""
    if PY311:
        return [Instr("COPY", depth)]
    up = [_rotate(depth)] * (depth - 1)
    return [*up, Instr("DUP_TOP"), *([_rotate(depth + 1)] if depth > 1 else [])]


def swap_value(depth: int) -> list[Instr]:
    """Swap the top with the value at `depth`, at least 2."""
    if PY311:
        return [Instr("SWAP", depth)]
    return [_rotate(depth), *[_rotate(depth - 1)] * (depth - 2)]


_ROTATIONS = {2: "ROT_TWO", 3: "ROT_THREE", 4: "ROT_FOUR"}


def _rotate(depth: int) -> Instr:
    """The top goes down to `depth`, what was above that comes up by one."""
    name = _ROTATIONS.get(depth)
    return Instr(name) if name is not None else Instr("ROT_N", depth)


def rotation_depth(name: str, arg: int) -> int:
    """How many values a rotating opcode of 3.10 moves; 0 for any other."""
    if name == "ROT_N":
        return arg
    return next((depth for depth, rotation in _ROTATIONS.items() if rotation == name), 0)


def pushes_null(name: str, arg: int) -> bool:
    """Whether a LOAD_GLOBAL with this raw argument pushes NULL below the global."""
    return PY311 and name == "LOAD_GLOBAL" and arg & 1 == 1


def load_attribute(name: str) -> Instr:
    """`TOS.name`, not as a method."""
    return Instr("LOAD_ATTR", (False, name)) if PY312 else Instr("LOAD_ATTR", name)


def jump_always(label: Label) -> Instr:
    """An unconditional jump; the assembler corrects the direction."""
    return Instr("JUMP_FORWARD", label)


def to_bool() -> list[Instr]:
    """object -> what a jump may test: from 3.13 only True and False."""
    return [Instr("TO_BOOL")] if PY313 else []


def pop_jump(condition: str, label: Label) -> Instr:
    """`condition` is one of IF_TRUE, IF_FALSE, IF_NONE, IF_NOT_NONE; the assembler corrects the direction.

    The first two test what `to_bool` leaves. 3.10 has no test for None.
    """
    directed = PYTHON == (3, 11)
    return Instr(f"POP_JUMP_FORWARD_{condition}" if directed else f"POP_JUMP_{condition}", label)


def redirect(instruction: Instr, backward: bool) -> list[Instr | Label] | None:
    """A replacement for a jump that points the wrong way; None where it points as asked or may not be turned."""
    name = instruction.name
    target = instruction.arg
    assert isinstance(target, Label)
    location = instruction.location
    if not PY311:  # all other jumps are absolute
        return [Instr("JUMP_ABSOLUTE", target, location=location)] if name == "JUMP_FORWARD" and backward else None
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
    """COPY_FREE_VARS, MAKE_CELL and RESUME as the compiler orders them; nothing in 3.10."""
    sequence: list[Instr] = []
    if not PY311:
        return sequence  # cells are made with the frame
    if freevars:
        sequence.append(Instr("COPY_FREE_VARS", len(freevars)))
    sequence.extend(Instr("MAKE_CELL", CellVar(name)) for name in cellvars)
    sequence.append(Instr("RESUME", 0))
    return sequence


# 3.13 joins some pairs of instructions. They are read as the pairs that they stand for, here and by the interpreter.
JOINED = {
    "LOAD_FAST_LOAD_FAST": ("LOAD_FAST", "LOAD_FAST"),
    "STORE_FAST_LOAD_FAST": ("STORE_FAST", "LOAD_FAST"),
    "STORE_FAST_STORE_FAST": ("STORE_FAST", "STORE_FAST"),
}
_COMPARES_TO_BOOL = 16


def split_raw(name: str, arg: int) -> list[tuple[str, int]]:
    """The instructions that one instruction of a code object stands for, with their arguments."""
    if PY313:
        if name in JOINED:
            first, second = JOINED[name]
            return [(first, arg >> 4), (second, arg & 15)]
        if name == "COMPARE_OP" and arg & _COMPARES_TO_BOOL:
            return [(name, arg & ~_COMPARES_TO_BOOL), ("TO_BOOL", 0)]
    return [(name, arg)]


def plain(instruction: Instr, cellvars: Container[str]) -> list[Instr]:
    """`split_raw` of an editable instruction; one that moves a cell itself (LOAD_FAST in 3.13) then names a cell."""
    if not PY313:
        return [instruction]
    name, arg, location = instruction.name, cast(Any, instruction.arg), instruction.location
    if name == "COMPARE_OP" and arg & _COMPARES_TO_BOOL:
        compare = Instr(name, Compare(arg & ~_COMPARES_TO_BOOL), location=location)
        return [compare, Instr("TO_BOOL", location=location)]
    if not name.endswith(_LOCAL_SUFFIXES):
        return [instruction]
    names = JOINED.get(name, (name,))
    operands = arg if name in JOINED else (arg,)
    cells = [CellVar(operand) if operand in cellvars else operand for operand in operands]
    return [Instr(part, operand, location=location) for part, operand in zip(names, cells)]


_LOCAL_SUFFIXES = ("_FAST", "_FAST_CHECK", "_FAST_AND_CLEAR")


def local_names(code: CodeType) -> tuple[str, ...]:
    """`co_varnames`, where a variable of an inlined comprehension that has the name of a free variable gets another."""
    if not set(code.co_varnames).intersection(code.co_freevars):
        return code.co_varnames
    return tuple(f".{name}" if name in code.co_freevars else name for name in code.co_varnames)


def make_cells(names: Iterable[str]) -> list[Instr]:
    """What gives locals a cell each, at the start of a function."""
    return [Instr("MAKE_CELL", CellVar(name)) for name in names] if PY311 else []


_THROUGH_CELL = {
    "LOAD_FAST": "LOAD_DEREF",
    "LOAD_FAST_CHECK": "LOAD_DEREF",
    "STORE_FAST": "STORE_DEREF",
    "DELETE_FAST": "DELETE_DEREF",
}


def through_cell(instruction: Instr, cell: CellVar | FreeVar) -> Instr:
    """The access to a plain local made one to the same local in a cell."""
    return Instr(_THROUGH_CELL[instruction.name], cell, location=instruction.location)


def stack_effect(instruction: Instr, jump: bool | None) -> int:
    """Net values pushed. A resumed generator finds the value sent to it, which `dis` does not count."""
    if instruction.name == "RETURN_GENERATOR":
        return 1
    if instruction.name == "GEN_START":  # takes the value that a generator of 3.10 finds on its stack at first
        return 0
    return instruction.stack_effect(jump=jump)
