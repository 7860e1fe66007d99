"""Many threads that compile and call at once: shared and private functions, modules, breaks, resets, and eager threads.

`python thread_storm.py [SECONDS [THREADS]]` prints counts and exits with 1 on a wrong result. Each result is compared
with what the same thread computes eagerly.
"""

from __future__ import annotations

import gc
import random
import sys
import textwrap
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

import lampwork_capture
import torch


def arithmetic(x, n, s):
    return (x * s + n).relu().sum(0), n + 1


def branches(x, n, s):
    y = x + 1 if n > 3 else x - 1
    return (y * s if s < 1.0 else y / s), y.shape


def breaks(x, n, s):
    y = x * n
    lampwork_capture.graph_break()
    z = y - s
    for step in range(n % 3):
        lampwork_capture.graph_break()
        z = z + step
    return z


def contexts(x, n, s):
    with torch.no_grad():
        y = x * s
    try:
        if n % 2:
            raise ValueError("odd")
    except ValueError as error:
        y = y + len(str(error))
    return y, torch.is_grad_enabled()


def mutates(x, n, s):
    y = x.clone()
    y.mul_(s)
    items = [y, n]
    items.append(y + n)
    return items


def raises(x, n, s):
    if n % 4 == 0:
        raise KeyError(n)
    return x @ x.t() * s


class Block(torch.nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.number = number

    def forward(self, x, n, s):
        return self.linear(x).tanh() * self.number + n * s


FUNCTIONS: list[Callable[..., Any]] = [arithmetic, branches, breaks, contexts, mutates, raises]
SHARED_BLOCKS = [Block(number) for number in range(3)]
PRIVATE = """
def private(x, n, s):
    y = x * {number} + n
    return helper(y) - s, "{number}"

def helper(y):
    return y.sin() + {number}
"""


def private_function(number: int) -> Callable[..., Any]:
    """A function with code objects of its own."""
    namespace: dict[str, Any] = {"torch": torch}
    exec(compile(textwrap.dedent(PRIVATE.format(number=number)), f"<private {number}>", "exec"), namespace)
    return namespace["private"]


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except (KeyError, ValueError) as error:
        return type(error), error.args


def same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, (list, tuple)) and not isinstance(expected, torch.Size):
        return type(expected) is type(actual) and len(expected) == len(actual) and all(map(same, expected, actual))
    if isinstance(expected, torch.Tensor):
        return (
            type(actual) is type(expected)
            and expected.dtype == actual.dtype
            and expected.requires_grad == actual.requires_grad
            and torch.equal(expected, actual)
        )
    return type(expected) is type(actual) and expected == actual


class Storm:
    """What the threads share: the optimized functions, the clock and the counts."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._lock = threading.Lock()
        self.shared = [(f, lampwork_capture.optimize(self.backend)(f)) for f in [*FUNCTIONS, *SHARED_BLOCKS]]

    def backend(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.count("graphs")
        time.sleep(0.001)  # a compiler that lets other threads run
        return graph.forward

    def count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def fail(self, what: str) -> None:
        with self._lock:
            self.failures.append(what)

    def check(self, what: str, function: Callable[..., Any], optimized: Callable[..., Any], arguments: Any) -> None:
        expected, actual = outcome(function, arguments), outcome(optimized, arguments)
        self.count(f"{what} calls")
        if not same(expected, actual):
            self.fail(f"{what} {function} with {arguments[1:]}: {expected} {actual}")

    def compiles(self, seed: int) -> None:
        """Thread: compile and call."""
        choose = random.Random(seed)
        while time.monotonic() < self.end and not self.failures:
            x = torch.arange(4.0 * choose.randrange(1, 4)).reshape(-1, 4) / 3
            x = x.to(choose.choice([torch.float32, torch.float64])) if choose.random() < 0.3 else x
            arguments = (x, choose.randrange(-2, 8), choose.choice([0.5, 1.0, 2.25, choose.random()]))
            kind = choose.random()
            if kind < 0.7:
                function, optimized = choose.choice(self.shared)
                if isinstance(function, Block):
                    arguments = (x.float(), *arguments[1:])
                self.check("shared", function, optimized, arguments)
            elif kind < 0.85:
                function = private_function(choose.randrange(1000))
                optimized = lampwork_capture.optimize(self.backend)(function)
                for _ in range(3):
                    self.check("private", function, optimized, arguments)
            elif kind < 0.97:
                block = Block(choose.randrange(10))
                optimized = lampwork_capture.optimize("eager")(block)
                self.check("module", block, optimized, (x.float(), *arguments[1:]))
            elif kind < 0.98:
                lampwork_capture.reset()
                self.count("resets")
            else:
                gc.collect()

    def runs_eagerly(self, seed: int) -> None:
        """Thread: plain torch, which a trace in another thread must not disturb."""
        x = torch.arange(12.0).reshape(3, 4).requires_grad_()
        while time.monotonic() < self.end and not self.failures:
            y = (x * 2 + torch.ones(4)).sum()
            (gradient,) = torch.autograd.grad(y, x)
            made = torch.tensor([1.0, float(seed)])
            fine = (
                type(y) is torch.Tensor
                and type(made) is torch.Tensor
                and y.item() == 144.0
                and torch.equal(gradient, torch.full((3, 4), 2.0))
                and torch.is_grad_enabled()
                and not torch.is_inference_mode_enabled()
                and torch._C._len_torch_dispatch_stack() == 0
                and torch._C._len_torch_function_stack() == 0
            )
            self.count("eager calls")
            time.sleep(0.005)  # it would take the interpreter lock away from each operation that is traced
            if not fine:
                self.fail(f"an eager thread was disturbed: {y} {made} {gradient}")

    def guarded(self, work: Callable[[int], None], seed: int) -> None:
        try:
            work(seed)
        except BaseException:
            self.fail(traceback.format_exc())


def run(seconds: float, threads: int = 16) -> Storm:
    """Run the storm; `failures` of the result is empty if all was right."""
    lampwork_capture.optimize()(lambda x: x + 1)(torch.ones(1))  # torch imports much at the first trace of a process
    storm = Storm(seconds)
    eager = max(1, threads // 8)
    work = [storm.runs_eagerly] * eager + [storm.compiles] * (threads - eager)
    running = [threading.Thread(target=storm.guarded, args=(w, seed), daemon=True) for seed, w in enumerate(work)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(seconds + 60)
        if thread.is_alive():
            storm.fail("a thread does not end: a deadlock")
            break
    return storm


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 16
    storm = run(seconds, threads)
    print(f"{threads} threads, {seconds:g} s:", ", ".join(f"{n} {what}" for what, n in sorted(storm.counts.items())))
    for failure in storm.failures[:5]:
        print(failure)
    return 1 if storm.failures else 0


if __name__ == "__main__":
    sys.exit(main())
