"""What the tests share: a device backend that runs kernels in the reference interpreter, and ways to get graphs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lampwork_inductor_core import CompileOptions, Verdict, compile_graph
from lampwork_inductor_core.codegen.interpret_kernel import interpret_kernel
from lampwork_inductor_core.codegen.kernel import inline_locals
from lampwork_inductor_core.codegen.print_kernel import print_kernel
from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource, ScheduledKernel
from lampwork_inductor_core.config import Config
from torch.fx.experimental.proxy_tensor import make_fx

os.environ["LAMPWORK_STRICT"] = "1"


class InterpretedDevice:
    """A device backend without a compiler: kernels are data and run on torch tensors."""

    def __init__(self, device_type: str = "cpu", *, without_locals: bool = False) -> None:
        self.device_type = device_type
        self.without_locals = without_locals
        self.generated: list[ScheduledKernel] = []

    def graph_passes(self) -> Sequence[Any]:
        return ()

    def lowerings(self) -> Mapping[Any, Callable[..., Any]]:
        return {}

    def can_fuse(self, first: Any, second: Any) -> Verdict:
        return Verdict(True)

    def generate(self, kernel: ScheduledKernel) -> KernelSource:
        self.generated.append(kernel)
        if self.without_locals:
            kernel = inline_locals(kernel)
        text = print_kernel(kernel)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return KernelSource(f"{kernel.name}_{digest}", text, kernel.arguments, {"kernel": kernel})

    def compile(self, sources: Sequence[KernelSource]) -> Mapping[str, Callable[..., None]]:
        return {s.name: _callable(s) for s in sources}


def _callable(source: KernelSource) -> Callable[..., None]:
    kernel = source.launch["kernel"]
    assert isinstance(kernel, ScheduledKernel)
    return lambda *arguments: interpret_kernel(kernel, arguments)


def trace(function: Callable[..., Any], *inputs: Any) -> torch.fx.GraphModule:
    """The ATen graph of a function, as the capture package would give it."""
    with torch.no_grad():
        graph = make_fx(torch.func.functionalize(function), tracing_mode="fake")(*inputs)
    graph.graph.eliminate_dead_code()
    return graph


@pytest.fixture
def interpreted() -> type[InterpretedDevice]:
    """The interpreted device backend."""
    return InterpretedDevice


@pytest.fixture
def aten() -> Callable[..., torch.fx.GraphModule]:
    """`aten(function, *inputs)`: the function's ATen graph."""
    return trace


@pytest.fixture
def compile_interpreted() -> Callable[..., Any]:
    """`compile_interpreted(function, inputs)`: (compiled graph, interpreted device that ran it)."""

    def run(function: Callable[..., Any], inputs: Sequence[Any], **keywords: Any) -> tuple[Any, InterpretedDevice]:
        device = InterpretedDevice(without_locals=keywords.pop("without_locals", False))
        keywords.setdefault("config", Config(verify=True))
        options = CompileOptions(backends={"cpu": device}, keep_artifacts=True, **keywords)
        return compile_graph(trace(function, *inputs), inputs, options=options), device

    return run


@pytest.fixture
def check_golden() -> Callable[[Path, str], None]:
    """`check_golden(path, text)`: compare with the kept text; `LAMPWORK_UPDATE_GOLDEN=1` rewrites it."""

    def check(path: Path, text: str) -> None:
        if os.environ.get("LAMPWORK_UPDATE_GOLDEN"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"no golden text {path}; make it with LAMPWORK_UPDATE_GOLDEN=1"
        assert text == path.read_text()

    return check
