"""What an operation warns of: once a call, as in eager, although the first call also runs it on fake tensors."""

from __future__ import annotations

import threading
import warnings

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.graph.unheard_warnings import ready_for_unheard, unheard_warnings


def of_python(x, y):
    return F.mse_loss(x, y) + 1


def of_cpp(x, y):
    return torch.nn.functional.softmax(x) + torch.add(x, y, out=torch.empty(1))


def warned(function, action):
    """What three calls warn of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter(action)
        texts = []
        for _ in range(3):
            try:
                function(torch.ones(2, 3), torch.ones(1, 3))
            except UserWarning as warning:
                texts.append(str(warning))
    return texts + [str(warning.message) for warning in found]


@pytest.mark.parametrize("action", ["always", "ignore", "error"])
@pytest.mark.parametrize("function", [of_python, of_cpp])
def test_an_operation_warns_as_often_as_in_eager(function, action):
    expected = warned(function, action)
    assert bool(expected) == (action != "ignore")
    assert warned(capture.optimize("eager")(function), action) == expected


def test_a_place_that_warned_does_not_warn_again():
    """The registry of a module says what was shown; capturing must neither add to it nor empty it."""

    def warn():
        warnings.warn("shown once", stacklevel=1)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        warn()
        capture.optimize("eager")(of_python)(torch.ones(2, 3), torch.ones(2, 3))
        warn()
    assert [str(warning.message) for warning in found] == ["shown once"]


@pytest.mark.parametrize("is_always", [False, True])
def test_what_torch_warns_of_once_is_not_used_up(is_always):
    torch.set_warn_always(is_always)
    try:
        filters = list(warnings.filters)
        with pytest.raises(KeyError), unheard_warnings():
            assert torch.is_warn_always_enabled()
            warnings.warn("nobody hears this", stacklevel=1)
            raise KeyError
        assert torch.is_warn_always_enabled() == is_always
        assert warnings.filters == filters
    finally:
        torch.set_warn_always(False)


def test_filters_that_an_operation_replaces_are_left_alone():
    with warnings.catch_warnings():
        with unheard_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("error")
        assert [entry[0] for entry in warnings.filters] == ["error"]


def test_another_thread_is_heard_while_an_operation_runs():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with unheard_warnings():
            other = threading.Thread(target=lambda: warnings.warn("of another thread", stacklevel=1))
            other.start()
            other.join()
            warnings.warn("of the operation", stacklevel=1)
    assert [str(warning.message) for warning in found] == ["of another thread"]


def test_a_trace_is_heard_between_its_operations():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with ready_for_unheard():
            for number in range(2):
                with unheard_warnings(), unheard_warnings():
                    warnings.warn("of an operation", stacklevel=1)
                warnings.warn(str(number), stacklevel=1)
    assert [str(warning.message) for warning in found] == ["0", "1"]


def test_a_filter_of_the_programs_that_equals_ours_stays():
    """The program may ignore everything as well: its own entry is another object."""
    with warnings.catch_warnings():
        own = ("ignore", None, Warning, None, 0)
        warnings.filters.insert(0, own)
        with unheard_warnings():
            warnings.filters.insert(0, ("ignore", None, Warning, None, 0))
        assert sum(entry == own for entry in warnings.filters) >= 2


def test_the_filters_are_changed_once_a_trace():
    class Counted(list):
        inserted = 0

        def insert(self, *args):
            Counted.inserted += 1
            super().insert(*args)

    def function(x):
        for _ in range(20):
            x = x.sin() + 1
        return x

    with warnings.catch_warnings():
        warnings.filters = Counted(warnings.filters)
        before = list(warnings.filters)
        capture.optimize("eager")(function)(torch.ones(2))
        assert list(warnings.filters) == before
    assert Counted.inserted <= 3  # the trace, and what ends it
