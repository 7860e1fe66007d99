"""`lampwork.explain`: what the whole stack makes of a call, from graph breaks to generated code.

Beside the path: it runs the call once with every stage's text kept. Invariant: it compiles as `lampwork.compile` does,
so what it shows is what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lampwork_capture
import torch
import torch.fx
from lampwork_capture import BreakRecord, Capture
from lampwork_capture.aot import KEPT, KeptReport
from lampwork_inductor_core import CompiledGraph

from .options import stack_options
from .pipeline import backend_of


@dataclass(frozen=True, slots=True)
class Explanation:
    """`str()` of it is for a person: frames, graphs, breaks with their cause, line and hint, and what was generated.

    `stages[i]` maps the names of compiled graph i's stages to their texts: "aten", "lowered", "schedule", "kernels",
    the device's code, and "wrapper". `kept[i]` says what graph i keeps for a backward pass, if it is the forward graph
    of one. Backward graphs are compiled when they are first needed: call again after `backward()` to see them.
    """

    capture: Capture
    stages: tuple[Mapping[str, str], ...]
    kept: tuple[KeptReport | None, ...]
    notes: tuple[str, ...]
    text: str

    @property
    def graph_breaks(self) -> tuple[BreakRecord, ...]:
        """Where frames were split, and why."""
        return self.capture.graph_breaks

    def __str__(self) -> str:
        lines = [self.text]
        for number, stages in enumerate(self.stages):
            lines.append(
                f"compiled graph {number}: stages {', '.join(stages)}; read them with `.stages[{number}][name]`"
            )
            kept = self.kept[number]
            if kept is not None:
                lines.append(str(kept))
        lines.extend(f"note: {note}" for note in self.notes)
        return "\n".join(lines)


def explain(
    model: Any, *, dynamic: bool | None = None, mode: str | None = None, options: Mapping[str, Any] | None = None
) -> Callable[..., Explanation]:
    """`explain(model)(*args)` calls `model` once, compiled, and explains what happened. Arguments as `compile`'s.

    Called again, it goes on with what is compiled and explains all of it, recompilations included.
    """
    compiled: list[CompiledGraph] = []
    kept: list[KeptReport | None] = []

    def note(graph: torch.fx.GraphModule, result: CompiledGraph) -> None:
        compiled.append(result)
        kept.append(graph.meta.get(KEPT))

    backend = backend_of(stack_options(mode, options, keep_artifacts=True), note, strict=False)

    explained = lampwork_capture.explain(model, backend=backend, dynamic=dynamic)

    def run(*args: Any, **kwargs: Any) -> Explanation:
        found = explained(*args, **kwargs)
        stages = tuple(c.artifacts.stages if c.artifacts is not None else {} for c in compiled)
        notes = tuple(n for c in compiled for n in c.notes)
        return Explanation(found.capture, stages, tuple(kept), notes, str(found))

    return run
