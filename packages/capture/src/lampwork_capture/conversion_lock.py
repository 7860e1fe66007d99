"""ConversionLock: who may trace, and who waits for whom, when many threads meet frames that no cache entry fits.

One thread traces at a time; graphs are compiled outside the lock, so that backends run side by side. A frame whose
guards hold for a compilation that is under way waits for that one. Invariants: nobody waits longer than `PATIENCE`
(a thread that holds another lock, of an import say, may be what the tracing thread waits for): then the frame runs as
plain Python this once; a thread never waits for itself.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType

from . import _native
from .code_cache import holds_for
from .guards.facts import GuardSet
from .guards.tree import Stamps, UnsupportedGuardError, build_tree

PATIENCE = 20.0  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A graph that is being compiled: for which owner and code, under which guards as far as they are known."""

    owner: object
    code: CodeType
    guards: GuardSet
    thread: int = field(default_factory=threading.get_ident)
    landed: threading.Event = field(default_factory=threading.Event)

    def concerns(self, view: _native.FrameView) -> bool:
        """Whether the guards hold for a frame. Nobody asks in most programs, so their tree is made here."""
        try:
            return holds_for(build_tree(self.guards, self.code, stamps=Stamps.NEVER), view)
        except UnsupportedGuardError:
            return False


class ConversionLock:
    """The lock of all conversions of a process."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self.patience = patience
        self._lock = threading.Lock()
        self._owner = 0
        self._flights: tuple[Flight, ...] = ()  # replaced as a whole, under the lock

    def acquire(self) -> bool:
        """Take the lock; False if this thread has it, or if it cannot be had in time."""
        if self._owner == threading.get_ident() or not self._lock.acquire(timeout=self.patience):
            return False
        self._owner = threading.get_ident()
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._owner = 0
        self._lock.release()

    def flight_of(self, view: _native.FrameView, owner: object) -> Flight | None:
        """Another thread's compilation whose guards hold for a frame that is about to run. Needs the lock."""
        mine = threading.get_ident()
        for flight in self._flights:
            other = flight.code is view.code and flight.owner is owner and flight.thread != mine
            if other and flight.concerns(view):
                return flight
        return None

    def await_landing(self, flight: Flight) -> bool:
        """Wait, without the lock, until a compilation is over; False if that takes too long."""
        return flight.landed.wait(self.patience)

    @contextmanager
    def outside(self, flight: Flight | None) -> Generator[None]:
        """Give the lock back while a graph is compiled; take it again afterwards."""
        if flight is not None:
            self._flights = (*self._flights, flight)
        self.release()
        try:
            yield
        finally:
            self._lock.acquire()  # others hold it only while they trace
            self._owner = threading.get_ident()

    def land(self, owner: object, code: CodeType) -> None:
        """This thread's compilations for a code object are over. Needs the lock."""
        mine = threading.get_ident()
        done = [f for f in self._flights if f.thread == mine and f.owner is owner and f.code is code]
        self._flights = tuple(f for f in self._flights if f not in done)
        for flight in done:
            flight.landed.set()


CONVERSIONS = ConversionLock()
