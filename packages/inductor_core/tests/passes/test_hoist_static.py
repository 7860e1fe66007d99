"""hoist_static: what leaves the graph, what must stay, and that both parts together are the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.lowering.graph import lower
from lampwork_inductor_core.passes.hoist_static import hoist_static
from lampwork_inductor_core.passes.rewriting import PassContext
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
X, W = torch.randn(3, 4), torch.randn(5, 4)


def split(function, *inputs, static=(1,)):
    """Both parts, run together through lowering and interpreter, checked against eager."""
    graph = make_fx(function, tracing_mode="fake")(*inputs)
    for position, node in enumerate(n for n in graph.graph.nodes if n.op == "placeholder"):
        node.meta["static_input"] = position in static
    hoisted = hoist_static(graph, PassContext())
    hoisted.graph.graph.lint()
    kept = hoisted.program([inputs[k] for k in hoisted.program.positions]) if hoisted.program else []
    lowered = lower(hoisted.graph, config=Config(verify=True))
    actual, expected = interpret(lowered, [*inputs, *kept]), function(*inputs)
    for one, other in zip(actual, expected if isinstance(expected, list) else [expected], strict=True):
        torch.testing.assert_close(one, other)
    return hoisted


def targets(hoisted):
    return [n.target for n in hoisted.graph.graph.nodes if n.op == "call_function"]


def test_computation_on_weights_leaves():
    hoisted = split(lambda x, w: F.linear(x, torch.tanh(w) * 2), X, W)
    assert hoisted.program.positions == (1,) and len(hoisted.program.names) == 1
    assert aten.tanh.default not in targets(hoisted)
    placeholders = [n for n in hoisted.graph.graph.nodes if n.op == "placeholder"]
    assert [n.meta.get("hoisted", False) for n in placeholders] == [False, False, True]


def test_views_of_weights_stay():
    assert split(lambda x, w: F.linear(x, w.t().contiguous().t()[1:]), X, W).program is not None
    assert split(lambda x, w: torch.mm(x, w.t()), X, W).program is None


def test_views_of_hoisted_values_stay_views():
    hoisted = split(lambda x, w: torch.mm(x, torch.tanh(w).t()), X, W)
    assert aten.t.default in targets(hoisted) and aten.tanh.default not in targets(hoisted)


def test_constants_leave_and_bare_fills_stay():
    def function(x):
        mask = torch.where(torch.ones(4, 4).tril() > 0, 0.0, -1e9)
        return (x + torch.full((4,), 2.0)) @ mask

    hoisted = split(function, X, static=())
    assert aten.where.ScalarOther not in targets(hoisted) and aten.full.default in targets(hoisted)


def test_what_a_caller_could_change_stays():
    hoisted = split(lambda x, w: [torch.tanh(w), (w * 2).t(), x + torch.exp(w[:3])], X, W)
    assert aten.tanh.default in targets(hoisted) and aten.mul.Tensor in targets(hoisted)
    assert aten.exp.default not in targets(hoisted)


def test_random_calls_stay():
    graph = make_fx(lambda x, w: x + torch.rand_like(w[:3]), tracing_mode="fake")(X, W)
    for position, node in enumerate(n for n in graph.graph.nodes if n.op == "placeholder"):
        node.meta["static_input"] = position == 1
    assert hoist_static(graph, PassContext()).program is None


def test_growth_is_limited():
    small = torch.randn(100, 1)
    hoisted = split(lambda x, w: x + (w + torch.zeros(100, 4000)), torch.randn(100, 4000), small)
    assert hoisted.program is None


def test_several_results_of_one_call():
    hoisted = split(lambda x, w: x + torch.sort(w[:3], 1)[0], X, W)
    assert hoisted.program is not None and aten.sort.default not in targets(hoisted)


def test_constants_of_the_graph_reach_the_program():
    hoisted = split(lambda x, w: x + torch.exp(w[:3] + torch.tensor([1.0, 2.0, 3.0, 4.0])), X, W)
    assert hoisted.program is not None


def test_opaque_values_are_hoisted_and_stay_opaque():
    graph = make_fx(lambda x, w: x + torch.exp(w[:3]), tracing_mode="fake")(X, W)
    for node in graph.graph.nodes:
        node.meta["static_input"] = node.name == "w_1"
        if node.target is aten.exp.default:
            node.meta["opaque"] = True
    hoisted = hoist_static(graph, PassContext())
    (value,) = (n for n in hoisted.graph.graph.nodes if n.meta.get("hoisted"))
    assert value.meta["opaque"]
