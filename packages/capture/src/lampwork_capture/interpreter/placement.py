"""Placement: at which instruction of which frame a trace stops when it cannot go on.

`convert_frame` asks after each broken trace. The stop lies as deep in the inlined calls as all frames on the way can be
resumed: each was entered by a call whose result is what the caller's instruction pushes, none handles an exception and
none is in a loop. Invariant: a place that was tried and could not be rebuilt is not proposed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType

from ..graph_break import BreakId, BreakRecord, SkipFrame
from .body_copy import copy_of
from .frame import FramePlace, StopPlace
from .instructions import DecodedCode
from .region import call_group, loop_region


@dataclass(frozen=True, slots=True)
class BreakPoint:
    """Where a trace stops: before instruction `start` of a frame; what runs natively from there, and why.

    `keeps_locals`: an exception is raised there, whose traceback shows all locals, those too that nothing reads."""

    serial: int
    start: int
    region: frozenset[int]
    in_loop: bool
    record: BreakRecord
    keeps_locals: bool = False

    @property
    def stop(self) -> StopPlace:
        return StopPlace(self.serial, self.start)


@dataclass(frozen=True, slots=True)
class _Native:
    """Instructions that run natively, and the first of them."""

    start: int
    region: frozenset[int]
    in_loop: bool = False


def place_break(frames: Sequence[FramePlace], record: BreakRecord, tried: Sequence[BreakPoint]) -> BreakPoint:
    """The next place to stop at, for a trace that broke with these frames open. Raises SkipFrame if there is none."""
    stops = {point.stop for point in tried}
    chain = _resumable(frames)
    while len(chain) > 1:
        place = chain.pop()
        native = _native_part(place)
        if native is not None and StopPlace(place.frame.serial, native.start) not in stops:
            return BreakPoint(place.frame.serial, native.start, native.region, native.in_loop, record)
    root = chain[0]
    native = _native_part(root)
    if native is None:
        raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"a break in a loop with several entries: {record.cause}")
    while StopPlace(0, native.start) in stops:  # could not be rebuilt: go back a statement
        native = _earlier(root.frame.decoded, native, record)
    return BreakPoint(0, native.start, native.region, native.in_loop, record)


def is_tried(frames: Sequence[FramePlace], tried: Sequence[BreakPoint]) -> bool:
    """Whether the first place for these frames was proposed before."""
    place = _resumable(frames)[-1]
    native = _native_part(place)
    return native is None or any(point.stop == StopPlace(place.frame.serial, native.start) for point in tried)


_MOST_RECURSIONS = 4


def _is_same_function(code: CodeType, other: CodeType) -> bool:
    """Whether two codes are of one function of the user, be it resumed or not."""
    return (code.co_name, code.co_firstlineno, code.co_filename) == (
        other.co_name,
        other.co_firstlineno,
        other.co_filename,
    )


def _resumable(frames: Sequence[FramePlace]) -> list[FramePlace]:
    """The frames from the root on that a break can be rebuilt in.

    Of a function that calls itself only a few levels: each further one makes code as long as all above it."""
    chain: list[FramePlace] = []
    recursions = 0
    for place in frames:
        frame = place.frame
        if chain and (not frame.is_plain or copy_of(frame.code).makes_inner_cells):
            break
        recursions += bool(chain) and _is_same_function(chain[-1].frame.code, frame.code)
        if recursions > _MOST_RECURSIONS:
            break
        chain.append(place)
        if place.handling or frame.decoded.loop_of[place.index] >= 0:
            break
    return chain


def _native_part(place: FramePlace) -> _Native | None:
    """What runs natively for a break at an instruction; None where that cannot be told."""
    decoded = place.frame.decoded
    start, region = call_group(decoded, place.index)
    if decoded.loop_of[start] >= 0:
        loop = loop_region(decoded, start)
        if loop is None:
            return None
        return _Native(loop[0], loop[1] | region, in_loop=True)
    if place.handling:
        return _Native(start, region)
    earlier = _before_loads(decoded, start)
    return _Native(earlier, region | frozenset(range(earlier, start)))


def _earlier(decoded: DecodedCode, native: _Native, record: BreakRecord) -> _Native:
    """The native part made longer by the statement before it."""
    start = _statement_start(decoded, native.start)
    if start == native.start:
        raise SkipFrame(record.break_id, record.cause)
    region = native.region | frozenset(range(start, native.start))
    loop = loop_region(decoded, start)
    if loop is not None:
        return _Native(loop[0], loop[1] | region, in_loop=True)
    return _Native(start, region)


def _statement_start(decoded: DecodedCode, index: int) -> int:
    """The nearest earlier instruction with an empty stack."""
    depths = decoded.depths
    start = index - 1
    while start > 0 and depths[start] != 0:
        start -= 1
    if start <= 0 or decoded.instructions[start].name in ("RESUME", "MAKE_CELL", "COPY_FREE_VARS"):
        return index
    return start


_LOADS = frozenset(
    {"LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_LOAD_FAST", "LOAD_CONST", "LOAD_GLOBAL", "LOAD_DEREF", "PUSH_NULL",
     "KW_NAMES", "PRECALL", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE", "BUILD_STRING",
     "BUILD_TUPLE", "NOP"}
)  # fmt: skip


def _before_loads(decoded: DecodedCode, index: int) -> int:
    """Back over loads and formatting that only prepare the instruction that breaks: what they read needs no guard."""
    if decoded.instructions[index].name in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
        return index  # its result is split into function and object, which only the break itself does
    handler = decoded.handler_at(index)
    start = index
    while (
        start > 0
        and decoded.instructions[start - 1].name in _LOADS
        and start not in decoded.jump_targets
        and decoded.handler_at(start - 1) is handler
    ):
        start -= 1
    return start
