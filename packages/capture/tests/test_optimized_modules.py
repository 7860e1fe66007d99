"""Optimized modules as objects: a new forward, copies, pickles, lazy modules."""

from __future__ import annotations

import copy
import io
import pickle

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture.optimize import OptimizedModule


class Plus(torch.nn.Module):
    def forward(self, x):
        return x + 1


def test_forward_assigned_later():
    module = Plus()
    optimized = capture.optimize("eager")(module)
    x = torch.ones(2)
    assert torch.equal(optimized(x), x + 1)
    forward = optimized.forward
    assert optimized.forward is forward  # not made anew in each call
    module.forward = lambda x: x * 100
    assert torch.equal(optimized(x), x * 100)
    del module.forward
    assert torch.equal(optimized(x), x + 1)


def test_forward_of_the_class_replaced():
    cls = type("Local", (Plus,), {"forward": lambda self, x: x + 1})
    optimized = capture.optimize("eager")(cls())
    x = torch.ones(2)
    assert torch.equal(optimized(x), x + 1)
    cls.forward = lambda self, x: x * 100
    assert torch.equal(optimized(x), x * 100)


def test_deepcopy_has_parameters_of_its_own():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    module = torch.nn.Linear(2, 2)
    optimized = capture.optimize(backend)(module)
    other = copy.deepcopy(optimized)
    assert type(other) is OptimizedModule
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
    x = torch.ones(1, 2)
    assert not optimized(x).any() and other(x).any()
    assert len(graphs) >= 1 and other._orig_mod is not module
    shallow = copy.copy(optimized)
    assert shallow.weight is module.weight and not shallow(x).any()


def test_pickle_optimizes_again():
    optimized = capture.optimize("eager")(torch.nn.Linear(2, 2))
    x = torch.ones(1, 2)
    other = pickle.loads(pickle.dumps(optimized))
    assert type(other) is OptimizedModule and torch.equal(other(x), optimized(x))
    file = io.BytesIO()
    torch.save(optimized, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(x), optimized(x)) and loaded.lampwork_callback.backend_name == "eager"


def test_pickle_with_an_unregistered_backend_says_why():
    optimized = capture.optimize(lambda graph, inputs: graph.forward)(torch.nn.Linear(2, 2))
    with pytest.raises(pickle.PicklingError, match="_orig_mod"):
        pickle.dumps(optimized)


def test_lazy_module():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    module = torch.nn.LazyLinear(3)
    optimized = capture.optimize(backend)(module)
    x = torch.ones(1, 2)
    assert optimized(x).shape == (1, 3)
    assert type(module) is torch.nn.Linear
    assert torch.equal(optimized(x), module(x))
    assert graphs  # the second call is captured
