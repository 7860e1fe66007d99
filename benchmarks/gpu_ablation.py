"""What each optimisation is worth on a GPU: models with one of them off at a time, beside all of them on.

    python benchmarks/gpu_ablation.py --out FOLDER [--models gpt2,resnet50] [--mode inference|training]
        [--only fusion,attention] [--also 'name={"option": value}'] [--seconds 1] [--device cpu --tiny]

Every row is `torch.compile(model, backend="lampwork", options={...})`; all rows of a model are timed in turns in one
process. "slower" is the time without it over the time with everything. A row whose option this version does not have
says so. `--also` adds rows; a list in the JSON becomes a tuple.
"""

from __future__ import annotations

import argparse
import json
import os
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("LAMPWORK_RECOMPILE_LIMIT", "1000")  # one model has all rows

import torch
from gpu_card import compiling, describe
from gpu_cell import MODES, prepare, program_of, time_alone
from gpu_names import EAGER, OURS
from gpu_processes import Result, Task, plan_of, run_tasks
from gpu_results import Report, refused
from lampwork_inductor_core.passes.pipeline import PASSES
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.device import H100

FULL = "everything"
ABLATIONS: dict[str, Mapping[str, Any]] = {
    FULL: {},
    "fusion": {"max_fused": 1, "max_operations": 1, "inline_operations": 0},
    "pointwise work in reductions": {"fuse_with_reductions": False},
    "CUDA graphs": {"cuda_graphs": False},
    "layout": {"channels_last": False},
    "attention": {"disabled_passes": ("recognise_attention", "choose_attention")},
    "library epilogues": {"disabled_passes": ("fuse_linears", "fuse_convolutions")},
    "patches as products": {"disabled_passes": ("multiply_patches",)},
    "folded batch norm": {"disabled_passes": ("fold_batch_norm",)},
    "memory reuse": {"reuse_buffers": False, "update_in_place": False},
    "matrix templates": {"matrix_templates": False},
    "padding": {"pad_matrices": False},
}


def not_here(options: Mapping[str, Any]) -> str:
    """Why this version cannot run a row, or nothing."""
    passes = {name for name, _ in (*PASSES, *TritonBackend(H100).graph_passes())}
    unknown = [name for name in options.get("disabled_passes", ()) if name not in passes]
    return f"no pass {', '.join(unknown)}" if unknown else refused(options)


def rows_of(options: argparse.Namespace) -> dict[str, Mapping[str, Any]]:
    """The rows to run, with everything first."""
    added: dict[str, Mapping[str, Any]] = {}
    for text in options.also:
        name, values = text.split("=", 1)
        pairs = json.loads(values).items()
        added[name] = {key: tuple(value) if isinstance(value, list) else value for key, value in pairs}
    chosen = {**ABLATIONS, **added}
    only = [name for name in options.only.split(",") if name]
    return {name: chosen[name] for name in chosen if not only or name in (FULL, *only, *added)}


def run_cell(options: argparse.Namespace) -> None:
    """All rows of one model."""
    options.model, report = options.cell, Report(options.result)
    calls: dict[str, Callable[[], Any]] = {}
    with torch.set_grad_enabled(options.mode == "training"):
        with compiling():
            report.at("building")
            program = program_of(options)
            calls[EAGER] = prepare(EAGER, program, report.of(EAGER))
            for name, chosen in rows_of(options).items():
                report.at(name)
                reason = not_here(chosen)
                if reason:
                    report.of(name)["failed"] = f"not here: {reason}"
                    continue
                try:
                    calls[name] = prepare(OURS, program, report.of(name), chosen)
                except Exception as error:
                    traceback.print_exc()
                    report.of(name)["failed"] = f"{type(error).__name__}: {error}"[:300]
        time_alone(calls, options, report)
    report.at("end")


def table(results: dict[str, Result]) -> list[str]:
    """In Markdown, a row a model and optimisation."""
    lines = [
        "| model | off | ms a call | slower | error / eager's | graphs | host ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, result in results.items():
        found = result.get("contestants", {})
        if "failed" in result:
            lines.append(f"| {model} | (cell) | failed: {result['failed'][:120]} | | | | |")
        full, eager = found.get(FULL, {}), found.get(EAGER, {})
        for name, row in found.items():
            if "call_s" not in row:
                reason = str(row.get("failed", "not timed"))[:120].replace("|", "/").replace("\n", " ")
                lines.append(f"| {model} | {name} | {reason} | | | | |")
                continue
            slower = f"{row['call_s'] / full['call_s']:.3f}" if "call_s" in full else "-"
            error = f"{row['error'] / eager['error']:.2f}" if eager.get("error") else "-"
            graphs = " + ".join(map(str, row.get("graphs", {}).values())) or "-"
            lines.append(
                f"| {model} | {name} | {row['call_s'] * 1e3:.3f} | {slower} | {error} | {graphs} | "
                f"{row['host_s'] * 1e3:.3f} |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", default="gpt2,resnet50")
    parser.add_argument("--mode", default="inference", choices=MODES)
    parser.add_argument("--only", default="", help="these rows, and everything")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=JSON")
    parser.add_argument("--seconds", type=float, default=1.0, help="timing of a row")
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--limit", type=float, default=300)
    parser.add_argument("--total", type=float, default=560)
    parser.add_argument("--caches", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        run_cell(options)
        return
    shared = ["--mode", options.mode, "--only", options.only, "--seconds", str(options.seconds)]
    shared += ["--device", options.device, *(["--tiny"] if options.tiny else [])]
    shared += [part for text in options.also for part in ("--also", text)]
    models = options.models.split(",")
    tasks = [Task(f"ablation-{model}", (__file__, "--cell", model, *shared)) for model in models]
    plan = plan_of(options.out, options.parallel, options.limit, options.total, options.caches)
    found = run_tasks(tasks, plan, lambda name, r: print(name, round(r.get("process_s", 0)), r.get("failed", "")))
    text = "\n".join([describe(options.device), "", *table({m: found[f"ablation-{m}"] for m in models})])
    (options.out / "ablation.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
