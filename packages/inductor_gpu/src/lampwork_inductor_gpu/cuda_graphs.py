"""CUDA graphs: recordings of one compiled graph, kept by what a recording bakes in, and played where they fit.

In front of the wrapper from its second call on (the core's seam is `runtime.replay`). A recording is looked up by the
addresses of parameters, the sizes of other tensors, numbers and the settings of libraries: whatever differs is another
recording or a run of the wrapper. Invariant: every call gives what the wrapper would give; memory is bounded, by the
number of recordings and by their bytes; why something is not replayed stands in `notes`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from lampwork_inductor_core.runtime.replay import LoadGiven, ReplayFacts, Replays, WrapperCall

from .alternates import Alternates
from .cuda_capture import recording_device
from .recording import NotRecordable, Recordable, Recording, Way, record
from .recording_device import RecordingDevice

NOUN = "CUDA graph"
_LEAST_LAUNCHES = 4  # replaying with its copies costs the host about as much as so many launches
_COPIED_PER_LAUNCH = 1 << 20  # bytes: half a microsecond of copying for the five of a launch
_MOST_KINDS = 8  # of calls of one graph that have recordings
_MOST_SEEN = 64  # kinds of calls that are remembered without a recording
_LATER = 4  # once recordings were given up, so many more sights for each are asked for: no going round in circles
_MOST_NOTES = 4
_REFUSED = -(1 << 60)  # sights of a kind of calls that is never recorded


@dataclass(frozen=True, slots=True)
class _Last:
    """The kind of the last call that found recordings, such that the next one is quickly compared with it."""

    alternates: Alternates
    lies_alike: Callable[[Sequence[Any]], bool]  # of a call's inputs, the static ones
    rest: Hashable


class CudaGraphs:
    """A wrapper and its recordings. `device` keeps the turns; `load_given`: None where it asks for no memory."""

    def __init__(
        self, call: WrapperCall, facts: ReplayFacts, device: RecordingDevice, load_given: LoadGiven | None = None
    ) -> None:
        self._call, self._facts, self._device = call, facts, device
        self._wrapper = Recordable(call, load_given if facts.given and device.counts_holders else None)
        self._recordings: dict[Hashable, Alternates] = {}  # the kind used last stands last
        self._last: _Last | None = None
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
        return sum(map(len, self._recordings.values()))

    def invalidate(self) -> None:
        """Let all recordings go; what was seen counts from the start. A turn that is under way may keep its own."""
        self._recordings = {}
        self._last = None
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
        """A recording for these inputs that is free, made now if they are of a kind that was seen often enough."""
        rest, last = self._rest(inputs), self._last
        if last is not None and last.rest == rest and last.lies_alike(inputs):
            return self._one_of(last.alternates, inputs)
        addresses = tuple([inputs[k].data_ptr() for k in self._facts.static])
        key = (addresses, rest)
        recordings = self._recordings
        found = recordings.pop(key, None)
        if found is not None:
            recordings[key] = found
            if recordings is self._recordings:  # not invalidated by another thread
                self._last = _Last(found, self._device.lying_at(self._facts.static, addresses), rest)
            return self._one_of(found, inputs)
        sights = self._seen.pop(key, 0) + 1
        while len(self._seen) >= _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = sights
        if sights < self._sights_asked_for():
            return None
        return self._first_of(key, inputs)

    def _sights_asked_for(self) -> int:
        """One where there is one kind of calls, as the first call came before; two of each where sizes differ, and
        more where kinds crowd each other out."""
        only = not self._facts.symbolic and not self._facts.numbers and not self._recorded
        return 1 if only else 2 + _LATER * self._given_up

    def _rest(self, inputs: Sequence[Any]) -> Hashable:
        """With the addresses of static inputs, all that a recording bakes in: one is right for all equal calls."""
        facts = self._facts
        numbers = tuple([_exactly(inputs[k]) for k in facts.numbers])
        settings = self._device.settings() if facts.calls_operators else None
        sizes: Hashable = None
        if facts.symbolic:
            positions = (*facts.static, *facts.passing)
            sizes = tuple([(tuple(inputs[k].shape), inputs[k].stride()) for k in positions])
        return sizes, numbers, settings

    def _one_of(self, alternates: Alternates, inputs: Sequence[Any]) -> Recording | None:
        """A free one; if all are held another one, made now if there may be more."""
        stream = self._device.stream()
        found = alternates.free(stream)
        if found is not None:
            return found
        way = alternates.wanted(stream)
        if way is None:
            self._note(f"results of {len(alternates)} recordings are held by the program")
            return None
        try:
            made = self._made(inputs, way)
        except NotRecordable as reason:
            alternates.refuse(way)
            self._note(
                f"results are held or were resized by the program, and another recording cannot be made: {reason}"
            )
            return None
        if made is not None:
            alternates.add(made)
        return made

    def _first_of(self, key: Hashable, inputs: Sequence[Any]) -> Recording | None:
        """The first recording of a kind; None, with a note, where there cannot be one."""
        self._recorded = True
        try:
            made = self._made(inputs, Way.GIVEN)
        except NotRecordable as reason:
            self._seen[key] = _REFUSED
            self._note(str(reason))
            return None
        if made is None:
            return None
        self._seen.pop(key, None)
        recordings = self._recordings
        while len(recordings) >= _MOST_KINDS:
            del recordings[next(iter(recordings))]
            self._given_up += 1
        recordings[key] = alternates = Alternates()
        alternates.add(made)
        self._last = None  # it may be one that was given up
        return made

    def _made(self, inputs: Sequence[Any], way: Way) -> Recording | None:
        """A new recording; None, and none ever after, if that failed. Raises NotRecordable."""
        facts = self._facts
        looked_at = {*facts.static, *facts.passing, *facts.numbers}
        given = [value if k in looked_at else None for k, value in enumerate(inputs)]
        try:
            return record(self._device, self._wrapper, given, facts.passing, facts.launches * _COPIED_PER_LAUNCH, way)
        except NotRecordable:
            raise
        except Exception as error:  # the wrapper runs next, and raises what is the program's
            self._is_off = True
            self.invalidate()
            self._note(f"recording failed: {next(iter(str(error).splitlines()), type(error).__name__)}")
            return None

    def _note(self, reason: str) -> None:
        if len(self._notes) < _MOST_NOTES:
            self._notes[reason] = None


def _exactly(number: Any) -> Hashable:
    """A number such that equal ones do the same: 0.0 is not -0.0, 1 is not True, and nan is itself."""
    return number.hex() if type(number) is float else (type(number), number)


def _make(call: WrapperCall, facts: ReplayFacts, load_given: LoadGiven) -> CudaGraphs:
    return CudaGraphs(call, facts, recording_device(facts.device), load_given)


REPLAYS = Replays(NOUN, _LEAST_LAUNCHES, _make)
"""What this package's device backend brings to the core."""
