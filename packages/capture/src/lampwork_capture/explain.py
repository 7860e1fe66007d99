"""`capture` and `explain`: run a function once and show what was captured: graphs, guards, breaks, new code.

Invariant: both are views of the `CapturedFrame` records; nothing is captured for them that a normal call would not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.tree import Tree

from .captured_frame import CapturedFrame
from .config import config_from_environment
from .explain_report import Report, report_of
from .explain_text import text_of, tree_of
from .frame_callback import FrameCallback
from .graph_backend import GraphBackend
from .graph_break import BreakRecord
from .guards.facts import Guard
from .optimize import resolve_backend, shared_policy, with_callback
from .recompilation import Recompilation


@dataclass(frozen=True, slots=True)
class Capture:
    """What one call captured, and what it returned."""

    frames: tuple[CapturedFrame, ...]
    result: Any
    recompilations: tuple[Recompilation, ...] = ()

    @property
    def graphs(self) -> tuple[torch.fx.GraphModule, ...]:
        """The graphs, in the order in which they were captured."""
        return tuple(frame.graph.module for frame in self.frames if frame.graph is not None)

    @property
    def guards(self) -> tuple[Guard, ...]:
        return tuple(guard for frame in self.frames for guard in frame.guards)

    @property
    def graph_breaks(self) -> tuple[BreakRecord, ...]:
        """The places where frames were split, each once; skipped frames are in `skipped`.

        A loop with a break in it splits the frame around it and each round: that is one place."""
        places: dict[object, BreakRecord] = {}
        for frame in self.frames:
            found = frame.graph_break
            if found is not None and not frame.is_skipped:
                places.setdefault((found.break_id, found.user_line), found)
        return tuple(places.values())

    @property
    def skipped(self) -> tuple[CapturedFrame, ...]:
        return tuple(frame for frame in self.frames if frame.is_skipped)

    @property
    def operator_count(self) -> int:
        return sum(frame.graph.operator_count for frame in self.frames if frame.graph is not None)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A capture as text for a person, `print(explanation)`; as a tree in colours, with `rich.print`; and as data:
    `report`, or `to_dict()`."""

    capture: Capture

    @property
    def report(self) -> Report:
        """Frames, graphs, breaks and recompilations as frozen dataclasses."""
        return report_of(self.capture.frames, self.capture.recompilations)

    def to_dict(self) -> dict[str, Any]:
        """The report as dicts, lists, strings and numbers."""
        return self.report.to_dict()

    def __rich__(self) -> Tree:
        return tree_of(self.report)

    def __str__(self) -> str:
        return text_of(self.report)


def capture(function: Any, *args: Any, **kwargs: Any) -> Capture:
    """Call `function(*args, **kwargs)` once with capture on and return what was captured, result included."""
    return _captured(function, _recording("eager"), args, kwargs)


def explain(
    function: Any, *, backend: str | GraphBackend = "eager", dynamic: bool | None = None
) -> Callable[..., Explanation]:
    """`explain(f)(*args)` calls `f` once and explains what was captured; graphs are compiled by `backend`.

    `dynamic`: which sizes are symbolic, as `optimize` has it.

    Called again, what `explain(f)` gave goes on with the captures that there are and explains all of them: why a call
    was captured anew stands under the recompilations.
    """
    callback = _recording(backend, dynamic)

    def run(*args: Any, **kwargs: Any) -> Explanation:
        return Explanation(_captured(function, callback, args, kwargs))

    return run


def _recording(backend: str | GraphBackend, dynamic: bool | None = None) -> FrameCallback:
    name, compiler = resolve_backend(backend)
    # what is shown depends on this process alone
    config = replace(config_from_environment(dynamic=dynamic), memory=None)
    return FrameCallback(compiler, name, config, shared_policy())


def _captured(function: Any, callback: FrameCallback, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Capture:
    result = with_callback(function, callback)(*args, **kwargs)
    return Capture(tuple(callback.records), result, tuple(callback.cache.recompilations))
