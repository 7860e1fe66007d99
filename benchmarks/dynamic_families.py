"""Model families over many sizes: how often each is compiled, ours beside torch.compile's, with `backend="eager"`.

    python benchmarks/dynamic_families.py [--families bert,gpt2] [--dynamic automatic|true] [--ours-only]
        [--jobs 2] [--markdown FILE]

Each family runs in a process of its own, over the same sizes of batch and sequence (1 among them): eager, then captured
by Lampwork, then by torch.compile, in eval mode. A family's count is the largest number of captures of any one code
object: 2 are one for the first sizes and one for all. The program exits with 1 if a result differs from eager's by more
than 1e-6, or if ours has more than 2 captures (1 with `--dynamic true`). A size that the model itself refuses is left
out, and shown.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from families import CONTESTANTS, TOLERANCE, cell_process, difference, flat
from rich.console import Console
from rich.table import Table

SIZES = (
    (2, 16), (3, 17), (1, 16), (2, 1), (1, 1), (4, 8), (5, 24), (3, 7), (2, 32), (6, 12), (1, 40), (7, 33),
)  # fmt: skip
CELL_TIMEOUT_S = 1200


def _outputs(function: Callable[..., Any], inputs: dict[str, Any]) -> list[Any]:
    import numpy
    import torch

    torch.manual_seed(7)
    numpy.random.seed(7)
    with torch.no_grad():
        return [t.detach().clone() for t in flat(function(**inputs))]


def _lampwork(model: Any, dynamic: bool | None) -> tuple[Callable[..., Any], Callable[[], dict[str, Any]]]:
    from lampwork_capture.config import config_from_environment
    from lampwork_capture.frame_callback import FrameCallback
    from lampwork_capture.optimize import resolve_backend, shared_policy, with_callback

    name, compiler = resolve_backend("eager")
    callback = FrameCallback(compiler, name, config_from_environment(dynamic=dynamic), shared_policy())

    def counts() -> dict[str, Any]:
        captured = [record for record in callback.records if record.graph is not None]
        by_code = collections.Counter(id(record.code) for record in captured)  # a resume function has one of its own
        causes = [f"{missed.place}: {missed.reasons[0]}" for missed in callback.cache.recompilations if missed.reasons]
        return {"captures": max(by_code.values(), default=0), "graphs": len(captured), "reasons": causes}

    return with_callback(model, callback), counts


def _torch_compile(model: Any, dynamic: bool | None) -> tuple[Callable[..., Any], Callable[[], dict[str, Any]]]:
    import torch
    import torch._dynamo

    torch._dynamo.config.cache_size_limit = 64
    torch._dynamo.config.recompile_limit = 64

    def counts() -> dict[str, Any]:
        metrics = torch._dynamo.utils.get_compilation_metrics()
        captured = [m for m in metrics if m.graph_op_count]
        by_code = collections.Counter((m.co_filename, m.co_firstlineno, m.co_name) for m in captured)
        return {"captures": max(by_code.values(), default=0), "graphs": len(captured), "reasons": []}

    return torch.compile(model, backend="eager", dynamic=dynamic), counts


def run_cell(name: str, dynamic: bool | None, ours_only: bool) -> dict[str, Any]:
    """Eager and the contestants on one family over all sizes: captures, graphs, worst difference from eager."""
    import logging
    import warnings

    import torch
    from family_zoo import FAMILIES

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    family = next(f for f in FAMILIES if f.name == name)
    result: dict[str, Any] = {"family": name, "kind": family.kind, "refused": []}
    model = family.build()
    expected: dict[tuple[int, int], list[Any]] = {}
    for batch, length in SIZES:
        try:
            expected[batch, length] = _outputs(model, family.inputs(batch, length))
        except Exception:
            result["refused"].append(f"{batch}x{length}")
    for contestant, make in zip(CONTESTANTS, (_lampwork,) if ours_only else (_lampwork, _torch_compile)):
        start = time.perf_counter()
        try:
            function, counts = make(family.build(), dynamic)
            worst = 0.0
            for (batch, length), wanted in expected.items():
                worst = max(worst, difference(wanted, _outputs(function, family.inputs(batch, length))))
            result[contestant] = {**counts(), "difference": worst}
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            result[contestant] = {"error": f"{type(error).__name__}: {text}", "trace": traceback.format_exc()[-2000:]}
        result[contestant]["seconds"] = time.perf_counter() - start
    return result


def _describe(cell: dict[str, Any] | None) -> list[str]:
    if cell is None:
        return ["", "", "not run"]
    if "error" in cell:
        return ["-", "-", cell["error"][:40]]
    return [str(cell["captures"]), str(cell["graphs"]), f"{cell['difference']:.0e}" if cell["difference"] else "equal"]


def _judge(cells: list[dict[str, Any]], most: int) -> list[str]:
    failures: list[str] = []
    for cell in cells:
        ours = cell["lampwork"]
        if "error" in ours:
            failures.append(f"{cell['family']}: {ours['error']}")
            continue
        if ours["difference"] > TOLERANCE:
            failures.append(f"{cell['family']}: differs from eager by {ours['difference']:.1e}")
        if ours["captures"] > most:
            failures.append(f"{cell['family']}: {ours['captures']} captures: {ours['reasons']}")
    return failures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default="", help="names, separated by commas; all when empty")
    parser.add_argument("--dynamic", choices=("automatic", "true"), default="automatic")
    parser.add_argument("--ours-only", action="store_true", help="leave torch.compile's half out")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    parser.add_argument("--cell", nargs=2, metavar=("FAMILY", "DYNAMIC[,ours-only]"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        name, how = options.cell
        dynamic, _, ours_only = how.partition(",")
        print(json.dumps(run_cell(name, True if dynamic == "true" else None, bool(ours_only))))
        return
    from family_zoo import FAMILIES

    names = [n for n in options.families.split(",") if n] or [family.name for family in FAMILIES]
    how = options.dynamic + (",ours-only" if options.ours_only else "")
    with ThreadPoolExecutor(options.jobs) as pool:
        cells = list(pool.map(lambda name: cell_process(__file__, name, how, CELL_TIMEOUT_S), names))
    head = ["family", "kind", "sizes refused"]
    for contestant in ("lampwork", "torch"):
        head += [f"{contestant} {column}" for column in ("captures", "graphs", "result")]
    console = Console(width=160)
    table = Table(*head, title=f"captures over {len(SIZES)} sizes, dynamic={options.dynamic}, results against eager")
    rows = [
        [c["family"], c["kind"], " ".join(c["refused"]), *_describe(c["lampwork"]), *_describe(c.get("torch.compile"))]
        for c in cells
    ]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if options.markdown:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
        options.markdown.write_text("\n".join(lines) + "\n")
    failures = _judge(cells, 1 if options.dynamic == "true" else 2)
    for failure in failures:
        console.print(failure, markup=False)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
