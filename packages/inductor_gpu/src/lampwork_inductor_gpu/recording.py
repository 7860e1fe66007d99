"""A recording: one graph's work at certain sizes, on inputs that it copies in, with results that the caller may keep.

Made by `cuda_graphs` at the second sight of sizes. Results are written into memory of the recording's own, where the
wrapper asks for it and they are large (`result_memory`); all others lie in memory that the recordings of a card share,
and each call gives copies. Invariant: what comes out is related to the caller's inputs and to each other as the
wrapper's results are: the same objects, views of the same memory, the same sizes, strides and offsets.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from lampwork_inductor_core.runtime.replay import LoadGiven, WrapperCall

from .recording_device import RecordingDevice, Tape
from .result_memory import GivenMemories, GivenMemory, State

# What torch copies many tensors of in one launch.
_MANY_AT_ONCE = frozenset(
    {torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.bool}
)
_FLAT = (1,)
_SMALL = 64 << 10  # bytes of results that are rather copied: one launch, and a caller may keep any number of them
_copy_many: Callable[[list[torch.Tensor], list[torch.Tensor]], None] = vars(torch)["_foreach_copy_"]


class NotRecordable(Exception):
    """A result that a recording cannot give as the wrapper does; the text says why."""


# --------------------------------------------------------------------------------------------------------------- inputs


@dataclass(frozen=True, slots=True)
class InputCopy:
    """An input of a recording at an address of its own. `extent`: for memory in which elements overlap, how many of
    its elements are copied as they lie."""

    position: int
    tensor: torch.Tensor  # as the wrapper sees it
    memory: torch.Tensor  # what is copied into
    extent: int | None

    @classmethod
    def like(cls, position: int, example: torch.Tensor) -> InputCopy:
        """New memory for an input with the example's sizes and strides. Call outside of inference mode."""
        sizes, strides = example.shape, example.stride()
        if may_overlap(sizes, strides):
            extent = extent_of(sizes, strides)
            memory = torch.empty(extent, dtype=example.dtype, device=example.device)
            return cls(position, memory.as_strided(sizes, strides), memory, extent)
        memory = torch.empty_strided(sizes, strides, dtype=example.dtype, device=example.device)
        return cls(position, memory, memory, None)

    @property
    def bytes(self) -> int:
        return self.memory.untyped_storage().nbytes()

    def source(self, inputs: Sequence[Any]) -> torch.Tensor:
        """What to copy of the caller's input."""
        given: torch.Tensor = inputs[self.position]
        return given if self.extent is None else given.as_strided((self.extent,), _FLAT)


def extent_of(sizes: Sequence[int], strides: Sequence[int]) -> int:
    """How many elements lie from the first to the last."""
    return 0 if 0 in sizes else 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides))


def may_overlap(sizes: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether two elements may be one place in memory; strides that interleave without meeting count as well."""
    reach = 0
    for stride, size in sorted((stride, size) for size, stride in zip(sizes, strides) if size != 1):
        if stride <= reach:
            return size != 0 and 0 not in sizes
        reach += (size - 1) * stride
    return False


# -------------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class NewMemory:
    """Memory that a call makes for results: a copy of `source`. `dense`: `source` has the sizes and strides of its one
    result, else it is flat, from the start of the results' memory to their last element."""

    source: torch.Tensor
    dense: bool

    @property
    def bytes(self) -> int:
        return extent_of(self.source.shape, self.source.stride()) * self.source.element_size()

    def make(self) -> torch.Tensor:
        source = self.source
        return torch.empty_strided(source.shape, source.stride(), dtype=source.dtype, device=source.device)


@dataclass(frozen=True, slots=True)
class TheInput:
    """A result that is an input of the caller's."""

    position: int


@dataclass(frozen=True, slots=True)
class ViewOfInput:
    """A result that lies in the memory of an input, `offset` elements behind its first."""

    position: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class InMemory:
    """A result that is what its memory shows."""

    memory: int


@dataclass(frozen=True, slots=True)
class ViewOfMemory:
    """A result that lies somewhere in a memory."""

    memory: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class TheResult:
    """A result that is an earlier one, too."""

    position: int


@dataclass(frozen=True, slots=True)
class TheValue:
    """A result that is no tensor."""

    value: Any


PlannedResult: TypeAlias = TheInput | ViewOfInput | InMemory | ViewOfMemory | TheResult | TheValue


@dataclass(frozen=True, slots=True)
class ResultPlan:
    """How a call's results come out of a recording's."""

    memories: tuple[NewMemory | GivenMemory, ...]
    results: tuple[PlannedResult, ...]

    @property
    def copied(self) -> int:
        """Bytes that a call copies."""
        return sum(memory.bytes for memory in self.memories if isinstance(memory, NewMemory))

    @property
    def is_made(self) -> bool:
        """Whether the results are just what the memories show, in order."""
        return self.results == tuple(map(InMemory, range(len(self.memories))))


_NONE_GIVEN: Mapping[int, GivenMemory] = {}


def plan_results(
    results: Sequence[Any], inputs: Sequence[Any], own: Mapping[int, GivenMemory] = _NONE_GIVEN
) -> ResultPlan:
    """The plan for what a wrapper returned when it was called with `inputs`, some of it in memories of our `own`
    (by their storages). Raises NotRecordable."""
    owners: dict[int, int] = {}  # the storage of an input -> its position, the first of several
    for position, given in enumerate(inputs):
        if isinstance(given, torch.Tensor) and given.untyped_storage().nbytes():
            owners.setdefault(given.untyped_storage()._cdata, position)
    objects = {id(given): position for position, given in enumerate(inputs) if isinstance(given, torch.Tensor)}
    sharing: dict[int, list[torch.Tensor]] = {}  # the results by their storage
    for result in {id(r): r for r in results}.values():
        if isinstance(result, torch.Tensor) and id(result) not in objects:
            _check(result)
            sharing.setdefault(result.untyped_storage()._cdata, []).append(result)
    memories: list[_Shown] = []
    places: dict[int, int] = {}  # storage -> its memory
    first: dict[int, int] = {}
    planned: list[PlannedResult] = []
    for number, result in enumerate(results):
        if not isinstance(result, torch.Tensor):
            planned.append(TheValue(result))
            continue
        if id(result) in objects:
            planned.append(TheInput(objects[id(result)]))
            continue
        if first.setdefault(id(result), number) != number:
            planned.append(TheResult(first[id(result)]))
            continue
        storage, sizes, strides = result.untyped_storage()._cdata, tuple(result.shape), result.stride()
        owner = owners.get(storage)
        if owner is not None:
            given = inputs[owner]
            if given.dtype is not result.dtype:
                raise NotRecordable("a result is an input's memory, seen as another dtype")
            offset = int(result.storage_offset() - given.storage_offset())
            planned.append(ViewOfInput(owner, sizes, strides, offset))
            continue
        if storage not in places:
            places[storage] = len(memories)
            memories.append(_shown(sharing[storage], own.get(storage)))
        memory = places[storage]
        if memories[memory].alone:
            planned.append(InMemory(memory))
        else:
            planned.append(ViewOfMemory(memory, sizes, strides, int(result.storage_offset())))
    return ResultPlan(tuple(shown.memory for shown in memories), tuple(planned))


def _check(result: torch.Tensor) -> None:
    if type(result) is not torch.Tensor or result.layout is not torch.strided or result.is_conj() or result.is_neg():
        raise NotRecordable("a result is not a plain tensor")


@dataclass(frozen=True, slots=True)
class _Shown:
    """A memory; `alone`: it shows its one result, else all of its elements from the first on."""

    memory: NewMemory | GivenMemory
    alone: bool


def _shown(results: Sequence[torch.Tensor], given: GivenMemory | None) -> _Shown:
    """The memory of results that share a storage."""
    if given is None:
        memory = _memory_of(results)
        return _Shown(memory, memory.dense)
    first = results[0]
    if len(results) == 1 and first.dtype is given.tensor.dtype:
        given.show(first.shape, first.stride(), int(first.storage_offset()))
        return _Shown(given, alone=True)
    if any(result.dtype is not given.tensor.dtype for result in results):
        raise NotRecordable("a result is seen as another dtype than its memory")
    given.show((given.bytes // first.element_size(),), _FLAT, 0)
    return _Shown(given, alone=False)


def _memory_of(results: Sequence[torch.Tensor]) -> NewMemory:
    """New memory for copies of results that share a storage."""
    alone = results[0]
    fills = extent_of(alone.shape, alone.stride()) == alone.numel() and not may_overlap(alone.shape, alone.stride())
    if len(results) == 1 and alone.storage_offset() == 0 and fills:
        return NewMemory(alone, dense=True)
    if any(result.dtype is not alone.dtype for result in results):
        raise NotRecordable("two results share memory as different dtypes")
    extent = max(r.storage_offset() + extent_of(r.shape, r.stride()) for r in results)
    return NewMemory(alone.as_strided((extent,), _FLAT, 0), dense=False)


# -------------------------------------------------------------------------------------------------------- the recording


class CopyList:
    """Copies from one list of tensors into another of the same kinds, in as few launches as torch allows."""

    def __init__(self, examples: Sequence[torch.Tensor]) -> None:
        by_dtype: dict[torch.dtype, list[int]] = {}
        self._single: list[int] = []
        for number, example in enumerate(examples):
            if example.numel() == 0:
                continue
            if example.dtype in _MANY_AT_ONCE:
                by_dtype.setdefault(example.dtype, []).append(number)
            else:
                self._single.append(number)
        self._together = [numbers for numbers in by_dtype.values() if len(numbers) > 1]
        self._single.extend(numbers[0] for numbers in by_dtype.values() if len(numbers) == 1)

    def run(self, targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
        for number in self._single:
            targets[number].copy_(sources[number])
        for numbers in self._together:
            _copy_many([targets[k] for k in numbers], [sources[k] for k in numbers])


class Recording:
    """What plays a tape for a caller's inputs. Made and played within turns of its device only.

    With memories that were given, it is of the stream that it was made on: what a caller sent to that stream comes
    before the next play, as it comes before the next use of memory that the allocator got back. What was sent to
    another stream, by a caller that then lets its result go, does not; the allocator's rule for memory that it hands
    out is the same, `record_stream` apart, which says nothing to a recording.
    """

    def __init__(
        self, device: RecordingDevice, tape: Tape, copies: Sequence[InputCopy], plan: ResultPlan, given: GivenMemories
    ) -> None:
        self._device, self._tape, self._copies, self._plan = device, tape, tuple(copies), plan
        self._written = given  # all of it: a memory in which no result came to lie is written, too
        self._given = tuple(memory for memory in plan.memories if isinstance(memory, GivenMemory))
        self._is_made = plan.is_made
        self._targets = [copy.memory for copy in self._copies]
        self._new = [k for k, memory in enumerate(plan.memories) if isinstance(memory, NewMemory)]
        self._sources = [memory.source for memory in plan.memories if isinstance(memory, NewMemory)]
        self._copy_in, self._copy_out = CopyList(self._targets), CopyList(self._sources)
        self._stream = device.stream()  # the last one that used its inputs

    @property
    def is_given(self) -> bool:
        """Whether results lie in its own memory: then its `state` is to be asked, and its stream is the one it has."""
        return bool(self._given)

    @property
    def stream(self) -> Hashable:
        """The stream that it was made on, or played last."""
        return self._stream

    def state(self) -> State:
        """Whether it may be played now, as to its results."""
        for memory in self._given:
            state = memory.state()
            if state is not State.FREE:
                return state
        return State.FREE

    def play(self, inputs: Sequence[Any]) -> list[Any]:
        """The wrapper's results for these inputs, which have the sizes and strides of those recorded. It is free."""
        stream = self._device.stream()
        if stream != self._stream:
            self._device.used_on_this_stream(self._targets)
            self._stream = stream
        self._copy_in.run(self._targets, [copy.source(inputs) for copy in self._copies])
        self._tape.replay()
        inference = torch.is_inference_mode_enabled()
        made = [m.alias(inference) if isinstance(m, GivenMemory) else m.make() for m in self._plan.memories]
        self._copy_out.run([made[k] for k in self._new], self._sources)
        if self._is_made:
            return made
        results: list[Any] = []
        for planned in self._plan.results:
            results.append(_result(planned, inputs, made, results))
        return results


def _result(planned: PlannedResult, inputs: Sequence[Any], made: Sequence[torch.Tensor], results: Sequence[Any]) -> Any:
    if isinstance(planned, InMemory):
        return made[planned.memory]
    if isinstance(planned, ViewOfMemory):
        return made[planned.memory].as_strided(planned.sizes, planned.strides, planned.offset)
    if isinstance(planned, TheInput):
        return inputs[planned.position]
    if isinstance(planned, ViewOfInput):
        given: torch.Tensor = inputs[planned.position]
        return given.as_strided(planned.sizes, planned.strides, given.storage_offset() + planned.offset)
    return results[planned.position] if isinstance(planned, TheResult) else planned.value


class Way(enum.Enum):
    """Where results of a recording lie."""

    GIVEN = enum.auto()  # in memory that is given, where they are large and the wrapper asks for it
    COPIED = enum.auto()


@dataclass(frozen=True, slots=True)
class Recordable:
    """The wrapper that is recorded. `load_given`: None where it asks for no memory."""

    call: WrapperCall
    load_given: LoadGiven | None

    def runs(self, way: Way, memories: GivenMemories) -> WrapperCall:
        """What to run."""
        if way is Way.COPIED or self.load_given is None:
            return self.call
        given = self.load_given()
        return lambda inputs: given(inputs, memories)


def record(
    device: RecordingDevice,
    wrapper: Recordable,
    inputs: Sequence[Any],
    passing: Sequence[int],
    most_copied: int,
    way: Way,
) -> Recording:
    """Record the wrapper on copies of the inputs at `passing`; all others are read where they lie.

    Runs it once for real, so that everything is built and loaded that it needs with inputs that lie like these.
    `most_copied`: bytes that may be copied a call. Raises NotRecordable, RecordingFailed, and what the wrapper raises.
    """
    with torch.inference_mode(False), torch.no_grad():
        copies = [InputCopy.like(position, inputs[position]) for position in passing]
        # objects of their own, so that a result that is an input is known to be the one at this position
        held = [value.detach() if isinstance(value, torch.Tensor) else value for value in inputs]
        for copy in copies:
            held[copy.position] = copy.tensor
            copy.memory.copy_(copy.source(inputs))
        memories = GivenMemories(device)
        run = wrapper.runs(way, memories)
        results = run(held)
        if memories.bytes <= _SMALL:
            run, memories = wrapper.call, GivenMemories(device)
        given = memories.by_storage()
        plan = plan_results(results, held, given)
        copied = sum(copy.bytes for copy in copies) + plan.copied
        if copied > most_copied:
            raise NotRecordable(f"copying {copied:,} bytes of inputs and results costs more than it saves")
        del plan, results
        tape = device.record(lambda: run(held))
        plan = plan_results(tape.take_results(), held, given)
        recording = Recording(device, tape, copies, plan, memories)
    if not device.reserve(recording, copied + memories.bytes):
        raise NotRecordable("the memory for inputs and results of recordings is used up")
    return recording
