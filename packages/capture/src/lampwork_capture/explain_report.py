"""Report: what was captured, as a tree of frames and as plain data: the content of `explain`.

Made from the records that the frame callback kept; `explain_text` shows it to a person. Invariant: a report holds
numbers and words only, so it can be saved, compared and sent anywhere (`to_dict`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from .captured_frame import CapturedFrame
from .graph_break import BreakId, BreakRecord
from .recompilation import FailedGuard, Recompilation
from .size_words import accepted_sizes, specialized_sizes
from .specialized_size import SpecializedSize


@dataclass(frozen=True, slots=True)
class GraphReport:
    """One graph: its number in the order of capture, and where its inputs come from (`numbers`: ints and floats).

    `accepted`: the sizes of tensors from outside that it takes, and what must hold of them, in words; `specialized`:
    the sizes that were to be symbolic, and became one number because of a line.
    """

    number: int
    operations: int
    tensors: tuple[str, ...]
    numbers: tuple[str, ...]
    guards: int
    accepted: tuple[str, ...] = ()
    specialized: tuple[SpecializedSize, ...] = ()


@dataclass(frozen=True, slots=True)
class BreakCost:
    """What a break costs in each call.

    `graphs`: how many graphs the frame is in, its inlined calls included; `instructions`: bytecode instructions of the
    user's that run as plain Python at the break, calls of any size among them; `guards`: what is checked again to enter
    the graphs behind it.
    """

    graphs: int
    instructions: int
    guards: int


@dataclass(frozen=True, slots=True)
class BreakReport:
    """Why a frame was split, or runs as plain Python. `lines`: the user's lines, outermost first."""

    code: str
    title: str
    cause: str
    hint: str
    lines: tuple[str, ...]
    cost: BreakCost | None  # None: the whole frame runs as plain Python


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame, the frames that go on behind its break, and those that it calls and that were captured by themselves.

    `continues`: it is the rest of the frame above it.
    """

    function: str
    filename: str
    line: int
    is_plain: bool
    continues: bool
    graph: GraphReport | None
    graph_break: BreakReport | None
    inner: tuple[FrameReport, ...]


@dataclass(frozen=True, slots=True)
class RecompilationReport:
    """A call that no capture fitted: for each capture there was, the guard that failed, its value then and now."""

    function: str
    filename: str
    line: int
    failed: tuple[FailedGuard, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was captured. `idle` of the `plain` frames run as plain Python as there is nothing to capture."""

    graphs: int
    operations: int
    breaks: int
    plain: int
    idle: int
    frames: tuple[FrameReport, ...]
    recompilations: tuple[RecompilationReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as dicts, lists, strings and numbers, for JSON."""
        return dataclasses.asdict(self)


def report_of(records: Sequence[CapturedFrame], missed: Iterable[Recompilation]) -> Report:
    """The report of what was recorded."""
    return Report(
        graphs=sum(record.graph is not None for record in records),
        operations=sum(record.graph.operator_count for record in records if record.graph is not None),
        breaks=sum(record.graph_break is not None and not record.is_skipped for record in records),
        plain=sum(record.is_skipped for record in records),
        idle=sum(is_idle(record) for record in records),
        frames=_Forest(records).roots(),
        recompilations=tuple(
            RecompilationReport(again.place.function, again.place.filename, again.place.line, again.failed)
            for again in missed
        ),
    )


def is_idle(record: CapturedFrame) -> bool:
    """A frame that was skipped only because it does nothing for a graph: no news for a person."""
    reason = record.graph_break
    return record.is_skipped and reason is not None and reason.break_id is BreakId.NO_TENSOR_WORK


class _Forest:
    """The records as trees: under a frame the rest of it behind its break, and the frames that it calls."""

    def __init__(self, records: Sequence[CapturedFrame]) -> None:
        self._records = records
        graphs = [index for index, record in enumerate(records) if record.graph is not None]
        self._graph_numbers = {index: number for number, index in enumerate(graphs)}
        self._inner: dict[int, list[int]] = {index: [] for index in range(len(records))}
        self._continues: set[int] = set()
        self._roots: list[int] = []
        for index, record in enumerate(records):
            parent = self._parent(index, record)
            (self._roots if parent is None else self._inner[parent]).append(index)

    def _parent(self, index: int, record: CapturedFrame) -> int | None:
        for earlier in range(index - 1, -1, -1):
            if any(code is record.code for code in self._records[earlier].resumes):
                self._continues.add(index)
                return earlier
        return None if record.caller is None else self._latest(record.caller, index)

    def _latest(self, code: CodeType, before: int) -> int | None:
        for earlier in range(before - 1, -1, -1):
            if self._records[earlier].replacement is code or self._records[earlier].code is code:
                return earlier
        return None

    def roots(self) -> tuple[FrameReport, ...]:
        return self._frames(self._roots)

    def _frames(self, indices: Sequence[int]) -> tuple[FrameReport, ...]:
        found: list[FrameReport] = []
        for index in indices:
            record, inner = self._records[index], self._frames(self._inner[index])
            if is_idle(record):
                found += inner
                continue
            found.append(
                FrameReport(
                    record.function,
                    record.code.co_filename,
                    record.code.co_firstlineno,
                    record.is_skipped,
                    index in self._continues,
                    self._graph(index, record),
                    _break(record, self._cost(index, record)) if record.graph_break is not None else None,
                    inner,
                )
            )
        return tuple(found)

    def _graph(self, index: int, record: CapturedFrame) -> GraphReport | None:
        if record.graph is None:
            return None
        inputs = record.graph.inputs
        return GraphReport(
            self._graph_numbers[index],
            record.graph.operator_count,
            tuple(str(entry.source) for entry in inputs if not entry.is_number),
            tuple(str(entry.source) for entry in inputs if entry.is_number),
            len(record.guards),
            accepted_sizes(record.guards),
            specialized_sizes(record.guards),
        )

    def _cost(self, index: int, record: CapturedFrame) -> BreakCost | None:
        if record.is_skipped:
            return None
        behind = self._behind(index, {index})
        graphs = [self._records[other] for other in behind if self._records[other].graph is not None]
        return BreakCost(
            (record.graph is not None) + len(graphs),
            record.native_instructions,
            sum(len(found.guards) for found in graphs),
        )

    def _behind(self, index: int, seen: set[int]) -> list[int]:
        """The records that a call of this one goes on to: the rest of the frame, as captured last, and its callees."""
        record = self._records[index]
        rest = [self._latest(code, len(self._records)) for code in record.resumes]
        callees = [other for other in self._inner[index] if other not in self._continues]
        found: list[int] = []
        for other in (*rest, *callees):
            if other is not None and other not in seen:
                seen.add(other)
                found += [other, *self._behind(other, seen)]
        return found


def _break(record: CapturedFrame, cost: BreakCost | None) -> BreakReport:
    reason: BreakRecord | None = record.graph_break
    assert reason is not None
    lines = tuple(str(line) for line in (reason.stack or (reason.user_line,)) if line is not None)
    return BreakReport(reason.break_id.code, reason.break_id.title, reason.cause, reason.hint, lines, cost)
