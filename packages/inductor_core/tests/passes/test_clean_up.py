"""dead_code, common_subexpressions, remove_no_ops: what goes, and what must not."""

from __future__ import annotations

import math

import pytest
import torch
from lampwork_inductor_core.passes.common_subexpressions import merge_common_subexpressions
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.remove_no_ops import remove_no_ops
from lampwork_inductor_core.passes.rewriting import PassContext
from lampwork_inductor_core.passes.verify_graph import InvalidRewrite, verify_graph
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
X = torch.tensor([[1.0, -0.0, math.nan], [math.inf, 0.0, -2.0]])


def test_dead_code_goes_and_random_numbers_stay(targets):
    def function(x):
        torch.exp(x).sum()
        torch.rand(3)
        return x + 1

    graph = make_fx(function, tracing_mode="fake")(X)
    found = targets(remove_dead_code(graph, PassContext()))
    assert aten.exp.default not in found and aten.rand.default in found


def test_equal_calls_become_one(rewritten, targets):
    graph = rewritten(merge_common_subexpressions, lambda x: (x.sin() + 1) * (x.sin() + 1), X)
    assert len(targets(graph)) == 3


def test_numbers_differ_by_type_and_sign(rewritten, targets):
    graph = rewritten(merge_common_subexpressions, lambda x: [(x * 0.0) + (x * -0.0), x.int() * 1, x.int() * True], X)
    assert targets(graph).count(aten.mul.Tensor) == 4


def test_two_results_stay_two(rewritten):
    graph = rewritten(merge_common_subexpressions, lambda x: [x + 1, x + 1, (x + 1).t()], X)
    first, second, third = graph(X)
    assert len({t.data_ptr() for t in (first, second, third)}) == 3


def test_random_calls_stay_two(targets):
    graph = make_fx(lambda x: torch.rand_like(x) + torch.rand_like(x), tracing_mode="fake")(X)
    assert targets(merge_common_subexpressions(graph, PassContext())).count(aten.rand_like.default) == 2


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * 1) + 2,
        lambda x: (x / 1.0) + 2,
        lambda x: (x - 0.0) * 2,
        lambda x: (x**1) * 2,
        lambda x: x.view(2, 3).expand(2, 3)[:, :] * 2,
        lambda x: x.permute(0, 1) * 2,
        lambda x: x.clone() * 2,
        lambda x: aten._to_copy(x, dtype=torch.float32) * 2,
    ],
)
def test_no_ops_go(rewritten, targets, function):
    graph = remove_dead_code(rewritten(remove_no_ops, function, X), PassContext())
    assert len(targets(graph)) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x + 0.0) * 2,  # -0.0 + 0.0 is 0.0
        lambda x: (x + 0) * 2,
        lambda x: (x - -0.0) * 2,
        lambda x: (x * 1.0) if False else (x.int() * 1.0) * 2,  # promotes
        lambda x: x[:2, :2].t().clone() * 2,
        lambda x: x[:2, :2].t() * 2,  # a square matrix of equal sizes is not its transpose
    ],
)
def test_what_changes_something_stays(rewritten, targets, function):
    before = len(targets(make_fx(function, tracing_mode="fake")(X)))
    assert len(targets(rewritten(remove_no_ops, function, X))) >= before - 1


def test_float_addition_of_zero_stays(rewritten, targets):
    assert aten.add.Tensor in targets(rewritten(remove_no_ops, lambda x: (x + 0.0) * 2, X))


def test_integer_addition_of_zero_goes(rewritten, targets):
    x = torch.arange(6)
    assert aten.add.Tensor not in targets(rewritten(remove_no_ops, lambda x: (x + 0) * 2, x))


def test_a_returned_copy_stays_a_copy(rewritten):
    graph = rewritten(remove_no_ops, lambda x: [x.clone(), x * 1, (x * 1).view(-1)], X)
    assert all(t.data_ptr() != X.data_ptr() for t in graph(X))


def test_transposes_of_square_matrices_stay(rewritten):
    square = torch.arange(4.0).view(2, 2)
    rewritten(remove_no_ops, lambda x: x.t() + x, square)
    rewritten(remove_no_ops, lambda x: x[:1].t().t() + x, square)
    rewritten(remove_no_ops, lambda x: x.expand(2, 2, 2).transpose(0, 1) + 0.0, torch.ones(2, 2))


def test_verify_graph_finds_a_wrong_fake_value():
    graph = make_fx(lambda x: x.sum(0) * 2, tracing_mode="fake")(X)
    node = next(n for n in graph.graph.nodes if n.target is aten.mul.Tensor)
    node.meta["val"] = next(n for n in graph.graph.nodes if n.op == "placeholder").meta["val"]
    with pytest.raises(InvalidRewrite, match="shape"):
        verify_graph(graph, "mine")
