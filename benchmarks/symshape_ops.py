"""Microseconds for each operation on symbolic expressions: repeated (answered from the memo) and new.

Run it as it is; it needs lampwork-symshape only. The budget of the design is about 1 us for a repeated operation.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lampwork_symshape import IntExpr, eq, lt, prove, symbol

ROUNDS = 2000


def measure(operation: Callable[[int], object]) -> float:
    """The least microseconds a call over five runs of ROUNDS calls; the argument counts the calls."""
    best = float("inf")
    for run in range(5):
        start = time.perf_counter()
        for k in range(run * ROUNDS, (run + 1) * ROUNDS):
            operation(k)
        best = min(best, (time.perf_counter() - start) / ROUNDS)
    return best * 1e6


def main() -> None:
    """Print the table."""
    i, j, s = symbol("i", 0, 63), symbol("j", 0, 15), symbol("s0", 2)
    index: IntExpr = 1024 * i + 16 * j + 7
    mapping = {i: 4 * j + 1}
    facts = [lt(j, s), lt(i, s)]
    rows: list[tuple[str, Callable[[int], object], Callable[[int], object]]] = [
        ("add", lambda _: index + s, lambda k: index + (k + 8)),
        ("mul", lambda _: index * 3, lambda k: s * (k + 10**6)),
        ("mul, symbolic", lambda _: index * s, lambda k: (index + k) * s),
        ("floordiv", lambda _: index // 16, lambda k: (index + 3 * k) // 16),
        ("mod", lambda _: index % 16, lambda k: (index + 3 * k) % 16),
        ("comparison", lambda _: lt(index, s), lambda k: lt(index, s + k)),
        ("substitute", lambda _: index.substitute(mapping), lambda k: index.substitute({i: j + k})),
        ("str", lambda _: str(index), lambda _: str(index)),
        ("prove", lambda _: prove(lt(i * s + j, s * s), facts), lambda k: prove(eq(i + k, s), facts)),
    ]
    print(f"{'operation':16}{'repeated, us':>14}{'new, us':>14}")
    for name, repeated, new in rows:
        print(f"{name:16}{measure(repeated):14.2f}{measure(new):14.2f}")


if __name__ == "__main__":
    main()
