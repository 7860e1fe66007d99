"""What a forward pass keeps for its backward pass, when that is freed, and where it comes from."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import PartitionPolicy
from lampwork_capture.aot.partition import default_recompute_cost
from torch import nn

from .training_programs import Interpreting, kept_bytes, optimized, randn


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def test_never_more_is_kept_than_eager_keeps():
    def block(x, w, u):
        y = F.gelu(x @ w) @ u
        return F.layer_norm(x + y, (8,)).softmax(-1).sum()

    x, w, u = torch.randn(64, 8, requires_grad=True), nn.Parameter(torch.randn(8, 32)), nn.Parameter(torch.randn(32, 8))
    assert kept_bytes(optimized(block), x, w, u)[0] <= kept_bytes(block, x, w, u)[0]


def test_a_memory_budget_trades_work_for_memory():
    def f(x):
        for _ in range(6):
            x = x.sin().exp()
        return x.sum()

    x = torch.randn(100, requires_grad=True)
    everything = kept_bytes(optimized(f), x)[0]
    policy = PartitionPolicy(default_recompute_cost, memory_budget=0.2)
    compiled = optimized(f, partition=policy)
    little, out = kept_bytes(compiled, x)
    assert little <= 0.2 * everything + 400
    out.backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad(f(x), x)[0])


def test_what_is_kept_dies_with_the_result():
    class Watching(Interpreting):
        def __call__(self, graph, example_inputs):
            run = super().__call__(graph, example_inputs)

            def watched(*args):
                out = run(*args)
                alive.extend(weakref.ref(o) for o in out)
                return out

            return watched

    alive = []
    x, w = randn(3, 4), randn(4, 4)
    y = optimized(lambda x, w: (x @ w).exp().sin(), Watching())(x, w)
    gc.disable()
    try:
        del y
        assert not any(ref() is not None for ref in alive)  # no cycle keeps it
    finally:
        gc.enable()


# -- errors


def test_what_cannot_be_differentiated_says_so_with_the_line():
    def f(x):
        return (
            torch.searchsorted(x.sort().values, x).float().sum()
            + torch.nn.functional.embedding_bag(torch.tensor([[0, 1]]), x[:, None].repeat(1, 2), mode="max").sum()
        )

    x = torch.randn(4, requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(optimized(f)(x), x)[0], torch.autograd.grad(f(x), x)[0])


def test_lines_of_the_program_in_the_backward_graph():
    def f(x, w):
        y = x @ w
        return y.tanh().sum()

    compiler = Interpreting()
    x, w = randn(3, 4), randn(4, 4)
    optimized(f, compiler)(x, w).backward()
    backward = compiler.graphs[1]
    lines = {
        str(node.meta["user_line"]).rsplit("line ", 1)[-1].split(",")[0]
        for node in backward.graph.nodes
        if node.target is torch.ops.aten.mm.default
    }
    assert len(lines) == 1
    assert int(lines.pop()) == f.__code__.co_firstlineno + 1
