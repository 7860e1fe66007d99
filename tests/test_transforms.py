"""torch.func's transforms through the whole stack: compiled, equal to eager; `torch.cond` falls back with a warning."""

from __future__ import annotations

import pytest
import torch
import torch.utils._pytree as pytree
from torch.func import grad, hessian, jacfwd, jacrev, vmap

PROGRAMS = {
    "map": lambda x, w: vmap(lambda row: (row @ w).sin())(x) + 1,
    "map with numbers": lambda x, w: vmap(lambda row: row.sum() * 3 + row * row.shape[0])(x),
    "gradient": lambda x, w: grad(lambda p: ((x @ p) ** 2).sum())(w),
    "gradients per sample": lambda x, w: vmap(grad(lambda p, row: (row @ p).sum() ** 2), (None, 0))(w, x),
    "jacobians": lambda x, w: (jacrev(torch.sin)(x[0]), jacfwd(lambda t: t * w)(x[0])),
    "hessian": lambda x, w: hessian(lambda t: (t**3).sum())(x[0]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_transforms_compile(name):
    torch.manual_seed(0)
    x, w = torch.randn(5, 3), torch.randn(3, 3)
    with torch.no_grad():
        expected = PROGRAMS[name](x, w)
        actual = torch.compile(PROGRAMS[name], backend="lampwork", fullgraph=True)(x, w)
    for a, b in zip(pytree.tree_leaves(expected), pytree.tree_leaves(actual), strict=True):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize("name", ["gradient", "gradients per sample", "map"])
def test_transforms_train(name):
    def step(run):
        torch.manual_seed(0)
        x, w = torch.randn(5, 3), torch.randn(3, 3, requires_grad=True)
        loss = sum(leaf.square().sum() for leaf in pytree.tree_leaves(run(x, w * 2)))
        loss.backward()
        return loss.detach(), w.grad

    expected = step(PROGRAMS[name])
    actual = step(torch.compile(PROGRAMS[name], backend="lampwork", fullgraph=True))
    torch.testing.assert_close(actual, expected)
