"""CUDA graphs: recordings of one compiled graph, kept by what a recording bakes in, and played where they fit.

In front of the wrapper from its second call on (the core's seam is `runtime.replay`). A recording is looked up by the
addresses of parameters, the sizes of other tensors, numbers and the settings of libraries: whatever differs is another
recording or a run of the wrapper. Invariant: every call gives what the wrapper would give; memory is bounded, by the
number of recordings and by their bytes; why something is not replayed stands in `notes`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from lampwork_inductor_core.runtime.replay import LoadGiven, ReplayFacts, Replays, WrapperCall

from .cuda_capture import recording_device
from .recording import NotRecordable, Recording, record
from .recording_device import RecordingDevice

NOUN = "CUDA graph"
_LEAST_LAUNCHES = 4  # replaying with its copies costs the host about as much as so many launches
_COPIED_PER_LAUNCH = 1 << 20  # bytes: half a microsecond of copying for the five of a launch
_MOST_RECORDINGS = 8  # of one graph
_MOST_SEEN = 64  # kinds of calls that are remembered without a recording
_LATER = 4  # once recordings were given up, so many more sights for each are asked for: no going round in circles
_MOST_NOTES = 4
_REFUSED = -(1 << 60)  # sights of a kind of calls that is never recorded


class CudaGraphs:
    """A wrapper and its recordings. `device` keeps the turns."""

    def __init__(self, call: WrapperCall, facts: ReplayFacts, device: RecordingDevice) -> None:
        self._call, self._facts, self._device = call, facts, device
        self._static = _picks(facts.static)
        self._recordings: dict[Hashable, Recording] = {}  # the one used last stands last
        self._seen: dict[Hashable, int] = {}
        self._given_up = 0
        self._recorded = False
        self._is_off = False
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Why calls were not replayed."""
        return tuple(f"no {NOUN}: {reason}" for reason in self._notes)

    @property
    def recordings(self) -> int:
        """How many are held."""
        return len(self._recordings)

    def invalidate(self) -> None:
        """Let all recordings go; what was seen counts from the start. A turn that is under way may keep its own."""
        self._recordings = {}
        self._seen = {}
        self._recorded = False

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """Replay, or run the wrapper: if the turn is somebody else's, too, so nobody ever waits."""
        if self._is_off or not self._device.is_open() or not self._device.begin():
            return self._call(inputs)
        try:
            recording = self._recording(inputs)
            if recording is not None:
                return recording.play(inputs)
        finally:
            self._device.end()
        return self._call(inputs)

    def _recording(self, inputs: Sequence[Any]) -> Recording | None:
        """The recording for these inputs, made now if they are of a kind that was seen often enough."""
        key = self._kind(inputs)
        recordings = self._recordings
        found = recordings.get(key)
        if found is not None:
            if len(recordings) > 1:
                recordings.pop(key, None)
                recordings[key] = found
            return found
        sights = self._seen.pop(key, 0) + 1
        while len(self._seen) >= _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = sights
        if sights < self._sights_asked_for():
            return None
        return self._made(key, inputs)

    def _sights_asked_for(self) -> int:
        """One where there is one kind of calls, as the first call came before; two of each where sizes differ, and
        more where kinds crowd each other out."""
        only = not self._facts.symbolic and not self._facts.numbers and not self._recorded
        return 1 if only else 2 + _LATER * self._given_up

    def _kind(self, inputs: Sequence[Any]) -> Hashable:
        """All that a recording bakes in. Equal kinds: a recording of one is right for the other."""
        facts = self._facts
        static = tuple(map(torch.Tensor.data_ptr, self._static(inputs)))
        numbers = tuple([_exactly(inputs[k]) for k in facts.numbers])
        settings = self._device.settings() if facts.calls_operators else None
        sizes: Hashable = None
        if facts.symbolic:
            positions = (*facts.static, *facts.passing)
            sizes = tuple([(tuple(inputs[k].shape), inputs[k].stride()) for k in positions])
        return static, sizes, numbers, settings

    def _made(self, key: Hashable, inputs: Sequence[Any]) -> Recording | None:
        """A new recording; None, with a note, where there cannot be one."""
        facts = self._facts
        looked_at = {*facts.static, *facts.passing, *facts.numbers}
        given = [value if k in looked_at else None for k, value in enumerate(inputs)]
        self._recorded = True
        try:
            made = record(self._device, self._call, given, facts.passing, facts.launches * _COPIED_PER_LAUNCH)
        except NotRecordable as reason:
            self._seen[key] = _REFUSED
            self._note(str(reason))
            return None
        except Exception as error:  # the wrapper runs next, and raises what is the program's
            self._is_off = True
            self.invalidate()
            self._note(f"recording failed: {next(iter(str(error).splitlines()), type(error).__name__)}")
            return None
        self._seen.pop(key, None)
        recordings = self._recordings
        while len(recordings) >= _MOST_RECORDINGS:
            del recordings[next(iter(recordings))]
            self._given_up += 1
        recordings[key] = made
        return made

    def _note(self, reason: str) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes[reason] = None


def _exactly(number: Any) -> Hashable:
    """A number such that equal ones do the same: 0.0 is not -0.0, 1 is not True, and nan is itself."""
    return number.hex() if type(number) is float else (type(number), number)


def _picks(positions: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What picks the values at these positions: every call does that for each parameter."""
    if len(positions) > 1:
        return operator.itemgetter(*positions)
    return lambda inputs: [inputs[k] for k in positions]


def _make(call: WrapperCall, facts: ReplayFacts, _load_given: LoadGiven) -> CudaGraphs:
    return CudaGraphs(call, facts, recording_device(facts.device))


REPLAYS = Replays(NOUN, _LEAST_LAUNCHES, _make)
"""What this package's device backend brings to the core."""
