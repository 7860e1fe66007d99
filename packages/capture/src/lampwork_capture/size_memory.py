"""SizeMemory: which numbers of a code object varied, kept on disk for later processes.

Beside `varying`, which asks for it when a code object is captured for the first time in a process, and hands over what
it learned: so a program that varies its sizes is compiled once in its second run, for all sizes from the start.
Invariants: what is remembered only chooses what is symbolic, so that a wrong or old memory costs a capture and no
result; a reader sees a whole file or none; a disk that cannot be used is no error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

from .bytecode.version import qualified_name

Number: TypeAlias = "int | float"
History: TypeAlias = "Mapping[str, Mapping[int, Number]]"  # by a source's words: what it was, by number of call

_FORMAT = 1
_MOST_SOURCES = 256  # of one code object
_LONGEST = 1 << 20  # bytes of a file that is read
_OLD = 90 * 24 * 3600.0  # seconds after which what was not learned again is let go


@dataclass(frozen=True, slots=True)
class SizeMemory:
    """A folder with one small file for each code object. Code that has no file of its own, as what is typed into an
    interpreter, is not remembered."""

    folder: Path

    def recall(self, code: CodeType) -> History:
        """What varied in earlier processes, their calls numbered below 0; empty if nothing is known."""
        path = self._path_of(code)
        if path is None:
            return {}
        try:
            with path.open("rb") as file:
                found = json.loads(file.read(_LONGEST))
            return {} if found["format"] != _FORMAT else _checked(found["numbers"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # none, cut off, or not ours

    def keep(self, code: CodeType, history: History) -> None:
        """Remember what varied. Calls are numbered anew, the last one -1."""
        path = self._path_of(code)
        history = {words: fitting for words, known in history.items() if (fitting := _fitting(known))}
        if path is None or not history or len(history) > _MOST_SOURCES:
            return
        calls = sorted({call for known in history.values() for call in known})
        number_of = {call: index - len(calls) for index, call in enumerate(calls)}
        numbers = {words: {number_of[call]: value for call, value in known.items()} for words, known in history.items()}
        text = json.dumps({"format": _FORMAT, "numbers": numbers})
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name.startswith("00") and not path.exists():  # once in some hundred code objects
                _sweep(path.parent)
            _replace(path, text)

    def _path_of(self, code: CodeType) -> Path | None:
        if code.co_filename.startswith("<"):
            return None
        digest = hashlib.sha256(repr((code.co_filename, qualified_name(code), code.co_firstlineno)).encode())
        digest.update(code.co_code)
        return self.folder / f"{digest.hexdigest()[:40]}.json"


def _replace(path: Path, text: str) -> None:
    """Write a file beside its place and rename it: another process may read or write the same one."""
    handle, beside = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _fitting(known: Mapping[int, Number]) -> Mapping[int, Number]:
    """The calls whose number is a float, or an integer that may become a symbol."""
    return {call: value for call, value in known.items() if type(value) is float or abs(value) < 1 << 63}


def _sweep(folder: Path) -> None:
    """Remove what is old: a code object that is edited is another one."""
    oldest = time.time() - _OLD
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def _checked(numbers: Any) -> History:
    found: dict[str, dict[int, Number]] = {}
    for words, known in numbers.items():
        values = {int(call): value for call, value in known.items()}
        if any(type(value) not in (int, float) for value in values.values()):
            raise ValueError(words)
        found[str(words)] = values
    return found
