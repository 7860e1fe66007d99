"""Threads that compile and call at once: `nox -s threads` does for longer what the first test does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import lampwork_capture
import pytest
import torch
from lampwork_capture.conversion_lock import CONVERSIONS
from thread_storm import run

X = torch.arange(4.0)


@pytest.mark.filterwarnings("ignore")
def test_compiling_and_calling_from_many_threads():
    storm = run(3.0)
    assert not storm.failures, storm.failures[0]
    assert storm.counts["graphs"] > 5 and storm.counts["shared calls"] > 10 and storm.counts["eager calls"] > 5


def in_threads(works):
    """Run all at once; what they return, in order. A deadlock fails."""
    results = [None] * len(works)
    start = threading.Barrier(len(works))

    def go(index, work):
        start.wait()
        try:
            results[index] = work()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=go, args=item, daemon=True) for item in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def test_one_compilation_for_one_guard_set():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        time.sleep(0.3)
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(lambda x: x * 3 - 1)
    for result in in_threads([lambda: optimized(X)] * 8):
        assert torch.equal(result, X * 3 - 1)
    assert len(graphs) == 1


def test_backends_run_side_by_side():
    both = threading.Barrier(2, timeout=30)

    def backend(graph, inputs):
        both.wait()  # broken unless two compile at once
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(lambda x: x * 3 - 1)
    calls = [lambda: optimized(X), lambda: optimized(X.double())]
    assert [result.dtype for result in in_threads(calls)] == [torch.float32, torch.float64]


def test_a_backend_may_wait_for_a_thread_that_compiles():
    other = lampwork_capture.optimize(lambda graph, inputs: graph.forward)(lambda x: x + 2)

    def backend(graph, inputs):
        assert torch.equal(in_threads([lambda: other(X)])[0], X + 2)
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(lambda x: x * 2)
    assert torch.equal(optimized(X), X * 2)


def test_no_deadlock_with_another_lock(monkeypatch):
    """A thread that holds a lock which the tracing thread waits for runs its frame eagerly in the end."""
    monkeypatch.setattr(CONVERSIONS, "patience", 0.2)
    lock = threading.Lock()
    traced = threading.Event()

    @lampwork_capture.assume_constant_result
    def needs_lock():
        traced.set()
        with lock:
            return 5

    first = lampwork_capture.optimize()(lambda x: x + needs_lock())
    second = lampwork_capture.optimize()(lambda x: x - 1)

    def holds_lock():
        with lock:
            traced.wait(30)
            return second(X)

    one, two = in_threads([lambda: first(X), holds_lock])
    assert torch.equal(two, X - 1) and torch.equal(one, X + 5)


def test_tracing_leaves_other_threads_alone():
    """While one thread is in the middle of a trace, torch in another one is as ever."""
    inside, go_on = threading.Event(), threading.Event()

    @lampwork_capture.assume_constant_result
    def pause():
        inside.set()
        go_on.wait(30)
        return 1

    def f(x):
        with torch.no_grad(), torch.autocast("cpu"):
            return x * pause()

    def other():
        inside.wait(30)
        made = torch.ones(2, requires_grad=True) * torch.tensor(2.0)
        seen = (
            type(made),
            made.requires_grad,
            torch.is_grad_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch._C._len_torch_dispatch_stack(),
            made.tolist(),
        )
        go_on.set()
        return seen

    optimized = lampwork_capture.optimize()(f)
    result, seen = in_threads([lambda: optimized(X), other])
    assert torch.equal(result, X)
    assert seen == (torch.Tensor, True, True, False, 0, [2.0, 2.0])


IMPORTER = """
import sys, threading
import torch, lampwork_capture
sys.path.insert(0, {folder!r})
started = threading.Event()

def f(x):
    started.set()
    import slow_module
    return x + slow_module.NUMBER

results = []
optimized = lampwork_capture.optimize()(f)
thread = threading.Thread(target=lambda: results.append(optimized(torch.ones(2))), daemon=True)
thread.start()
import slow_module
thread.join(60)
assert not thread.is_alive() and results[0].tolist() == [8.0, 8.0]
print("no deadlock")
"""
SLOW = """
import time, torch, lampwork_capture
time.sleep(0.5)
lampwork_capture.optimize()(lambda x: x * 2)(torch.ones(2))  # compiles while this module is being imported
NUMBER = 7
"""


def test_importing_in_one_thread_and_compiling_in_another(tmp_path):
    (tmp_path / "slow_module.py").write_text(SLOW)
    program = IMPORTER.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "no deadlock" in done.stdout, done.stderr
