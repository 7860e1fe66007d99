"""Whole-graph capture over model families: ours beside torch.compile's, in one run, with `backend="eager"`.

    python benchmarks/families.py [--families bert,gpt2] [--modes eval,train] [--jobs 2] [--markdown FILE]

Each family and mode runs in a process of its own: eager, then captured by Lampwork, then by torch.compile, each from
the same seed, twice. Outputs and buffers are compared with eager's bit by bit; the table shows graphs, breaks (each
place in the source once, for both) and operators captured. The program exits with 1 if a family raises, if a result
differs by more than 1e-6 (a model that asks `is_compiling` may take other operators than in eager), if torch.compile
has one graph where we have more, or if our breaks are not fewer in total.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

CONTESTANTS = ("lampwork", "torch.compile")
CELL_TIMEOUT_S = 900
TOLERANCE = 1e-6  # relative to the largest magnitude


# One cell, in its own process


def flat(output: Any) -> list[Any]:
    """The tensors of a model's output."""
    import torch

    leaves = torch.utils._pytree.tree_leaves(dict(output) if hasattr(output, "to_tuple") else output)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]


def _run(family: Any, mode: str, wrap: Callable[[Any], Callable[..., Any]], calls: int) -> list[Any]:
    """The tensors of some calls from a fixed seed, and the model's buffers after them."""
    import numpy
    import torch

    model = family.build().train(mode == "train")
    function = wrap(model)
    tensors: list[Any] = []
    with torch.set_grad_enabled(mode == "train"):
        for call in range(calls):
            torch.manual_seed(7 + call)
            numpy.random.seed(7 + call)  # speech models draw their masks there
            tensors += [t.detach().clone() for t in flat(function(**family.inputs()))]
    return tensors + [b.detach().clone() for b in model.buffers()]


def difference(expected: list[Any], found: list[Any]) -> float:
    """0.0 where all is equal bit by bit; else the largest difference relative to the largest magnitude."""
    import torch

    if len(expected) != len(found):
        return float("inf")
    worst = 0.0
    for a, b in zip(expected, found):
        if a.shape != b.shape or a.dtype != b.dtype:
            return float("inf")
        if not torch.equal(a, b) and not bool(((a == b) | (a.isnan() & b.isnan())).all()):
            worst = max(worst, float((a.double() - b.double()).abs().max() / a.double().abs().max().clamp(min=1e-30)))
    return worst


def _lampwork(family: Any, mode: str, calls: int) -> tuple[list[Any], dict[str, Any]]:
    from lampwork_capture.config import config_from_environment
    from lampwork_capture.frame_callback import FrameCallback
    from lampwork_capture.optimize import resolve_backend, shared_policy, with_callback

    callbacks: list[FrameCallback] = []

    def wrap(model: Any) -> Any:
        name, compiler = resolve_backend("eager")
        callbacks.append(FrameCallback(compiler, name, config_from_environment(), shared_policy()))
        return with_callback(model, callbacks[0])

    tensors = _run(family, mode, wrap, calls)
    frames = [frame for callback in callbacks for frame in callback.records]
    graphs = [frame.graph for frame in frames if frame.graph is not None]
    breaks = [f.graph_break for f in frames if f.graph_break is not None and not f.is_skipped]
    reasons = [f"{b.break_id.code} {b.cause} [{b.user_line}]" for b in breaks]
    idle = ("LW101", "LW102")
    skipped = [f for f in frames if f.is_skipped and f.graph_break and f.graph_break.break_id.code not in idle]
    reasons += [f"skipped {f.function}: {f.graph_break.break_id.code} {f.graph_break.cause}" for f in skipped]
    places = {(b.break_id, b.user_line) for b in breaks}
    counts = {"graphs": len(graphs), "breaks": len(places), "operators": sum(g.operator_count for g in graphs)}
    counts["recompilations"] = sum(len(callback.cache.recompilations) for callback in callbacks)
    return tensors, {**counts, "reasons": reasons}


def _torch_compile(family: Any, mode: str, calls: int) -> tuple[list[Any], dict[str, Any]]:
    import torch
    import torch._dynamo

    graphs: list[int] = []

    def backend(module: Any, inputs: Any) -> Any:
        graphs.append(sum(n.op in ("call_function", "call_method", "call_module") for n in module.graph.nodes))
        return module.forward

    tensors = _run(family, mode, lambda model: torch.compile(model, backend=backend), calls)
    reasons = torch._dynamo.utils.counters["graph_break"]
    stacks = [reason.user_stack for reason in torch._dynamo.utils.graph_break_reasons]
    places = {(str(stack[-1].filename), stack[-1].lineno) for stack in stacks if stack}
    breaks = max(len(places), len(reasons))
    counts = {"graphs": len(graphs), "breaks": breaks, "operators": sum(graphs)}
    return tensors, {**counts, "reasons": [str(reason).splitlines()[0] for reason in reasons]}


def run_cell(name: str, mode: str, calls: int = 2) -> dict[str, Any]:
    """Eager and both contestants on one family: counts, seconds, difference from eager."""
    import logging
    import warnings

    import torch
    from family_zoo import FAMILIES

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    family = next(f for f in FAMILIES if f.name == name)
    result: dict[str, Any] = {"family": name, "kind": family.kind, "mode": mode}
    expected = _run(family, mode, lambda model: model, calls)
    for contestant, run in zip(CONTESTANTS, (_lampwork, _torch_compile)):
        start = time.perf_counter()
        try:
            tensors, counts = run(family, mode, calls)
            result[contestant] = {**counts, "difference": difference(expected, tensors)}
        except Exception as error:
            result[contestant] = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()[-2000:]}
        result[contestant]["seconds"] = time.perf_counter() - start
    return result


# The table


def cell_process(script: str, name: str, argument: str, timeout: float) -> dict[str, Any]:
    """What a script's `--cell` prints for a family, run in a process of its own; an error for both where it fails."""
    command = [sys.executable, script, "--cell", name, argument]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        return json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, json.JSONDecodeError, IndexError) as error:
        failed = {"error": f"{type(error).__name__}: process failed"}
        return {"family": name, "kind": "?", "mode": argument, "refused": [], **dict.fromkeys(CONTESTANTS, failed)}


def _describe(cell: dict[str, Any]) -> list[str]:
    if "error" in cell:
        return ["-", "-", "-", cell["error"][:40]]
    difference = cell["difference"]
    return [
        *(str(cell[key]) for key in ("graphs", "breaks", "operators")),
        f"{difference:.0e}" if difference else "equal",
    ]


def _judge(cells: list[dict[str, Any]]) -> list[str]:
    failures: list[str] = []
    breaks = dict.fromkeys(CONTESTANTS, 0)
    for cell in cells:
        ours, theirs = (cell[contestant] for contestant in CONTESTANTS)
        title = f"{cell['family']} ({cell['mode']})"
        if "error" in ours:
            failures.append(f"{title}: {ours['error']}")
            continue
        if ours["difference"] > TOLERANCE:
            failures.append(f"{title}: differs from eager by {ours['difference']:.1e}")
        breaks["lampwork"] += ours["breaks"]
        if "error" not in theirs:
            breaks["torch.compile"] += theirs["breaks"]
            if theirs["graphs"] == 1 and ours["graphs"] != 1:
                failures.append(f"{title}: {ours['graphs']} graphs where torch.compile has one: {ours['reasons'][:3]}")
    if breaks["lampwork"] >= breaks["torch.compile"] > 0:
        failures.append(f"{breaks['lampwork']} breaks in total, torch.compile has {breaks['torch.compile']}")
    return failures


def _rows(cells: list[dict[str, Any]]) -> list[list[str]]:
    rows = [
        [c["family"], c["kind"], c["mode"], *_describe(c["lampwork"]), *_describe(c["torch.compile"])] for c in cells
    ]
    totals = ["total", "", ""]
    for contestant in CONTESTANTS:
        good = [c[contestant] for c in cells if "error" not in c[contestant]]
        totals += [str(sum(c[key] for c in good)) for key in ("graphs", "breaks", "operators")]
        totals.append(f"{sum(not c['difference'] for c in good)} of {len(cells)} equal")
    return [*rows, totals]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="", help="names, separated by commas; all when empty")
    parser.add_argument("--modes", default="eval,train")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    parser.add_argument("--reasons", action="store_true", help="print why each graph broke")
    parser.add_argument("--cell", nargs=2, metavar=("FAMILY", "MODE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(run_cell(*options.cell)))
        return
    from family_zoo import FAMILIES

    names = [n for n in options.families.split(",") if n] or [family.name for family in FAMILIES]
    work = [(name, mode) for name in names for mode in options.modes.split(",")]
    console = Console(width=160)
    with ThreadPoolExecutor(options.jobs) as pool:
        cells: list[dict[str, Any]] = []
        for cell in pool.map(lambda pair: cell_process(__file__, *pair, CELL_TIMEOUT_S), work):
            cells.append(cell)
            if options.reasons:
                console.print_json(data=cell)
    head = ["family", "kind", "mode"]
    head += [
        f"{'lampwork' if c == 'lampwork' else 'torch'} {x}"
        for c in CONTESTANTS
        for x in ("graphs", "breaks", "operators", "result")
    ]
    table = Table(*head, title='capture with backend="eager", results against eager')
    rows = _rows(cells)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.markdown:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
        options.markdown.write_text("\n".join(lines) + "\n")
    failures = _judge(cells)
    for failure in failures:
        console.print(f"[red]{failure}[/]", markup=True)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
