"""CapturedFrame: everything that converting one frame made, kept as data for `explain` and for saving.

Invariant: a record does not keep the user's arguments alive; graphs, guards and code are immutable once recorded.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import CodeType

from .graph.traced_graph import TracedGraph
from .graph_break import BreakRecord
from .guards.facts import GuardSet
from .guards.tree import NOTHING_HANDED, Handed


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One conversion: a graph or none, the break that ended it or none, and the code before and after."""

    function: str
    code: CodeType
    replacement: CodeType | None  # None: skipped
    graph: TracedGraph | None
    guards: GuardSet
    graph_break: BreakRecord | None  # where tracing stopped; for a skipped frame why
    resumes: tuple[CodeType, ...] = ()
    native_instructions: int = 0  # of the user's, that run as plain Python at the break
    caller: CodeType | None = None  # the nearest recorded frame (its new code, or its own) that was running
    handed: Handed = NOTHING_HANDED  # by the guard check to the replacement

    @property
    def is_skipped(self) -> bool:
        return self.replacement is None
