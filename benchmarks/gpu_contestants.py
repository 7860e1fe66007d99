"""Who runs in the GPU benchmarks: each contestant turns a module or function into its compiled form, and counts graphs.

Used inside of a cell's process. Every contestant starts from the same object. Invariant: a count is of graphs that were
compiled, not of those that were only captured: a graph of ours that runs eagerly is not in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lampwork.pipeline as pipeline
import torch
import torch._dynamo
from gpu_names import EAGER, OURS, OVERHEAD, TORCH

Function = Callable[..., Any]


@dataclass
class Graphs:
    """What was compiled, by kind, and what our compiler noted about it. `kinds` is empty for eager."""

    kinds: Counter[str] = field(default_factory=Counter)
    results: list[Any] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What ours says that it left to libraries or did not do."""
        return sorted({str(note) for result in self.results for note in result.notes})


def compiled(
    name: str, target: Any, *, dynamic: bool | None = None, options: Mapping[str, Any] | None = None
) -> Function:
    """The contestant's form of a module or function. `options` are for ours."""
    if name == EAGER:
        return target
    if name == TORCH:
        return torch.compile(target, dynamic=dynamic)
    if name == OVERHEAD:
        return torch.compile(target, dynamic=dynamic, mode="reduce-overhead")
    if name == OURS:
        return torch.compile(target, dynamic=dynamic, backend="lampwork", options=dict(options) if options else None)
    raise ValueError(f"no contestant {name!r}")


def before_call(name: str) -> Callable[[], None]:
    """What a contestant asks its user to do before each call."""
    return torch.compiler.cudagraph_mark_step_begin if name == OVERHEAD else lambda: None


class counted:
    """Count the graphs that a contestant compiles inside of a with-statement."""

    def __init__(self, name: str) -> None:
        self.name, self.graphs = name, Graphs()

    def __enter__(self) -> Graphs:
        self.original = pipeline.compile_graph
        if self.name == OURS:
            graphs, original = self.graphs, self.original

            def counting(graph: Any, *args: Any, **kwargs: Any) -> Any:
                kind = {"ForwardGraph": "forward", "BackwardGraph": "backward"}.get(graph._get_name(), "inference")
                graphs.results.append(original(graph, *args, **kwargs))
                graphs.kinds[kind] += 1
                return graphs.results[-1]

            pipeline.compile_graph = counting
        else:
            torch._dynamo.utils.counters.clear()
        return self.graphs

    def __exit__(self, *_: object) -> None:
        pipeline.compile_graph = self.original
        if self.name in (TORCH, OVERHEAD):
            self.graphs.kinds["captured"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
