"""One cell of the model benchmark: one model, one contestant, a process of its own. Prints one line of JSON.

    python benchmarks/cell.py --model bert --contestant lampwork --device cpu

Steady-state times are taken in turn with eager (A B A B ...) in the same process, so that a ratio holds when the
machine's speed drifts. The error is the relative 2-norm against the same model run eagerly in fp64.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import resource
import statistics
import time
from collections.abc import Callable

import torch
from contestants import CONTESTANTS, Call, Unavailable
from model_zoo import Workload, build


def relative_error(outputs: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    """The largest relative 2-norm of a difference over all outputs; inf where a shape differs or a nan is new."""
    worst = 0.0
    for got, want in zip(outputs, reference, strict=True):
        if got.shape != want.shape:
            return float("inf")
        difference = (got.double() - want).norm() / want.norm()
        worst = max(worst, float("inf") if difference.isnan() else difference.item())
    return worst


def reference_outputs(workload: Workload) -> list[torch.Tensor]:
    """The workload's outputs in fp64, by eager."""
    model = copy.deepcopy(workload.model).double()
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in workload.inputs.items()}
    return workload.read(model(**inputs))


def in_turn(first: Call, second: Call, seconds: float) -> tuple[float, float]:
    """Median seconds of two callables, timed in turn for about `seconds`, after two calls of each."""
    for call in (first, second, first, second):
        call()
    samples: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(samples[0]) < 7:
        for call, times in zip((first, second), samples):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(samples[0]), statistics.median(samples[1])


def _synchronised(call: Call, device: str) -> Call:
    if device == "cpu":
        return call

    def run() -> list[torch.Tensor]:
        result = call()
        torch.cuda.synchronize()
        return result

    return run


def _to_device(workload: Workload, device: str) -> Workload:
    inputs = {k: v.to(device) for k, v in workload.inputs.items()}
    return dataclasses.replace(workload, model=workload.model.to(device), inputs=inputs)


def _peak_bytes(device: str) -> int:
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated()


def measure(model: str, prepare: Callable[[Workload], Call], device: str, seconds: float) -> dict[str, object]:
    """Everything about one cell: seconds, errors, bytes."""
    workload = _to_device(build(model), device)
    eager = _synchronised(lambda: workload.read(workload.model(**workload.inputs)), device)
    eager()
    peak_before = _peak_bytes(device)
    start = time.perf_counter()
    try:
        call = _synchronised(prepare(workload), device)
    except Unavailable as error:
        return {"unavailable": str(error)}
    outputs = [t.clone() for t in call()]
    cold = time.perf_counter() - start
    contestant_seconds, eager_seconds = in_turn(call, eager, seconds)
    peak = _peak_bytes(device)
    reference = reference_outputs(workload)
    return {
        "cold_s": cold,
        "call_s": contestant_seconds,
        "eager_s": eager_seconds,
        "speedup": eager_seconds / contestant_seconds,
        "error": relative_error([t.cpu() for t in outputs], [t.cpu() for t in reference]),
        "error_after": relative_error([t.cpu() for t in call()], [t.cpu() for t in reference]),
        "eager_error": relative_error([t.cpu() for t in eager()], [t.cpu() for t in reference]),
        "peak_bytes": peak,
        "extra_bytes": peak - peak_before,
    }


def count_graphs(model: str) -> dict[str, object]:
    """How many graphs and breaks Lampwork's capture finds in one call."""
    import lampwork_capture

    workload = build(model)
    found = lampwork_capture.capture(workload.model, **workload.inputs)
    return {"graphs": len(found.graphs), "breaks": len(found.graph_breaks)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--contestant", required=True, choices=CONTESTANTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--count-graphs", action="store_true", help="also capture once more and count")
    options = parser.parse_args()
    with torch.no_grad():
        result = measure(options.model, CONTESTANTS[options.contestant], options.device, options.seconds)
        if options.count_graphs:
            result |= count_graphs(options.model)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
