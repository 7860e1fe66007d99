"""Runs a program eagerly and optimized and compares what can be seen of it: results, side effects, output."""

from __future__ import annotations

import contextlib
import copy
import io
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lampwork_capture
import torch
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import eager_backend, shared_policy, with_callback


@dataclass
class Outcome:
    """What one call showed."""

    result: Any
    error: tuple[type, str] | None
    output: str
    arguments: Any
    grad_mode: bool
    globals_after: dict[str, Any]


def plain_globals(function: Callable[..., Any]) -> dict[str, Any]:
    """The globals of a function's module that programs write to, by copy."""
    kinds = (int, str, float, list, dict, set, tuple, torch.Tensor, type(None))
    found = function.__globals__
    return {
        name: copy.deepcopy(value)
        for name, value in found.items()
        if name.startswith("state_") and isinstance(value, kinds)
    }


def run_once(function: Callable[..., Any], called: Callable[..., Any], arguments: tuple[Any, ...]) -> Outcome:
    """Call `called` and note what it does; `function` tells whose globals to look at."""
    output = io.StringIO()
    result, error = None, None
    torch.manual_seed(0)
    with contextlib.redirect_stdout(output):
        try:
            result = called(*arguments)
        except Exception as raised:
            error = (type(raised), str(raised))
    return Outcome(result, error, output.getvalue(), arguments, torch.is_grad_enabled(), plain_globals(function))


def assert_same(expected: Any, actual: Any, path: str = "result", seen: set[int] | None = None) -> None:
    """Deep equality; tensors by value, dtype and requires_grad; functions by code; objects by class and attributes."""
    seen = set() if seen is None else seen
    if id(expected) in seen:
        return
    seen.add(id(expected))
    if isinstance(expected, torch.Tensor):
        assert isinstance(actual, torch.Tensor), path
        assert type(expected) is type(actual), path
        assert expected.dtype == actual.dtype and expected.shape == actual.shape, path
        assert expected.requires_grad == actual.requires_grad, f"{path}: requires_grad"
        assert torch.equal(expected.detach(), actual.detach()), f"{path}: {expected} {actual}"
        return
    assert type(expected) is type(actual), f"{path}: {type(expected)} {type(actual)}"
    if isinstance(expected, (list, tuple)):
        assert len(expected) == len(actual), f"{path}: lengths {len(expected)} {len(actual)}"
        for index, (left, right) in enumerate(zip(expected, actual)):
            assert_same(left, right, f"{path}[{index}]", seen)
        _assert_same_aliasing(list(expected), list(actual), path)
    elif isinstance(expected, dict):
        assert list(expected) == list(actual), f"{path}: keys {list(expected)} {list(actual)}"
        for key in expected:
            assert_same(expected[key], actual[key], f"{path}[{key!r}]", seen)
        _assert_same_aliasing(list(expected.values()), list(actual.values()), path)
    elif isinstance(expected, types.FunctionType):
        assert expected.__code__ == actual.__code__, path
        assert expected.__name__ == actual.__name__ and expected.__qualname__ == actual.__qualname__, path
        assert_same(expected.__defaults__, actual.__defaults__, f"{path}.__defaults__", seen)
    elif hasattr(expected, "__dict__") and not isinstance(expected, (type, types.ModuleType)):
        assert_same(vars(expected), vars(actual), f"{path}.__dict__", seen)
        if isinstance(expected, BaseException):
            assert_same(expected.args, actual.args, f"{path}.args", seen)
    else:
        assert expected == actual or expected != expected, f"{path}: {expected!r} {actual!r}"


def _assert_same_aliasing(expected: list[Any], actual: list[Any], path: str) -> None:
    for i in range(len(expected)):
        for j in range(i):
            if isinstance(expected[i], (torch.Tensor, list, dict, set)):
                assert (expected[i] is expected[j]) == (actual[i] is actual[j]), f"{path}: aliasing of {i} and {j}"


def check_program(
    function: Callable[..., Any],
    make_arguments: Callable[[], tuple[Any, ...]],
    *,
    calls: int = 2,
    fresh: Callable[[], Callable[..., Any]] | None = None,
) -> FrameCallback:
    """Compare eager and optimized over several calls. `fresh` makes the function anew when it carries state."""
    torch.manual_seed(1)
    eager = fresh() if fresh else function
    state = plain_globals(eager)
    expected = [run_once(eager, eager, make_arguments()) for _ in range(calls)]
    eager.__globals__.update(copy.deepcopy(state))
    target = fresh() if fresh else function
    callback = FrameCallback(eager_backend, "eager", CaptureConfig(strict=True), shared_policy())
    optimized = with_callback(target, callback)
    lampwork_capture.reset()
    grad_mode = torch.is_grad_enabled()
    try:
        for number, want in enumerate(expected):
            got = run_once(target, optimized, make_arguments())
            where = f"call {number}"
            assert want.error == got.error, f"{where}: {want.error} {got.error}"
            assert want.output == got.output, f"{where}: output {want.output!r} {got.output!r}"
            assert_same(want.result, got.result, f"{where}: result")
            assert_same(want.arguments, got.arguments, f"{where}: arguments")
            assert want.grad_mode == got.grad_mode, f"{where}: grad mode"
            assert_same(want.globals_after, got.globals_after, f"{where}: globals")
            _assert_same_identities(want, got, where)
    finally:
        torch.set_grad_enabled(grad_mode)
        eager.__globals__.update(state)
    return callback


def _assert_same_identities(want: Outcome, got: Outcome, where: str) -> None:
    """Results that are arguments are the same arguments."""
    wanted = want.result if isinstance(want.result, (list, tuple)) else [want.result]
    given = got.result if isinstance(got.result, (list, tuple)) else [got.result]
    for index, (left, right) in enumerate(zip(wanted, given)):
        for position, (old, new) in enumerate(zip(want.arguments, got.arguments)):
            assert (left is old) == (right is new), f"{where}: result {index} is argument {position}"
