"""Memory-bound functions and their backwards on a GPU: bytes a second, of what a copy on the same card reaches.

    python benchmarks/gpu_bandwidth.py --out FOLDER [--functions softmax,...] [--all-shapes] [--parallel 8]
        [--contestants eager,torch.compile,lampwork] [--device cpu --tiny]

Traffic is the least that a function needs in bf16: each input read once, each result written once; what a forward pass
keeps for its backward beside inputs and results is not in it. Time is the card's, over several input sets that are
together larger than its cache. Every result is compared with float64; the program exits with 1 if ours is worse than
eager. Shapes: all columns at 64 MB, three of them also at 16 and 256 MB; `--all-shapes`: all at all.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each run compiles as the first one does
os.environ.setdefault("LAMPWORK_RECOMPILE_LIMIT", "1000")  # one function has all shapes

import torch
import torch._dynamo
import torch._functorch.config
import torch.nn.functional as F
from gpu_card import alone, card_seconds, collect, compiling, copy_bandwidth, describe
from gpu_contestants import compiled
from gpu_names import EAGER, OURS, TORCH
from gpu_processes import Result, Task, plan_of, run_tasks
from gpu_results import Report, known

COLUMNS = (1024, 2048, 4096, 5000, 8192, 16384, 32768, 50257, 65536)
SEVERAL_SIZES = (1024, 8192, 50257)
MEGABYTES = (16, 64, 256)
CACHE_BYTES = 256 << 20  # more than four times the largest cache
DROPPED = 0.1
Tensors = list[torch.Tensor]


def softmax(x: torch.Tensor) -> torch.Tensor:
    return x.softmax(-1)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (x.size(-1),), weight, bias)


def rms_norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (x.size(-1),), weight, 1e-6)


def cross_entropy(x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(x, target)


def gelu_bias_residual(x: torch.Tensor, residual: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.dropout(F.gelu(x + bias), DROPPED, training=False) + residual


def gelu_bias_dropout_residual(x: torch.Tensor, residual: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.dropout(F.gelu(x + bias), DROPPED, training=True) + residual


@dataclass(frozen=True)
class Operation:
    """A function, its inputs by kind ("whole", "row": one of each column, "target"), and its least traffic in tensors
    of the whole size."""

    function: Callable[..., torch.Tensor]
    inputs: tuple[str, ...]
    forward: int
    backward: int
    is_random: bool = False


OPERATIONS = (
    Operation(softmax, ("whole",), 2, 3),
    Operation(layer_norm, ("whole", "row", "row"), 2, 3),
    Operation(rms_norm, ("whole", "row"), 2, 3),
    Operation(cross_entropy, ("whole", "target"), 1, 2),
    Operation(gelu_bias_residual, ("whole", "whole", "row"), 3, 3),
    Operation(gelu_bias_dropout_residual, ("whole", "whole", "row"), 3, 3, True),
)
BY_NAME = {operation.function.__name__: operation for operation in OPERATIONS}


@dataclass(frozen=True)
class Shape:
    rows: int
    columns: int
    megabytes: int

    @property
    def bytes(self) -> int:
        return 2 * self.rows * self.columns


def shapes(tiny: bool, every: bool) -> list[Shape]:
    """The shapes to measure."""
    if tiny:
        return [Shape(8, 64, 0), Shape(4, 50, 0)]
    pairs = [(c, m) for m in MEGABYTES for c in COLUMNS if every or m == 64 or c in SEVERAL_SIZES]
    return [Shape((m << 20) // (2 * columns), columns, m) for columns, m in pairs]


def inputs_of(operation: Operation, shape: Shape, device: str, *, grads: bool) -> Tensors:
    """Random inputs."""
    made: Tensors = []
    for kind in operation.inputs:
        if kind == "target":
            made.append(torch.randint(0, shape.columns, (shape.rows,), device=device))
        else:
            size = (shape.rows, shape.columns) if kind == "whole" else (shape.columns,)
            made.append(torch.randn(size, dtype=torch.bfloat16, device=device).requires_grad_(grads))
    return made


def backward_of(function: Callable[..., torch.Tensor], inputs: Tensors) -> Callable[[], Tensors]:
    """The backward pass alone, after a forward pass."""
    result = function(*inputs)
    leaves = [t for t in inputs if t.requires_grad]
    tangent = torch.ones_like(result) if result.dim() == 0 else torch.randn_like(result)
    return lambda: list(torch.autograd.grad(result, leaves, tangent, retain_graph=True))


def error_of(operation: Operation, function: Callable[..., torch.Tensor], inputs: Tensors, backward: bool) -> float:
    """The relative error against float64, of the worst result; for random functions, of the share that is dropped."""
    if operation.is_random:
        if backward:
            return 0.0  # its forward pass is compared without dropout, and the mask is nobody else's
        result = function(*inputs)
        kept = (result != inputs[1]).float().mean().item()
        return abs(kept - (1 - DROPPED)) if kept < 0.999 else float("inf")
    exact = [t.detach().double().requires_grad_(t.requires_grad) if t.is_floating_point() else t for t in inputs]
    want, got = operation.function(*exact), function(*inputs)
    pairs = [(got, want)]
    if backward:
        tangent = torch.randn_like(want)
        wanted = torch.autograd.grad(want, [t for t in exact if t.requires_grad], tangent)
        pairs = list(zip(torch.autograd.grad(got, [t for t in inputs if t.requires_grad], tangent.to(got)), wanted))
    return max(((g.detach().double() - w).norm() / w.norm().clamp(min=1e-30)).item() for g, w in pairs)


def prepare(operation: Operation, backward: bool, options: argparse.Namespace, report: Report) -> dict[str, Any]:
    """Compile every contestant for every shape, and compare."""
    functions: dict[str, Any] = {}
    for name in options.contestants.split(","):
        report.at(name)
        function = compiled(name, operation.function, dynamic=False, options=known({"cuda_graphs": False}))
        for shape in shapes(options.tiny, options.all_shapes):
            figures = report.of(name).setdefault(f"{shape.rows}x{shape.columns}", {})
            torch.manual_seed(0)
            inputs = inputs_of(operation, shape, options.device, grads=backward)
            try:
                figures["error"] = error_of(operation, function, inputs, backward)
            except Exception as error:
                traceback.print_exc()
                figures["failed"] = f"{type(error).__name__}: {error}"[:200]
        functions[name] = function
        collect(options.device)
    return functions


def time_all(
    operation: Operation, backward: bool, functions: dict[str, Any], options: argparse.Namespace, report: Report
) -> None:
    """The rates of all contestants at all shapes, in turns by shape."""
    report.at("timing")
    tiny = options.tiny
    report.data["copy"] = copy_bandwidth(options.device, 1 << 20 if tiny else 1 << 30)
    for shape in shapes(tiny, options.all_shapes):
        moved = shape.bytes * (operation.backward if backward else operation.forward)
        sets = 2 if tiny else max(2, -(-CACHE_BYTES // moved))
        every = [inputs_of(operation, shape, options.device, grads=backward) for _ in range(sets)]
        for name, function in functions.items():
            figures = report.of(name)[f"{shape.rows}x{shape.columns}"]
            if "failed" in figures:
                continue
            if backward:
                calls: list[Callable[[], Any]] = [backward_of(function, inputs) for inputs in every]
            else:
                calls = [lambda inputs=inputs, function=function: function(*inputs) for inputs in every]
            figures["rate"] = moved / card_seconds(calls, options.device)
            del calls
        del every
        collect(options.device)
    report.at("end")


def run_cell(options: argparse.Namespace) -> None:
    """One function in one direction."""
    name, direction = options.cell
    operation, backward, report = BY_NAME[name], direction == "backward", Report(options.result)
    torch._dynamo.config.recompile_limit = 1000
    torch._functorch.config.donated_buffer = False  # so that a backward pass can run again
    with torch.set_grad_enabled(backward):
        with compiling():
            functions = prepare(operation, backward, options, report)
        with alone():
            time_all(operation, backward, functions, options, report)


# The table


def rows(results: dict[str, Result], options: argparse.Namespace) -> list[str]:
    """In Markdown: parts of the copy's rate, a row a function and shape, and the least and the median of each."""
    names = options.contestants.split(",")
    lines = [f"| function | columns | MB | {' | '.join(names)} |", "|" + "---|" * (3 + len(names))]
    parts: dict[tuple[str, str], list[float]] = {}
    for key, result in results.items():
        if "failed" in result:
            lines.append(f"| {key} | | | failed: {result['failed'][:100]} |")
        for shape in shapes(options.tiny, options.all_shapes):
            cells: list[str] = []
            for name in names:
                figures = result.get("contestants", {}).get(name, {}).get(f"{shape.rows}x{shape.columns}", {})
                if "rate" in figures:
                    part = figures["rate"] / result["copy"]
                    parts.setdefault((key, name), []).append(part)
                    cells.append(f"{part:.0%}{' WRONG' if is_wrong(result, name, shape) else ''}")
                else:
                    cells.append(figures.get("failed", "-")[:60].replace("|", "/").replace("\n", " "))
            lines.append(f"| {key} | {shape.columns} | {shape.megabytes} | {' | '.join(cells)} |")
    lines += ["", f"| least and median | {' | '.join(names)} |", "|" + "---|" * (1 + len(names))]
    for key in results:
        found = [parts.get((key, name), []) for name in names]
        lines.append(
            f"| {key} | {' | '.join(f'{min(f):.0%}, {statistics.median(f):.0%}' if f else '-' for f in found)} |"
        )
    rates = [f"{r['copy'] / 1e9:.0f}" for r in results.values() if "copy" in r]
    return [*lines, f"\nThe copy's rate, GB/s, before each function: {', '.join(rates)}."]


def is_wrong(result: Result, name: str, shape: Shape) -> bool:
    """Whether a contestant's error is above eager's, with some room; a random function's, above noise."""
    by_shape = [result["contestants"].get(n, {}).get(f"{shape.rows}x{shape.columns}", {}) for n in (EAGER, name)]
    eager, own = (figures.get("error", 0.0) for figures in by_shape)
    return not own <= 1.5 * eager + (0.2 if shape.megabytes == 0 else 2e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--functions", default=",".join(BY_NAME))
    parser.add_argument("--directions", default="forward,backward")
    parser.add_argument("--contestants", default=f"{EAGER},{TORCH},{OURS}")
    parser.add_argument("--all-shapes", action="store_true")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--limit", type=float, default=400)
    parser.add_argument("--total", type=float, default=560)
    parser.add_argument("--caches", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        run_cell(options)
        return
    shared = ["--contestants", options.contestants, "--device", options.device]
    shared += [flag for flag, on in (("--tiny", options.tiny), ("--all-shapes", options.all_shapes)) if on]
    tasks = {
        f"{name} {direction}": Task(f"{name}-{direction}", (__file__, "--cell", name, direction, *shared))
        for name in options.functions.split(",")
        for direction in options.directions.split(",")
    }
    plan = plan_of(options.out, options.parallel, options.limit, options.total, options.caches)
    found = run_tasks(list(tasks.values()), plan, lambda n, r: print(n, r.get("process_s"), r.get("failed", "")))
    results = {key: found[task.name] for key, task in tasks.items()}
    text = "\n".join([describe(options.device), "", *rows(results, options)])
    (options.out / "bandwidth.md").write_text(text + "\n")
    print(text)
    sys.exit(" WRONG" in text or any("failed" in r for r in results.values()))


if __name__ == "__main__":
    main()
