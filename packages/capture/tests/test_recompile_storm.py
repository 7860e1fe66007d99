"""A function that never sees the same value twice is captured a bounded number of times; the user learns why once."""

from __future__ import annotations

import warnings
import weakref

import lampwork_capture
import pytest
import torch
from lampwork_capture import CaptureWarning
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import eager_backend, shared_policy, with_callback

X = torch.arange(8.0).reshape(2, 4)
CALLS = 1000


def storm(function, values):
    """The number of graphs, and the warnings, of one call for each value; all results are compared with eager."""
    graphs = []
    optimized = lampwork_capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward)(function)
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        for value in values:
            assert torch.equal(optimized(X, value), function(X, value)), value
    return len(graphs), [str(w.message) for w in caught if issubclass(w.category, CaptureWarning)]


class Block(torch.nn.Module):
    def __init__(self, number):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.number = number
        self.settings = {"scale": number / 7, "sizes": [number, 4]}

    def forward(self, x):
        return self.linear(x) * self.settings["scale"] + self.number * self.settings["sizes"][0]


class Labelled(Block):
    def __init__(self, number):
        super().__init__(number)
        self.label = f"block {number}"

    def forward(self, x):
        return super().forward(x) * len(self.label)


class Plain:
    def __init__(self, number):
        self.number = number
        self.weight = torch.full((4,), float(number))


def test_floats():
    assert storm(lambda x, s: x * s + s, [n / 7 for n in range(CALLS)]) == (2, [])


def test_ints():
    assert storm(lambda x, n: x[n % 2] * n, range(CALLS)) == (2, [])


def test_ints_whose_value_is_needed():
    def f(x, n):
        for step in range(n % 50):
            x = x + step
        return x

    graphs, messages = storm(f, range(100))
    assert graphs <= 8 and len(messages) == 1
    assert "LW103" in messages[0] and "`n" in messages[0]


def test_strings():
    graphs, messages = storm(lambda x, word: x * len(word), [str(10**n) for n in range(CALLS)])
    assert graphs == 8 and len(messages) == 1
    assert "for 8 other values of `word`" in messages[0]
    assert "Choose what depends on the string `word` outside" in messages[0]


def test_instances():
    assert storm(lambda x, thing: x * thing.number + thing.weight, map(Plain, range(CALLS))) == (2, [])


def test_modules():
    def run(x, block):
        return block(x)

    assert storm(run, map(Block, range(CALLS))) == (2, [])


def test_modules_with_a_string_of_their_own():
    def run(x, block):
        return block(x)

    graphs, messages = storm(run, map(Labelled, range(50)))
    assert graphs <= 24  # `run`, then `forward` and what it calls, which are captured by themselves
    places = [message.split("`")[1] for message in messages]
    assert len(places) == len(set(places)) and all("label" in message for message in messages)


def test_each_module_optimized_by_itself():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    blocks = [Block(number) for number in range(CALLS)]
    optimized = [lampwork_capture.optimize(backend)(block) for block in blocks]
    with torch.no_grad():
        for compiled, block in zip(optimized, blocks):
            assert torch.equal(compiled(X), block(X))
    assert len(graphs) == 2


def test_limit_counts_by_cause():
    def f(x, word):
        return x * len(word)

    graphs = []
    optimized = lampwork_capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward)(f)
    for dtype in (torch.float32, torch.float64, torch.int64):
        for number in range(5):  # in all more than the limit, of one cause never
            x = X.to(dtype)
            assert torch.equal(optimized(x, "a" * number), f(x, "a" * number))
    assert len(graphs) == 15


def test_callees_are_captured_behind_the_limit():
    def inner(x):
        return torch.relu(x) - 1

    def f(x, word):
        return inner(x) * len(word)

    names = []
    optimized = lampwork_capture.optimize(
        lambda graph, inputs: names.append(sorted(str(n.target) for n in graph.graph.nodes)) or graph.forward
    )(f)
    with pytest.warns(CaptureWarning, match="LW103"):
        for number in range(20):
            assert torch.equal(optimized(X, "a" * number), f(X, "a" * number))
    assert len(names) == 9 and not any("mul" in name for name in names[-1])
    optimized(X, "a")  # what was captured before the limit is still used
    assert len(names) == 9


def test_shared_callbacks_do_not_live_on():
    def backend(graph, inputs):
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(lambda x: x + 1)
    again = lampwork_capture.optimize(backend)(lambda x: x + 2)
    assert optimized.callback is again.callback
    assert lampwork_capture.optimize(backend, fullgraph=True)(lambda x: x).callback is not optimized.callback
    callback = weakref.ref(optimized.callback)
    optimized(X)
    del optimized, again
    assert callback() is None


def test_a_break_in_each_level_of_a_recursion_makes_few_and_short_conversions():
    depths: list[None] = []

    @lampwork_capture.disable
    def is_deep_enough():
        depths.append(None)
        return len(depths) > 40

    def descend(x):
        y = x + 1
        return y if is_deep_enough() else descend(y) + 1

    callback = FrameCallback(eager_backend, "eager", CaptureConfig(strict=True), shared_policy())
    optimized = with_callback(lambda x: descend(x) * 2, callback)
    assert torch.equal(optimized(torch.ones(2)), torch.full((2,), 164.0))
    assert len(callback.records) < 40
    assert max(len(record.replacement.co_code) for record in callback.records if record.replacement) < 3_000
