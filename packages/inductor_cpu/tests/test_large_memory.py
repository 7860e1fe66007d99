"""Large buffers ask for huge pages, small ones do not, and only where the system gives them on request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.backend import LargeMemory
from lampwork_inductor_cpu import large_memory as module
from lampwork_inductor_cpu.backend import CpuBackend
from lampwork_inductor_cpu.config import CpuConfig
from torch.fx.experimental.proxy_tensor import make_fx


@pytest.mark.parametrize(
    ("setting", "wanted"), [("always [madvise] never", True), ("[always] madvise never", False), (None, False)]
)
def test_only_where_they_are_given_on_request(tmp_path: Path, setting: str | None, wanted: bool) -> None:
    file = tmp_path / "enabled"
    if setting is not None:
        file.write_text(setting)
    assert (module.large_memory(file) is not None) == wanted


def test_whole_pages_inside_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "_advise", lambda start, size, advice: asked.append((start, size)))
    tensor = torch.empty(3 << 20, dtype=torch.float32)
    assert module.huge_pages(tensor) is tensor
    ((start, size),) = asked
    assert start % (1 << 21) == 0 and size % (1 << 21) == 0
    assert tensor.data_ptr() <= start < start + size <= tensor.data_ptr() + tensor.nbytes
    module.huge_pages(torch.empty(16))
    assert len(asked) == 1


def test_in_a_wrapper() -> None:
    seen: list[int] = []
    backend = CpuBackend(CpuConfig.from_environment())
    backend.large_memory = LargeMemory(1 << 16, lambda t: (seen.append(t.nbytes), t)[1])
    x = torch.randn(1 << 14)
    graph = make_fx(lambda x: (x.exp(), x[:10] + 1), tracing_mode="fake")(x)
    compiled = compile_graph(graph, [x], options=CompileOptions(backends={"cpu": backend}))
    for got, want in zip(compiled(x), (x.exp(), x[:10] + 1)):
        torch.testing.assert_close(got, want)
    assert seen == [1 << 16]
    assert CpuBackend(CpuConfig(huge_pages=False)).large_memory is None
