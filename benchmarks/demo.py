"""The demo: five real models through `torch.compile(model, backend="lampwork")`, checked, with a table.

    python benchmarks/demo.py

Each model runs in a process of its own with empty caches. It must be one graph without a break, and its error against
a run in fp64 at most twice eager's; otherwise the program exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from models import DEFAULT_MODELS, geomean, hardware, run_cell
from rich.console import Console
from rich.table import Table

COLUMNS = ("model", "graphs", "breaks", "error / eager's", "eager ms", "lampwork ms", "speed-up", "cold start s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT_MODELS)
    parser.add_argument("--seconds", type=float, default=4.0, help="steady-state measuring time a model")
    options = parser.parse_args()
    console = Console(width=120)
    console.print(hardware())
    table = Table(*COLUMNS, title='torch.compile(model, backend="lampwork"), fp32 inference')
    failures: list[str] = []
    speedups: list[float] = []
    for model in options.models.split(","):
        with tempfile.TemporaryDirectory() as caches, console.status(model):
            cell = run_cell(model, "lampwork", "cpu", options.seconds, Path(caches), "--count-graphs")
        if "call_s" not in cell:
            failures.append(f"{model}: {cell}")
            continue
        error, eager_error = float(cell["error"]), float(cell["eager_error"])
        if (cell["graphs"], cell["breaks"]) != (1, 0):
            failures.append(f"{model}: {cell['graphs']} graphs, {cell['breaks']} breaks")
        if error > 2 * eager_error:
            failures.append(f"{model}: error {error:.1e}, eager's {eager_error:.1e}")
        speedups.append(float(cell["speedup"]))
        table.add_row(
            model,
            str(cell["graphs"]),
            str(cell["breaks"]),
            f"{error / eager_error:.2f}",
            f"{1e3 * float(cell['eager_s']):.1f}",
            f"{1e3 * float(cell['call_s']):.1f}",
            f"{cell['speedup']:.2f}x",
            f"{cell['cold_s']:.1f}",
        )
    console.print(table)
    console.print(f"geomean speed-up over eager: {geomean(speedups):.2f}x")
    for failure in failures:
        console.print(f"[red]{failure}[/]")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
