"""Recompilations: calls that no cache entry fitted, why each entry failed, and when a cause has come up too often.

The code cache notes one for each miss; `explain` and the warning at the limit show it. The limit counts by cause (the
guard that failed, about which source) the values that there are entries for: a string that is never the same twice does
not use up what a second dtype needs. Invariant: it is data, in words; nothing of the user's is kept alive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .guards.facts import (
    ConstantIs,
    DictContains,
    DictKeysAre,
    Fact,
    IdentityIs,
    LengthIs,
    ScalarIs,
    TensorMatches,
    UserLine,
)
from .guards.reason import Failure

ALL_CAUSES = 4  # times the limit: that many entries of one code object, whatever their causes


@dataclass(frozen=True, slots=True)
class FailedGuard:
    """The guard of one entry that did not hold: about what, the value that the entry was made for, and the one now."""

    kind: str
    source: str
    then: str
    now: str
    words: str
    hint: str
    user_line: UserLine | None
    operation: str = ""  # on tensors, that needed it; empty: Python itself

    @property
    def cause(self) -> tuple[str, str]:
        """What counts as the same cause: the kind of guard, and what it is about."""
        return self.kind, self.source


@dataclass(frozen=True, slots=True)
class Recompilation:
    """A call that no entry fitted, although there were some: why each one failed, the one used last first."""

    place: UserLine
    failed: tuple[FailedGuard, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why each entry failed, in words."""
        return tuple(guard.words for guard in self.failed)

    @property
    def commonest(self) -> tuple[FailedGuard | None, int]:
        """The cause with the most values that entries were made for, and how many these are."""
        values: dict[tuple[str, str], set[object]] = {}
        for number, guard in enumerate(self.failed):
            told_apart = guard.then and guard.kind != IdentityIs.__name__
            values.setdefault(guard.cause, set()).add(guard.then if told_apart else number)
        if not values:
            return None, 0
        cause = max(values, key=lambda cause: len(values[cause]))
        return next(guard for guard in self.failed if guard.cause == cause), len(values[cause])


def recompilation(place: UserLine, failures: Iterable[Failure]) -> Recompilation:
    """The data of a miss."""
    return Recompilation(place, tuple(_failed(failure) for failure in failures))


def _failed(failure: Failure) -> FailedGuard:
    fact = failure.guard.fact
    return FailedGuard(
        type(fact).__name__,
        str(fact.source),
        failure.then,
        failure.now,
        str(failure),
        _hint(fact),
        failure.guard.user_line,
        failure.guard.operation,
    )


def _hint(fact: Fact) -> str:
    """What to change in the program, for a cause that keeps coming up."""
    name = f"`{fact.source}`"
    match fact:
        case ConstantIs(_, expected) if type(expected.value) is str:
            return f"Choose what depends on the string {name} outside the compiled function, and pass that."
        case ConstantIs(_, expected) if type(expected.value) in (int, float):
            return f"The program needs the very value of {name} (an index, a loop count, a key): make it a tensor."
        case ScalarIs():
            return f"What is asked about {name} has a new answer in each call: ask it outside the compiled function."
        case ConstantIs():
            return f"Pass the same {name} in every call, or a tensor."
        case IdentityIs():
            return f"Another object is {name} in each call: make it once, outside of the loop that calls."
        case TensorMatches():
            return f"{name} keeps changing its rank, dtype, layout or a size that is static: pass it alike, or pad it."
        case LengthIs() | DictKeysAre() | DictContains():
            return f"Keep the length and keys of {name} the same, or stack its tensors into one."
        case _:
            return f"Keep {name} of one type and structure."


def is_too_often(found: Recompilation | None, entries: int, limit: int) -> bool:
    """Whether a code object shall not be captured again: one cause has `limit` values, or there are too many."""
    if found is None:
        return entries >= limit
    return found.commonest[1] >= limit or entries >= ALL_CAUSES * limit
