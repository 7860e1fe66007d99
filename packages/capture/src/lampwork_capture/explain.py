"""`capture` and `explain`: run a function once and show what was captured: graphs, guards, breaks, new code.

Invariant: both are views of the `CapturedFrame` records; nothing is captured for them that a normal call would not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .captured_frame import CapturedFrame
from .config import config_from_environment
from .frame_callback import FrameCallback, GraphBackend
from .graph_break import BreakId, BreakRecord
from .guards.facts import Guard
from .optimize import resolve_backend, shared_policy, with_callback


@dataclass(frozen=True, slots=True)
class Capture:
    """What one call captured, and what it returned."""

    frames: tuple[CapturedFrame, ...]
    result: Any
    recompilations: tuple[str, ...] = ()

    @property
    def graphs(self) -> tuple[torch.fx.GraphModule, ...]:
        """The graphs, in the order in which they were captured."""
        return tuple(frame.graph.module for frame in self.frames if frame.graph is not None)

    @property
    def guards(self) -> tuple[Guard, ...]:
        return tuple(guard for frame in self.frames for guard in frame.guards)

    @property
    def graph_breaks(self) -> tuple[BreakRecord, ...]:
        """The breaks of frames that were split; skipped frames are in `skipped`."""
        return tuple(f.graph_break for f in self.frames if f.graph_break is not None and not f.is_skipped)

    @property
    def skipped(self) -> tuple[CapturedFrame, ...]:
        return tuple(frame for frame in self.frames if frame.is_skipped)

    @property
    def operator_count(self) -> int:
        return sum(frame.graph.operator_count for frame in self.frames if frame.graph is not None)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A capture as text for a person: `print(explanation)`; the data is `capture`."""

    capture: Capture

    def __str__(self) -> str:
        found = self.capture
        idle = [frame for frame in found.skipped if _is_idle(frame)]
        lines = [
            f"{_count(len(found.graphs), 'graph')}, {_count(found.operator_count, 'operation')}, "
            f"{_count(len(found.graph_breaks), 'graph break')}, "
            f"{_count(len(found.skipped), 'frame')} run as plain Python ({len(idle)} of them without tensor work)"
        ]
        for frame in found.frames:
            if not _is_idle(frame):
                lines += _frame_lines(frame)
        if found.recompilations:
            lines += ["Recompilations:", *(f"  {reason}" for reason in found.recompilations)]
        return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _is_idle(frame: CapturedFrame) -> bool:
    """A frame that was skipped only because it does nothing for a graph: no news for a person."""
    reason = frame.graph_break
    return frame.is_skipped and reason is not None and reason.break_id is BreakId.NO_TENSOR_WORK


def _frame_lines(frame: CapturedFrame) -> list[str]:
    code = frame.code
    lines = [f"{frame.function} ({code.co_filename}:{code.co_firstlineno})"]
    if frame.graph is not None:
        lines.append(
            f"  graph: {frame.graph.operator_count} operations, {len(frame.graph.inputs)} inputs; "
            f"{len(frame.guards)} guards"
        )
    elif not frame.is_skipped:
        lines.append("  no graph before the break")
    reason = frame.graph_break
    if reason is not None:
        kind = "runs as plain Python" if frame.is_skipped else "graph break"
        lines.append(f"  {kind} {reason.break_id.code} ({reason.break_id.title}): {reason.cause}")
        lines += [f"    {line}" for line in (reason.stack or (reason.user_line,)) if line is not None]
        lines.append(f"    hint: {reason.hint}")
    return lines


def capture(function: Any, *args: Any, **kwargs: Any) -> Capture:
    """Call `function(*args, **kwargs)` once with capture on and return what was captured, result included."""
    return _captured(function, "eager", args, kwargs)


def explain(function: Any, *, backend: str | GraphBackend = "eager") -> Callable[..., Explanation]:
    """`explain(f)(*args)` calls `f` once and explains what was captured; graphs are compiled by `backend`."""

    def run(*args: Any, **kwargs: Any) -> Explanation:
        return Explanation(_captured(function, backend, args, kwargs))

    return run


def _captured(function: Any, backend: str | GraphBackend, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Capture:
    name, compiler = resolve_backend(backend)
    callback = FrameCallback(compiler, name, config_from_environment(), shared_policy())
    result = with_callback(function, callback)(*args, **kwargs)
    reasons = tuple(f"{again.place}: {'; '.join(again.reasons)}" for again in callback.cache.recompilations)
    return Capture(tuple(callback.records), result, reasons)
