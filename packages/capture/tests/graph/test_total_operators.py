"""Unused operations: one that may raise when run is not dropped, one that cannot is."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F

RAISING = [
    lambda x: x | 1,
    lambda x: x & 1,
    lambda x: x ^ 1,
    lambda x: F.softmax(x, dim=3),
    lambda x: F.softmax(x.long(), dim=0),
    lambda x: F.gelu(x.long()),
    lambda x: F.silu(x.long()),
    lambda x: F.relu(x > 0),
    lambda x: x.long().std(),
    lambda x: torch.gcd(x, x),
    lambda x: torch.sort(x, dim=4),
    lambda x: torch.as_strided(x, (99,), (1,)),
    lambda x: x.long() ** -1,
    lambda x: torch.bitwise_left_shift(x, 1),
    lambda x: torch.mm(x[None], x[:, None].double()),
    lambda x: torch.bucketize(x, x[None]),
    lambda x: torch.complex(x, x.double()),
    lambda x: torch.full((2,), 1e30, dtype=torch.float16),
    lambda x: x.half().masked_fill(x > 0, 1e30),
]
TOTAL = [
    lambda x: (x + 1) * 2 / 3 - x.long(),
    lambda x: torch.cat([x, x]).reshape(2, -1).transpose(0, 1)[0],
    lambda x: torch.tril(torch.ones(3, 3, dtype=torch.bool)).masked_fill(torch.arange(3) > 1, False),
    lambda x: F.softmax(x[None] @ x[:, None], dim=-1).half(),
    lambda x: torch.where(x > 0, x, 0.0).sum().exp(),
    lambda x: x.to(torch.int32).eq(3) | (x > 1) | ~x.bool(),
    lambda x: F.layer_norm(x, (2,)),
    lambda x: x.half().masked_fill(x > 0, torch.finfo(torch.float16).min),
]


def unused(operation):
    def function(x):
        operation(x)
        return x + 1

    return function


def error_of(function, x):
    try:
        function(x)
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize("operation", RAISING)
def test_an_unused_operation_raises(operation):
    x = torch.tensor([0.0, 1.0])
    function = unused(operation)
    expected = error_of(function, x)
    optimized = capture.optimize("eager")(function)
    assert expected is not None
    assert error_of(optimized, x) == error_of(optimized, x) == expected


def test_a_handler_sees_what_an_unused_operation_raises():
    def function(x):
        try:
            x | 1
        except NotImplementedError:
            return "a float"
        return "an integer"

    optimized = capture.optimize("eager")(function)
    for x in (torch.ones(2), torch.ones(2, dtype=torch.int64)):
        assert optimized(x) == optimized(x) == function(x)


@pytest.mark.parametrize("operation", TOTAL)
def test_an_unused_operation_that_cannot_raise_is_dropped(operation):
    graphs = []
    optimized = capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward)(unused(operation))
    x = torch.tensor([0.0, 1.0])
    operation(x)  # it does not raise
    assert torch.equal(optimized(x), x + 1)
    assert [len(graph.graph.nodes) for graph in graphs] == [3]  # x, the sum, the output
