"""One cell of the GPU's model benchmark: a model in a mode, all contestants in turns, in a process of its own.

    python benchmarks/gpu_cell.py --model bert --mode inference --result FILE [--cold CONTESTANT]

`gpu_models.py` starts these. Inference is in bf16 under `no_grad`; training is fp32 weights under bf16 autocast, a mean
of squares as the loss, forward and backward, all dropout rates 0. Errors are relative 2-norms over all results
(outputs, or gradients) against the same model in fp32. Invariant: the result file is written after every step, with
what the process is at, so that a crash tells whose it was.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_card import alone, collect, compiling, peak_of, reserved_bytes, synchronise, timed_in_turn
from gpu_contestants import before_call, compiled, counted
from gpu_names import CONTESTANTS, EAGER, OURS
from gpu_results import Report
from model_zoo import GPU_SIZES, TINY_SIZES, Workload, build
from training_families import loss_of, without_dropout

WARM_CALLS = 4  # the second and third are where graphs are recorded
Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Program:
    """What is timed: `call_of(module, before)` makes one call of it; `results` reads what is compared after a call."""

    model: torch.nn.Module
    device: str
    call_of: Callable[[Any, Callable[[], None]], Callable[[], Any]]
    results: Callable[[Any], Tensors]
    reference: Tensors


def workload_on(name: str, device: str, tiny: bool, **sizes: Any) -> Workload:
    """The model with fp32 weights, made on the device, and its inputs there."""
    chosen = {**(TINY_SIZES if tiny else GPU_SIZES)[name], **sizes}
    with torch.device(device):
        workload = build(name, **chosen)
    inputs = {key: tensor.to(device) for key, tensor in workload.inputs.items()}
    return Workload(name, workload.model, inputs, workload.read)


def in_half(model: torch.nn.Module) -> torch.nn.Module:
    """The model in bf16, as `from_pretrained(dtype=...)` makes it: buffers that are not saved stay as they are."""
    saved = set(model.state_dict())
    computed = [
        (module, name, buffer)
        for prefix, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if f"{prefix}.{name}".lstrip(".") not in saved
    ]
    model.to(torch.bfloat16)
    for module, name, buffer in computed:
        setattr(module, name, buffer)
    return model


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Convolutions without TF32, which is on by default; products of matrices have it off by default."""
    was = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = was


def inference(workload: Workload, device: str) -> Program:
    """A forward pass in bf16. The reference has the same weights, in fp32."""
    model = in_half(workload.model)
    inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in workload.inputs.items()}

    def call_of(module: Any, before: Callable[[], None]) -> Callable[[], Any]:
        def call() -> Any:
            before()
            return module(**inputs)

        return call

    with exact_float32():
        exact = copy.deepcopy(model).float()
        floats = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
        reference = workload.read(exact(**floats))
    return Program(model, device, call_of, workload.read, reference)


def training(workload: Workload, device: str) -> Program:
    """A forward and a backward pass under autocast. The reference is a step without it."""
    model = without_dropout(workload.model).train()
    kind = torch.device(device).type

    def call_of(module: Any, before: Callable[[], None]) -> Callable[[], Any]:
        def call() -> None:
            model.zero_grad()
            before()
            with torch.autocast(kind, torch.bfloat16):
                output = module(**workload.inputs)
            loss_of(output).backward()

        return call

    def gradients(_: Any) -> Tensors:
        return [p.grad for p in model.parameters() if p.grad is not None]

    with exact_float32():
        loss_of(model(**workload.inputs)).backward()
    reference = [g.clone() for g in gradients(None)]
    return Program(model, device, call_of, gradients, reference)


MODES: dict[str, Callable[[Workload, str], Program]] = {"inference": inference, "training": training}


def error_of(results: Tensors, reference: Tensors) -> float:
    """The 2-norm of all differences over that of all of the reference; inf where shapes or counts differ, or a nan."""
    if [t.shape for t in results] != [t.shape for t in reference]:
        return float("inf")
    norms = [
        (torch.linalg.vector_norm(got.float() - want).double() ** 2, torch.linalg.vector_norm(want).double() ** 2)
        for got, want in zip(results, reference)
    ]
    error = float((sum(d for d, _ in norms) / sum(w for _, w in norms)) ** 0.5)
    return error if error == error else float("inf")


def program_of(options: argparse.Namespace) -> Program:
    """The cell's program, and nothing else in the card's memory."""
    workload = workload_on(options.model, options.device, options.tiny)
    program = MODES[options.mode](workload, options.device)
    collect(options.device)
    return program


def prepare(
    name: str, program: Program, found: dict[str, Any], options: Mapping[str, Any] | None = None
) -> Callable[[], Any]:
    """Compile a contestant, call it until it is steady, and note its errors and its memory. `options` are for ours."""
    device = program.device
    program.model.zero_grad()
    collect(device)
    reserved = reserved_bytes(device)
    with counted(name) as graphs:
        start = time.perf_counter()
        call = program.call_of(compiled(name, program.model, options=options), before_call(name))
        errors: list[float] = []
        for number in range(WARM_CALLS):
            result = call()
            synchronise(device)
            if number == 0:
                found["first_call_s"] = time.perf_counter() - start
            errors.append(error_of(program.results(result), program.reference))
            del result
        found["error"] = max(errors)
        program.model.zero_grad()
        peak = peak_of(call, device)
    found["graphs"], found["notes"] = dict(graphs.kinds), graphs.notes()
    if peak is not None:
        found["peak_bytes"], found["reserved_bytes"] = peak.allocated, peak.reserved - reserved
    return call


def time_alone(calls: dict[str, Callable[[], Any]], options: argparse.Namespace, report: Report) -> None:
    """Time prepared contestants in turn, with no other cell on the card; who fails while timed is reported so."""
    report.at("timing")
    with alone():
        failures: dict[str, str] = {}
        for name, times in timed_in_turn(calls, options.seconds, options.device, failures).items():
            report.of(name).update(call_s=times.call, host_s=times.host)
        for name, reason in failures.items():
            report.of(name)["failed"] = reason


def measure(options: argparse.Namespace, report: Report) -> None:
    """Prepare all contestants beside other cells, then time them alone."""
    calls: dict[str, Callable[[], Any]] = {}
    with compiling():
        report.at("building")
        program = program_of(options)
        for name in options.contestants.split(","):
            report.at(name)
            try:
                calls[name] = prepare(name, program, report.of(name))
            except Exception as error:
                traceback.print_exc()
                report.of(name)["failed"] = f"{type(error).__name__}: {error}"[:300]
                if "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError":
                    raise  # the card's state is lost; the parent goes on without this one
    time_alone(calls, options, report)
    report.at("end")


def measure_cold(options: argparse.Namespace, report: Report) -> None:
    """One contestant in a fresh process with empty caches: seconds from compiling to the end of the first call."""
    name = options.cold
    with compiling():
        report.at("building")
        program = program_of(options)
        eager = program.call_of(program.model, before_call(EAGER))
        for _ in range(2):  # what libraries do once is nobody's compile time
            eager()
        synchronise(options.device)
        start = time.perf_counter()
        eager()
        synchronise(options.device)
        steady = time.perf_counter() - start
        report.at(name)
        start = time.perf_counter()
        call = program.call_of(compiled(name, program.model), before_call(name))
        call()
        synchronise(options.device)
        report.of(name)["cold_s"] = time.perf_counter() - start - steady
        start = time.perf_counter()
        for _ in range(2):
            call()
        synchronise(options.device)
        report.of(name)["next_two_calls_s"] = time.perf_counter() - start
    report.at("end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, choices=GPU_SIZES)
    parser.add_argument("--mode", required=True, choices=MODES)
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--cold", choices=CONTESTANTS, help="only this one's compile time; caches are to be empty")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("default")  # a graph that falls back says so in the log
    torch.compiler.reset()
    report = Report(options.result)
    with torch.set_grad_enabled(options.mode == "training"):
        (measure_cold if options.cold else measure)(options, report)
    print(json.dumps(report.data["contestants"].get(OURS, {})))


if __name__ == "__main__":
    main()
