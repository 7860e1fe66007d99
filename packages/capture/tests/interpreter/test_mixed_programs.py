"""Random programs of mixed Python: eager and optimized agree over calls with changed state.

A failure prints the program.
"""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixed_check import check_mixed
from mixed_corpus import CORPUS
from random_mixed import mixed_program

# half of all random programs (the rest: test_random_programs); nightly runs ask for more
COUNT = int(os.environ.get("LAMPWORK_RANDOM_PROGRAMS", "200")) // 2


def check_text(text: str) -> None:
    try:
        check_mixed(text)
    except BaseException as error:
        raise AssertionError(f"{error}\n{text}") from error


@pytest.mark.parametrize("first", range(0, COUNT - 20, 10))
def test_seeds(first):
    for seed in range(first, first + 10):
        check_text(mixed_program(random.Random(seed)))


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_drawn(source):
    check_text(mixed_program(source))  # hypothesis shrinks what is drawn, and so the program


@pytest.mark.parametrize("name", CORPUS)
def test_corpus(name):
    check_text(CORPUS[name])
