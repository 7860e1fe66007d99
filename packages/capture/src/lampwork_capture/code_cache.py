"""The code cache, from Python: making entries, saying why none fitted, and when to stop compiling a code object.

The cache itself is native (csrc/code_cache.c) and hangs on the code object; the frame callback comes here on a miss.
Invariants: an entry is only made of guards that hold for the call they were made in; nothing kept here keeps a user's
module, tensor or code object alive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from . import _native
from .bytecode.assemble import argument_slots
from .bytecode.version import qualified_name
from .guards.facts import GuardSet, UserLine
from .guards.reason import Failure, first_failure, weakened
from .guards.tree import NOTHING_HANDED, Handed, Stamps, build_tree
from .recompilation import Recompilation, is_too_often, recompilation
from .source import FrameScope
from .varying import VaryingNumbers

DEFAULT_RECOMPILE_LIMIT = 8
_REMEMBERED = 64  # recompilations whose reasons are kept


class GuardsDoNotHoldError(Exception):
    """A fresh guard set fails in the very call that it was recorded in.

    Another thread changed something meanwhile, or code of the user's that ran on fake tensors did; or this is a defect
    of the tracer or of the guard tree."""

    def __init__(self, code: CodeType, reason: str) -> None:
        super().__init__(f"the guards of `{qualified_name(code)}` do not hold where they were made: {reason}")


@dataclass(frozen=True, slots=True)
class EntryPayload:
    """What an entry carries for people: its guards (weakly held) and whatever the converter wants back."""

    guards: GuardSet
    extra: Any = None
    number: int = 0  # of the entries that its owner made


@dataclass(slots=True)
class CodeCache:
    """Makes entries for one owner, counts, and enforces the limit of entries per code object and cause."""

    limit: int = DEFAULT_RECOMPILE_LIMIT
    verify: bool = False
    compiled: int = 0
    refused: int = 0  # frames that ran natively because of the limit
    varying: VaryingNumbers = field(default_factory=VaryingNumbers)
    recompilations: deque[Recompilation] = field(default_factory=lambda: deque[Recompilation](maxlen=_REMEMBERED))

    def note_miss(self, view: _native.FrameView, entries: Sequence[_native.CacheEntry]) -> Recompilation | None:
        """Record why the entries did not fit; None on a first compilation."""
        scope = scope_of(view)
        self._note_numbers(view.code, entries, scope)
        if not any(not entry.is_skip for entry in entries):
            return None
        place = UserLine(view.code.co_filename, view.code.co_firstlineno, qualified_name(view.code))
        failures = [failure for entry in entries if (failure := failure_of(entry, scope)) is not None]
        found = recompilation(place, failures)
        self.recompilations.append(found)
        return found

    def _note_numbers(self, code: CodeType, entries: Sequence[_native.CacheEntry], scope: FrameScope) -> None:
        """Remember which numbers differ from those that the entries were made for."""
        if not entries:
            self.varying.begin(code)
            return
        payloads = [entry.payload for entry in entries if isinstance(entry.payload, EntryPayload)]
        made = [(payload.number, payload.guards) for payload in payloads]
        self.varying.note(code, made, self.compiled + 1, scope)

    def is_over_limit(self, entries: Sequence[_native.CacheEntry], found: Recompilation | None = None) -> bool:
        """Whether a code object with these entries shall not be compiled again; then return `_native.SKIP`.

        `found` is what `note_miss` gave."""
        over = is_too_often(found, len(entries), self.limit)
        self.refused += over
        return over

    def make_entry(
        self,
        view: _native.FrameView,
        guards: GuardSet,
        replacement: CodeType | None,
        extra: Any = None,
        handed: Handed = NOTHING_HANDED,
    ) -> _native.CacheEntry:
        """An entry for the frame that `view` shows; without replacement code, calls like this one run natively.

        `extra` must not hold `view.code` (it would never be freed). `handed`: what the guard check hands to the
        replacement as its last argument.

        Raises UnsupportedGuardError, or GuardsDoNotHoldError.
        """
        tree = build_tree(guards, view.code, handed, Stamps.VERIFIED if self.verify else Stamps.WHERE_LARGE)
        if not holds_for(tree, view):
            failure = first_failure(guards, scope_of(view))
            raise GuardsDoNotHoldError(view.code, _disagreement(guards, view) if failure is None else str(failure))
        self.compiled += 1
        return _native.CacheEntry(tree, replacement, EntryPayload(weakened(guards), extra, self.compiled))


def scope_of(view: _native.FrameView) -> FrameScope:
    """What sources of the frame start from."""
    return FrameScope(view.local_values, view.cells, view.global_values, view.builtin_values)


def holds_for(tree: _native.GuardTree, view: _native.FrameView) -> bool:
    """Whether a native tree holds for a frame that is about to run."""
    names = view.code.co_varnames[: argument_slots(view.code)]
    slots = tuple(view.local_values[name] for name in names)
    closure = tuple(view.cells[name] for name in view.code.co_freevars)
    return tree.check(slots, closure or None, view.global_values, view.builtin_values)


def fits_another(view: _native.FrameView, known: Sequence[_native.CacheEntry], owner: object) -> bool:
    """Whether an entry that is not among the `known` ones fits the frame: another thread made it meanwhile."""
    made = [e for e in _native.entries(view.code, owner) if not any(e is k for k in known)]
    return any(entry.guards is not None and holds_for(entry.guards, view) for entry in made)


def failure_of(entry: _native.CacheEntry, scope: FrameScope) -> Failure | None:
    """The guard of an entry that does not hold in a call; None if all do, or if the entry has no guards."""
    payload = entry.payload
    return first_failure(payload.guards, scope) if isinstance(payload, EntryPayload) else None


def _disagreement(guards: GuardSet, view: _native.FrameView) -> str:
    """Which guards the native tree rejects although the reference check accepts them."""
    rejected = [
        f"{type(guard.fact).__name__} of `{guard.fact.source}`"
        for guard in guards
        if not holds_for(build_tree(GuardSet((guard,)), view.code), view)
    ]
    return "the native check rejects " + (", ".join(rejected) or "the combination of all")


def reset_all() -> None:
    """Forget every entry and skip of every code object, for all owners."""
    for code in _native.cached_codes():
        _native.reset(code)
