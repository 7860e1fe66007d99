"""Branches on data of which one arm raises: one graph that asserts the data, eager's exception where it fails.

PYTEST_DONT_REWRITE: an `assert` of the programs must stay the one that Python makes.
"""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import torch.utils._pytree as pytree


def make_message():
    def function(x):
        if not (x > 0).all():
            raise ValueError(f"bad {tuple(x.shape)}, smallest {x.min()}")
        return x.log()

    return function


def make_assertion():
    def function(x):
        y = x * 2
        assert (y > 0).all(), "negative"
        return y.log()

    return function


def make_or():
    def function(x):
        if x.isnan().any() or x.isinf().any():
            raise RuntimeError("not finite")
        return x + 1

    return function


def make_caught():
    log = []

    def function(x):
        log.append(1)
        try:
            if x.sum() < 0:
                raise KeyError(3)
            log.append(2)
        except KeyError as error:
            log.append(error.args)
            return x - 1, list(log)
        return x + 1, list(log)

    return function


def make_inlined():
    def check(x):
        if x.sum() < 0:
            raise KeyError(3)
        return x * 3

    def function(x):
        y = check(x) + 1
        with torch.no_grad():
            z = check(y)
        return y, z

    return function


def make_loop():
    def function(x):
        for i in range(3):
            if x.sum() < i - 1:
                raise KeyError(i)
            x = x * 1
        return x

    return function


def make_distribution():
    def function(x):
        return torch.distributions.Normal(x, x.abs() + x).log_prob(x * 2)

    return function


def make_write_before():
    counter = torch.zeros(())

    def function(x):
        x.add_(1)
        counter.add_(1)
        if x.sum() < 0:
            raise KeyError(3)
        return x * 2 + counter

    return function


def make_write_of_much_before():
    """To more memory than a copy is kept of in case that the graph raises."""

    much = torch.zeros(1 << 15)

    def function(x):
        much.add_(1)
        if x.sum() < 0:
            raise KeyError(3)
        return x * 2 + much[0]

    return function


def make_both_arms_go_on():
    def function(x):
        if x.sum() < 0:
            y = x * 2
        else:
            y = x * 3
        return y

    return function


WHOLE = [
    make_message,
    make_assertion,
    make_or,
    make_caught,
    make_inlined,
    make_loop,
    make_distribution,
    make_write_before,
]
BROKEN = [make_write_of_much_before, make_both_arms_go_on]


def outcomes(call):
    found = []
    for value in (1.0, -1.0, float("nan"), 2.0, -3.0):
        try:
            found.append(call(torch.full((3,), value)))
        except Exception as error:
            found.append((type(error), str(error)))
    return pytree.tree_leaves(found)


@pytest.mark.parametrize("make", [*WHOLE, *BROKEN])
def test_data_decides_as_in_eager(make):
    expected, actual = outcomes(make()), outcomes(capture.optimize("eager")(make()))
    for a, b in zip(expected, actual, strict=True):
        if isinstance(a, torch.Tensor):
            torch.testing.assert_close(b, a, rtol=0, atol=0, equal_nan=True)
        else:
            assert a == b
    found = capture.capture(make(), torch.ones(3))
    assert bool(found.graph_breaks) == (make in BROKEN)
    assert make in BROKEN or len(found.graphs) == 1


def test_fullgraph_raises_what_eager_raises():
    optimized = capture.optimize("eager", fullgraph=True)(make_message())
    torch.testing.assert_close(optimized(torch.ones(3)), torch.zeros(3))
    with pytest.raises(ValueError, match="smallest -1"):
        optimized(-torch.ones(3))
