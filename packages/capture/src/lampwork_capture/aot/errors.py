"""The one error of this stage: a graph that cannot be made functional, with the operator, the line and a hint.

Raised while tracing; `aot_backend` turns it into eager execution of the captured graph with one warning, or lets it
through under LAMPWORK_STRICT=1. Invariant: nothing of the user's state has changed when it is raised.
"""

from __future__ import annotations

from ..graph_backend import GraphRefused


class UnsupportedForAot(GraphRefused):
    """A graph holds something that has no functional form here.

    `reason` says what, `operator` names the operator if there is one, `user_line` is the line of the user's program
    (anything printable, or None), `hint` says what to change.
    """

    def __init__(
        self, reason: str, *, operator: str | None = None, user_line: object | None = None, hint: str | None = None
    ) -> None:
        self.reason = reason
        self.operator = operator
        self.user_line = user_line
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.reason]
        if self.operator is not None:
            parts.append(f"operator: {self.operator}")
        if self.user_line is not None:
            parts.append(f"at: {self.user_line}")
        if self.hint is not None:
            parts.append(f"hint: {self.hint}")
        return "\n  ".join(parts)


class Misdescribed(UnsupportedForAot):
    """The graph holds an operator whose result fake tensors describe wrongly: the capture itself may be wrong.

    Never turned into a run of the captured graph: the program must run as it is written.
    """


class RanEagerlyWarning(UserWarning):
    """A captured graph runs eagerly because it could not be compiled; the message says why and where."""
