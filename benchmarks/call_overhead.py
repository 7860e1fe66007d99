"""What a call of captured code costs above plain Python, and what capturing costs, beside torch.compile in one process.

    python benchmarks/call_overhead.py            the table of calls
    python benchmarks/call_overhead.py --trace    also CPU seconds to capture BERT-base, for both

Graphs do nothing: the backend returns a function that gives back outputs computed before, so that what is left is the
frame, the guards, the loading of inputs and the building of the result. "plain" is a module (or function) of the same
kind whose forward returns such a result at once. Figures are the least of many short repeats, alternating between the
contestants, so that a busy machine disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import lampwork_capture
import model_zoo
import torch
import torch._dynamo
from lampwork_capture.bytecode.assemble import argument_slots
from lampwork_capture.config import config_from_environment
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import shared_policy, with_callback

CALLS, REPEATS = 20, 400


def nothing(graph: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
    """A backend whose graphs do no work: the outputs are those of the example inputs."""
    outputs = graph.forward(*examples)
    return lambda *inputs: outputs


class Watching(FrameCallback):
    """A frame callback that keeps the last frame that it captured, and its entry."""

    view: Any = None
    entry: Any = None

    def __call__(self, view: Any, entries: tuple[Any, ...]) -> Any:
        answer = super().__call__(view, entries)
        if getattr(answer, "code", None) is not None:
            self.view, self.entry = view, answer
        return answer


class Trivial(torch.nn.Module):
    """A module whose forward returns what it was given when it was made."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.result


def ours(target: Any, dynamic: bool | None = None) -> tuple[Any, Watching]:
    config = config_from_environment(dynamic=dynamic)
    callback = Watching(nothing, "nothing", config, shared_policy(), keep_records=False)
    return with_callback(target, callback), callback


def least(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least microseconds a call, of many short repeats that take turns."""
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(REPEATS):
        for name, call in contestants.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            best[name] = min(best[name], (time.perf_counter() - start) / CALLS)
    return {name: 1e6 * seconds for name, seconds in best.items()}


def guard_check(callback: Watching) -> Callable[[], object]:
    """The guard check of the frame that was captured last."""
    view, tree = callback.view, callback.entry.guards
    names = view.code.co_varnames[: argument_slots(view.code)]
    slots, closure = tuple(view.local_values[name] for name in names), view.function.__closure__
    variables, builtins = view.global_values, view.builtin_values
    return lambda: tree.check(slots, closure, variables, builtins)


def one_tensor() -> dict[str, float]:
    """A function of one tensor with one operation."""

    def function(x: torch.Tensor) -> torch.Tensor:
        return x + 1

    x = torch.ones(3)
    result = function(x)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return result

    captured, callback = ours(function)
    theirs = torch.compile(function, backend=nothing)
    captured(x), theirs(x)
    return least(
        {
            "plain": lambda: plain(x),
            "ours": lambda: captured(x),
            "torch.compile": lambda: theirs(x),
            "our guards": guard_check(callback),
        }
    )


def bert() -> tuple[dict[str, float], dict[str, int]]:
    """BERT-base, random weights, eval, no_grad."""
    workload = model_zoo.bert()
    plain = Trivial(workload.model(**workload.inputs)).eval()
    captured, callback = ours(workload.model)
    theirs = torch.compile(workload.model, backend=nothing)
    captured(**workload.inputs), theirs(**workload.inputs)
    times = least(
        {
            "plain": lambda: plain(**workload.inputs),
            "ours": lambda: captured(**workload.inputs),
            "torch.compile": lambda: theirs(**workload.inputs),
            "our guards": guard_check(callback),
        }
    )
    return times, callback.entry.guards.counts


def trace_seconds(rounds: int = 3) -> dict[str, float]:
    """Least CPU seconds of the first call, of several fresh captures; the backend has its outputs already."""
    workload = model_zoo.bert()
    outputs: list[Any] = []

    def ready(graph: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        if not outputs:
            outputs.append(graph.forward(*examples))
        return lambda *inputs: outputs[0]

    lampwork_capture.optimize(ready)(workload.model)(**workload.inputs)
    best = {"ours": float("inf"), "torch.compile": float("inf")}
    for _ in range(rounds):
        torch._dynamo.reset()
        lampwork_capture.reset()
        theirs = torch.compile(workload.model, backend=ready)
        captured = lampwork_capture.optimize(ready)(workload.model)
        for name, call in (("ours", captured), ("torch.compile", theirs)):
            start = time.process_time()
            call(**workload.inputs)
            best[name] = min(best[name], time.process_time() - start)
    return best


def show(title: str, times: dict[str, float]) -> None:
    print(f"\n{title}")
    for name, value in times.items():
        above = "" if name in ("plain", "our guards") else f"   {value - times['plain']:8.2f} above plain"
        print(f"  {name:15s} {value:8.2f} us{above}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", action="store_true", help="also measure capturing")
    arguments = parser.parse_args()
    with torch.no_grad():
        show("one-tensor function, graph that does nothing", one_tensor())
        times, counts = bert()
        show("BERT-base, graph that does nothing", times)
        print("  guard tree: " + ", ".join(f"{value} {name}" for name, value in counts.items()))
        if arguments.trace:
            seconds = trace_seconds()
            ratio = seconds["torch.compile"] / seconds["ours"]
            print("\nCapturing BERT-base, CPU seconds of the first call, graph that does nothing")
            for name, value in seconds.items():
                print(f"  {name:15s} {value:8.3f}")
            print(f"  ours is {ratio:.1f} times quicker")


if __name__ == "__main__":
    main()
