"""Python's number classes where torch takes a dtype, and where it is the program that takes them."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch

PROGRAMS = {
    "to": lambda x, kind: x.to(kind),
    "zeros": lambda x, kind: torch.zeros(x.shape[0], dtype=kind) + x,
    "arange": lambda x, kind: torch.arange(x.shape[0], device=x.device).to(dtype=kind),
    "tensor": lambda x, kind: x.sum() + torch.tensor([1, 0], dtype=kind),
    "sum": lambda x, kind: x.sum(dtype=kind),
    "full_like": lambda x, kind: torch.full_like(x, 1, dtype=kind),
}


@pytest.mark.parametrize("kind", [int, float, bool, complex])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_class_is_the_dtype_that_torch_takes_it_for(name, kind):
    program = PROGRAMS[name]
    optimized = lampwork_capture.optimize("eager", fullgraph=True)(program)
    for size in (3, 4, 5):
        x = torch.ones(size)
        actual, expected = optimized(x, kind), program(x, kind)
        assert actual.dtype is expected.dtype and torch.equal(actual, expected)


def test_a_class_that_the_program_takes_is_left_to_it():
    @lampwork_capture.allow_in_graph
    def scaled(x, kind):
        return x * kind("3")

    def function(x):
        return scaled(x + 1, int) * 2

    assert torch.equal(lampwork_capture.optimize("eager")(function)(torch.ones(3)), torch.full((3,), 12.0))
