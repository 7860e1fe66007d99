"""`OrNone`, which stands before graphs that are rerun: what it passes on, what it swallows, and what it lets go of."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from lampwork_capture import _native


def test_passes_arguments_and_result_on() -> None:
    call = _native.OrNone(lambda *args, **kwargs: (args, kwargs))
    assert call(1, 2, key=3) == ((1, 2), {"key": 3})
    assert call(*range(300)) == (tuple(range(300)), {})


def test_an_exception_gives_none() -> None:
    def fails() -> None:
        raise ValueError

    assert _native.OrNone(fails)() is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes(kind: type[BaseException]) -> None:
    def fails() -> None:
        raise kind

    with pytest.raises(kind):
        _native.OrNone(fails)()


def test_a_cycle_through_it_is_collected() -> None:
    def function() -> Any:
        return held

    held = _native.OrNone(function)
    alive = weakref.ref(function)
    del function, held
    gc.collect()
    assert alive() is None
