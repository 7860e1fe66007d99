"""Lower a function's trace, interpret it, compare with eager: the differential check of every lowering test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.ir.buffer import LoweredGraph
from lampwork_inductor_core.lowering.graph import lower
from torch.fx.experimental.proxy_tensor import make_fx

VERIFYING = Config(verify=True)


def compare(actual: Any, expected: Any, *, strides: bool = True, **tolerance: float) -> None:
    """Equal numbers (nan equals nan), dtype, sizes and, where they can matter, strides."""
    if not isinstance(expected, torch.Tensor):
        assert actual == expected
        return
    if not tolerance:
        half = expected.dtype in (torch.bfloat16, torch.float16)
        tolerance = {"rtol": 2e-2, "atol": 2e-2} if half else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(actual, expected, equal_nan=True, **tolerance)
    if strides and expected.numel():
        pairs = zip(actual.stride(), expected.stride(), expected.shape)
        assert all(a == b or size == 1 for a, b, size in pairs), (actual.stride(), expected.stride())


def check(function: Callable[..., Any], *inputs: Any, **tolerance: float) -> LoweredGraph:
    """Lower `function` on these inputs; the interpreter's results must be eager's. Returns the lowered graph."""
    with torch.no_grad():
        graph = make_fx(function, tracing_mode="fake")(*inputs)
        lowered = lower(graph, config=VERIFYING)
        actual = interpret(lowered, inputs)
        expected = function(*inputs)
    expected = list(expected) if isinstance(expected, Sequence) else [expected]
    assert len(actual) == len(expected)
    for one, other in zip(actual, expected):
        compare(one, other, **tolerance)
    return lowered


@pytest.fixture
def lowers_as_eager() -> Callable[..., LoweredGraph]:
    """`lowers_as_eager(function, *inputs)`: the lowered graph, after it gave eager's results."""
    return check
