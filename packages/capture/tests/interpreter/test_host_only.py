"""Breaks where no tensor can be reached: one break for the whole call, whose frame runs natively."""

from __future__ import annotations

import lampwork_capture as capture
import numpy as np
import pytest
import torch

SCALE = 0.25
TABLE = torch.arange(4.0)


def mask_of(count, share, lengths=None):
    """Several things in a row that break: generators and arrays of numpy."""
    epsilon = np.random.rand(1).item()

    def spans(length):
        return int(share * length + epsilon * SCALE) + 1

    mask = np.zeros((count,), dtype=bool)
    for length in lengths or [count]:
        chosen = np.random.choice(np.arange(length), min(spans(length), length), replace=False)
        np.put_along_axis(mask, chosen, True, -1)
    return [bool(flag) for flag in mask]


def masked(x):
    y = x + 1
    flags = mask_of(x.shape[0], 0.4)
    return y * sum(flags), flags


class Holder:
    def __init__(self):
        self.net = torch.nn.Linear(4, 4)

    def loud(self, x):
        print("in", end="")
        return self.net(x) * 2


def reads_global(factor):
    print("global", end="")
    return TABLE * factor


def with_table(x):
    return x + reads_global(2) + 1


def only_host(count):
    return sum(mask_of(count, 0.5))


def with_tensor(x, flag):
    def inner(value):
        print(flag, end="")
        return value * 2 + 1

    return inner(x + 1) - 3


@pytest.fixture(autouse=True)
def same_numbers():
    np.random.seed(3)


def seeded(function, *args):
    np.random.seed(3)
    return function(*args)


def test_one_break_for_a_call_that_reaches_no_tensor():
    x = torch.arange(8.0)
    found = capture.capture(masked, x)
    assert [b.break_id for b in found.graph_breaks] == [capture.BreakId.GENERIC_OBJECT]
    assert len(found.graphs) == 2
    compiled = capture.optimize("eager")(masked)
    for _ in range(3):
        expected, result = seeded(masked, x), seeded(compiled, x)
        assert expected[1] == result[1]
        assert torch.equal(expected[0], result[0])


def test_the_callee_is_skipped_whole():
    found = capture.capture(masked, torch.arange(8.0))
    assert "`mask_of` can reach no tensor" in str([f.graph_break for f in found.skipped])


def test_a_root_frame_that_reaches_no_tensor_runs_natively():
    found = capture.capture(only_host, 8)
    assert not found.graph_breaks
    assert not found.graphs
    assert seeded(capture.optimize("eager")(only_host), 8) == seeded(only_host, 8)


@pytest.mark.parametrize(
    ("function", "arguments", "graphs"),
    [(Holder().loud, (torch.ones(4),), 1), (with_table, (torch.ones(4),), 1), (with_tensor, (torch.ones(4), "f"), 2)],
    ids=["an object of a class of the user", "a global tensor", "a tensor argument"],
)
def test_frames_that_reach_tensors_are_resumed(function, arguments, graphs):
    """What follows the break inside such a frame is in a graph together with what follows the call."""
    found = capture.capture(function, *arguments)
    assert len(found.graphs) == graphs
    assert len(found.graph_breaks) == 1
    with torch.no_grad():
        assert torch.equal(function(*arguments), capture.optimize("eager")(function)(*arguments))
