"""Warnings of operations that run on fake tensors: nobody hears them, since the real operation warns as well.

`graph/builder.py` runs each operation under `unheard_warnings`; `convert_frame.py` makes ready for it once a trace,
with `ready_for_unheard`. Invariant: what is shown, or counted as shown, later is the same as if the operation had
never run on fake tensors: neither the registries of the `warnings` module (which `catch_warnings` would empty) nor
torch's own of what it warns of once are touched. What other threads warn of is heard as ever, but for two things that
are the process's and cannot be had for one thread: what torch warns of once it may show once more in a thread that
gets there during such an operation; and the filters are those of whoever set them last, so where another thread enters
or leaves `catch_warnings` during a trace, an operation of the trace may be heard.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


class _Silence:
    """Stands in a filter for the pattern of the message, and matches any while an operation of its thread runs."""

    __slots__ = ("running", "thread")

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.running = 0  # operations, one inside the other

    def match(self, _message: str) -> bool:
        return self.running > 0 and threading.get_ident() == self.thread


class _Traces(threading.local):
    silence: _Silence | None = None  # of the trace that this thread is at


_TRACES = _Traces()


@contextmanager
def ready_for_unheard() -> Generator[None]:
    """Make the filter for all operations inside; other warnings are heard."""
    if _TRACES.silence is not None:
        yield
        return
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    _TRACES.silence = _Silence()
    entry = ("ignore", _TRACES.silence, Warning, None, 0)
    filters.insert(0, entry)
    try:
        yield
    finally:
        _TRACES.silence = None
        for index, known in enumerate(filters):
            if known is entry:  # unless an operation reset them
                del filters[index]
                break


class unheard_warnings:
    """Ignore every warning of this thread inside."""

    __slots__ = ("_alone", "_always", "_silence")

    def __enter__(self) -> None:
        self._alone: ExitStack | None = None
        if _TRACES.silence is None:  # outside of `ready_for_unheard`
            self._alone = ExitStack()
            self._alone.enter_context(ready_for_unheard())
        silence = _TRACES.silence
        assert silence is not None
        silence.running += 1
        self._silence = silence
        self._always = torch.is_warn_always_enabled()
        torch.set_warn_always(True)  # else what torch warns of once would be over with

    def __exit__(self, *raised: object) -> None:
        torch.set_warn_always(self._always)
        self._silence.running -= 1
        if self._alone is not None:
            self._alone.close()
