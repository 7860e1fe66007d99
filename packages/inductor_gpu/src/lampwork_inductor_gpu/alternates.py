"""The recordings of one kind of calls, which take turns: the results of one are held while the next computes.

Between `cuda_graphs`, which knows kinds and makes recordings, and `recording`. The usual loop holds the last result
until it has the next, so two recordings alternate. A caller that holds more gets copies, where these are cheap.
Invariant: a recording is played only while nobody holds results in its memory; how many there are is bounded.
"""

from __future__ import annotations

from collections.abc import Hashable

from .recording import Recording, Way
from .result_memory import State

_OF_A_STREAM = 2
_OF_A_KIND = 4  # on all streams


class Alternates:
    """Recordings that are right for the same calls. Used within turns only."""

    def __init__(self) -> None:
        self._given: list[Recording] = []  # in order of their last play
        self._copying: Recording | None = None
        self._refused: set[Way] = set()

    def __len__(self) -> int:
        return len(self._given) + (self._copying is not None)

    def free(self, stream: Hashable) -> Recording | None:
        """One that may be played on this stream, if any."""
        given = self._given
        for number, recording in enumerate(given):
            if recording.stream != stream:
                continue
            state = recording.state()
            if state is State.FREE:
                if number + 1 < len(given):
                    given.append(given.pop(number))
                return recording
            if state is State.LOST:  # and would be lost again
                self._refused.add(Way.GIVEN)
                del given[number]
                break
        return self._copying

    def wanted(self, stream: Hashable) -> Way | None:
        """How to make another one, where none is free on this stream; None: not at all."""
        of_stream = sum(recording.stream == stream for recording in self._given)
        if Way.GIVEN not in self._refused and of_stream < _OF_A_STREAM and len(self._given) < _OF_A_KIND:
            return Way.GIVEN
        return None if Way.COPIED in self._refused or self._copying is not None else Way.COPIED

    def add(self, recording: Recording) -> None:
        """Take a new one."""
        if recording.is_given:
            self._given.append(recording)
        else:
            self._copying = recording

    def refuse(self, way: Way) -> None:
        """None can be made in this way."""
        self._refused.add(way)
