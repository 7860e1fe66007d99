"""How the GPU benchmarks share and time one card: a lock, calls in blocks, memory, and what the hardware is.

Used inside of a cell's process. While a cell compiles it holds the lock shared with others that compile; while it is
timed it holds the lock alone, so nobody else computes on the card or on the host. Invariant: on a CPU every function
works the same way, without memory figures, so that programs can be tried where there is no card.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu_names import LOCK

BLOCK_S = 0.02
_CYCLES_PER_S = 2e9  # no card's clock is faster; a slower one only waits longer


@contextlib.contextmanager
def _locked(kind: int) -> Iterator[None]:
    path = os.environ.get(LOCK)
    if path is None:
        yield
        return
    with Path(path).open("a") as file:
        fcntl.flock(file, kind)
        yield


def compiling() -> contextlib.AbstractContextManager[None]:
    """The time in which others may compile, too."""
    return _locked(fcntl.LOCK_SH)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """The time in which nobody else computes; all threads of this process may use all cores."""
    with _locked(fcntl.LOCK_EX):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError):  # a thread that has just ended
                os.sched_setaffinity(int(thread), range(os.cpu_count() or 1))
        yield


def synchronise(device: str) -> None:
    """Wait for the card."""
    if device != "cpu":
        torch.cuda.synchronize()


@dataclass(frozen=True, slots=True)
class CallTime:
    """Medians, in seconds. `call`: of a call among several, with the card's work; `host`: until a single call
    returns, the card being idle at its start."""

    call: float
    host: float


class _Timed:
    """One callable that is timed, and its samples."""

    def __init__(self, call: Callable[[], object], device: str) -> None:
        self.call, self.device = call, device
        self.blocks: list[float] = []
        self.hosts: list[float] = []
        call()
        self.block = 1
        self.block = max(1, min(64, round(BLOCK_S / self._of_block())))

    def _of_block(self) -> float:
        synchronise(self.device)
        start = time.perf_counter()
        for _ in range(self.block):
            self.call()
        synchronise(self.device)
        return (time.perf_counter() - start) / self.block

    def sample(self) -> None:
        """One block, and two single calls."""
        self.blocks.append(self._of_block())
        for _ in range(2):
            start = time.perf_counter()
            self.call()
            self.hosts.append(time.perf_counter() - start)
            synchronise(self.device)


def timed_in_turn(
    calls: Mapping[str, Callable[[], object]], seconds: float, device: str, failures: dict[str, str] | None = None
) -> dict[str, CallTime]:
    """Times of callables in turn, block by block, for about `seconds` each. Each was called before.

    One that raises is left out and noted in `failures`; without it, the error is raised.
    """
    running: dict[str, _Timed] = {}

    def attempt(name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            if failures is None:
                raise
            failures[name] = f"while timed: {type(error).__name__}: {error}"[:300]
            running.pop(name, None)

    for name, call in calls.items():
        attempt(name, lambda name=name, call=call: running.update({name: _Timed(call, device)}))
    end = time.perf_counter() + seconds * len(running)
    while running and (time.perf_counter() < end or any(len(timed.blocks) < 5 for timed in running.values())):
        for name, timed in list(running.items()):
            attempt(name, timed.sample)
    return {name: CallTime(statistics.median(t.blocks), statistics.median(t.hosts)) for name, t in running.items()}


def card_seconds(calls: Sequence[Callable[[], object]], device: str, repeats: int = 7) -> float:
    """The median time of a call on the card, of several in a row that take no inputs of each other.

    The card waits while the host queues all of them, so neither launches nor Python are in the figure. Results are held
    until the end, as a result that is written over the one before never leaves the card's cache.
    """
    start = time.perf_counter()
    results = [call() for call in calls]
    host = time.perf_counter() - start
    synchronise(device)
    if device == "cpu":
        return host / len(calls)
    samples: list[float] = []
    for _ in range(repeats):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(int(_CYCLES_PER_S * (1.5 * host + 1e-4)))
        results.clear()
        first.record()
        start = time.perf_counter()
        results.extend(call() for call in calls)
        last.record()
        host = min(0.02, time.perf_counter() - start)
        torch.cuda.synchronize()
        samples.append(first.elapsed_time(last) / 1e3 / len(calls))
    return statistics.median(samples[1:])


def collect(device: str) -> None:
    """Free what nobody holds, down to the driver."""
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def reserved_bytes(device: str) -> int:
    """What the allocator has of the card."""
    return 0 if device == "cpu" else torch.cuda.memory_reserved()


@dataclass(frozen=True, slots=True)
class Peak:
    """Bytes of the card in one call. `allocated`: the most above what was allocated before it; `reserved`: the most
    that the allocator had of the card, pools of CUDA graphs included."""

    allocated: int
    reserved: int


def peak_of(call: Callable[[], object], device: str) -> Peak | None:
    """The peak of a steady call, whose result is dropped; None on a CPU."""
    if device == "cpu":
        return None
    collect(device)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return Peak(torch.cuda.max_memory_allocated() - before, torch.cuda.max_memory_reserved())


def copy_bandwidth(device: str, size: int = 1 << 30) -> float:
    """Bytes a second, read and written, of a copy of `size` bytes on the card."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2 * size / card_seconds([lambda: target.copy_(source)] * 4, device)


def describe(device: str) -> str:
    """The card and the versions, for the head of a table."""
    name = "CPU" if device == "cpu" else torch.cuda.get_device_name()
    return f"{name}, torch {torch.__version__}, {os.cpu_count()} cores"
