"""fold_batch_norm and channels_last on convolutional graphs, and hoisting of what they leave."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.passes.channels_last import choose_channels_last
from lampwork_inductor_core.passes.fold_batch_norm import fold_batch_norm
from lampwork_inductor_core.passes.hoist_static import hoist_static
from lampwork_inductor_core.passes.pipeline import run_passes
from lampwork_inductor_core.passes.rewriting import PassContext
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
X, W = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3)
STATS = (torch.randn(5), torch.rand(5) + 0.5, torch.randn(5), torch.randn(5))
BIAS = torch.randn(5)


def whole(x, w, mean, spread, weight, bias):
    x = F.conv2d(x, w)
    return torch.ops.aten._native_batch_norm_legit_no_training(x, weight, bias, mean, spread, 0.1, 1e-5)[0].relu()


def written_out(x, w, mean, spread, weight, bias):
    x = F.conv2d(x, w) - mean[:, None, None]
    x = x * torch.rsqrt(spread + 1e-5)[:, None, None]
    return (x * weight.view(1, -1, 1, 1) + bias.view(-1, 1, 1)).relu()


def scaled(x, w, mean, spread, weight, bias):
    return (2 * (F.conv2d(x, w, bias) / spread.view(5, 1, 1) + 1.5) - mean.view(5, 1, 1)).relu()


@pytest.mark.parametrize("function", [whole, written_out, scaled], ids=lambda f: f.__name__)
def test_folds(rewritten, targets, function):
    graph = rewritten(fold_batch_norm, function, X, W, *STATS, static=(1, 2, 3, 4, 5))
    found = targets(graph)
    after = found[found.index(aten.convolution.default) + 1 :]
    assert after == [aten.relu.default]


def test_not_folded_when_statistics_are_not_static(rewritten, targets):
    graph = rewritten(fold_batch_norm, written_out, X, W, *STATS, static=(1, 3, 4, 5))
    assert aten.sub.Tensor in targets(graph)[targets(graph).index(aten.convolution.default) :]


def test_not_folded_when_the_convolution_is_used_again(rewritten, targets):
    def function(x, w, mean, spread, weight, bias):
        y = F.conv2d(x, w)
        return [(y - mean[:, None, None]).relu(), y]

    graph = rewritten(fold_batch_norm, function, X, W, *STATS, static=(1, 2, 3, 4, 5))
    assert aten.sub.Tensor in targets(graph)


def test_per_position_arithmetic_is_not_per_channel(rewritten, targets):
    def function(x, w, other):
        return (F.conv2d(x, w) * other).relu()

    graph = rewritten(fold_batch_norm, function, X, W, torch.randn(6), static=(1, 2))
    assert aten.mul.Tensor in targets(graph)


def test_folding_is_hoisted():
    graph = make_fx(whole, tracing_mode="fake")(X, W, *STATS)
    for position, node in enumerate(n for n in graph.graph.nodes if n.op == "placeholder"):
        node.meta["static_input"] = position > 0
    context = PassContext()
    hoisted = hoist_static(run_passes(graph, context), context)
    assert hoisted.program is not None and hoisted.program.positions == (1, 2, 3, 4, 5)
    targets = [n.target for n in hoisted.graph.graph.nodes if n.op == "call_function"]
    assert targets == [aten.convolution.default, aten.relu.default]


def net(x, a, b, c):
    y = F.conv2d(x, a, padding=1).relu()
    z = F.max_pool2d(F.conv2d(y, b, padding=1) + y, 2)
    z = F.conv2d(z, c).sigmoid()
    return [z.mean((2, 3)), z, z.flatten(1)]


WEIGHTS = (torch.randn(4, 3, 3, 3), torch.randn(4, 4, 3, 3), torch.randn(6, 4, 1, 1))


def test_channels_last_keeps_results_and_their_strides(rewritten, targets):
    graph = rewritten(choose_channels_last, net, X, *WEIGHTS, static=(1, 2, 3))
    for node in graph.graph.nodes:
        if node.target is aten.convolution.default:
            assert node.meta["val"].is_contiguous(memory_format=torch.channels_last)
            assert all(a.meta["val"].is_contiguous(memory_format=torch.channels_last) for a in node.args[:2])
    assert aten.clone.default in targets(graph)


def test_fake_strides_are_the_real_ones():
    graph = make_fx(net, tracing_mode="fake")(X, *WEIGHTS)
    graph = choose_channels_last(graph, PassContext())
    with torch.no_grad():
        interpreter = _Recording(graph)
        interpreter.run(X, *WEIGHTS)
    assert interpreter.checked > 8


class _Recording(torch.fx.Interpreter):
    checked = 0

    def run_node(self, n):
        result = super().run_node(n)
        if isinstance(result, torch.Tensor) and n.op == "call_function":
            assert result.stride() == n.meta["val"].stride(), n
            self.checked += 1
        return result


def test_few_convolutions_stay(targets):
    graph = make_fx(lambda x, w: F.conv2d(x, w).relu(), tracing_mode="fake")(X, W)
    assert aten.clone.default not in targets(choose_channels_last(graph, PassContext()))


def test_given_up_half_way_leaves_the_graph(rewritten):
    def function(x, a, b, c):
        y = net(x, a, b, c)[1]
        return y.transpose(1, 2) + 0  # a result with strides of its own: neither dense order

    text = str(make_fx(function, tracing_mode="fake")(X, *WEIGHTS).graph)
    graph = rewritten(choose_channels_last, function, X, *WEIGHTS)
    assert str(graph.graph) == text


def _three(x, w):
    for _ in range(3):
        x = F.conv2d(x, w, padding=1)
    return x


SQUARE = torch.randn(4, 4, 3, 3)


@pytest.mark.parametrize(
    "tail",
    [
        lambda y: y.as_strided((4, 8), (8, 1)),
        lambda y: y.view(torch.int32) + 1,
        lambda y: torch.as_strided_scatter(y, torch.zeros(4), (4,), (3,)),
    ],
)
def test_graphs_that_read_memory_by_strides_stay(tail):
    x = torch.randn(2, 4, 6, 6)
    graph = make_fx(lambda x, w: tail(_three(x, w)), tracing_mode="fake")(x, SQUARE)
    before = str(graph.graph)
    graph = choose_channels_last(graph, PassContext())
    assert str(graph.graph) == before


def test_random_numbers_are_eagers():
    x = torch.randn(2, 4, 6, 6)

    def function(x, w):
        y = _three(x, w)
        return [y + torch.rand_like(y), torch.bernoulli(y.sigmoid())]

    graph = make_fx(function, tracing_mode="fake")(x, SQUARE)
    graph = choose_channels_last(graph, PassContext())
    assert any(n.target is aten.clone.default for n in graph.graph.nodes)
    graph.recompile()
    torch.manual_seed(3)
    want = function(x, SQUARE)
    torch.manual_seed(3)
    got = graph(x, SQUARE)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
