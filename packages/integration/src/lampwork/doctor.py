"""`doctor`: what of the stack works on this machine, and what a user should do about the rest.

Beside the path: it runs a tiny function through every stage and reports each finding with its remedy. Invariant: it
never raises; whatever goes wrong becomes a finding.
"""

from __future__ import annotations

import enum
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_capture import optimize
from lampwork_inductor_core import CompiledGraph
from lampwork_inductor_core.backend import find_backend
from rich.console import Console
from rich.table import Table

from .options import stack_options
from .pipeline import backend_of

_DISTRIBUTIONS = (
    "lampwork",
    "lampwork-capture",
    "lampwork-inductor-core",
    "lampwork-inductor-cpu",
    "lampwork-inductor-gpu",
    "lampwork-symshape",
)


class Health(enum.Enum):
    """How a finding stands: WARN costs speed or a device, FAIL means that the stack does not work."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    health: Health
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All findings, in the order of the path."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        return all(f.health is not Health.FAIL for f in self.findings)


def examine() -> Report:
    """Look at versions, capture, and the backend of every device that torch sees; takes a few seconds."""
    return Report((*_versions(), _attempt("capture", _capture), *_devices()))


def _versions() -> Iterator[Finding]:
    yield Finding("python", Health.OK, f"{platform.python_implementation()} {platform.python_version()}")
    yield Finding("torch", Health.OK, torch.__version__)
    for name in _DISTRIBUTIONS:
        try:
            yield Finding(name, Health.OK, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, Health.WARN, "not installed", f"pip install {name}")


def _attempt(what: str, check: Callable[[], str], remedy: str = "") -> Finding:
    try:
        return Finding(what, Health.OK, check())
    except Exception as error:  # whatever is wrong is what the report is for
        return Finding(what, Health.FAIL, f"{type(error).__name__}: {error}", remedy)


def _capture() -> str:
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, example_inputs: Any) -> Callable[..., Any]:
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    optimize(count, fullgraph=True)(lambda x: torch.relu(x + 1))(torch.zeros(3))
    return f"a function of two operations became a graph of {graphs[0]} nodes"


def _devices() -> Iterator[Finding]:
    yield _device("cpu")
    if torch.cuda.is_available():
        yield _device("cuda")
    else:
        yield Finding("cuda", Health.OK, "torch sees no GPU; the CPU backend is used")


def _device(name: str) -> Finding:
    def check() -> str:
        find_backend(torch.device(name))
        graphs: list[CompiledGraph] = []
        lowered = backend_of(stack_options(None, None), lambda _, result: graphs.append(result), strict=True)
        # A constant that changes with time makes the kernel new, so that the compiler really runs.
        offset = time.time() % 1e6
        x = torch.linspace(0, 1, 1000, device=name)
        start = time.perf_counter()
        with torch.no_grad():
            result = optimize(lowered, fullgraph=True)(lambda t: torch.tanh(t) * 2 + offset)(x)
        seconds = time.perf_counter() - start
        if not any(graph.kernels for graph in graphs):
            raise RuntimeError("nothing was compiled; the function ran through eager operators")
        torch.testing.assert_close(result, torch.tanh(x) * 2 + offset)
        return f"compiled, ran and checked a kernel in {seconds:.1f} s"

    return _attempt(
        name,
        check,
        "see the message: a C++ compiler for the CPU, triton for a GPU, a writable cache folder (LAMPWORK_CACHE_DIR)",
    )


_STYLE = {Health.OK: "[green]ok[/]", Health.WARN: "[yellow]warn[/]", Health.FAIL: "[red]fail[/]"}


def print_report(report: Report) -> None:
    """Print the report as a table."""
    table = Table(title="Lampwork on this machine")
    for heading in ("what", "", "detail", "what to do"):
        table.add_column(heading)
    for f in report.findings:
        table.add_row(f.what, _STYLE[f.health], f.detail, f.remedy if f.health is not Health.OK else "")
    Console().print(table)
