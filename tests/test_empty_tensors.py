"""Empty tensors through the whole stack: nothing of them is read, and every result is eager's."""

import pytest
import torch


def reductions(a: torch.Tensor, b: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
    base = torch.ones(4, 3)
    return (a * 2 + 1).sum(1), b.exp().sum(), (b > 0).all(0), torch.cumsum(a, 1), base.index_add(0, i, b[:, :3])


def pointwise(a: torch.Tensor, b: torch.Tensor, i: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.relu(a) + 1, torch.softmax(b, 1), torch.cat([a, a], 1), a.t() * 2, b[i]


@pytest.mark.parametrize("program", [reductions, pointwise], ids=lambda f: f.__name__)
@pytest.mark.parametrize("lower_scatter", [False, True])
def test_empty(program, lower_scatter: bool) -> None:
    inputs = torch.randn(4, 0), torch.randn(0, 4), torch.empty(0, dtype=torch.int64)
    compiled = torch.compile(program, backend="lampwork", fullgraph=True, options={"lower_scatter": lower_scatter})
    with torch.no_grad():
        for _ in range(2):
            for mine, eager in zip(compiled(*inputs), program(*inputs), strict=True):
                torch.testing.assert_close(mine, eager)
                assert mine.shape == eager.shape
