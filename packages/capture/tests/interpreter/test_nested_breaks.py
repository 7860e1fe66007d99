"""Breaks inside inlined calls: eager and optimized agree, and all frames resume in one trace."""

from __future__ import annotations

import copy
import warnings

import nested_breaks
import pytest
import torch
from differential import check_program


def arguments():
    return (torch.tensor([1.0, 2.0, 3.0]),)


@pytest.fixture(autouse=True)
def same_globals():
    networks = [nested_breaks.NET, nested_breaks.Block_loud]
    states = [copy.deepcopy(network.state_dict()) for network in networks]
    yield
    for network, state in zip(networks, states):
        network.load_state_dict(state)


@pytest.mark.parametrize("function", nested_breaks.PROGRAMS, ids=lambda f: f.__name__)
def test_program(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_program(function, arguments)


@pytest.mark.parametrize("function", nested_breaks.GRAPHS, ids=lambda f: f.__name__)
def test_graphs(function):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callback = check_program(function, arguments, calls=1)
    graphs = [(record.function, record.graph) for record in callback.records if record.graph is not None]
    text = "\n".join(f"{name} {graph.module.graph}" for name, graph in graphs)
    assert len(graphs) == nested_breaks.GRAPHS[function], text
