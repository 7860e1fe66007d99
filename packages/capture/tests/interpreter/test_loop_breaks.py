"""Breaks inside loops: eager and optimized agree, and the work of a round is captured once, not for each round."""

from __future__ import annotations

import copy
import warnings

import loop_breaks
import pytest
import torch
from differential import check_program
from lampwork_capture import _native
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import eager_backend
from lampwork_capture.skip_policy import SkipPolicy, runs_natively


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


class ConvertsEverything(SkipPolicy):
    def converts_frame(self, code):
        return code.co_filename == __file__


def _rounds_in_a_call(x):
    x = x * 2
    return _rounds(x, 3) + 1


def _rounds(x, count):
    for index in range(count):
        print(end=str(index)[:0])
        x = x + index
    return x


def test_a_policy_cannot_have_native_code_converted():
    """The loop stands in a continuation; a round that its own replacement takes out again would never end."""
    config = CaptureConfig(strict=True, convert_without_tensor_work=True)
    callback = FrameCallback(eager_backend, "eager", config, ConvertsEverything())
    optimized = _native.OptimizedCallable(_rounds_in_a_call, callback, callback)
    (x,) = arguments()
    assert torch.equal(optimized(x), _rounds_in_a_call(x))
    assert callback.records
    assert not any(runs_natively(record.code) for record in callback.records)
