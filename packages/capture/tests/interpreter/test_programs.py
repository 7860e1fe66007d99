"""Eager and optimized agree on every program: results, identities, side effects, output, exceptions."""

from __future__ import annotations

import copy

import pytest
import torch

import programs
from differential import check_program


@pytest.fixture(autouse=True)
def same_globals():
    saved = {name: copy.deepcopy(v) for name, v in vars(programs).items() if name.startswith("state_")}
    state = copy.deepcopy(programs.MODULE.state_dict())
    programs.MODULE.calls = 0
    yield
    vars(programs).update(saved)
    programs.MODULE.load_state_dict(state)


@pytest.mark.parametrize("function", programs.PROGRAMS, ids=lambda f: f.__name__)
def test_program(function):
    check_program(function, lambda: (torch.tensor([1.0, 2.0, 3.0]),))
