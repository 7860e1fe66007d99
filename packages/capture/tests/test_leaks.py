"""What was captured and dropped is gone: modules, tensors, code and memory."""

from __future__ import annotations

import gc
import os
import weakref

import lampwork_capture
import pytest
import torch

ROUNDS = int(os.environ.get("LAMPWORK_LEAK_ROUNDS", "120"))  # 1000 in the nightly session
WIDTH = 128  # 64 KiB a weight: a leak of weights shows in the resident memory
X = torch.ones(2, WIDTH)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.scale = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x)) * self.scale
        return x


def resident_kib() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def once(backend) -> list[weakref.ref]:
    net = Net()
    optimized = lampwork_capture.optimize(backend)(net)
    expected = net(X)
    for _ in range(3):
        assert torch.equal(optimized(X), expected)
    return [weakref.ref(net), *(weakref.ref(parameter) for parameter in net.parameters())]


def keeps_nothing(graph, examples):
    return graph.forward


@pytest.mark.parametrize("backend", ["eager", keeps_nothing])
def test_captured_modules_that_are_dropped_leave_nothing(backend):
    for _ in range(20):  # whatever is made once
        once(backend)
    gc.collect()
    objects, resident = len(gc.get_objects()), resident_kib()
    references = [reference for _ in range(ROUNDS) for reference in once(backend)]
    gc.collect()
    alive = sum(reference() is not None for reference in references)
    del references
    gc.collect()
    assert alive == 0
    assert len(gc.get_objects()) - objects < ROUNDS / 4
    # A round that left its module would leave 256 KiB of weights; the allocator's own growth stays far below this.
    assert resident_kib() - resident < 80 * ROUNDS


def test_a_module_dies_without_the_collector_when_its_optimized_form_does():
    net = Net()
    optimized = lampwork_capture.optimize("eager")(net)
    optimized(X)
    parameters = [weakref.ref(parameter) for parameter in net.parameters()]
    gc.collect()
    gc.disable()
    try:
        del net, optimized
        assert [reference() for reference in parameters] == [None] * len(parameters)
    finally:
        gc.enable()


def test_inputs_are_not_kept_between_calls():
    net = Net()
    optimized = lampwork_capture.optimize("eager")(net)
    optimized(X)
    gc.collect()  # the trace
    optimized(X)
    x = torch.ones(2, WIDTH)
    optimized(x)
    given = weakref.ref(x)
    weight = weakref.ref(net.layers[0].weight)
    del x
    assert given() is None
    net.layers[0].weight = torch.nn.Parameter(torch.zeros(WIDTH, WIDTH))
    assert weight() is None
    assert torch.equal(optimized(X), net(X))


def test_inputs_die_while_what_follows_the_graph_runs():
    """The copy of the code behind a graph break does not hold what the guard check handed over."""
    seen = []

    def f(net, x):
        y = net.layers[0](x)
        weight = weakref.ref(net.layers[0].weight)
        net.layers[0]._parameters["weight"] = None
        seen.append(weight() is None)
        return y

    lampwork_capture.optimize("eager")(f)(Net(), X)
    f(Net(), X)
    assert seen[0] == seen[1]


class Thing:
    value = 3


def _raise_for(thing: Thing) -> float:
    return thing.value / 0


def _caught(x: torch.Tensor, thing: Thing) -> torch.Tensor:
    try:
        _raise_for(thing)
    except ZeroDivisionError:
        x = x + thing.value
    return x


def _broken_in_a_callee(x: torch.Tensor, thing: Thing) -> torch.Tensor:
    def inner(thing: Thing) -> int:
        lampwork_capture.graph_break()
        return thing.value

    return x + inner(thing)


def _kept_exception(x: torch.Tensor, thing: Thing) -> torch.Tensor:
    try:
        _raise_for(thing)
    except ZeroDivisionError as error:
        found = error
    return x + len(str(found))


@pytest.mark.parametrize("function", [_caught, _broken_in_a_callee, _kept_exception])
def test_conversions_keep_no_arguments_until_the_collector_comes(function):
    optimized = lampwork_capture.optimize("eager")(function)
    gc.collect()
    gc.disable()
    try:
        thing = Thing()
        reference = weakref.ref(thing)
        optimized(X, thing)
        del thing
        assert reference() is None
    finally:
        gc.enable()
