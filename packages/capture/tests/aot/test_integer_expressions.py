"""Integers that are computed from sizes stay integers on their way through aot: dtypes, positions and bounds."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
from lampwork_capture.aot import aot_backend

L = torch.arange(6)
SIZES = ((4, 6), (5, 9), (8, 8), (9, 12), (3, 20), (1, 5))


def offset(x):
    return x.shape[1] - x.shape[0]


PROGRAMS = {
    "three quarters": lambda x: L * (x.shape[0] * 3 // 4),
    "fill": lambda x: torch.full((2,), x.shape[0] * 3 // 4),
    "positions": lambda x: torch.arange(x.shape[0]) + offset(x),
    "range": lambda x: torch.arange(offset(x), x.shape[1]),
    "tensor": lambda x: torch.tensor(offset(x)),
    "remainder": lambda x: L * ((x.shape[0] * 3) % 4),
    "slice": lambda x: x[: x.shape[0] * 3 // 4],
    "diagonal": lambda x: x.tril(offset(x)),
    "zeros": lambda x: x.new_zeros(x.shape[0] * 2 + 1),
    "least": lambda x: L * min(x.shape[0] * 2, x.shape[1] + 3),
    "int32": lambda x: L.int() * offset(x),
    "two thirds": lambda x: x * (offset(x) * 2 // 3),
    "float beside": lambda x: L * (x.shape[0] / 4) + offset(x) * 0.5,
}


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_integers_stay_integers(name, dynamic):
    graphs = []

    def compiler(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    function = PROGRAMS[name]
    optimized = lampwork_capture.optimize(aot_backend(compiler), dynamic=dynamic)(function)
    for size in SIZES:
        x = torch.randn(size)
        expected, found = function(x), optimized(x)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    assert len(graphs) <= (2 if dynamic is None else 1) + (name in {"diagonal", "slice"})
