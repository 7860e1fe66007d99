"""Machine code from the disk, from a pool, or made here."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from lampwork_inductor_core.runtime.kernel_cache import KernelCache
from lampwork_inductor_gpu import kernel_compiler as module
from lampwork_inductor_gpu.compile_job import CompileFailed, CompileJob, MachineCode
from lampwork_inductor_gpu.compile_pool import PoolUnavailable
from lampwork_inductor_gpu.kernel_compiler import KernelCompiler, PendingCode

JOB = CompileJob("kernel", "text", ("*fp32",), {}, (0,), {}, 90)
CODE = MachineCode("kernel", 0, 4, 1, False, False, 0, 0, (8, 8, 8), b"cubin")


@dataclass
class FakePool:
    """Answers when it is told to."""

    jobs: list[CompileJob] = field(default_factory=list)
    codes: list[Future[MachineCode]] = field(default_factory=list)
    started: int = 0

    def start(self) -> None:
        self.started += 1

    def submit(self, job: CompileJob) -> Future[MachineCode]:
        self.jobs.append(job)
        self.codes.append(Future())
        return self.codes[-1]


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


def compiler(folder: Path, pool: FakePool, identity: str = "triton 1") -> KernelCompiler:
    return KernelCompiler(KernelCache(folder / "cubin", ".kernel"), folder / "texts", pool, identity)


def test_code_is_made_once_and_found_by_the_next_process(tmp_path: Path, pool: FakePool) -> None:
    first = compiler(tmp_path, pool)
    first.start()
    assert pool.started == 1
    pending = first.request(JOB)
    assert not pending.future.done()
    pool.codes[0].set_result(CODE)
    assert pending.result() == CODE
    other = FakePool()
    second = compiler(tmp_path, other)
    second.start()
    assert second.request(JOB).result() == CODE
    assert other.started == 0 and not other.jobs


@pytest.mark.parametrize("change", ["job", "identity", "damage"])
def test_other_code_is_made_anew(tmp_path: Path, pool: FakePool, change: str) -> None:
    first = compiler(tmp_path, pool)
    first.request(JOB)
    pool.codes[0].set_result(CODE)
    second = compiler(tmp_path, pool, "triton 2" if change == "identity" else "triton 1")
    if change == "damage":
        first.cache.store(first.key(JOB), b"whole, but no machine code")
    second.request(replace(JOB, options={"num_warps": 8}) if change == "job" else JOB)
    assert len(pool.jobs) == 2


def test_errors_come_to_who_waits_and_are_not_kept(tmp_path: Path, pool: FakePool) -> None:
    pending = compiler(tmp_path, pool).request(JOB)
    pool.codes[0].set_exception(CompileFailed("kernel", "why"))
    with pytest.raises(CompileFailed, match="why"):
        pending.result()
    compiler(tmp_path, pool).request(JOB)
    assert len(pool.jobs) == 2


@pytest.fixture
def made_here(monkeypatch: pytest.MonkeyPatch) -> list[CompileJob]:
    jobs: list[CompileJob] = []

    class Compiler:
        @staticmethod
        def machine_code(job: CompileJob, folder: Path) -> MachineCode:
            jobs.append(job)
            if job.name == "wrong":
                raise ValueError("no such operation")
            return CODE

    monkeypatch.setattr(module.importlib, "import_module", lambda name, package: Compiler)
    monkeypatch.setattr(module, "_warned", set())
    return jobs


def test_without_processes_code_is_made_here_and_one_warning_says_why(
    tmp_path: Path, pool: FakePool, made_here: list[CompileJob]
) -> None:
    ours = compiler(tmp_path, pool)
    pendings = [ours.request(JOB), ours.request(replace(JOB, name="second"))]
    for code in pool.codes:
        code.set_exception(PoolUnavailable("there is no more memory"))
    with pytest.warns(RuntimeWarning, match="one after the other, since there is no more memory") as caught:
        assert [pending.result() for pending in pendings] == [CODE, CODE]
    assert len(caught) == 1 and [job.name for job in made_here] == ["kernel", "second"]
    assert ours.request(JOB).result() == CODE and len(made_here) == 2  # kept


def test_an_error_here_names_the_kernel(tmp_path: Path, pool: FakePool, made_here: list[CompileJob]) -> None:
    pending = compiler(tmp_path, pool).request(replace(JOB, name="wrong"))
    pool.codes[0].set_exception(PoolUnavailable("none"))
    with pytest.warns(RuntimeWarning), pytest.raises(CompileFailed, match="kernel wrong .*\n.*no such operation"):
        pending.result()


def test_a_fork_does_not_wait_for_its_parents_answer(tmp_path: Path) -> None:
    pending = PendingCode(Future(), lambda: CODE, process=os.getpid() + 1)
    assert pending.result() == CODE


def test_a_cache_that_cannot_be_written_is_said_once(
    tmp_path: Path, pool: FakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_warned", set())
    (tmp_path / "cubin").write_text("a file, not a folder")
    ours = compiler(tmp_path, pool)
    with pytest.warns(RuntimeWarning, match="not kept"):
        pending = ours.request(JOB)
        pool.codes[0].set_result(CODE)
    assert pending.result() == CODE


PROGRAM = """
import os, sys
import torch
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_gpu import backend as module
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.launch_spec import Variant
assert module.InterpretedLauncher is None and "triton" not in sys.modules
sys.path.insert(0, {tests!r})
import types
sys.modules["lampwork_inductor_gpu.interpreted_launcher"] = types.SimpleNamespace(InterpretedLauncher=None)
from triton_kernels import pointwise, row_softmax
if {no_server}:
    sys.executable = "/no/such/python"
backend = TritonBackend(H100)
backend.lowerings()
kernels = [row_softmax(8, 100), pointwise("add", 4096, [torch.float32] * 2, ops.add, torch.float32)]
launchers = backend.compile([backend.generate(kernel) for kernel in kernels])
for launcher in launchers.values():
    code = launcher.codes.request(Variant(True), 90).result()
    fits = code.parameters == launcher.spec.parameter_sizes(narrow=False)
    print(code.symbol, launcher.codes.name, code.cubin[:4], fits)
assert ("triton" in sys.modules) == {no_server}
print("server", backend.compiler.pool.process is not None)
"""


def run_program(folder: Path, *, no_server: bool = False) -> tuple[str, str]:
    """Whether there was a server, and what was said to errors."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"LAMPWORK_CACHE_DIR": str(folder), "TRITON_CACHE_DIR": str(folder / "triton")}
    program = PROGRAM.format(tests=str(Path(__file__).parent), no_server=no_server)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    *kernels, last = done.stdout.splitlines()
    assert len(kernels) == 2
    for line in kernels:
        symbol, name, magic, fits = line.split(" ")
        assert symbol == name and magic == "b'\\x7fELF'" and fits == "True"
    return last, done.stderr


def test_the_whole_way_and_a_second_process_that_compiles_nothing(tmp_path: Path) -> None:
    assert run_program(tmp_path)[0] == "server True"
    assert run_program(tmp_path)[0] == "server False"


def test_the_whole_way_without_processes(tmp_path: Path) -> None:
    server, said = run_program(tmp_path, no_server=True)
    assert server == "server False"
    assert said.count("Lampwork compiles GPU kernels in this process") == 1
    assert (tmp_path / "triton").exists()
    assert run_program(tmp_path)[0] == "server False"  # found by the next process
