"""Shape symbols: what a symbol of a ShapeEnv stands for.

A backed symbol is a size, stride, offset or integer of an input; the value that it had while the program was captured
is its hint. An unbacked symbol is a value that only the run time knows (`item()`, `nonzero`) and has no hint.
Invariant: a symbol's bounds are part of what must be checked before a compiled program may run.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .expr import Symbol

BACKED_PREFIX = "s"
UNBACKED_PREFIX = "u"


class SymbolKind(enum.Enum):
    """Whether a value was known while the program was captured."""

    BACKED = "backed"
    UNBACKED = "unbacked"


@dataclass(frozen=True, slots=True)
class UserFrame:
    """A line of the user's program."""

    filename: str
    line: int
    function: str
    text: str = ""

    def __str__(self) -> str:
        where = f"{self.filename}:{self.line} in {self.function}"
        return f"{where}: {self.text}" if self.text else where


@dataclass(frozen=True, slots=True)
class ShapeSymbol:
    """A symbol with its origin. `origin` names it for people (`x.size(0)`); `frame` is where it was made."""

    symbol: Symbol
    kind: SymbolKind
    hint: int | None
    origin: str
    frame: UserFrame | None = None
