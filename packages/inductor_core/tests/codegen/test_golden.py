"""Kernels and wrappers of a fixed set of programs, as text: a change in what we generate shows in review."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

GOLDEN = Path(__file__).parent / "golden"


def _x(*sizes: int) -> torch.Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(sum(sizes)))


def layer_norm(x, residual, weight, bias):
    return F.layer_norm(x + residual, (16,), weight, bias)


def layer_norm_keeping_the_sum(x, residual, weight, bias):
    total = x + residual
    return total, F.layer_norm(total, (16,), weight, bias)


def softmax(x):
    return torch.softmax(x * 0.5, -1)


def softmax_over_channels(x):
    return torch.softmax(x, 1)


def gelu_of_linear(x, weight, bias):
    return F.gelu(F.linear(x, weight, bias))


def two_reductions(x):
    return x.amax(-1), x.sum(-1)


def transposed_consumer(x, y):
    z = torch.exp(x) + 1
    return z, z.t() * y


def channels_last(x, scale):
    return torch.relu(x * scale.view(1, -1, 1, 1)), x.sum((2, 3))


def embedding(indices, table):
    return F.embedding(indices, table) * 2


def merged_heads(x):
    return x.transpose(1, 2).reshape(2, 5, 12) + 1


PROGRAMS = {
    layer_norm: lambda: (_x(4, 8, 16), _x(4, 8, 16), _x(16), _x(16)),
    layer_norm_keeping_the_sum: lambda: (_x(4, 8, 16), _x(4, 8, 16), _x(16), _x(16)),
    softmax: lambda: (_x(4, 8, 16),),
    softmax_over_channels: lambda: (_x(2, 6, 5, 7),),
    gelu_of_linear: lambda: (_x(4, 16), _x(32, 16), _x(32)),
    two_reductions: lambda: (_x(4, 8, 16),),
    transposed_consumer: lambda: (_x(6, 8), _x(8, 6)),
    channels_last: lambda: (_x(2, 4, 5, 5).to(memory_format=torch.channels_last), _x(4)),
    embedding: lambda: (torch.tensor([[1, 2, 0], [3, 9, 2]]), _x(10, 4)),
    merged_heads: lambda: (_x(2, 3, 5, 4),),
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_kernels_and_wrapper(program, compile_interpreted, check_golden):
    inputs = PROGRAMS[program]()
    compiled, _ = compile_interpreted(program, inputs)
    expected = program(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for _ in range(2):  # the checked wrapper, then the plain one
        for mine, eager in zip(compiled(*inputs), expected, strict=True):
            torch.testing.assert_close(mine, eager)
            assert mine.stride() == eager.stride()
    stages = compiled.artifacts.stages
    check_golden(GOLDEN / f"{program.__name__}.txt", stages["kernels"] + "\n" + stages["wrapper"])


@pytest.mark.parametrize("program", [layer_norm, softmax, softmax_over_channels], ids=lambda p: p.__name__)
def test_normalisations_are_one_kernel(program, compile_interpreted):
    _, device = compile_interpreted(program, PROGRAMS[program]())
    assert len(device.generated) == 1


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_without_local_rows(program, compile_interpreted):
    inputs = PROGRAMS[program]()
    compiled, _ = compile_interpreted(program, inputs, without_locals=True)
    expected = program(*inputs)
    for mine, eager in zip(compiled(*inputs), expected if isinstance(expected, tuple) else (expected,), strict=True):
        torch.testing.assert_close(mine, eager)
