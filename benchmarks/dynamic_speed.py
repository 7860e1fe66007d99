"""What symbolic sizes cost: a model compiled for all sizes against the same one compiled for the sizes of the call.

    python benchmarks/dynamic_speed.py [--models bert,gpt2] [--contestants lampwork,torch.compile] [--markdown FILE]

Steady-state times of both are taken in turn in one process. Cold starts, from the compile call to the end of the first
call, are of processes of their own with empty caches. `guards` is what Lampwork's guards of the dynamic version cost in
one call. The program exits with 1 if ours is more than 5 % slower in the geometric mean, or compiles 1.3 times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cell import in_turn, reference_outputs, relative_error
from model_zoo import Workload, build
from models import DEFAULT_MODELS, geomean, hardware
from rich.console import Console
from rich.table import Table

CONTESTANTS = "lampwork,torch.compile"
MOST_SLOWER, MOST_COMPILE = 1.05, 1.3
COLUMNS = (
    "static ms",
    "dynamic ms",
    "dynamic / static",
    "cold static s",
    "cold dynamic s",
    "cold ratio",
    "error",
    "guards us",
)


def prepared(contestant: str, workload: Workload, dynamic: bool) -> Callable[[], list[torch.Tensor]]:
    """A callable of no arguments; what is not dynamic is for the sizes of the call alone."""
    if contestant == "torch.compile":
        module: Any = torch.compile(workload.model, dynamic=dynamic)
    else:
        import lampwork_capture

        module = lampwork_capture.optimize("lampwork", dynamic=dynamic)(workload.model)
    return lambda: workload.read(module(**workload.inputs))


def cold_cell(model: str, contestant: str, dynamic: bool) -> dict[str, float]:
    """Seconds of the first call."""
    workload = build(model)
    workload.read(workload.model(**workload.inputs))
    start = time.perf_counter()
    call = prepared(contestant, workload, dynamic)
    call()
    return {"cold_s": time.perf_counter() - start}


def speed_cell(model: str, contestant: str, seconds: float) -> dict[str, float]:
    """Seconds of a call of both versions, and the dynamic one's error against fp64 over that of the static one."""
    workload = build(model)
    static = prepared(contestant, workload, False)
    dynamic = prepared(contestant, build(model), True)  # torch's captures of one module would share a cache
    static()
    reference = reference_outputs(workload)
    error = relative_error(dynamic(), reference) / max(relative_error(static(), reference), 1e-9)
    static_s, dynamic_s = in_turn(static, dynamic, seconds)
    return {"static_s": static_s, "dynamic_s": dynamic_s, "error": error}


def guards_cell(model: str) -> dict[str, float]:
    """Seconds that the guards of the dynamic version take in one call."""
    from call_overhead import guard_check, least, ours

    workload = build(model)
    captured, callback = ours(workload.model, dynamic=True)
    captured(**workload.inputs)
    return {"guards_s": least({"guards": guard_check(callback)})["guards"] / 1e6}


def run(*arguments: str) -> dict[str, float]:
    """One cell in a process of its own with empty caches; {} if it fails."""
    with tempfile.TemporaryDirectory() as caches:
        environment = dict(
            os.environ,
            LAMPWORK_CACHE_DIR=f"{caches}/lampwork",
            TORCHINDUCTOR_CACHE_DIR=f"{caches}/inductor",
            TRITON_CACHE_DIR=f"{caches}/triton",
        )
        command = [sys.executable, str(Path(__file__).resolve()), "--cell", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        Console(stderr=True).print(f"{arguments}: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
        return {}
    return json.loads(done.stdout.strip().splitlines()[-1])


def cell(arguments: list[str], seconds: float) -> dict[str, float]:
    """The cell that `run` asks for."""
    kind, model, *rest = arguments
    with torch.no_grad():
        if kind == "cold":
            return cold_cell(model, rest[0], rest[1] == "dynamic")
        return guards_cell(model) if kind == "guards" else speed_cell(model, rest[0], seconds)


def row_of(model: str, contestant: str, seconds: float) -> dict[str, float]:
    """All figures of one model."""
    found = run("speed", model, contestant, "--seconds", str(seconds))
    for kind in ("static", "dynamic"):
        found |= {f"cold_{kind}_s": s for s in run("cold", model, contestant, kind).values()}
    if contestant == "lampwork":
        found |= run("guards", model)
    if "dynamic_s" in found:
        found["ratio"] = found["dynamic_s"] / found["static_s"]
    if "cold_dynamic_s" in found and "cold_static_s" in found:
        found["cold_ratio"] = found["cold_dynamic_s"] / found["cold_static_s"]
    return found


def texts(found: dict[str, float]) -> list[str]:
    """The cells of a row."""
    parts = (
        ("static_s", 1e3, "{:.1f}"), ("dynamic_s", 1e3, "{:.1f}"), ("ratio", 1, "{:.3f}"),
        ("cold_static_s", 1, "{:.1f}"), ("cold_dynamic_s", 1, "{:.1f}"), ("cold_ratio", 1, "{:.2f}"),
        ("error", 1, "{:.2f}"), ("guards_s", 1e6, "{:.2f}"),
    )  # fmt: skip
    return [pattern.format(found[key] * scale) if key in found else "-" for key, scale, pattern in parts]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT_MODELS)
    parser.add_argument("--contestants", default=CONTESTANTS)
    parser.add_argument("--seconds", type=float, default=8.0, help="steady-state measuring time of a model")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--cell", nargs="+", help="internal: one cell, printed as JSON")
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(options.cell, options.seconds)))
        return
    console, lines, failed = Console(width=150), [hardware()], False
    console.print(hardware())
    for contestant in options.contestants.split(","):
        rows = {model: row_of(model, contestant, options.seconds) for model in options.models.split(",")}
        means = {key: geomean([row.get(key, 0.0) for row in rows.values()]) for key in ("ratio", "cold_ratio")}
        table = Table("model", *COLUMNS, title=f"{contestant}: for all sizes against for these")
        lines += ["", f"**{contestant}**", "", f"| model | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
        for name, found in (*rows.items(), ("geomean", means)):
            table.add_row(name, *texts(found))
            lines.append(f"| {name} | {' | '.join(texts(found))} |")
        console.print(table)
        if contestant == "lampwork":
            failed = not (means["ratio"] <= MOST_SLOWER and means["cold_ratio"] <= MOST_COMPILE)
    if options.markdown:
        options.markdown.write_text("\n".join([*lines, ""]))
    sys.exit(failed)


if __name__ == "__main__":
    main()
