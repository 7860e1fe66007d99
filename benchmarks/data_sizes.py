"""Sizes and numbers that depend on data: who captures them in one graph, ours beside torch.compile's.

    python benchmarks/data_sizes.py [--backend eager|lampwork]

The programs are those of packages/capture/tests/test_data_sizes.py (nonzero, masks, unique, `item()` as size, bound and
index). Each is called with several inputs, whose data differs: as both compilers come, and under `fullgraph=True`. A
cell says how many graphs were made, or which error was raised; the program exits with 1 if ours has a result that
differs from eager's, or not one graph for each kind (sizes and dtypes) of inputs.
"""

from __future__ import annotations

import argparse
import os
import runpy
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each run compiles as the first one does

import lampwork_capture
import torch
import torch._dynamo
from lampwork_capture.optimize import resolve_backend
from rich.console import Console
from rich.table import Table

PROGRAMS = Path(__file__).parents[1] / "packages/capture/tests/test_data_sizes.py"
Calls = Sequence[tuple[torch.Tensor, ...]]


def equal(expected: Any, found: Any) -> bool:
    """Whether two results are alike; tensors to float32's usual tolerance."""
    if isinstance(expected, (tuple, list)):
        return len(expected) == len(found) and all(map(equal, expected, found))
    if isinstance(expected, torch.Tensor):
        return expected.shape == found.shape and torch.allclose(found, expected, equal_nan=True)
    return type(expected) is type(found) and expected == found


def outcome(function: Callable[..., Any], optimized: Callable[..., Any], calls: Calls, graphs: list[Any]) -> str:
    """The number of graphs, or what went wrong."""
    try:
        results = [optimized(*call) for call in calls]
    except Exception as error:
        return type(error).__name__
    if not all(equal(function(*call), result) for call, result in zip(calls, results)):
        return "differs"
    return str(len(graphs))


def counting(graphs: list[Any], then: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A backend that notes each graph and runs it as it is, or has `then` compile it."""

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward if then is None else then(graph, inputs)

    return backend


def by_lampwork(function: Callable[..., Any], calls: Calls, backend: str, fullgraph: bool) -> str:
    """Lampwork's outcome."""
    graphs: list[Any] = []
    compiler = counting(graphs, None if backend == "eager" else resolve_backend(backend)[1])
    return outcome(function, lampwork_capture.optimize(compiler, fullgraph=fullgraph)(function), calls, graphs)


def by_torch(function: Callable[..., Any], calls: Calls, fullgraph: bool) -> str:
    """The outcome of torch.compile(backend="eager")."""
    torch._dynamo.reset()
    graphs: list[Any] = []
    return outcome(function, torch.compile(function, backend=counting(graphs), fullgraph=fullgraph), calls, graphs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["eager", "lampwork"], default="eager")
    backend: str = parser.parse_args().backend
    warnings.simplefilter("ignore")
    table = Table(title=f"graphs for all calls, backend {backend} (torch.compile: eager)")
    for column in (
        "program",
        "kinds of inputs",
        "lampwork",
        "torch.compile",
        "lampwork, whole",
        "torch.compile, whole",
    ):
        table.add_column(column)
    wrong, singles = 0, [0, 0, 0, 0]
    programs = runpy.run_path(str(PROGRAMS))["PROGRAMS"]
    for function, calls in programs:
        kinds = str(len({tuple((t.shape, t.dtype) for t in call) for call in calls}))
        cells = [
            run(function, calls, *options, fullgraph)
            for fullgraph in (False, True)
            for run, options in ((by_lampwork, (backend,)), (by_torch, ()))
        ]
        wrong += cells[0] != kinds or cells[2] != kinds
        singles = [count + (cell == kinds) for count, cell in zip(singles, cells)]
        table.add_row(function.__name__, kinds, *cells)
    table.add_row("one graph", "", *(f"{count} of {len(programs)}" for count in singles))
    Console(width=140).print(table)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
