"""Errors that reach the user: one class each, with the user's line and a hint.

They are raised only where the user asked for it, `fullgraph=True` or `LAMPWORK_STRICT=1`, and where a result would be
wrong. Invariant: the message names the user's line first, then what to change.
"""

from __future__ import annotations

from .graph_break import BreakRecord
from .guards.facts import UserLine
from .specialized_size import SpecializedSize

REPORT = "Please report it with this message; set LAMPWORK_STRICT=1 to see the whole error."


class CaptureError(RuntimeError):
    """Something failed inside Lampwork. `user_line` is what was being traced."""

    def __init__(self, problem: str, user_line: UserLine | None, hint: str) -> None:
        where = f"\n  {user_line}" if user_line is not None else ""
        super().__init__(f"{problem}{where}\n  hint: {hint}")
        self.user_line = user_line
        self.hint = hint


class GraphBreakError(CaptureError):
    """A graph break under `fullgraph=True`."""

    def __init__(self, record: BreakRecord) -> None:
        stack = "".join(f"\n    {line}" for line in record.stack[:-1])
        super().__init__(
            f"{record.break_id.code} ({record.break_id.title}): {record.cause}{stack}", record.user_line, record.hint
        )
        self.record = record


class BackendError(CaptureError):
    """The graph backend raised while it compiled a graph."""

    def __init__(self, backend: str, error: BaseException, user_line: UserLine | None) -> None:
        super().__init__(
            f"the backend `{backend}` raised {type(error).__name__}: {error}",
            user_line,
            'Try backend="eager" to see whether the captured graph itself is right.',
        )


class SpecializedDimensionError(CaptureError):
    """A dimension that was marked dynamic, in a program that works for one size of it only."""

    def __init__(self, found: SpecializedSize) -> None:
        shown = "" if found.user_line is None or not found.user_line.text else f": `{found.user_line.text}`"
        super().__init__(
            f"`{found.dimension}` is marked as dynamic, but {found.fate}{shown}", found.user_line, found.hint
        )
        self.found = found


class ChangedBeforeBackwardError(CaptureError):
    """What a `backward` reads was replaced between the forward pass that was captured and the backward pass."""

    def __init__(self, name: str, user_line: UserLine) -> None:
        super().__init__(
            f"`{name}` was changed between the forward pass and the backward pass that reads it",
            user_line,
            "Read it in `forward` and keep it in `ctx`.",
        )


class CaptureWarning(UserWarning):
    """A frame runs eagerly though it was to be optimized."""
