"""The build: one compiler process, a cache that survives concurrency and kills, errors a person can act on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from kernels import f32, pointwise, read, write
from lampwork_inductor_core.backend import CompilerNotFound
from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.runtime.kernel_cache import KernelCache
from lampwork_inductor_cpu import backend as backend_module
from lampwork_inductor_cpu import build
from lampwork_inductor_cpu import toolchain as toolchain_module
from lampwork_inductor_cpu.backend import CpuBackend
from lampwork_inductor_cpu.build import CompileError
from lampwork_inductor_cpu.config import CpuConfig
from lampwork_inductor_cpu.toolchain import find_toolchain


def _kernel(n: int, name: str = "double_it") -> Any:
    return pointwise(
        name,
        [n],
        lambda i: ops.add(ops.load("in0", i, f32), ops.load("in0", i, f32)),
        [read("in0", f32, n), write("out0", f32, n)],
    )


def _fresh(folder: Path) -> CpuBackend:
    """A backend as in a new process: nothing loaded yet."""
    backend_module._LOADED.clear()
    return CpuBackend(CpuConfig(cache_dir=folder))


def test_one_compiler_process_for_all_and_none_the_second_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []
    original = subprocess.run

    def counted(command: list[str], **keywords: Any) -> Any:
        runs.append(command)
        return original(command, **keywords)

    backend = _fresh(tmp_path)
    sources = [backend.generate(_kernel(n)) for n in (10, 20, 30, 10)]
    find_toolchain(None)
    monkeypatch.setattr(build.subprocess, "run", counted)
    assert len(backend.compile(sources)) == 3
    assert len(runs) == 1
    backend = _fresh(tmp_path)
    callables = backend.compile(sources[:2])
    assert len(runs) == 1, "a later process compiled again"
    more = backend.compile([*sources, backend.generate(_kernel(40))])
    assert len(runs) == 2 and len(more) == 4
    x, out = torch.randn(10), torch.empty(10)
    callables[sources[0].name](x, out)
    assert torch.equal(out, x + x)


def test_a_damaged_library_is_built_again(tmp_path: Path) -> None:
    backend = _fresh(tmp_path)
    source = backend.generate(_kernel(11))
    backend.compile([source])
    library = next(tmp_path.glob("*/libraries/*/*.so"))
    library.with_suffix(".moved").write_bytes(
        library.read_bytes()
    )  # a process may have it mapped: replace, do not truncate
    os.replace(library.with_suffix(".moved"), library.with_suffix(".old"))
    library.unlink()
    library.write_bytes(b"half a file")
    x, out = torch.randn(11), torch.empty(11)
    _fresh(tmp_path).compile([source])[source.name](x, out)
    assert torch.equal(out, x + x)


_SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_build import _fresh, _kernel
backend = _fresh(Path({cache!r}))
sources = [backend.generate(_kernel(n)) for n in range(50, 60)]
print("ready", flush=True)
built = backend.compile(sources)
for n, source in zip(range(50, 60), sources):
    x, out = torch.randn(n), torch.empty(n)
    built[source.name](x, out)
    assert torch.equal(out, x + x)
print("done", flush=True)
"""


def _process(cache: Path) -> subprocess.Popen[str]:
    script = _SCRIPT.format(tests=str(Path(__file__).parent), cache=str(cache))
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_concurrent_processes_and_a_kill_during_the_build(tmp_path: Path) -> None:
    victim = _process(tmp_path)
    assert victim.stdout is not None and victim.stdout.readline().strip() == "ready"
    time.sleep(0.15)  # inside the compiler, most likely; any moment must do
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    processes = [_process(tmp_path) for _ in range(2)]
    outputs = [p.communicate(timeout=120)[0] for p in processes]
    assert all("done" in text for text in outputs), outputs
    libraries = list(tmp_path.glob("*/libraries/*/*.so"))
    assert len(libraries) == 1, libraries


def test_no_compiler_is_one_clear_error(tmp_path: Path) -> None:
    backend = CpuBackend(CpuConfig(cache_dir=tmp_path, compiler="no-such-compiler"))
    source = backend.generate(_kernel(3))
    with pytest.raises(CompilerNotFound, match=r"no C\+\+ compiler found .*no-such-compiler.* Hint: .*install"):
        backend.compile([source])


def test_a_rejected_kernel_names_itself_the_line_and_the_source(tmp_path: Path) -> None:
    backend = _fresh(tmp_path)
    good = backend.generate(_kernel(5))
    bad = KernelSource(
        "broken_kernel", '// add  |  model.py:7\nextern "C" void broken_kernel() { nonsense; }\n', (), good.launch
    )
    with pytest.raises(CompileError) as caught:
        backend.compile([good, bad])
    message = str(caught.value)
    assert "broken_kernel" in message and "model.py:7" in message and "nonsense" in message
    assert caught.value.source_path.exists() and "nonsense" in caught.value.source_path.read_text()


def test_one_openmp_runtime_in_the_process(make_backend: Any) -> None:
    backend = make_backend()
    kernel = _kernel(1 << 18)
    source = backend.generate(kernel)
    assert "#pragma omp parallel for" in source.text
    x, out = torch.randn(1 << 18), torch.empty(1 << 18)
    backend.compile([source])[source.name](x, out)
    assert torch.equal(out, x + x)
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text().splitlines()
        runtimes = {line.split()[-1] for line in maps if "libgomp" in line or "libiomp" in line or "libomp" in line}
        assert len(runtimes) == 1, runtimes


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_compiler_may_be_several_words(tmp_path: Path) -> None:
    backend_module._LOADED.clear()
    backend = CpuBackend(CpuConfig(cache_dir=tmp_path, compiler="env LAMPWORK_NOTHING=1 g++"))
    source = backend.generate(_kernel(13))
    x, out = torch.randn(13), torch.empty(13)
    backend.compile([source])[source.name](x, out)
    assert torch.equal(out, x + x)


def test_a_failing_compiler_shows_its_output(tmp_path: Path) -> None:
    broken = _script(tmp_path / "broken", "echo licence expired >&2; exit 3")
    with pytest.raises(CompilerNotFound, match=r"status 3: licence expired.* Hint: "):
        find_toolchain(str(broken))


def test_an_old_compiler_is_refused(tmp_path: Path) -> None:
    old = _script(tmp_path / "old", "echo 'g++ (Debian 9.4.0-1) 9.4.0'")
    with pytest.raises(CompilerNotFound, match=r"version 9, and version 12 or newer is needed.* Hint: "):
        find_toolchain(str(old))


def test_the_identity_tells_machines_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain, isa = find_toolchain(None), CpuBackend().isa
    here = toolchain.identity(isa)
    monkeypatch.setattr(toolchain_module.platform, "machine", lambda: "another")
    toolchain_module.platform_identity.cache_clear()
    other = toolchain.identity(isa)
    toolchain_module.platform_identity.cache_clear()
    assert other != here


def test_a_library_that_does_not_load_is_built_again(tmp_path: Path) -> None:
    backend = _fresh(tmp_path)
    source = backend.generate(_kernel(17))
    backend.compile([source])
    library = next(tmp_path.glob("*/libraries/*/*.so"))
    cache = KernelCache(library.parent.parent, ".so")
    library.unlink()  # this process has it mapped
    cache.store(library.stem, b"a whole file of another machine")
    x, out = torch.randn(17), torch.empty(17)
    _fresh(tmp_path).compile([source])[source.name](x, out)
    assert torch.equal(out, x + x)
