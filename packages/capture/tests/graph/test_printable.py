"""Powers of negative constants, which torch.fx would write without parentheses."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
from lampwork_capture.aot import aot_backend


def of_tensor(x, p):
    return (-2.0) ** x, (-3) ** x, torch.pow(-2.0, x)


def of_number(x, p):
    return x * ((-2.0) ** p), x * (min(-1.5, p) ** 2.0)


def of_size(x, p):
    return x * ((-0.5) ** x.size(0)), x * (-0.0) ** x.size(0), x * (-7) ** (x.size(0) - 2)


def knows_tensors_only(graph, example_inputs):
    if not all(isinstance(example, torch.Tensor) for example in example_inputs):
        raise TypeError("tensors only")
    return graph.forward


@pytest.mark.parametrize("backend", ["eager", knows_tensors_only, aot_backend(lambda graph, _: graph.forward)])
@pytest.mark.parametrize("function", [of_tensor, of_number, of_size])
def test_powers_of_negative_constants(function, backend, monkeypatch):
    monkeypatch.delenv("LAMPWORK_STRICT", raising=False)  # a backend that refuses numbers is asked again
    optimized = lampwork_capture.optimize(backend, dynamic=True)(function)
    for size, power in ((2, 1.0), (3, 2.0), (4, 4.0), (5, -3.0), (2, 2.0)):
        x = torch.arange(1.0, size + 1)
        for expected, found in zip(function(x, power), optimized(x, power)):
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
