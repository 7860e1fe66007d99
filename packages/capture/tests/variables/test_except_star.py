"""`except*`: its syntax is not Python 3.10's, so the programs stand as text."""

from __future__ import annotations

import sys

import pytest
import torch
from scenarios import breaks_of, run_scenario

_TEXT = """
def t():
    return torch.tensor([1.0, 2.0, 3.0])


def except_star(run):
    def f(x, errors):
        out = []
        try:
            raise ExceptionGroup("g", errors)
        except* ValueError as g:
            out.append(("v", [e.args for e in g.exceptions]))
        except* (KeyError, TypeError) as g:
            out.append(("k", g.message, len(g.exceptions)))
        return out, x + 1

    run(f, t(), [ValueError(1), KeyError(2)])
    run(f, t(), [ValueError(1), ValueError(2)])
    run(f, t(), [TypeError(2)])


def except_star_leftover(run):
    def f(x, kind):
        out = []
        try:
            try:
                raise ExceptionGroup("g", [ValueError("v"), OSError("o"), ExceptionGroup("h", [kind("in")])])
            except* ValueError as g:
                out.append(g.exceptions)
        except ExceptionGroup as rest:
            out.append((rest.message, [type(e).__name__ for e in rest.exceptions]))
        try:
            try:
                raise KeyError("naked")
            except* KeyError as g:
                out.append((type(g).__name__, g.exceptions))
        finally:
            out.append("end")
        return out, x + 1

    run(f, t(), ValueError)
    run(f, t(), KeyError)
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="except* is from 3.11")
@pytest.mark.parametrize("name", ["except_star", "except_star_leftover"])
def test_except_star(name):
    namespace = {"torch": torch}
    exec(compile(_TEXT, __file__, "exec"), namespace)
    scenario = namespace[name]
    expected, actual, records = run_scenario(scenario)
    assert expected == actual
    assert records
    if name == "except_star":  # the other keeps an exception that was raised
        assert not breaks_of(scenario, records)
