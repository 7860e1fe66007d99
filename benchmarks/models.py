"""The model benchmark: models x contestants, each cell in a process of its own with empty caches.

    python benchmarks/models.py                        # the five demo models on the CPU, everybody
    python benchmarks/models.py --models bert,gpt2 --contestants torch.compile,lampwork --markdown out.md

Speed-ups are over eager, measured in turn in the cell's own process. Cold start is from `torch.compile(...)` to the
end of the first call with empty caches; second start is the same in a second process with the caches of the first.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
DEFAULT_MODELS = "bert,gpt2,llama,vit,resnet50"
DEFAULT_CONTESTANTS = "eager,torch.compile,max-autotune,freezing,lampwork,onnxruntime,openvino"

Cell = dict[str, float | str]


def run_cell(model: str, contestant: str, device: str, seconds: float, caches: Path, *extra: str) -> Cell:
    """Run one cell in a new process whose compile caches are under `caches`."""
    environment = dict(
        os.environ,
        LAMPWORK_CACHE_DIR=str(caches / "lampwork"),
        TORCHINDUCTOR_CACHE_DIR=str(caches / "inductor"),
        TRITON_CACHE_DIR=str(caches / "triton"),
    )
    command = [sys.executable, str(HERE / "cell.py"), "--model", model, "--contestant", contestant]
    command += ["--device", device, "--seconds", str(seconds), *extra]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return {"failed": reason}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_all(models: list[str], contestants: list[str], device: str, seconds: float) -> dict[tuple[str, str], Cell]:
    """All cells; the second start of each contestant follows its first at once."""
    console = Console(stderr=True)
    cells: dict[tuple[str, str], Cell] = {}
    for model in models:
        for contestant in contestants:
            with tempfile.TemporaryDirectory() as caches:
                cell = run_cell(model, contestant, device, seconds, Path(caches))
                if "cold_s" in cell and contestant != "eager":
                    second = run_cell(model, contestant, device, 0.0, Path(caches))
                    cell["second_s"] = second.get("cold_s", math.nan)
            cells[model, contestant] = cell
            console.print(f"{model:10} {contestant:14} {json.dumps(cell)}")
    return cells


def geomean(values: list[float]) -> float:
    """The geometric mean; nan when a value is missing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values and all(values) else math.nan


def _text(cell: Cell, key: str, pattern: str) -> str:
    if "failed" in cell:
        return "failed"
    if "unavailable" in cell:
        return "-"
    return pattern.format(cell[key]) if key in cell else ""


COLUMNS = (
    ("speed-up over eager", "speedup", "{:.2f}x"),
    ("ms a call", "call_s", "{:.4f}"),
    ("cold start, s", "cold_s", "{:.1f}"),
    ("second start, s", "second_s", "{:.1f}"),
    ("relative error", "error", "{:.1e}"),
    ("memory above the model, MB", "extra_bytes", "{:.0f}"),
)


def tables(
    cells: dict[tuple[str, str], Cell], models: list[str], contestants: list[str]
) -> list[tuple[str, list[list[str]]]]:
    """One table a figure: a row a model and a geomean row for speed-ups, a column a contestant."""
    result: list[tuple[str, list[list[str]]]] = []
    for title, key, pattern in COLUMNS:
        rows = [["", *contestants]]
        for model in models:
            row = [model]
            for contestant in contestants:
                cell = dict(cells[model, contestant])
                if key == "call_s" and key in cell:
                    cell[key] = float(cell[key]) * 1e3
                if key == "extra_bytes" and key in cell:
                    cell[key] = float(cell[key]) / 1e6
                row.append(_text(cell, key, "{:.1f}" if key == "call_s" else pattern))
            rows.append(row)
        if key in ("speedup", "cold_s"):
            means = [geomean([float(cells[m, c].get(key, 0.0)) for m in models]) for c in contestants]
            rows.append(["geomean", *(pattern.format(m) for m in means)])
        result.append((title, rows))
    return result


def hardware() -> str:
    """The machine and the versions, for the head of a table."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    isa = torch.backends.cpu.get_cpu_capability()
    versions = f"CPython {platform.python_version()}, torch {torch.__version__}"
    return f"{cpu}, {isa}, {torch.get_num_threads()} threads, {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT_MODELS)
    parser.add_argument("--contestants", default=DEFAULT_CONTESTANTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0, help="steady-state measuring time of a cell")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    parser.add_argument("--json", type=Path, help="also write every cell to this file")
    options = parser.parse_args()
    models, contestants = options.models.split(","), options.contestants.split(",")
    cells = run_all(models, contestants, options.device, options.seconds)
    console = Console(width=160)
    markdown = [f"{hardware()}\n"]
    console.print(hardware())
    for title, rows in tables(cells, models, contestants):
        table = Table(title=title)
        for heading in rows[0]:
            table.add_column(heading, justify="right" if heading else "left")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
        head, *body = [f"| {' | '.join(row)} |" for row in rows]
        markdown.append("\n".join([f"**{title}**\n", head, "|" + "---|" * len(rows[0]), *body]) + "\n")
    if options.markdown:
        options.markdown.write_text("\n".join(markdown))
    if options.json:
        options.json.write_text(json.dumps({f"{m}/{c}": cell for (m, c), cell in cells.items()}, indent=1))


if __name__ == "__main__":
    main()
