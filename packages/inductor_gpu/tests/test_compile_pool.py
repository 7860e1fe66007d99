"""The processes that compile, for real: what they answer, and that none is left behind.

A text is imported by the process that compiles it, so what stands at its top runs there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest
from lampwork_inductor_gpu.compile_job import CompileFailed, CompileJob, MachineCode
from lampwork_inductor_gpu.compile_pool import CompilePool, PoolUnavailable

HEADER = "import triton\nimport triton.language as tl\nfrom lampwork_inductor_gpu.device_functions import maximum\n"
BODY = """
@triton.jit
def {name}(x, y, s0, f0, X_BLOCK: tl.constexpr):
    i = tl.program_id(0) * X_BLOCK + tl.arange(0, X_BLOCK)
    tl.store(y + i, maximum(tl.load(x + i, i < s0), f0.to(tl.float32)), i < s0)
"""
SECONDS = 100


def job(name: str, top: str = "", body: str = BODY) -> CompileJob:
    return CompileJob(
        name=name,
        text=HEADER + top + body.format(name=name),
        types=("*fp32", "*fp32", "i32", "fp64"),
        constants={"X_BLOCK": 128},
        divisible=(0, 1),
        options={"num_warps": 2},
        architecture=90,
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CompilePool]:
    made = CompilePool(os.environ, tmp_path_factory.mktemp("texts"), 90, workers=2)
    yield made
    made.close()


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_end(process: int) -> None:
    limit = time.monotonic() + 20
    while is_alive(process):
        assert time.monotonic() < limit, f"process {process} is still there"
        time.sleep(0.02)


def children_of(process: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_a_kernel_becomes_machine_code(pool: CompilePool) -> None:
    code = pool.submit(job("good")).result(SECONDS)
    assert code.cubin.startswith(b"\x7fELF") and code.symbol == "good"
    assert (code.warps, code.blocks, code.global_scratch, code.profile_scratch) == (2, 1, 0, 0)
    assert code.parameters == (8, 8, 4, 8, 8, 8)


def test_options_reach_the_compiler(pool: CompilePool) -> None:
    cluster = pool.submit(replace(job("clustered"), options={"num_warps": 4, "num_ctas": 2}))
    code = cluster.result(SECONDS)
    assert (code.warps, code.blocks) == (4, 2)


def test_what_compiles_has_not_imported_torch(pool: CompilePool) -> None:
    top = (
        'import sys\nraise RuntimeError(f\'has {sorted({"torch", "numpy", "triton", "sympy"} & set(sys.modules))}\')\n'
    )
    with pytest.raises(CompileFailed, match=r"has \['triton'\]"):
        pool.submit(job("imports", top)).result(SECONDS)


def test_an_error_names_the_kernel_and_has_tritons_words(pool: CompilePool) -> None:
    wrong = BODY.replace("tl.load(x + i, i < s0)", "tl.no_such_function(x)")
    with pytest.raises(CompileFailed, match="kernel wrong does not compile") as caught:
        pool.submit(job("wrong", body=wrong)).result(SECONDS)
    assert "no_such_function" in str(caught.value) and caught.value.kernel == "wrong"
    assert pool.submit(job("good_after")).result(SECONDS).cubin


def test_what_was_printed_is_in_the_error(pool: CompilePool) -> None:
    top = "import os\nos.write(2, b'said by the assembler')\nraise SystemExit(3)\n"
    with pytest.raises(CompileFailed, match="(?s)SystemExit.*said by the assembler"):
        pool.submit(job("prints", top)).result(SECONDS)


def test_a_process_that_dies_fails_its_own_kernel_only(pool: CompilePool) -> None:
    dying = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    codes = [pool.submit(job(f"dies_{k}", dying if k % 2 else "")) for k in range(6)]
    for k, code in enumerate(codes):
        if k % 2:
            with pytest.raises(CompileFailed, match=rf"(?s)kernel dies_{k} .*signal {int(signal.SIGSEGV)}"):
                code.result(SECONDS)
        else:
            assert code.result(SECONDS).symbol == f"dies_{k}"


def test_threads_ask_at_once(pool: CompilePool) -> None:
    found: dict[str, MachineCode] = {}

    def ask(number: int) -> None:
        for turn in range(2):
            name = f"asked_{number}_{turn}"
            found[name] = pool.submit(job(name)).result(SECONDS)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: code.symbol for name, code in found.items()} == {
        name: name for name in (f"asked_{n}_{t}" for n in range(4) for t in range(2))
    }


def test_a_fork_has_a_server_of_its_own(pool: CompilePool) -> None:
    pool.submit(job("before_fork")).result(SECONDS)
    server = pool.process
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = b"failed"
        try:
            assert pool.process is None
            pool.submit(job("in_fork")).result(SECONDS)
            answer = b"%d" % (pool.process or 0)
        finally:
            os.write(writing, answer)
            os._exit(0)
    os.close(writing)
    theirs = int(os.read(reading, 100))
    os.close(reading)
    os.waitpid(child, 0)
    assert theirs not in (0, server)
    wait_for_end(theirs)
    assert server is not None and is_alive(server)
    assert pool.submit(job("after_fork")).result(SECONDS).symbol == "after_fork"


SLEEPING = "import time\ntime.sleep(1000)\n"
PARENT = """
import os, sys, time
from pathlib import Path
from lampwork_inductor_gpu.compile_pool import CompilePool
sys.path.insert(0, {tests!r})
from test_compile_pool import SLEEPING, children_of, job
pool = CompilePool(os.environ, Path({folder!r}), 90, workers=2)
codes = [pool.submit(job(f"sleeps_{{k}}", SLEEPING)) for k in range(3)]
while pool.process is None or len(children_of(pool.process)) < 2:
    time.sleep(0.02)
print(pool.process, *children_of(pool.process), flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["", "os._exit(1)", "os.kill(os.getpid(), 9)", "raise SystemExit(1)"])
def test_no_process_outlives_the_parent(end: str, tmp_path: Path) -> None:
    text = PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "texts"), end=end)
    (tmp_path / "scratch").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    processes = [int(number) for number in done.stdout.split()]
    assert len(processes) == 3, done.stderr
    for process in processes:
        wait_for_end(process)
    assert not list((tmp_path / "scratch").glob("lampwork-compile-*"))


def test_a_closed_pool_says_so_and_starts_again(tmp_path: Path) -> None:
    pool = CompilePool(os.environ, tmp_path, 90, workers=1)
    waiting = pool.submit(job("waits", SLEEPING))
    while pool.process is None or not children_of(pool.process):
        time.sleep(0.02)
    server = pool.process
    pool.close()
    with pytest.raises(PoolUnavailable, match="closed"):
        waiting.result(SECONDS)
    wait_for_end(server)
    assert pool.submit(job("starts_again")).result(SECONDS).symbol == "starts_again"
    pool.close()


def test_a_server_that_is_killed_fails_what_waits_and_another_one_starts(tmp_path: Path) -> None:
    pool = CompilePool(os.environ, tmp_path, 90, workers=1)
    pool.submit(job("works")).result(SECONDS)
    waiting = pool.submit(job("waits", SLEEPING))
    assert pool.process is not None
    os.kill(pool.process, signal.SIGKILL)
    with pytest.raises(PoolUnavailable, match=r"the compile server ended \(-9\)"):
        waiting.result(SECONDS)
    assert pool.submit(job("works_again")).result(SECONDS).symbol == "works_again"
    pool.close()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('no such luck')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    pool = CompilePool(environment, tmp_path, 90, workers=1)
    for _ in range(2):
        with pytest.raises(PoolUnavailable, match="(?s)ended at its start.*no such luck"):
            pool.submit(job("never")).result(SECONDS)


def test_no_interpreter_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    pool = CompilePool(os.environ, tmp_path, 90, workers=1)
    with pytest.raises(PoolUnavailable, match="cannot be started"):
        pool.submit(job("never")).result(SECONDS)


def test_a_frozen_program_is_not_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    pool = CompilePool(os.environ, tmp_path, 90, workers=1)
    pool.start()
    with pytest.raises(PoolUnavailable, match="one executable"):
        pool.submit(job("never")).result(SECONDS)
    assert pool.process is None


def test_asking_does_not_wait(tmp_path: Path) -> None:
    pool = CompilePool(os.environ, tmp_path, 90, workers=1)
    began = time.perf_counter()
    large = "#" * 1_000_000 + "\n"  # more than a socket holds
    codes: list[Future[MachineCode]] = [pool.submit(job(f"large_{k}", large)) for k in range(3)]
    assert time.perf_counter() - began < 0.25
    assert [code.result(SECONDS).symbol for code in codes] == ["large_0", "large_1", "large_2"]
    pool.close()


def test_nobody_waits_where_there_is_no_folder_for_what_the_server_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    made = CompilePool(dict(os.environ), tmp_path, 90, workers=1)
    with pytest.raises(PoolUnavailable, match="cannot be started"):
        made.submit(job("waiting")).result(timeout=30)
