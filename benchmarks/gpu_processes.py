"""Cells of the GPU benchmarks as processes: several at a time, each with a limit, caches and a result file of its own.

The parent's side; imports no torch, so that the first cell starts at once. A cell writes its result file each time it
knows more, so a process that crashes or is ended leaves what it had. Invariant: no cell can end the run, and no process
outlives it: each has a process group, ended with all of its compile workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_names import LOCK

Result = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One process: its name (a file name), its script and arguments."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How tasks run. `limit_s` is for one process, `deadline` (of time.monotonic) for all of them together."""

    out: Path
    parallel: int
    limit_s: float
    deadline: float
    caches: Path | None = None
    """Compile caches are kept there, by task; else each task has empty ones."""


def plan_of(out: Path, parallel: int, limit_s: float, total_s: float, caches: Path | None = None) -> Plan:
    """A plan whose clock starts now; makes the folder."""
    out.mkdir(parents=True, exist_ok=True)
    return Plan(out, parallel, limit_s, time.monotonic() + total_s, caches)


def run_tasks(tasks: Sequence[Task], plan: Plan, seen: Callable[[str, Result], None]) -> dict[str, Result]:
    """Run all; `seen` is told of each result as it comes. A result has `failed` if its process did not end well."""
    cores = sorted(os.sched_getaffinity(0))
    slots: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    share = max(1, len(cores) // plan.parallel)
    for slot in range(plan.parallel):
        start = slot * share % len(cores)
        slots.put(cores[start : start + share])
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(plan.parallel) as pool:
        lock = str(Path(folder) / "card.lock")

        def run(task: Task) -> Result:
            own = slots.get()
            try:
                with tempfile.TemporaryDirectory(dir=folder) as empty:
                    caches = Path(empty) if plan.caches is None else plan.caches / task.name
                    return _run_one(task, plan, own, caches, lock)
            finally:
                slots.put(own)

        for task, result in zip(tasks, pool.map(run, tasks)):
            results[task.name] = result
            seen(task.name, result)
    return results


def _run_one(task: Task, plan: Plan, cores: list[int], caches: Path, lock: str) -> Result:
    result_file = plan.out / f"{task.name}.json"
    result_file.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "LAMPWORK_STRICT": "1",
        "LAMPWORK_CACHE_DIR": str(caches / "lampwork"),
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor"),
        "TRITON_CACHE_DIR": str(caches / "triton"),
        # more of torch.compile's processes than cores would only take memory
        "TORCHINDUCTOR_COMPILE_THREADS": str(min(len(cores), max(2, 16 // plan.parallel))),
        LOCK: lock,
        **task.environment,
    }
    command = [sys.executable, *task.command, "--result", str(result_file)]
    limit = min(plan.limit_s, plan.deadline - time.monotonic())
    if limit <= 1:
        return {"failed": "no time was left"}
    start = time.monotonic()
    log = plan.out / f"{task.name}.log"
    with log.open("w") as output:
        os.sched_setaffinity(0, cores)  # of this thread, and the process has its
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            process.wait(limit)
            reason = "" if process.returncode == 0 else _last_line(log) or f"exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            reason = f"ended after {limit:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    result: Result = {}
    with contextlib.suppress(OSError, json.JSONDecodeError):
        result = json.loads(result_file.read_text())
    if reason:
        result["failed"] = reason
    return {**result, "process_s": time.monotonic() - start}


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "")[:300]
