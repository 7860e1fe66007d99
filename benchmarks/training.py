"""Forward and backward of the demo models: speed, cold compile and memory, beside eager and torch.compile.

    python benchmarks/training.py [--models bert,gpt2] [--contestants torch.compile,lampwork] [--seconds 8]
                                  [--memory-only] [--markdown FILE]

Each model and contestant runs in a process of its own with empty compile caches. A step is `zero_grad`, forward, a mean
of squares as the loss, and backward; models are in train mode with all dropout rates at 0, so that every contestant
computes the same. Steps are timed in turn with eager's. Cold is from `torch.compile(...)` to the end of the first step,
less a steady step. Peak is the most memory that a step holds beyond what was there before it, by torch's profiler;
saved is what autograd keeps between forward and backward beside parameters and buffers, by its hooks.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

MODELS = "bert,gpt2,llama,vit,resnet50"
CONTESTANTS = "torch.compile,lampwork"

Step = Callable[[], None]


# One cell, in its own process


def peak_bytes(step: Step) -> int:
    """The most bytes that a step holds beyond those that were held before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = peak = 0
    for change in _allocations(profiler):
        held += change
        peak = max(peak, held)
    return peak


def _allocations(profiler: Any) -> Iterable[int]:
    """What was allocated (positive) and freed, in order of time."""
    found = [(e.start_ns(), e.nbytes()) for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [size for _, size in sorted(found, key=lambda entry: entry[0])]


def saved_bytes(forward: Callable[[], Any], model: Any) -> int:
    """The bytes of the storages that autograd saves in a forward pass, beside those of parameters and buffers."""
    import itertools

    import torch

    own = {t.untyped_storage().data_ptr() for t in itertools.chain(model.parameters(), model.buffers())}
    found: dict[int, int] = {}
    kept: list[Any] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    del output
    return sum(found.values())


def run_cell(name: str, contestant: str, seconds: float) -> dict[str, float]:
    """Figures of one model and contestant, and eager's beside them."""
    import torch
    from cell import in_turn
    from training_families import build, loss_of

    torch.set_num_threads(2)
    model, inputs = build(f"demo:{name}")
    reference = copy.deepcopy(model)
    start = time.perf_counter()
    compiled = torch.compile(model, backend="lampwork") if contestant == "lampwork" else torch.compile(model)

    def step_of(function: Callable[..., Any], owner: Any) -> Step:
        def step() -> None:
            owner.zero_grad()
            loss_of(function(**inputs)).backward()

        return step

    ours, eager = step_of(compiled, model), step_of(reference, reference)
    ours()
    first = time.perf_counter() - start
    ours()
    eager()
    result: dict[str, float] = {}
    if seconds:
        eager_s, ours_s = in_turn(eager, ours, seconds)
        result = {"eager_s": eager_s, "step_s": ours_s, "cold_s": first - ours_s}
    for own in (model, reference):
        own.zero_grad()
    result["saved"] = saved_bytes(lambda: loss_of(compiled(**inputs)), model)
    result["eager_saved"] = saved_bytes(lambda: loss_of(reference(**inputs)), reference)
    result["peak"], result["eager_peak"] = peak_bytes(ours), peak_bytes(eager)
    error = max(
        float((a.grad.double() - b.grad.double()).norm() / max(b.grad.double().norm(), 1e-6))
        for a, b in zip(model.parameters(), reference.parameters())
        if b.grad is not None
    )
    return {**result, "difference": error}


# All cells


def run_process(model: str, contestant: str, seconds: float) -> dict[str, Any]:
    """One cell in a process of its own, with empty caches."""
    with tempfile.TemporaryDirectory() as caches:
        folders = ("LAMPWORK_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
        environment = {
            **os.environ,
            "LAMPWORK_STRICT": "1",
            **{name: str(Path(caches) / name.lower()) for name in folders},
        }
        command = [sys.executable, __file__, "--cell", model, contestant, "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"failed": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(lines[-1])


def rows(cells: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    """The table, in Markdown, with geometric means."""
    lines = ["| model | contestant | step, ms | eager, ms | speed-up | cold, s | saved, of eager | peak, of eager |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    ratios: dict[str, list[float]] = {}
    for (model, contestant), cell in cells.items():
        if "failed" in cell:
            lines.append(f"| {model} | {contestant} | failed: {cell['failed'][:80]} | | | | | |")
            continue
        speed = "| | | | "
        if "step_s" in cell:
            ratio = cell["eager_s"] / cell["step_s"]
            ratios.setdefault(contestant, []).append(ratio)
            speed = f"| {cell['step_s'] * 1e3:.0f} | {cell['eager_s'] * 1e3:.0f} | {ratio:.3f} | {cell['cold_s']:.1f} "
        memory = [f"{cell[k] / 1e6:.0f} MB, {cell[k] / cell['eager_' + k]:.3f}" for k in ("saved", "peak")]
        lines.append(f"| {model} | {contestant} {speed}| {' | '.join(memory)} |")
    for contestant, values in ratios.items():
        lines.append(f"\n{contestant}: {math.prod(values) ** (1 / len(values)):.3f} times as fast as eager (geomean).")
    pairs = [
        (cells[model, "torch.compile"], cells[model, "lampwork"])
        for model in dict.fromkeys(model for model, _ in cells)
        if "cold_s" in cells.get((model, "torch.compile"), {}) and "cold_s" in cells.get((model, "lampwork"), {})
    ]
    if pairs:
        for what, place in (("step", "step_s"), ("cold compile", "cold_s")):
            mean = math.prod(theirs[place] / ours[place] for theirs, ours in pairs) ** (1 / len(pairs))
            lines.append(f"\ntorch.compile's {what} over lampwork's: {mean:.3f} (geomean).")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--contestants", default=CONTESTANTS)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(run_cell(*options.cell, options.seconds)))
        return
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for model in options.models.split(","):
        for contestant in options.contestants.split(","):
            seconds = 0.0 if options.memory_only else options.seconds
            cells[model, contestant] = run_process(model, contestant, seconds)
            print(rows({(model, contestant): cells[model, contestant]})[2], flush=True)
    table = rows(cells)
    print("\n".join(table))
    if options.markdown:
        options.markdown.write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
