"""Graph breaks: why tracing stopped, as data with a stable id, the user's line, and what to change.

The tracer raises `GraphBreak` where it meets what it does not model; `convert_frame` turns it into a partial graph, the
real instruction and a resume function, or into a skipped frame. Invariant: ids are stable across releases, never
reused, and each has a page in the docs (docs/graph-breaks.md).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from .guards.facts import UserLine


class BreakId(enum.Enum):
    """Stable ids: (code, title, hint). Codes below 100 are breaks; from 100 on the whole frame is skipped."""

    NOT_A_CONSTANT = (
        "LW001",
        "value needed while tracing",
        "Pass the value as a Python constant, or move the use out.",
    )
    NOT_A_GRAPH_ARGUMENT = ("LW002", "object passed to torch", "Pass tensors, numbers or containers of them.")
    CALL_NOT_MODELLED = (
        "LW003",
        "call of an unknown callable",
        "Move the call out of the compiled function, or mark it with `substitute_in_graph`.",
    )
    ATTRIBUTE_NOT_MODELLED = ("LW004", "attribute not modelled", "Read the attribute outside and pass the value in.")
    MUTATION_NOT_MODELLED = ("LW005", "mutation not modelled", "Mutate the object outside the compiled function.")
    TRUTH_NOT_MODELLED = ("LW006", "truth of an object", "Compare explicitly (`is None`, `len(x) > 0`).")
    ITERATION_NOT_MODELLED = (
        "LW007",
        "iteration not modelled",
        "Turn the iterable into a list before the compiled function.",
    )
    RECONSTRUCTION_NOT_MODELLED = ("LW008", "object cannot be rebuilt", "Return tensors and plain containers.")
    DATA_DEPENDENT_BRANCH = (
        "LW009",
        "branch on tensor data",
        "Use `torch.where`, or `torch.cond`; or keep the branch outside.",
    )
    DATA_DEPENDENT_VALUE = (
        "LW010",
        "Python value from tensor data",
        "Keep it a tensor; call `.item()` outside the compiled function.",
    )
    OPCODE_NOT_MODELLED = (
        "LW011",
        "bytecode not modelled",
        "Rewrite the construct, or move it out of the compiled function.",
    )
    OUTPUT_TO_WORLD = ("LW012", "input or output", "Print and log outside the compiled function.")
    FAKE_TENSOR_FAILED = (
        "LW013",
        "operation without a fake implementation",
        "Register one with `torch.library.register_fake`.",
    )
    REQUESTED = ("LW014", "graph break requested", "Remove the call of `graph_break()`.")
    DISABLED = ("LW015", "function is disabled", "Remove `disable` if the function can be traced.")
    EXTENSION_CALL = ("LW016", "call into an extension module", "Wrap it with `torch.library.custom_op`.")
    TENSOR_KIND = ("LW017", "tensor subclass or layout not modelled", "Convert to a plain strided tensor first.")
    CONTEXT_NOT_MODELLED = ("LW018", "context manager not modelled", "Enter the context outside the compiled function.")
    GENERIC_OBJECT = ("LW019", "object not modelled", "Pass plain containers, dataclasses or modules.")
    EXCEPTION_NOT_MODELLED = (
        "LW020",
        "exception handling not modelled",
        "Raise and catch outside the compiled function.",
    )
    SIDE_EFFECT_ORDER = ("LW021", "side effect whose order matters", "Move the side effect to the end of the function.")
    GENERATOR_FRAME = ("LW100", "generator or coroutine frame", "Compile the functions it calls instead.")
    NO_TENSOR_WORK = ("LW101", "frame without tensor work", "Nothing to do: it runs as plain Python.")
    SKIP_POLICY = ("LW102", "code of a skipped module", "Nothing to do: such code is not the user's.")
    RECOMPILE_LIMIT = (
        "LW103",
        "recompiled too often",
        "See the cause: keep what varies out of the compiled function, or make it a tensor; pad or bucket sizes.",
    )
    INTERNAL_ERROR = ("LW104", "error inside Lampwork", "Please report it with the message; the frame ran eagerly.")
    FRAME_NOT_MODELLED = ("LW105", "frame not modelled", "Move the construct into a function that is not compiled.")

    @property
    def code(self) -> str:
        return self.value[0]

    @property
    def title(self) -> str:
        return self.value[1]

    @property
    def hint(self) -> str:
        return self.value[2]


class GraphBreak(Exception):
    """Raised by the tracer at a construct it does not model. `user_line` is filled in by the interpreter.

    `breaks_in_root`: the instruction of the frame itself runs natively, however deep in its calls this is raised."""

    def __init__(self, break_id: BreakId, cause: str, *, hint: str | None = None, breaks_in_root: bool = False) -> None:
        super().__init__(f"{break_id.code}: {cause}")
        self.break_id = break_id
        self.cause = cause
        self.hint = hint or break_id.hint
        self.breaks_in_root = breaks_in_root
        self.user_line: UserLine | None = None
        self.stack: tuple[UserLine, ...] = ()  # the user's lines, outermost first
        self.raised_value: Any = None  # an exception that was raised and cannot be rebuilt: break where it was raised

    def forget_frames(self) -> None:
        """Drop the tracebacks of the error and of its causes: their frames hold the tracer, the program's objects and
        the error itself. What was being handled is only let go of: it may be the program's own exception."""
        error: BaseException | None = self
        while error is not None and error.__traceback__ is not None:  # causes may be a circle
            error.__traceback__ = error.__context__ = None
            error = error.__cause__


class ShapeOfDataBreak(GraphBreak):
    """A shape that depends on the data of a tensor cannot be described, or decides what Python does."""

    def __init__(
        self, cause: str, break_id: BreakId = BreakId.DATA_DEPENDENT_VALUE, *, hint: str | None = None
    ) -> None:
        super().__init__(break_id, cause, hint=hint)


class SkipFrame(Exception):
    """Raised when the frame shall run as plain Python from the start."""

    def __init__(self, break_id: BreakId, cause: str) -> None:
        super().__init__(f"{break_id.code}: {cause}")
        self.break_id = break_id
        self.cause = cause


@dataclass(frozen=True, slots=True)
class BreakRecord:
    """One break or skip of one frame, as `explain` shows it."""

    break_id: BreakId
    cause: str
    hint: str
    user_line: UserLine | None
    stack: tuple[UserLine, ...] = ()
