"""CodeMap: what is known of code objects, by identity, for as long as each lives.

Used wherever something is made once for a code object, or noted of it. A dict with weak keys would hash and compare
code objects, which reads their constants: those may not be hashable, and equal code may stand in different places.
Invariant: an entry is found for the very code object it was made for, and is gone when that is.
"""

from __future__ import annotations

import weakref
from types import CodeType
from typing import Generic, TypeVar

V = TypeVar("V")
D = TypeVar("D")


class CodeMap(Generic[V]):
    """Values by code object. Each operation is one of a dict, so threads need no lock."""

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[int, tuple[weakref.ref[CodeType], V]] = {}

    def __contains__(self, code: CodeType) -> bool:
        known = self._entries.get(id(code))
        return known is not None and known[0]() is code

    def __getitem__(self, code: CodeType) -> V:
        known = self._entries.get(id(code))
        if known is None or known[0]() is not code:
            raise KeyError(code)
        return known[1]

    def get(self, code: CodeType, default: D) -> V | D:
        """The value of a code object, or `default`."""
        known = self._entries.get(id(code))
        return known[1] if known is not None and known[0]() is code else default

    def __setitem__(self, code: CodeType, value: V) -> None:
        key = id(code)

        def forget(_: object, entries: dict[int, tuple[weakref.ref[CodeType], V]] = self._entries) -> None:
            entries.pop(key, None)  # bound early: at exit the module may be empty already

        self._entries[key] = (weakref.ref(code, forget), value)

    def discard(self, code: CodeType) -> None:
        """Forget what is known of a code object, if anything is."""
        self._entries.pop(id(code), None)  # under its number stands this one, or one that is gone
