"""Five AdamW steps over model families: eager, Lampwork's whole stack and torch.compile, each against an fp64 run.

    python benchmarks/training_families.py [--families bert,gpt2] [--jobs 1] [--ours-only] [--markdown FILE]

Each family runs in a process of its own, in train mode with all dropout rates at 0 (fp64 draws other numbers), from the
same weights and inputs: losses of all steps, and all parameters after them. The error of the losses is relative to the
fp64 loss; that of the parameters is the 2-norm of the difference over the 2-norm of how far the fp64 run moved them. A
compiled run may be three times as far from fp64 as eager is, and 1e-5 (losses) or 1e-4 (parameters) more, as AdamW
moves a weight whose gradient is noise by as much as any other. Where fp64 cannot run (grouped products of experts have
no kernel for it), the reference is eager itself. Shown beside: how many forward and backward graphs were compiled. The
program exits with 1 if a family raises, is too far off, or has more graphs than torch.compile where that has one of
each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STEPS = 5
CELL_TIMEOUT_S = 900
WORKLOADS = ("demo:bert", "demo:gpt2", "demo:llama", "demo:vit", "demo:resnet50")


# One cell, in its own process


def _without_dropout(config: dict[str, Any], config_class: Any) -> dict[str, Any]:
    """The configuration with every rate of dropout at zero."""
    rates = {k: 0.0 for k, v in vars(config_class(**config)).items() if "drop" in k and isinstance(v, float)}
    return {**config, **rates}


def without_dropout(model: Any) -> Any:
    """The model, all of whose rates of dropout are set to zero."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for attribute, value in vars(module).items():
            if "drop" in attribute and isinstance(value, float):
                setattr(module, attribute, 0.0)
    return model


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """A model in train mode and the inputs of a step."""
    import dataclasses

    import torch
    import transformers
    from family_zoo import FAMILIES

    if name.startswith("demo:"):
        from model_zoo import build as build_workload

        workload = build_workload(name.removeprefix("demo:"))
        model, inputs = workload.model, workload.inputs
    else:
        family = next(f for f in FAMILIES if f.name == name)
        config_class = getattr(transformers, family.config_class)
        model = dataclasses.replace(family, config=_without_dropout(family.config, config_class)).build()
        torch.manual_seed(1)
        inputs = family.inputs()
    return without_dropout(model).train(), inputs


def loss_of(output: Any) -> Any:
    """The mean square of what a model returns."""
    import torch

    leaves = torch.utils._pytree.tree_leaves(dict(output) if hasattr(output, "to_tuple") else output)
    floats = [t for t in leaves if isinstance(t, torch.Tensor) and t.is_floating_point() and t.requires_grad]
    return sum(t.square().mean() for t in floats)


def train(model: Any, inputs: dict[str, Any], function: Callable[..., Any]) -> tuple[list[float], Any]:
    """The losses of the steps, and the parameters after them as one fp64 vector."""
    import numpy
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    for step in range(STEPS):
        torch.manual_seed(step)
        numpy.random.seed(step)
        optimizer.zero_grad()
        loss = loss_of(function(**inputs))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, torch.cat([p.detach().double().flatten() for p in model.parameters()])


def _lampwork(model: Any, counts: Counter[str]) -> Callable[..., Any]:
    import lampwork.pipeline as pipeline
    import torch

    compile_graph = pipeline.compile_graph

    def counting(graph: Any, *args: Any, **kwargs: Any) -> Any:
        counts[{"ForwardGraph": "forward", "BackwardGraph": "backward"}.get(graph._get_name(), "inference")] += 1
        return compile_graph(graph, *args, **kwargs)

    pipeline.compile_graph = counting
    return torch.compile(model, backend="lampwork")


def _torch_compile(model: Any, counts: Counter[str]) -> Callable[..., Any]:
    import torch
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func

    def compiler(kind: str) -> Any:
        def compile_graph(graph: Any, inputs: Any) -> Any:
            counts[kind] += 1
            return make_boxed_func(graph.forward)

        return compile_graph

    backend = aot_autograd(
        fw_compiler=compiler("forward"), bw_compiler=compiler("backward"), inference_compiler=compiler("inference")
    )
    return torch.compile(model, backend=backend)


def run_cell(name: str, ours_only: bool) -> dict[str, Any]:
    """All runs of one family."""
    import copy
    import logging
    import warnings

    import torch

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    model, inputs = build(name)
    start = torch.cat([p.detach().double().flatten() for p in model.parameters()])
    exact = copy.deepcopy(model).double()
    exact_inputs = {
        k: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in inputs.items()
    }
    try:
        losses, weights = train(exact, exact_inputs, exact)
    except RuntimeError:
        exact = copy.deepcopy(model)
        losses, weights = train(exact, inputs, exact)
    moved = float((weights - start).norm())
    del exact

    def errors(found: tuple[list[float], Any]) -> dict[str, float]:
        loss = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(found[0], losses))
        return {"losses": loss, "parameters": float((found[1] - weights).norm()) / max(moved, 1e-30)}

    eager = copy.deepcopy(model)
    result: dict[str, Any] = {"family": name, "eager": errors(train(eager, inputs, eager))}
    del eager
    runs = {"lampwork": _lampwork} if ours_only else {"lampwork": _lampwork, "torch.compile": _torch_compile}
    for contestant, wrap in runs.items():
        counts: Counter[str] = Counter()
        began = time.perf_counter()
        try:
            own = copy.deepcopy(model)
            found = errors(train(own, inputs, wrap(own, counts)))
            result[contestant] = {**found, **{k: counts[k] for k in ("forward", "backward", "inference")}}
        except Exception as error:
            result[contestant] = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-3000:]}
        result[contestant]["seconds"] = time.perf_counter() - began
        torch.compiler.reset()
    return result


# All cells


def verdict(result: dict[str, Any]) -> str:
    """Empty, or why a family fails."""
    ours, eager = result.get("lampwork", {"error": result.get("error", "no result")}), result.get("eager")
    if "error" in ours:
        return str(ours["error"]).splitlines()[0][:160]
    for what, allowance in (("losses", 1e-5), ("parameters", 1e-4)):
        if not ours[what] <= 3 * eager[what] + allowance:
            return f"{what} off by {ours[what]:.1e}, eager {eager[what]:.1e}"
    theirs = result.get("torch.compile", {})
    if theirs.get("forward") == theirs.get("backward") == 1 and not ours["forward"] == ours["backward"] == 1:
        return f"{ours['forward']} forward and {ours['backward']} backward graphs where torch.compile has one of each"
    return ""


def run_process(name: str, extra: list[str]) -> dict[str, Any]:
    """One family in a process of its own."""
    command = [sys.executable, __file__, "--cell", name, *extra]
    try:
        environment = {**os.environ, "LAMPWORK_STRICT": "1"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=CELL_TIMEOUT_S, env=environment)
    except subprocess.TimeoutExpired:
        return {"family": name, "error": "timed out"}
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return {"family": name, "error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    return json.loads(lines[-1])


def rows(results: list[dict[str, Any]]) -> list[str]:
    """The table, in Markdown."""
    head = "| family | losses: eager | ours | parameters: eager | ours | graphs: ours | torch.compile | |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for result in results:
        ours, theirs = result.get("lampwork", {}), result.get("torch.compile", {})
        eager = result.get("eager", {})

        def figure(of: dict[str, Any], what: str) -> str:
            return f"{of[what]:.1e}" if what in of and math.isfinite(of[what]) else "-"

        def graphs(of: dict[str, Any]) -> str:
            return f"{of['forward']} + {of['backward']}" if "forward" in of else "raises" if "error" in of else "-"

        cells = [
            figure(eager, "losses"),
            figure(ours, "losses"),
            figure(eager, "parameters"),
            figure(ours, "parameters"),
        ]
        lines.append(
            f"| {result['family']} | {' | '.join(cells)} | {graphs(ours)} | {graphs(theirs)} | {verdict(result)} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(run_cell(options.cell, options.ours_only)))
        return
    from family_zoo import FAMILIES

    names = [n for n in options.families.split(",") if n] or [*WORKLOADS, *(f.name for f in FAMILIES)]
    extra = ["--ours-only"] if options.ours_only else []
    results: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(lambda name: run_process(name, extra), names):
            results.append(result)
            print(rows([result])[-1], flush=True)
            if verdict(result) and "trace" in result.get("lampwork", {}):
                print(result["lampwork"]["trace"], file=sys.stderr)
    table = rows(results)
    good = sum(not verdict(result) for result in results)
    table.append(f"\n{good} of {len(results)} families train as in eager, {STEPS} steps of AdamW.")
    print("\n".join(table))
    if options.markdown:
        options.markdown.write_text("\n".join(table) + "\n")
    sys.exit(good < len(results))


if __name__ == "__main__":
    main()
