"""What an operation warns of: once a call, as in eager, although the first call also runs it on fake tensors."""

from __future__ import annotations

import warnings

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.graph.unheard_warnings import unheard_warnings


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
