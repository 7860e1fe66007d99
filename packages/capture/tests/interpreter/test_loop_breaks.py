"""Breaks inside loops: eager and optimized agree, and the work of a round is captured once, not for each round."""

from __future__ import annotations

import copy
import warnings

import loop_breaks
import pytest
import torch
from differential import check_program


def arguments():
    return (torch.tensor([1.0, 2.0, 3.0]),)


@pytest.mark.parametrize("function", loop_breaks.PROGRAMS, ids=lambda f: f.__name__)
def test_program(function):
    saved = copy.deepcopy(loop_breaks.state_log)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_program(function, arguments)
    loop_breaks.state_log = saved


@pytest.mark.parametrize("function", loop_breaks.COMPILATIONS, ids=lambda f: f.__name__)
def test_compilations(function):
    callback = check_program(function, arguments, calls=1)
    graphs = [record.graph for record in callback.records if record.graph is not None]
    text = "\n".join(str(graph.module.graph) for graph in graphs)
    assert 1 <= len(graphs) <= loop_breaks.COMPILATIONS[function], text


def test_no_tensor_work_of_the_rounds_is_left_out():
    callback = check_program(loop_breaks.print_in_the_middle, arguments, calls=1)
    operators = [
        node.target.__name__ if callable(node.target) else node.target
        for record in callback.records
        if record.graph is not None
        for node in record.graph.module.graph.nodes
        if node.op in ("call_function", "call_method")
    ]
    assert sorted(set(operators)) == ["add", "cos", "sin"]
