"""Steps of optimizers on the parameters of BERT-base: ours, eager's forms, and torch.compile's own.

    python benchmarks/optimizers.py --optimizers AdamW,SGD --hidden 768

Each contestant has parameters and state of its own and steps once on the same gradients; all are timed in turn, so that
ratios hold when the machine's speed drifts. `step ms` is the median, `first s` the first compiled call once there is
state. The error is the largest difference of a parameter from eager's, after all steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn, optim

_LAYERS, _WORDS, _PLACES = 12, 30522, 512
OPTIONS: dict[str, dict[str, Any]] = {
    "AdamW": {},
    "Adam": {},
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "RMSprop": {},
    "Adagrad": {},
    "NAdam": {},
}
FUSED = ("AdamW", "Adam", "SGD", "Adagrad")


def shapes_of_bert(hidden: int) -> list[tuple[int, ...]]:
    """The sizes of the parameters of BERT-base with a head for masked words, 202 of them at 768."""
    words = _WORDS * hidden // 768
    shapes: list[tuple[int, ...]] = [(words, hidden), (_PLACES, hidden), (2, hidden), (hidden,), (hidden,)]
    for _ in range(_LAYERS):
        shapes += [(hidden, hidden), (hidden,)] * 4 + [(hidden,)] * 2
        shapes += [(4 * hidden, hidden), (4 * hidden,), (hidden, 4 * hidden), (hidden,), (hidden,), (hidden,)]
    return [*shapes, (hidden, hidden), (hidden,), (hidden,), (hidden,), (words,)]


@dataclass
class Contestant:
    """One form of the step. `first`: seconds of the call that compiles, None for eager."""

    name: str
    parameters: list[nn.Parameter]
    step: Callable[[], Any]
    first: float | None
    times: list[float]


def contestants(kind: str, hidden: int, with_peer: bool) -> list[Contestant]:
    """Every form of an optimizer, each compiled and with state."""
    forms: list[tuple[str, dict[str, Any], str | None]] = [("eager, foreach", {"foreach": True}, None)]
    if kind in FUSED:
        forms.append(("eager, fused", {"fused": True}, None))
    forms.append(("lampwork, foreach", {"foreach": True}, "lampwork"))
    if kind in FUSED:
        forms.append(("lampwork, fused", {"fused": True}, "lampwork"))
    if with_peer:
        forms.append(("torch.compile, foreach", {"foreach": True}, "inductor"))
    found: list[Contestant] = []
    for name, form, backend in forms:
        generator = torch.Generator().manual_seed(0)
        made = [nn.Parameter(torch.randn(s, generator=generator) * 0.02) for s in shapes_of_bert(hidden)]
        for parameter in made:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer = getattr(optim, kind)(made, **OPTIONS[kind], **form)
        optimizer.step()  # makes the state
        step, first = optimizer.step, None
        if backend is not None:
            step = torch.compile(optimizer.step, backend=backend)
            start = time.perf_counter()
            step()
            first = time.perf_counter() - start
        else:
            step()
        found.append(Contestant(name, made, step, first, []))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", default="AdamW,SGD,RMSprop")
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-peer", action="store_true", help="leave torch.compile's own backend out")
    options = parser.parse_args()
    console = Console(width=110)
    table = Table("optimizer", "form", "step ms", "over eager's best", "first s", "error", title="one step, CPU, fp32")
    for kind in options.optimizers.split(","):
        forms = contestants(kind, options.hidden, not options.no_peer)
        for _ in range(options.rounds):
            for form in forms:
                start = time.perf_counter()
                form.step()
                form.times.append(time.perf_counter() - start)
        medians = {form.name: statistics.median(form.times[2:]) for form in forms}
        best = min(value for name, value in medians.items() if name.startswith("eager"))
        for form in forms:
            pairs = zip(form.parameters, forms[0].parameters, strict=True)
            error = max(float((a - b).detach().abs().max()) for a, b in pairs)
            first = "" if form.first is None else f"{form.first:.1f}"
            ratio = f"{best / medians[form.name]:.2f}x"
            table.add_row(kind, form.name, f"{1e3 * medians[form.name]:.1f}", ratio, first, f"{error:.1e}")
    console.print(table)


if __name__ == "__main__":
    main()
