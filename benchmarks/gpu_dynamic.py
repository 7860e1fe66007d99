"""One compilation for twelve sizes on a GPU, at each size beside a compilation for that size alone.

    python benchmarks/gpu_dynamic.py --out FOLDER [--models bert,gpt2,resnet50] [--contestants torch.compile,lampwork]
        [--seconds 0.3] [--static 12] [--parallel 6] [--device cpu --tiny]

Sizes are batch and length (images: batch and edge). bf16, no_grad. A model and contestant is one process, in which both
forms and eager take turns at each size. `--static N`: only the first N sizes are compiled for alone (each costs a
compile). The table has the number of graphs that the dynamic form compiled, and its worst error over that of eager.
"""

from __future__ import annotations

import argparse
import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("LAMPWORK_RECOMPILE_LIMIT", "1000")  # the static form has all sizes

import torch
import torch._dynamo
from gpu_card import alone, compiling, describe, synchronise, timed_in_turn
from gpu_cell import error_of, exact_float32, in_half, workload_on
from gpu_contestants import compiled, counted
from gpu_models import geomean
from gpu_names import EAGER, OURS, TORCH
from gpu_processes import Result, Task, plan_of, run_tasks
from gpu_results import Report

STATIC, DYNAMIC = "static", "dynamic"
TEXT_SIZES = [(b, n) for n in (512, 128, 384) for b in (8, 16, 2, 4)]
IMAGE_SIZES = [(b, n) for n in (224, 160, 192) for b in (32, 64, 8, 16)]
TINY_TEXT, TINY_IMAGES = [(b, n) for n in (16, 8) for b in (2, 3)], [(b, n) for n in (64, 32) for b in (2, 3)]


def sizes_of(model: str, tiny: bool) -> list[tuple[int, int]]:
    """Batch and length (or edge) of each call, in order."""
    if model == "resnet50":
        return TINY_IMAGES if tiny else IMAGE_SIZES
    return TINY_TEXT if tiny else TEXT_SIZES


def inputs_at(inputs: dict[str, torch.Tensor], batch: int, length: int) -> dict[str, torch.Tensor]:
    """The inputs of one size, cut from those of the largest."""
    cut: dict[str, torch.Tensor] = {}
    for name, tensor in inputs.items():
        part = tensor[:batch, :length] if tensor.dim() == 2 else tensor[:batch, :, :length, :length]
        cut[name] = part.contiguous()
    return cut


def prepare(options: argparse.Namespace, report: Report) -> dict[str, dict[str, Callable[[], Any]]]:
    """By size, the calls that are timed; everything is compiled and compared."""
    model, contestant = options.cell
    sizes = sizes_of(model, options.tiny)
    largest = dict(zip(("batch", "edge" if model == "resnet50" else "length"), map(max, zip(*sizes))))
    workload = workload_on(model, options.device, options.tiny, **largest)
    eager = in_half(workload.model)
    every = {
        f"{b}x{n}": {
            k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in inputs_at(workload.inputs, b, n).items()
        }
        for b, n in sizes
    }
    exact = copy.deepcopy(eager).float()
    forms: dict[str, Any] = {EAGER: eager}
    for form in (DYNAMIC, STATIC):  # copies: what a contestant keeps for one module is of one form then
        forms[form] = compiled(contestant, copy.deepcopy(eager), dynamic=form == DYNAMIC)
    calls: dict[str, dict[str, Callable[[], Any]]] = {}
    worst = dict.fromkeys(forms, 0.0)
    for form, module in forms.items():
        report.at(form)
        with counted(contestant) as graphs:
            for number, (size, inputs) in enumerate(every.items()):
                if form == STATIC and number >= options.static:
                    continue
                for _ in range(3):
                    result = workload.read(module(**inputs))
                    synchronise(options.device)
                with exact_float32():
                    floats = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
                    worst[form] = max(worst[form], error_of(result, workload.read(exact(**floats))))
                calls.setdefault(size, {})[form] = lambda module=module, inputs=inputs: module(**inputs)
        report.data[f"{form}_graphs"] = sum(graphs.kinds.values())
    report.data["errors"] = worst
    return calls


def run_cell(options: argparse.Namespace) -> None:
    """One model and contestant at all sizes."""
    torch._dynamo.config.recompile_limit = 1000
    report = Report(options.result)
    with torch.no_grad():
        with compiling():
            calls = prepare(options, report)
        report.at("timing")
        with alone():
            for size, forms in calls.items():
                times = timed_in_turn(forms, options.seconds, options.device)
                report.of(size).update({form: time.call for form, time in times.items()})
    report.at("end")


def table(results: dict[str, Result]) -> list[str]:
    """In Markdown: a row a size, and geometric means of each model and contestant."""
    lines = ["| model | contestant | size | dynamic ms | static ms | dynamic / static | eager / dynamic |"]
    lines.append("|---|---|---|---|---|---|---|")
    for key, result in results.items():
        model, contestant = key.split("/")
        if "failed" in result:
            lines.append(f"| {model} | {contestant} | failed at {result.get('at')}: {result['failed'][:100]} | | | | |")
        slower: list[float] = []
        faster: list[float] = []
        for size, times in result.get("contestants", {}).items():
            faster.append(times[EAGER] / times[DYNAMIC])
            static, ratio = "-", "-"
            if STATIC in times:
                slower.append(times[DYNAMIC] / times[STATIC])
                static, ratio = f"{times[STATIC] * 1e3:.3f}", f"{slower[-1]:.3f}"
            lines.append(
                f"| {model} | {contestant} | {size} | {times[DYNAMIC] * 1e3:.3f} | {static} | {ratio} | "
                f"{faster[-1]:.2f}x |"
            )
        if faster:
            errors = result["errors"]
            lines.append(
                f"| {model} | {contestant} | geomean | {result['dynamic_graphs']} graphs, error "
                f"{errors[DYNAMIC] / max(errors[EAGER], 1e-9):.2f} of eager's | {result['static_graphs']} graphs | "
                f"{geomean(slower):.3f} | {geomean(faster):.2f}x |"
            )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--models", default="bert,gpt2,resnet50")
    parser.add_argument("--contestants", default=f"{TORCH},{OURS}")
    parser.add_argument("--seconds", type=float, default=0.3, help="timing of a form at a size")
    parser.add_argument("--static", type=int, default=12, help="sizes that the static form is compiled for")
    parser.add_argument("--parallel", type=int, default=6)
    parser.add_argument("--limit", type=float, default=500)
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
    shared = ["--seconds", str(options.seconds), "--static", str(options.static), "--device", options.device]
    shared += ["--tiny"] if options.tiny else []
    tasks = {
        f"{model}/{contestant}": Task(f"dynamic-{model}-{contestant}", (__file__, "--cell", model, contestant, *shared))
        for contestant in options.contestants.split(",")
        for model in options.models.split(",")
    }
    plan = plan_of(options.out, options.parallel, options.limit, options.total, options.caches)
    shown = lambda name, result: print(name, round(result.get("process_s", 0)), result.get("failed", ""))  # noqa: E731
    found = run_tasks(list(tasks.values()), plan, shown)
    text = "\n".join([describe(options.device), "", *table({key: found[task.name] for key, task in tasks.items()})])
    (options.out / "dynamic.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
