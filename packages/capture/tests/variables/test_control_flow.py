"""`torch.cond` in a frame: one graph that tests the data when it runs; what eager refuses is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lampwork_capture as capture
import pytest
import torch
import torch.utils._pytree as pytree


def with_operands(x, w):
    return torch.cond(x.sum() > 0, lambda a: a.sin() + w, lambda a: a.cos(), (x,))


def with_structures(x, w):
    y = x * 2
    return torch.cond(x.sum() > 0, lambda: {"a": y + 1, "b": (w * 2,)}, lambda: {"a": y - 1, "b": (w * 3,)})


def nested(x, w):
    def inner(a):
        return torch.cond(a.sum() > 3, lambda b: b * 2, lambda b: b * 5, (a,))

    return torch.cond(x.sum() > 0, inner, lambda a: a.cos(), (x,))


def returns_its_input(x, w):
    return torch.cond(x.sum() > 0, lambda a: a, lambda a: a.cos(), (x,))


def changes_a_list(x, w):
    changed = []

    def branch(a):
        changed.append(1)
        return a + 1

    return torch.cond(x.sum() > 0, branch, lambda a: a.cos(), (x,)), changed


def gives_different_shapes(x, w):
    return torch.cond(x.sum() > 0, lambda a: a[:1].clone(), lambda a: a.cos(), (x,))


@pytest.mark.parametrize("function", [with_operands, with_structures, nested])
def test_either_branch_runs(function):
    found = []
    optimized = capture.optimize(lambda module, _: found.append(module) or module, fullgraph=True)(function)
    w = torch.rand(3)
    for value in (1.0, -1.0, 4.0):
        x = torch.full((3,), value)
        expected, actual = function(x, w), optimized(x, w)
        for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(actual), strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=0)
    assert len(found) == 1


@pytest.mark.parametrize("function", [with_operands, nested])
@pytest.mark.parametrize("value", [1.0, -1.0, 4.0])
def test_gradients(function, value):
    slopes = []
    for call in (function, capture.optimize("eager", fullgraph=True)(function)):
        x = torch.full((3,), value, requires_grad=True)
        call(x, torch.ones(3)).sum().backward()
        slopes.append(x.grad)
    torch.testing.assert_close(*slopes)


def raise_the_same(function):
    errors = []
    for call in (function, capture.optimize("eager")(function)):
        with pytest.raises(Exception) as raised:
            call(torch.ones(3), torch.ones(3))
        errors.append(raised.type)
    assert errors[0] is errors[1]


@pytest.mark.parametrize("function", [returns_its_input, changes_a_list])
def test_what_eager_refuses_raises_the_same(function):
    """In a process of its own: eager compiles `cond`, and where that fails torch leaves its evaluator installed."""
    program = f"import test_control_flow as tests; tests.raise_the_same(tests.{function.__name__})"
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_branches_of_different_shapes_break_the_graph():
    found = capture.capture(gives_different_shapes, torch.ones(3), torch.ones(3))
    assert found.graph_breaks and torch.equal(found.result, torch.ones(1))
