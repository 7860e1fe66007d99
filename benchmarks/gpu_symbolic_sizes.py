"""What symbolic sizes cost kernels on a GPU: bytes a second of one compilation for all sizes against one for each.

    python benchmarks/gpu_symbolic_sizes.py [--without-variants] [--markdown FILE]

Contestants, on the same tensors in turns: eager; ours compiled for each size; ours compiled once for all sizes;
torch.compile for each size and for all. A number is the traffic that the function needs (each input read once, the
result written once) over the median time of a call, in GB/s. `--without-variants` shows ours without machine code of
its own for sizes that are multiples of 16, and for indices of 32 bits. Each result is compared with eager's in
float64; the program exits with 1 if ours differs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("LAMPWORK_REMEMBER", "0")  # each run compiles as the first one does

import lampwork
import torch
import torch.nn.functional as F
import triton.testing
from lampwork_inductor_gpu import launch_spec
from rich.console import Console
from rich.table import Table

SIZES = ((16384, 1024), (8192, 4096), (4096, 16384), (8192, 4095), (8192, 4104))
NEVER = 1 << 62  # no size is a multiple of it


def softmax(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x.softmax(-1)


def layer_norm(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (x.size(-1),), w, w)


def gelu_scaled_plus(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return F.gelu(x) * w + y


def add_columns(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x.sum(0) + w


FUNCTIONS: dict[Callable[..., torch.Tensor], tuple[int, int]] = {
    softmax: (1, 1), layer_norm: (1, 1), gelu_scaled_plus: (2, 1), add_columns: (1, 0),
}  # fmt: skip
"""How many tensors of the whole size each reads and writes."""


def contestants(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """By name; each compiles when it is called."""
    return {
        "eager": function,
        "ours, each size": lampwork.compile(function, dynamic=False),
        "ours, all sizes": lampwork.compile(function, dynamic=True),
        "torch, each size": torch.compile(function, dynamic=False),
        "torch, all sizes": torch.compile(function, dynamic=True),
    }


def seconds(function: Callable[..., Any], args: tuple[torch.Tensor, ...]) -> float:
    """The median time of a call on the card, whose cache is emptied in between; the host is ahead of it."""
    return cast("float", triton.testing.do_bench(lambda: function(*args), return_mode="median")) / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-variants", action="store_true", help="no machine code for divided or small sizes")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    options = parser.parse_args()
    if options.without_variants:
        launch_spec._DIVISOR = NEVER
        launch_spec.LaunchSpec.narrow_at = lambda *_: False
    wrong: list[str] = []
    rows: list[list[str]] = []
    names: list[str] = []
    for function, (reads, writes) in FUNCTIONS.items():
        compared = contestants(function)
        names = list(compared)
        for shape in SIZES:
            args = tuple(torch.randn(s, device="cuda", dtype=torch.bfloat16) for s in (shape, shape, shape[1:]))
            exact = function(*(t.double() for t in args))
            worst = (function(*args).double() - exact).abs().max().item()
            cells: list[str] = []
            for name, contestant in compared.items():
                for _ in range(3):
                    error = (contestant(*args).double() - exact).abs().max().item()
                if error > 1.5 * worst + 1e-6 and not name.startswith("torch"):
                    wrong.append(f"{function.__name__} {shape} {name}: {error:.2e} against eager's {worst:.2e}")
                moved = (reads + writes) * 2 * shape[0] * shape[1]
                cells.append(f"{moved / seconds(contestant, args) / 1e9:.0f}")
            rows.append([function.__name__, "x".join(map(str, shape)), *cells])
    head = ["function", "shape", *names]
    table = Table(*head, title=f"GB/s in bf16 on {torch.cuda.get_device_name()}, torch {torch.__version__}")
    for row in rows:
        table.add_row(*row)
    console = Console(width=160)
    console.print(table)
    for name in wrong:
        console.print(name, markup=False)
    if options.markdown:
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(r) + " |" for r in rows)]
        options.markdown.write_text("\n".join(lines) + "\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
