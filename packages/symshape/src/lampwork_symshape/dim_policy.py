"""Dimension policy: which sizes of an input become symbols.

Consulted by capture once for each input tensor before its symbols are made. Static: a literal. Automatic: a literal the
first time and a symbol once a second value was seen. Marked: what the user said wins.
Invariant: the decision depends only on the arguments.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_SIZE = 1  # of a symbol, unless a mark says otherwise: without elements a tensor's layout follows other rules


class DimPolicy(enum.Enum):
    """What becomes of one dimension."""

    STATIC = "static"
    AUTOMATIC = "automatic"
    MARKED = "marked"


@dataclass(frozen=True, slots=True)
class DimMark:
    """What a user said about one dimension: static, or dynamic within inclusive bounds."""

    dynamic: bool
    lower: int | None = None
    upper: int | None = None


@dataclass(frozen=True, slots=True)
class DimDecision:
    """What to do with one dimension: a symbol in [lower, upper], or a literal."""

    policy: DimPolicy
    symbolic: bool
    lower: int = LEAST_SIZE
    upper: int | None = None


def decide_dims(
    sizes: Sequence[int],
    *,
    dynamic: bool | None = False,
    marks: Mapping[int, DimMark] | None = None,
    varied: frozenset[int] = frozenset(),
) -> tuple[DimDecision, ...]:
    """One decision a dimension.

    `dynamic` False: all static but for marks; None: those that varied; True: all. `sizes` are hints: sizes 0 and 1 stay
    literals unless they are marked, since a program that meets them broadcasts, where for others it does not. Symbols
    of larger hints may be 1 all the same: what depends on that becomes a fact.
    """
    known = marks or {}
    decisions: list[DimDecision] = []
    for dim, size in enumerate(sizes):
        mark = known.get(dim)
        if mark is not None:
            lower = LEAST_SIZE if mark.lower is None else mark.lower
            inside = lower <= size and (mark.upper is None or size <= mark.upper)
            decisions.append(DimDecision(DimPolicy.MARKED, mark.dynamic and inside, lower, mark.upper))
        elif dynamic or (dynamic is None and dim in varied):
            decisions.append(DimDecision(DimPolicy.AUTOMATIC, size >= 2))
        else:
            decisions.append(DimDecision(DimPolicy.STATIC, False))
    return tuple(decisions)
