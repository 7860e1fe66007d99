"""What is run on fake tensors in place of an operation gives what that gives, but for the values."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.graph.symbolic_runs import SYMBOLIC_RUNS

POOL, INTERPOLATE, PAD = F.max_pool1d, F.interpolate, torch._C._nn.pad_sequence


def rows(*lengths):
    return [torch.randn(length, 3) for length in lengths]


CALLS = [
    *(
        (POOL, (torch.randn(shape), *args), kwargs)
        for shape in ((2, 3, 11), (3, 11))
        for args, kwargs in [
            ((2,), {}), ((3, 2), {}), ((3, 2, 1), {"ceil_mode": True}), (([3], [1], [1], [2]), {}),
            ((2,), {"return_indices": True}), ((3,), {"padding": 2}), ((30,), {}),
        ]
    ),
    (POOL, (torch.randn(2, 11, 3).transpose(1, 2), 2), {}),
    (POOL, (torch.randn(2, 11, 3, requires_grad=True).transpose(1, 2), 2), {}),
    (POOL, (torch.randn(11), 2), {}),
    *(
        (INTERPOLATE, (torch.randn(2, 3, *[5] * dims),), {"size": (7,) * dims, "mode": mode, "align_corners": aligned})
        for dims, mode in zip((1, 2, 2, 3, 1, 1), ("linear", "bilinear", "bicubic", "trilinear", "nearest", "bilinear"))
        for aligned in (None, False, True)
    ),
    *((PAD, (rows(3, 5, 1), first, 0.5, side), {}) for first in (False, True) for side in ("left", "right")),
    (PAD, (rows(2, 2, 2, 2, 3),), {}),
    (PAD, ([torch.ones(3, 2), torch.ones(2, 3)],), {}),
    (PAD, ([torch.ones(3, 2), torch.ones(2, 1)],), {}),
    (PAD, (rows(1, 2), False, 0.0, "middle"), {}),
    (torch.tensor, ([1, 2, 3],), {}),
    (torch.tensor, ([[1, 2.5], [3, True]],), {"requires_grad": True}),
    (torch.tensor, (3,), {"dtype": torch.float32}),
    (torch.tensor, (300,), {"dtype": torch.uint8}),
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(CALLS)))
def test_all_but_the_values_is_alike(index):
    operation, args, kwargs = CALLS[index]

    def described(function):
        try:
            result = function(*args, **kwargs)
        except Exception:
            return "raises"
        parts = result if isinstance(result, tuple) else (result,)
        return [(part.shape, part.stride(), part.dtype, part.requires_grad) for part in parts]

    assert described(SYMBOLIC_RUNS[operation]) == described(operation)


def test_a_tensor_of_sizes_is_not_known_while_tracing():
    def function(x):
        sizes = torch.tensor([x.shape[0], 7])
        return sizes * 2, torch.tensor(x.shape[0], dtype=torch.uint8)

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend, dynamic=True)(lambda x: torch.tensor([x.shape[0], 7]).sum() * 2)
    for size in (3, 5, 1):
        assert optimized(torch.ones(size)).item() == 2 * (size + 7)
    assert len(graphs) == 1
    for size in (3, 200, 255):
        actual, expected = (
            f(torch.ones(size)) for f in (lampwork_capture.optimize("eager", dynamic=True)(function), function)
        )
        assert all(map(torch.equal, actual, expected))
    with pytest.raises(RuntimeError, match="overflow"):
        lampwork_capture.optimize("eager", dynamic=True)(function)(torch.ones(300))


@pytest.mark.parametrize("function", [max, min])
def test_the_larger_of_two_sizes_is_no_fact(function):
    def larger(x, y):
        return (
            x.sum() + torch.zeros(function(x.shape[0], y.shape[0], 4)),
            function(x.shape[0], 1),
            function([2, len(y)]),
        )

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend, fullgraph=True, dynamic=True)(larger)
    for one, other in [(3, 5), (9, 2), (1, 1), (4, 4), (7, 7)]:
        x, y = torch.ones(one), torch.ones(other)
        actual, expected = optimized(x, y), larger(x, y)
        assert torch.equal(actual[0], expected[0]) and actual[1:] == expected[1:]
    assert len(graphs) == 1
