"""What builtin operations do beside their result: what they take from an iterator, when they end, what they refuse."""

# ruff: noqa
from __future__ import annotations

import collections
import itertools
import operator
import sys

import pytest
import torch
from scenarios import Scenarios, check_scenario

S = Scenarios()
whole, split = S.whole, S.split


def t(*values):
    return torch.tensor([float(v) for v in values] or [1.0, 2.0, 3.0])


@whole
def membership_takes_from_an_iterator_what_it_looks_at(run):
    def f(x, k):
        iterators = [
            iter([1, 3, 5]), iter((1, 3, 5)), iter({1: 2, 3: 4, 5: 6}), iter(range(1, 7, 2)), (v for v in (1, 3, 5)),
            map(abs, [1, -3, 5]), filter(None, [1, 3, 5]), reversed([5, 3, 1]),
        ]  # fmt: skip
        found = [k in iterator for iterator in iterators]
        pairs = enumerate([1, 3, 5])
        return x + 1, found, [list(iterator) for iterator in iterators], (1, k) not in pairs, list(pairs)

    for k in (1, 3, 5, 7):
        run(f, t(), k)


@split
def membership_in_an_endless_iterator(run):
    def f(x):
        numbers = itertools.count()
        return x + 1, 3 in numbers, next(numbers), 3_000 in numbers, next(numbers)

    run(f, t())


@whole
def membership_asks_the_items_of_an_own_iterator(run):
    class Own:
        def __init__(self):
            self.left = [1, 3, 5]

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop(0)

    def f(x, own, k):
        return x + 1, k in own, own.left

    run(f, t(), Own(), 3)
    run(f, t(), Own(), 7)


@pytest.mark.parametrize("scenario,is_whole", S.found, ids=lambda p: getattr(p, "__name__", ""))
def test_operations(scenario, is_whole):
    check_scenario(scenario, is_whole)
