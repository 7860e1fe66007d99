"""Frames that are never traced: generators and coroutines, code that is no function, code that looks at its own frame.

`convert_frame` asks first of all. Invariant: a frame that is refused runs natively, as if nothing had been installed.
"""

from __future__ import annotations

from types import CodeType

from ..graph_break import BreakId, SkipFrame
from .instructions import decode

GENERATOR = 0x20
NOT_PLAIN = 0x80 | 0x100 | 0x200  # coroutine, iterable coroutine, async generator
_FRAMES = frozenset({"_getframe", "currentframe", "walk_stack", "tb_frame", "f_back"})  # attributes that give frames
_LOOKS_AT_FRAMES = frozenset({"locals", "vars", "dir", "eval", "exec", *_FRAMES})


def refuse_frame(code: CodeType) -> None:
    """Raise SkipFrame for frames that are never traced."""
    if code.co_flags & (GENERATOR | NOT_PLAIN):
        raise SkipFrame(BreakId.GENERATOR_FRAME, f"`{code.co_name}` is a generator or coroutine")
    if not code.co_flags & 0x02:  # CO_NEWLOCALS
        raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"`{code.co_name}` is no function")
    if looks_at_its_frame(code):
        raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"`{code.co_name}` looks at its own frame")
    if _unbinds_cells(code):
        raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"`{code.co_name}` unbinds variables through their cells")


def looks_at_callers(code: CodeType) -> bool:
    """Whether it asks for the stack of frames: those of its callers must then be as in eager, arguments included."""
    return not _FRAMES.isdisjoint(code.co_names)


def looks_at_its_frame(code: CodeType) -> bool:
    """Whether it uses what shows all locals of the running frame, of which a break keeps only those still needed."""
    if not _LOOKS_AT_FRAMES.intersection(code.co_names):
        return False
    instructions = decode(code).instructions
    for instruction in instructions:
        if not isinstance(instruction.value, str) or instruction.value not in _LOOKS_AT_FRAMES:
            continue
        if instruction.name in ("LOAD_ATTR", "LOAD_METHOD"):
            if instruction.value in _FRAMES:
                return True
        elif instruction.name == "LOAD_GLOBAL":
            if instruction.value not in ("vars", "dir"):
                return True
            following = [i for i in instructions[instruction.index + 1 : instruction.index + 3] if i.name != "PRECALL"]
            if following and following[0].name in ("CALL", "CALL_FUNCTION") and following[0].arg == 0:
                return True
    return False


def _unbinds_cells(code: CodeType) -> bool:
    """Whether it deletes contents of cells, perhaps its own: what runs after a break has those as free variables, of
    which an error tells."""
    if "cell_contents" not in code.co_names:
        return False
    return any(i.name == "DELETE_ATTR" and i.value == "cell_contents" for i in decode(code).instructions)
