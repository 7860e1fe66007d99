"""Indices of merged loops with symbolic sizes: put together again, and never of another value."""

from __future__ import annotations

import random

from lampwork_inductor_core.ir.merged_index import put_together
from lampwork_symshape import Kind, integer, symbol
from lampwork_symshape.node import postorder


def test_three_merged_loops_walk_as_one() -> None:
    i, n = symbol("i0"), symbol("s1", 1)
    index = (i % n) * n + (i // n % 12) * n * n + i // (12 * n) * 12 * n * n
    assert put_together(index) is i * n


def test_part_of_a_run() -> None:
    i, n, m = symbol("i0"), symbol("s0", 1), symbol("s1", 1)
    assert put_together(i % n + n * (i // n % m)) is i % (n * m)


def test_no_division_is_lost_that_is_needed() -> None:
    i, n = symbol("i0"), symbol("s0", 1)
    index = (i % n) * 3 + (i // n) * n * 2
    assert put_together(index) is index


def test_values_never_change() -> None:
    chance = random.Random(0)
    i, n, m = symbol("i0"), symbol("s0", 1), symbol("s1", 1)
    parts = [i % n, i // n, i // n % m, i // (n * m), i % m, i]
    for _ in range(300):
        index = integer(chance.randrange(3))
        for part in chance.sample(parts, 3):
            for factor in chance.sample([n, m, integer(2), integer(1)], 2):
                part = part * factor
            index = index + part
        simpler = put_together(index)
        divisions = [sum(e.kind in (Kind.MOD, Kind.FLOOR_DIV) for e in postorder(x)) for x in (simpler, index)]
        assert divisions[0] <= divisions[1]
        for _ in range(20):
            values = {i: chance.randrange(200), n: chance.randrange(1, 9), m: chance.randrange(1, 9)}
            assert simpler.evaluate(values) == index.evaluate(values)
