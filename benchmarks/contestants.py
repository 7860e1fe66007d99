"""Who runs in the model benchmark: each contestant turns a workload into a callable of no arguments.

A contestant compiles lazily or at once; the harness counts everything from `prepare` to the end of the first call as
its cold start. What cannot run on this machine raises `Unavailable`, and its cells say so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from model_zoo import Workload

Call = Callable[[], list[torch.Tensor]]


class Unavailable(RuntimeError):
    """This contestant cannot run here; the message says why."""


def _of_module(workload: Workload, module: Any) -> Call:
    return lambda: workload.read(module(**workload.inputs))


def eager(workload: Workload) -> Call:
    return _of_module(workload, workload.model)


def torch_compile(workload: Workload) -> Call:
    return _of_module(workload, torch.compile(workload.model))


def torch_compile_max_autotune(workload: Workload) -> Call:
    return _of_module(workload, torch.compile(workload.model, mode="max-autotune"))


def torch_compile_freezing(workload: Workload) -> Call:
    import torch._inductor.config as inductor

    inductor.freezing = True
    return _of_module(workload, torch.compile(workload.model, mode="max-autotune"))


def lampwork(workload: Workload) -> Call:
    return _of_module(workload, torch.compile(workload.model, backend="lampwork"))


class _LogitsOnly(torch.nn.Module):
    """Positional tensors in, logits out: what exporters want."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.model = workload.model
        self.names = list(workload.inputs)

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(self.names, tensors))).logits


def onnx_runtime(workload: Workload) -> Call:
    try:
        import onnxruntime
    except ImportError as error:
        raise Unavailable(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            torch.onnx.export(_LogitsOnly(workload), tuple(workload.inputs.values()), str(path), dynamo=True)
        except Exception as error:
            raise Unavailable(f"export failed: {type(error).__name__}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), workload.inputs.values())}
    return lambda: [torch.from_numpy(session.run(None, feeds)[0])]


def openvino(workload: Workload) -> Call:
    try:
        import openvino as ov
    except ImportError as error:
        raise Unavailable(str(error)) from error
    try:
        exported = torch.export.export(_LogitsOnly(workload), tuple(workload.inputs.values()), strict=False)
        model = ov.convert_model(exported)
    except Exception as error:
        raise Unavailable(f"export failed: {type(error).__name__}") from error
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = ov.compile_model(model, "CPU", settings)
    feeds = [t.numpy() for t in workload.inputs.values()]
    return lambda: [torch.from_numpy(compiled(feeds)[0])]


CONTESTANTS: dict[str, Callable[[Workload], Call]] = {
    "eager": eager,
    "torch.compile": torch_compile,
    "max-autotune": torch_compile_max_autotune,
    "freezing": torch_compile_freezing,
    "lampwork": lampwork,
    "onnxruntime": onnx_runtime,
    "openvino": openvino,
}
