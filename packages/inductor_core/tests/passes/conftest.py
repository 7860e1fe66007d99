"""Trace, rewrite, compare: what every test of a pass does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.passes.rewriting import PassContext
from lampwork_inductor_core.passes.verify_graph import verify_graph
from torch.fx.experimental.proxy_tensor import make_fx


def rewrite(
    run: Callable[..., Any], function: Callable[..., Any], *inputs: Any, static: tuple[int, ...] = (), **config: Any
) -> torch.fx.GraphModule:
    """The graph of `function` after the pass; it gives what it gave before, with the same strides."""
    with torch.no_grad():
        graph = make_fx(function, tracing_mode="fake")(*inputs)
        for position, node in enumerate(n for n in graph.graph.nodes if n.op == "placeholder"):
            node.meta["static_input"] = position in static
        expected = function(*inputs)
        graph = run(graph, PassContext(Config(verify=True, **config)))
        verify_graph(graph, "the pass")
        graph.recompile()
        actual = graph(*inputs)
    expected = expected if isinstance(expected, (list, tuple)) else [expected]
    actual = actual if isinstance(actual, (list, tuple)) else [actual]
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True, rtol=1e-4, atol=1e-5)
        assert (
            torch.equal(torch.signbit(one), torch.signbit(other)) or not one.dtype.is_floating_point or one.numel() > 99
        )
        assert one.stride() == other.stride()
    return graph


@pytest.fixture
def rewritten() -> Callable[..., torch.fx.GraphModule]:
    """`rewritten(pass, function, *inputs, static=(...))`: the graph after the pass, checked against eager."""
    return rewrite


@pytest.fixture
def targets() -> Callable[[torch.fx.GraphModule], list[Any]]:
    """The operators that a graph calls, in order."""
    return lambda graph: [n.target for n in graph.graph.nodes if n.op == "call_function"]
