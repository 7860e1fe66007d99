"""Real models on one GPU, contestants side by side: speed, error, memory, graphs, host time and cold compiles.

    python benchmarks/gpu_models.py --out FOLDER [--mode inference|training|both] [--models bert,gpt2]
        [--contestants eager,torch.compile,reduce-overhead,lampwork] [--seconds 1.5] [--parallel 7]
        [--cold] [--cold-only] [--cold-parallel 4] [--limit 400] [--total 560] [--caches FOLDER] [--device cpu --tiny]

A model and mode is one process (gpu_cell.py): several compile at a time, each on its share of the cores, and only one
is timed, alone on the machine. With `--cold` every contestant also compiles in a fresh process with empty caches, on an
equal share of the cores. What fails is a line of the table. `--tables` prints the tables of a folder again. All goes to
FOLDER: a JSON and a log by cell, `models.json` and `models.md`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from gpu_names import CONTESTANTS, EAGER, INFERENCE_MODELS, OURS, OVERHEAD, TORCH, TRAINING_MODELS
from gpu_processes import Plan, Result, Task, plan_of, run_tasks

HERE = Path(__file__).parent
MODELS = {"inference": INFERENCE_MODELS, "training": TRAINING_MODELS}
COLUMNS = (
    "model", "contestant", "ms a call", "over eager", "over best torch.compile", "error / eager's", "graphs",
    "peak / eager's", "reserved / eager's", "host ms", "cold s",
)  # fmt: skip
_CELL, _COLD = "cell", "cold"


def cells(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Mode and model of each cell, the slow ones first."""
    chosen = [m for m in options.models.split(",") if m]
    modes = ("training", "inference") if options.mode == "both" else (options.mode,)
    return [(mode, model) for mode in modes for model in MODELS[mode] if not chosen or model in chosen]


def task_of(mode: str, model: str, options: argparse.Namespace, *extra: str, name: str = _CELL) -> Task:
    """The process of a cell."""
    command = [str(HERE / "gpu_cell.py"), "--model", model, "--mode", mode, "--device", options.device]
    command += ["--seconds", str(options.seconds), *(["--tiny"] if options.tiny else []), *extra]
    return Task(f"{name}-{mode}-{model}", tuple(command))


def _seen(name: str, result: Result) -> None:
    print(f"{name}: {result.get('process_s', 0):.0f} s {result.get('failed', '')}", flush=True)


def culprit(result: Result) -> str | None:
    """The contestant that ended a cell's process."""
    return result.get("at") if "failed" in result and result.get("at") in CONTESTANTS else None


def warm_cells(options: argparse.Namespace, plan: Plan) -> dict[str, Result]:
    """All cells; one whose process a contestant ended runs again without that one."""
    contestants = options.contestants.split(",")
    tasks = {
        f"{mode}/{model}": task_of(mode, model, options, "--contestants", ",".join(contestants))
        for mode, model in cells(options)
    }
    found = run_tasks(list(tasks.values()), plan, _seen)
    results = {key: found[task.name] for key, task in tasks.items()}
    again: dict[str, Task] = {}
    for key, result in results.items():
        guilty = culprit(result)
        if guilty is not None:
            left = [c for c in contestants if c != guilty]
            mode, model = key.split("/")
            again[key] = task_of(mode, model, options, "--contestants", ",".join(left), name="again")
    if again:
        found = run_tasks(list(again.values()), plan, _seen)
        for key, task in again.items():
            guilty, first = culprit(results[key]), results[key]
            results[key] = found[task.name]
            lost = first.get("contestants", {}).get(guilty, {}).get("failed") or first["failed"]
            results[key].setdefault("contestants", {})[guilty] = {"failed": lost}
    return results


def cold_cells(options: argparse.Namespace, plan: Plan) -> dict[str, Result]:
    """Cold compiles: by `mode/model`, a contestant's figures."""
    contestants = [c for c in options.contestants.split(",") if c != EAGER]
    tasks = {
        (f"{mode}/{model}", c): task_of(mode, model, options, "--cold", c, name=f"{_COLD}-{c}")
        for mode, model in cells(options)
        for c in contestants
    }
    found = run_tasks(list(tasks.values()), plan, _seen)
    results: dict[str, Result] = {}
    for (key, contestant), task in tasks.items():
        result = found[task.name]
        figures = result.get("contestants", {}).get(contestant, {})
        results.setdefault(key, {})[contestant] = figures if "cold_s" in figures else {"failed": result.get("failed")}
    return results


# The tables


def geomean(values: list[float]) -> float:
    """The geometric mean; nan of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def figures_of(cell: Result, cold: Result) -> dict[str, dict[str, Any]]:
    """Each contestant's figures with ratios to eager's and to the better of torch.compile's modes."""
    found = {name: dict(figures) for name, figures in cell.get("contestants", {}).items()}
    for name, figures in cold.items():
        found.setdefault(name, {}).update({k: v for k, v in figures.items() if k != "failed"})
    eager = found.get(EAGER, {})
    rivals = [found[c]["call_s"] for c in (TORCH, OVERHEAD) if "call_s" in found.get(c, {})]
    for figures in found.values():
        if "call_s" in figures and "call_s" in eager:
            figures["speedup"] = eager["call_s"] / figures["call_s"]
        if "call_s" in figures and rivals:
            figures["over_best"] = min(rivals) / figures["call_s"]
        for ratio, key in (
            ("error_ratio", "error"),
            ("peak_ratio", "peak_bytes"),
            ("reserved_ratio", "reserved_bytes"),
        ):
            if figures.get(key) is not None and eager.get(key):
                figures[ratio] = figures[key] / eager[key]
    return found


RATIOS = (("speedup", "{:.2f}x"), ("over_best", "{:.2f}x"), ("error_ratio", "{:.2f}"))
MEMORY = (("peak_ratio", "{:.2f}"), ("reserved_ratio", "{:.2f}"))


def _row(model: str, name: str, figures: dict[str, Any]) -> list[str]:
    def text(key: str, pattern: str, scale: float = 1.0) -> str:
        return pattern.format(figures[key] * scale) if key in figures else "-"

    if "failed" in figures:
        return [model, name, f"failed: {figures['failed']}"[:120].replace("|", "/").replace("\n", " "), *["-"] * 8]
    graphs = " + ".join(str(n) for n in figures.get("graphs", {}).values()) or "-"
    return [
        model, name, text("call_s", "{:.3f}", 1e3), *(text(*ratio) for ratio in RATIOS), graphs,
        *(text(*ratio) for ratio in MEMORY), text("host_s", "{:.3f}", 1e3), text("cold_s", "{:.1f}"),
    ]  # fmt: skip


def tables(warm: dict[str, Result], cold: dict[str, Result]) -> list[str]:
    """A table a mode in Markdown: a row a model and contestant, and geometric means of how many models."""
    lines: list[str] = []
    for mode in MODELS:
        keys = [key for key in {**warm, **cold} if key.startswith(f"{mode}/")]
        if not keys:
            continue
        lines += [f"\n**{mode}**\n", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
        every: dict[str, list[dict[str, Any]]] = {}
        for key in keys:
            model = key.removeprefix(f"{mode}/")
            found = figures_of(warm.get(key, {}), cold.get(key, {}))
            if not found or "failed" in warm.get(key, {}):
                lines.append(f"| {' | '.join(_row(model, '(cell)', {'failed': warm.get(key, {}).get('failed')}))} |")
            for name, figures in found.items():
                lines.append(f"| {' | '.join(_row(model, name, figures))} |")
                every.setdefault(name, []).append(figures)
        for name, of_name in every.items():
            means: dict[str, Any] = {}
            for ratio in ("speedup", "over_best", "error_ratio", "peak_ratio", "reserved_ratio", "cold_s"):
                values = [f[ratio] for f in of_name if f.get(ratio, 0) > 0 and math.isfinite(f[ratio])]
                means |= {ratio: geomean(values)} if values else {}
            timed = sum("speedup" in figures for figures in of_name)
            lines.append(f"| {' | '.join(_row(f'geomean of {timed}', name, means))} |")
    return [*lines, *_remarks(warm, cold)]


def _remarks(warm: dict[str, Result], cold: dict[str, Result]) -> list[str]:
    lines: list[str] = []
    for mode in MODELS:
        pairs = [
            (min(c[n]["cold_s"] for n in (TORCH, OVERHEAD) if "cold_s" in c.get(n, {})), c[OURS]["cold_s"])
            for key, c in cold.items()
            if key.startswith(mode) and "cold_s" in c.get(OURS, {})
            if any("cold_s" in c.get(n, {}) for n in (TORCH, OVERHEAD))
        ]
        if pairs:
            mean = geomean([theirs / max(ours, 1e-3) for theirs, ours in pairs])
            lines.append(f"\n{mode}: the quicker of torch.compile's cold compiles over ours: {mean:.2f} (geomean).")
    for key, cell in warm.items():
        notes = cell.get("contestants", {}).get(OURS, {}).get("notes", [])
        lines += [f"\n{key}, notes of ours: {'; '.join(notes)[:1500]}"] if notes else []
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mode", default="inference", choices=(*MODELS, "both"))
    parser.add_argument("--models", default="", help="all of a mode when empty")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--seconds", type=float, default=1.5, help="timing of a contestant in a cell")
    parser.add_argument("--parallel", type=int, default=7, help="cells that compile at a time")
    parser.add_argument("--cold", action="store_true", help="cold compiles after the timing")
    parser.add_argument("--cold-only", action="store_true")
    parser.add_argument(
        "--cold-parallel", type=int, default=4, help="cold compiles at a time, on equal shares of cores"
    )
    parser.add_argument("--limit", type=float, default=400, help="seconds for one process")
    parser.add_argument("--total", type=float, default=560, help="seconds for all; tables are of what was there then")
    parser.add_argument("--caches", type=Path, help="keep compile caches there, for a second run of the timing")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small models, to try the program")
    parser.add_argument("--tables", action="store_true", help="only print the tables of a folder again")
    options = parser.parse_args()
    file = options.out / "models.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"warm": {}, "cold": {}}
    if not options.tables:
        plan = plan_of(options.out, options.parallel, options.limit, options.total, options.caches)
        if not options.cold_only:
            kept["warm"] |= warm_cells(options, plan)
        if options.cold or options.cold_only:
            cold_plan = Plan(options.out, options.cold_parallel, options.limit, plan.deadline)
            kept["cold"] |= cold_cells(options, cold_plan)
        file.write_text(json.dumps(kept, indent=1))
    text = "\n".join(tables(kept["warm"], kept["cold"]))
    (options.out / "models.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
