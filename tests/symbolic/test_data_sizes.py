"""Sizes and numbers that depend on data, through the whole stack: one compiled graph, its results those of eager."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path
from typing import Any

import lampwork_capture
import pytest
import torch

_PROGRAMS = runpy.run_path(str(Path(__file__).parents[2] / "packages/capture/tests/test_data_sizes.py"))["PROGRAMS"]


def _same(expected: Any, found: Any) -> None:
    if isinstance(expected, (tuple, list)):
        assert len(expected) == len(found)
        for pair in zip(expected, found):
            _same(*pair)
    elif isinstance(expected, torch.Tensor):
        assert expected.stride() == found.stride() or not expected.numel()
        torch.testing.assert_close(found, expected, equal_nan=True)
    else:
        assert type(expected) is type(found) and expected == found


@pytest.mark.parametrize(("function", "calls"), _PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_compiled_for_all_data(function: Any, calls: Any) -> None:
    optimized = lampwork_capture.optimize("lampwork", fullgraph=True)(function)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in calls:
            _same(function(*call), optimized(*call))


def test_checks_come_before_what_relies_on_them() -> None:
    def function(k: torch.Tensor, x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        rows = x[m]
        total = rows * 2
        torch._check(rows.shape[0] == 3)
        torch._check(k.item() == 4)
        return total.sum(0) + torch.arange(k.item())

    x, three = torch.randn(5, 4), torch.tensor([True, True, False, True, False])
    optimized = lampwork_capture.optimize("lampwork", fullgraph=True)(function)
    _same(function(torch.tensor(4), x, three), optimized(torch.tensor(4), x, three))
    for k, m in ((torch.tensor(4), ~three), (torch.tensor(5), three)):
        with pytest.raises(RuntimeError):
            optimized(k, x, m)


def test_gradients_flow_through_a_mask() -> None:
    def function(x: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return x[m].sin().sum()

    m = torch.tensor([True, False, True])
    results = []
    for f in (function, lampwork_capture.optimize("lampwork", fullgraph=True)(function)):
        x = torch.ones(3, 2, requires_grad=True)
        f(x, m).backward()
        results.append(x.grad)
    _same(*results)


@pytest.mark.parametrize("name", ["max", "min", "amax", "argmax"])
def test_an_extremum_of_nothing_raises_as_in_eager(name: str) -> None:
    def function(x: torch.Tensor, m: torch.Tensor) -> Any:
        return getattr(x[m], name)(0)

    x, some = torch.randn(3, 2), torch.tensor([True, False, True])
    optimized = lampwork_capture.optimize("lampwork", fullgraph=True)(function)
    _same(function(x, some), optimized(x, some))
    with pytest.raises(IndexError) as expected:
        function(x, some & False)
    with pytest.raises(IndexError) as found:
        optimized(x, some & False)
    assert str(found.value) == str(expected.value)


def test_a_tensor_of_a_number_holds_all_of_it() -> None:
    def function(k: torch.Tensor, x: torch.Tensor, i: int) -> Any:
        return torch.tensor(k.item()) * 2, torch.tensor([[k.item(), 3]]), torch.tensor(i) + 1, x + i

    optimized = lampwork_capture.optimize("lampwork", fullgraph=True)(function)
    for number in (3, 2**40, -(2**50)):
        arguments = (torch.tensor(number), torch.ones(2), number)
        _same(function(*arguments), optimized(*arguments))


def test_a_bound_that_may_be_negative_counts_from_the_end() -> None:
    def function(x: torch.Tensor) -> Any:
        return x[x.shape[0] - 5 :] * 2, x[: x.shape[0] - 6] + 1

    optimized = lampwork_capture.optimize("lampwork", dynamic=True)(function)
    for size in (8, 9, 7, 3, 1, 5):
        x = torch.randn(size, 2)
        _same(function(x), optimized(x))


def test_data_that_do_not_meet_a_check_break_the_graph_after_a_few_calls():
    def function(x, m):
        return x[m] + x[:3]  # of one row, eager repeats it

    optimized = torch.compile(function, backend="lampwork")
    x = torch.randn(5, 4)
    masks = [torch.arange(5) < rows for rows in (3, 1, 1, 1, 1, 3)]
    with pytest.warns(lampwork_capture.CaptureWarning, match="captured anew") as told:
        for m in masks:
            torch.testing.assert_close(optimized(x, m), function(x, m))
    assert len(told) == 1


def test_places_of_a_matrix_leave_the_graph_as_they_are() -> None:
    def function(x: torch.Tensor) -> Any:
        return x.nonzero(), x.nonzero().t(), x.nonzero()[:, 1] * 2

    compiled = lampwork_capture.optimize("lampwork", fullgraph=True)(function)
    for data in ([[0.0, 1], [2, 0]], [[0, 0], [0, 0]], [[1, 1], [2, 0]], [[1, 0], [0, 0]]):
        x = torch.tensor(data)
        _same(function(x), compiled(x))
