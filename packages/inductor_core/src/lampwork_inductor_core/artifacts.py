"""Artifacts: every stage of a compile kept as text, when somebody asks.

`compile_graph` hands each stage's result here; nothing is printed unless it is kept. Invariant: collecting text never
changes a stage's result.
"""

from __future__ import annotations

from collections.abc import Callable

from .runtime.compiled_graph import Artifacts


class Recorder:
    """Keeps the text of stages; a recorder that is off does not even make it."""

    def __init__(self, on: bool) -> None:
        self.artifacts = Artifacts() if on else None

    def keep(self, stage: str, text: Callable[[], str]) -> None:
        """Keep a stage's text under its name."""
        if self.artifacts is not None:
            self.artifacts.stages[stage] = text()
