"""Random programs: eager and optimized agree. A failure prints the seed and the program."""

from __future__ import annotations

import os
import types
import warnings

import pytest
import torch
from differential import check_program
from random_programs import make_program

# half of all random programs (the rest: test_mixed_programs); nightly runs ask for more
COUNT = int(os.environ.get("LAMPWORK_RANDOM_PROGRAMS", "200")) // 2


def check_seed(seed: int) -> None:
    function, text = make_program(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_program(
                function,
                lambda: (torch.tensor([1.0, -2.0, 3.0]), types.SimpleNamespace(value=None)),
                fresh=lambda: make_program(seed)[0],
            )
    except BaseException as error:
        raise AssertionError(f"seed {seed}\n{text}") from error


@pytest.mark.parametrize("first", range(0, COUNT, 10))
def test_random_programs(first):
    for seed in range(first, min(first + 10, COUNT)):
        check_seed(seed)
