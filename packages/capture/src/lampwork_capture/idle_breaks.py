"""Idle breaks: functions in which traces without tensor work keep breaking.

Each break in an inlined call costs a continuation and a resume function for every frame on the way. Where nothing of
it is for a graph, the call had better run natively: what it calls is looked at by itself. `convert_frame` notes the
breaks, the tracer asks before it inlines. Invariant: a trace that has recorded a tensor operation is never affected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from types import CodeType

from .bytecode.version import qualified_name

_MOST = 6  # breaks in a function, in all its parts, before its calls run natively


class IdleBreaks:
    """How often traces without tensor work broke inside calls of a function; its resume functions count as it."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, int, str]] = Counter()

    def note(self, codes: Iterable[CodeType]) -> None:
        """A trace broke with calls of these codes open."""
        self._counts.update({_key(code) for code in codes})

    def runs_natively(self, code: CodeType) -> bool:
        """Whether calls of a code are not worth tracing as long as there is no tensor work."""
        return self._counts[_key(code)] >= _MOST


def _key(code: CodeType) -> tuple[str, int, str]:
    return code.co_filename, code.co_firstlineno, qualified_name(code)
