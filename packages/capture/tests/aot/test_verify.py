"""What a functional graph may call besides operators: functions of numbers that are known to be pure."""

from __future__ import annotations

import math
import random

import pytest
import torch
from lampwork_capture.aot import NotFunctional, verify
from lampwork_symshape.sym_node import TorchShapeEnv
from torch import fx


def computing(function):
    """A graph that computes a symbolic float with a function."""
    env = TorchShapeEnv(symbolic_floats=True)
    graph = fx.Graph()
    number = graph.placeholder("f")
    made = graph.call_function(function, (number,))
    number.meta["val"] = made.meta["val"] = env.sym_float(env.create_float(0.5, "f"))
    output = graph.output((made,))
    output.meta["val"] = None
    return fx.GraphModule(torch.nn.Module(), graph)


@pytest.mark.parametrize("function", [math.exp, math.tanh, math.sqrt, float])
def test_pure_functions_of_numbers_are_allowed(function):
    verify(computing(function))


def noisy(number):
    return number * random.random()


@pytest.mark.parametrize("function", [noisy, print, random.gauss, lambda f: f])
def test_others_are_not_whatever_they_give(function):
    with pytest.raises(NotFunctional, match="not an operator overload"):
        verify(computing(function))
