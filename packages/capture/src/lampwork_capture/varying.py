"""Varying numbers: the sources of a code object whose ints or floats were seen with a second value.

The frame callback notes them when no cache entry fits; the next trace of that code takes them as inputs. Invariants: a
set that was handed out never changes; only `add` and `forget` write, and a reader sees the old set or the new one;
nothing is kept of a code object that is gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from types import CodeType

from .guards.exact import same_constant
from .guards.facts import ConstantIs, GuardSet, TypeIs
from .source import FrameScope, Source

_NOTHING: frozenset[Source] = frozenset()


class VaryingNumbers:
    """By code object, the sources whose numbers vary."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[weakref.ref[CodeType], frozenset[Source]]] = {}

    def of(self, code: CodeType) -> frozenset[Source]:
        """The sources of a code object that are known to vary."""
        known = self._of.get(id(code))
        return known[1] if known is not None and known[0]() is code else _NOTHING

    def add(self, code: CodeType, sources: Iterable[Source]) -> None:
        """Note that the numbers at these sources vary."""
        found = self.of(code) | frozenset(sources)
        if found:
            key = id(code)

            def forget(_: object, known: dict[int, tuple[weakref.ref[CodeType], frozenset[Source]]] = self._of) -> None:
                known.pop(key, None)

            self._of[key] = (weakref.ref(code, forget), found)

    def forget(self, code: CodeType) -> None:
        """The code object is captured anew."""
        self._of.pop(id(code), None)


def _is_read_alike(
    source: Source | None, kinds: Mapping[Source, type], known: dict[Source, bool], scope: FrameScope
) -> bool:
    """Whether what stands at a source, and at those that it is read from, is of the classes that it was guarded to be
    of: reading from an object of another class may run code of the program."""
    if source is None:
        return True
    if source not in known:
        known[source] = _is_read_alike(source.parent, kinds, known, scope)
        if known[source] and source in kinds:
            try:
                known[source] = type(source.resolve(scope)) is kinds[source]
            except Exception:
                known[source] = False
    return known[source]


def changed_numbers(guards: GuardSet, scope: FrameScope) -> list[Source]:
    """The sources that were guarded to be one number and are another one of the same type in this call."""
    found: list[Source] = []
    known: dict[Source, bool] = {}
    kinds = {guard.fact.source: guard.fact.expected for guard in guards if isinstance(guard.fact, TypeIs)}
    for guard in guards:
        fact = guard.fact
        if not isinstance(fact, ConstantIs) or type(fact.expected.value) not in (int, float):
            continue
        if not _is_read_alike(fact.source.parent, kinds, known, scope):
            continue
        try:
            value = fact.source.resolve(scope)
        except Exception:
            continue
        if type(value) is type(fact.expected.value) and not same_constant(value, fact.expected.value):
            found.append(fact.source)
    return found
