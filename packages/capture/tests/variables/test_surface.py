"""Eager and optimized agree on every program around torch; what can be one graph is one."""

from __future__ import annotations

import pytest
import surface_autograd
import surface_changes
import surface_modes
import surface_modules
import surface_tensors
import surface_writes
from surface import check

PROGRAMS = [
    program
    for module in (surface_tensors, surface_writes, surface_modes, surface_modules, surface_changes, surface_autograd)
    for program in module.S.programs
]


@pytest.mark.parametrize(("make", "is_whole"), PROGRAMS, ids=[make.__name__ for make, _ in PROGRAMS])
def test_program(make, is_whole):
    check(make, is_whole)


def test_programs_have_names_of_their_own():
    names = [make.__name__ for make, _ in PROGRAMS]
    assert len(set(names)) == len(names)
