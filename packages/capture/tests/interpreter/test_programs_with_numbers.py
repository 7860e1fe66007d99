"""The programs again, with every int and float that reaches a frame from outside as an input instead of a constant.

What a number decides must still be decided as eager decides it, and no program may break where it did not.
"""

from __future__ import annotations

import programs
import programs_more
import pytest
import torch
from differential import check_program
from lampwork_capture.varying import Varying, VaryingNumbers
from test_programs import WHOLE, same_globals  # noqa: F401 - a fixture that runs by itself


class Everything(Varying):
    """Every source varies."""

    __slots__ = ()

    def __contains__(self, source: object) -> bool:
        return True


@pytest.fixture(autouse=True)
def everything_varies(monkeypatch):
    monkeypatch.setattr(VaryingNumbers, "of", lambda self, code: Everything())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [*programs.PROGRAMS, *programs_more.PROGRAMS], ids=lambda f: f.__name__)
def test_program(function):
    check_program(function, lambda: (torch.tensor([1.0, 2.0, 3.0]),))


@pytest.mark.parametrize("name", WHOLE)
def test_captured_whole(name):
    function = getattr(programs, name, None) or getattr(programs_more, name)
    callback = check_program(function, lambda: (torch.tensor([1.0, 2.0, 3.0]),))
    records = [record for record in callback.records if record.code.co_filename == function.__code__.co_filename]
    assert not [r.graph_break.cause for r in records if r.graph_break is not None]
