"""Dimension policy: which sizes of an input become symbols.

Consulted by capture once for each input tensor before its symbols are made. Static: a literal. Automatic: a literal the
first time and a symbol once a second value was seen. Marked: what the user said wins.
Invariant: the decision depends only on the arguments and on what the history was shown.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


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
    lower: int = 2
    upper: int | None = None


@dataclass(slots=True)
class DimHistory:
    """The sizes that each input had so far; a dimension that varied once is symbolic from then on.

    Keys are whatever names an input between calls: the text of its source.
    """

    _sizes: dict[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    _varied: dict[str, frozenset[int]] = field(default_factory=dict[str, frozenset[int]])

    def observe(self, key: str, sizes: Sequence[int]) -> None:
        """Note the sizes of one call. Inputs whose rank changes start anew."""
        before = self._sizes.get(key)
        if before is not None and len(before) == len(sizes):
            changed = frozenset(d for d, (old, new) in enumerate(zip(before, sizes)) if old != new)
            self._varied[key] = self._varied.get(key, frozenset()) | changed
        else:
            self._varied.pop(key, None)
        self._sizes[key] = tuple(sizes)

    def varied(self, key: str) -> frozenset[int]:
        """The dimensions of this input that had more than one size."""
        return self._varied.get(key, frozenset())


def decide_dims(
    sizes: Sequence[int],
    *,
    dynamic: bool | None = False,
    marks: Mapping[int, DimMark] | None = None,
    varied: frozenset[int] = frozenset(),
) -> tuple[DimDecision, ...]:
    """One decision a dimension.

    `dynamic` False: all static but for marks; None: those that varied; True: all. Sizes 0 and 1 stay literals unless
    they are marked, for broadcasting and contiguity depend on them. A dynamic mark accepts 1 only if it says so.
    """
    known = marks or {}
    decisions: list[DimDecision] = []
    for dim, size in enumerate(sizes):
        mark = known.get(dim)
        if mark is not None:
            lower = 2 if mark.lower is None else mark.lower
            inside = lower <= size and (mark.upper is None or size <= mark.upper)
            decisions.append(DimDecision(DimPolicy.MARKED, mark.dynamic and inside, lower, mark.upper))
        elif dynamic or (dynamic is None and dim in varied):
            decisions.append(DimDecision(DimPolicy.AUTOMATIC, size >= 2))
        else:
            decisions.append(DimDecision(DimPolicy.STATIC, False))
    return tuple(decisions)
