"""A library's function that is replaced after the capture is seen."""

from __future__ import annotations

import math

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F

X = -torch.ones(2)


def relu(x):
    return F.relu(x)


def relu_of_module(x):
    return torch.nn.functional.relu(x)


def inside_module(x, module=torch.nn.ReLU()):  # noqa: B008
    return module(x)


def root(x):
    return x * math.sqrt(4)


CASES = [
    (relu, F, "relu", lambda x, inplace=False: x * 7),
    (relu_of_module, F, "relu", lambda x, inplace=False: x * 7),
    (inside_module, F, "relu", lambda x, inplace=False: x * 7),
    (root, math, "sqrt", lambda x: 9.0),
]


@pytest.mark.parametrize(("function", "module", "name", "patch"), CASES, ids=lambda c: getattr(c, "__name__", None))
def test_patch_is_seen(function, module, name, patch, monkeypatch):
    optimized = capture.optimize("eager")(function)
    first = function(X)
    assert torch.equal(optimized(X), first)
    monkeypatch.setattr(module, name, patch)
    assert torch.equal(optimized(X), function(X)) and not torch.equal(function(X), first)
    monkeypatch.undo()
    assert torch.equal(optimized(X), first)
