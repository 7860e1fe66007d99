"""Whole modules and the state around a call: autocast, grad mode, random numbers, data-dependent graphs, call cost."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import (
    NotFunctional,
    RanEagerlyWarning,
    UnsupportedForAot,
    aot_backend,
    is_random,
    print_functional,
    trace_functional,
    verify,
)
from torch import fx, nn

from .differential import Counting, capture, check

aten = torch.ops.aten


class Block(nn.Module):
    def __init__(self, width=16, heads=4):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.mlp(x)


def block_graph(block, x):
    parameters = dict(block.named_parameters())
    names = list(parameters)

    def f(x, *values):
        return torch.nn.utils.stateless.functional_call(block, dict(zip(names, values)), (x,))

    inputs = [x, *parameters.values()]
    return capture(f, inputs), inputs


def test_transformer_block_is_matmuls_and_pointwise_work():
    x = torch.randn(2, 5, 16)
    block = Block()
    with torch.no_grad():
        graph, inputs = block_graph(block, x)
        functional = trace_functional(graph, inputs)
        compiled = aot_backend(Counting())(graph, inputs)
        torch.testing.assert_close(compiled(*inputs), block(x))
    targets = [n.target for n in functional.graph.graph.nodes if n.op == "call_function"]
    assert targets.count(aten.addmm.default) == 4
    assert targets.count(aten._scaled_dot_product_flash_attention_for_cpu.default) == 1
    assert aten.native_layer_norm.default not in targets and aten.gelu.default not in targets
    for node in functional.graph.graph.nodes:
        if node.target is aten.addmm.default:  # a linear layer: bias, rows, transposed static weight
            bias, _, weight = node.args
            assert bias.meta["static_input"]
            assert weight.target is aten.permute.default and weight.args[0].meta["static_input"]


def test_resnet_like_network():
    first = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    second = [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    net = nn.Sequential(*first, *second, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    x = torch.randn(2, 3, 8, 8)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        with torch.no_grad():
            arranged = x.to(memory_format=memory_format)
            compiled = aot_backend(Counting())(fx.symbolic_trace(net), [arranged])
            torch.testing.assert_close(compiled(arranged), net(arranged))


def test_random_numbers_are_eagers():
    def f(x):
        y = F.dropout(x, 0.5, training=True)
        z = torch.rand(3) + torch.randn_like(x)[0, :3]
        return y + torch.bernoulli(torch.full_like(x, 0.3)), z, F.dropout(x, 0.5, training=True)

    (graph,) = check(f, torch.randn(4, 6)).graphs
    assert sum(is_random(node.target) for node in graph.graph.nodes) == 5


def test_unused_random_numbers_are_still_drawn():
    def f(x):
        torch.rand(5)
        return x + torch.rand(6)

    check(f, torch.randn(4, 6))


def linear(x, w):
    return F.linear(x, w).relu()


def test_a_call_that_needs_gradients_runs_a_forward_and_a_backward_graph():
    x, w = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    compiler = Counting()
    out = aot_backend(compiler)(fx.symbolic_trace(linear), [x, w])(x, w)
    assert compiler.calls == 1
    out.sum().backward()
    assert compiler.calls == 2
    (expected,) = torch.autograd.grad(linear(x, w).sum(), w)
    torch.testing.assert_close(w.grad, expected)


def test_gradients_are_asked_for_at_call_time_too():
    x, w = torch.randn(3, 4), torch.randn(5, 4)
    compiler = Counting()
    compiled = aot_backend(compiler)(fx.symbolic_trace(linear), [x, w])
    assert not compiled(x, w).requires_grad and compiler.calls == 1
    assert compiled(x.clone().requires_grad_(), w).requires_grad and compiler.calls == 1
    with torch.no_grad():
        assert not compiled(x.clone().requires_grad_(), w).requires_grad and compiler.calls == 2


def test_parameters_under_no_grad_then_with_gradients():
    x, w = torch.randn(3, 4), nn.Parameter(torch.randn(5, 4))
    compiler = Counting()
    with torch.no_grad():
        compiled = aot_backend(compiler)(fx.symbolic_trace(linear), [x, w])
        assert not compiled(x, w).requires_grad
    assert compiled(x, w).requires_grad and compiler.calls == 1


def no_grad_region(x, w, *, leave=True, outside=False):
    graph = fx.Graph()
    nodes = [graph.placeholder("x"), graph.placeholder("w")]
    graph.call_function(torch._C._set_grad_enabled, (False,))
    y = graph.call_function(linear, tuple(nodes))
    if leave:
        graph.call_function(torch._C._set_grad_enabled, (True,))
    doubled = graph.call_function(torch.mul, (nodes[1] if outside else y, 2))
    graph.output((y, doubled) if outside else (doubled, y))
    return fx.GraphModule(nn.Module(), graph)


def test_no_grad_region_inside_the_graph_is_compiled():
    x, w = torch.randn(3, 4), nn.Parameter(torch.randn(5, 4))
    compiler = Counting()
    compiled = aot_backend(compiler)(no_grad_region(x, w), [x, w])
    doubled, out = compiled(x, w)
    assert compiler.calls == 1 and not out.requires_grad and torch.is_grad_enabled()
    torch.testing.assert_close(doubled, linear(x, w).detach() * 2)


def test_no_grad_region_beside_work_that_needs_gradients():
    x, w = torch.randn(3, 4), nn.Parameter(torch.randn(5, 4))
    compiler = Counting()
    out, doubled = aot_backend(compiler)(no_grad_region(x, w, outside=True), [x, w])(x, w)
    assert compiler.calls == 1 and not out.requires_grad and doubled.requires_grad
    doubled.sum().backward()
    assert compiler.calls == 2 and torch.equal(w.grad, torch.full_like(w, 2.0))


def test_graph_that_leaves_another_grad_mode_behind():
    x, w = torch.randn(3, 4), torch.randn(5, 4)
    compiled = aot_backend(Counting())(no_grad_region(x, w, leave=False), [x, w])
    assert torch.is_grad_enabled()
    try:
        compiled(x, w)
        assert not torch.is_grad_enabled()
    finally:
        torch.set_grad_enabled(True)


def test_inference_mode():
    x, w = torch.randn(3, 4), nn.Parameter(torch.randn(5, 4))

    def f(x, w):
        y = F.linear(x, w)
        y.add_(1)
        return y, x.t(), x

    graph = capture(f, [x, w])
    with torch.inference_mode():
        inner = torch.randn(3, 4)
        compiled = aot_backend(Counting())(graph, [inner, w])
        y, t, same = compiled(inner, w)
        assert y.is_inference() and t.is_inference() and same is inner
        torch.testing.assert_close(y, F.linear(inner, w) + 1)


@pytest.mark.parametrize("inside", [True, False])
def test_autocast(inside):
    def f(x, w):
        y = F.linear(x, w)
        return y, F.softmax(y, -1), (y.float() @ y.float().t())

    x, w = torch.randn(3, 4), torch.randn(5, 4)
    graph = fx.symbolic_trace(f)
    if inside:
        first = next(n for n in graph.graph.nodes if n.op == "call_function")
        last = next(n for n in graph.graph.nodes if n.op == "output")
        with graph.graph.inserting_before(first):
            mode = graph.graph.call_function(
                torch.amp.autocast_mode._enter_autocast, ("cpu", torch.bfloat16, True, True)
            )
        with graph.graph.inserting_before(last):
            graph.graph.call_function(torch.amp.autocast_mode._exit_autocast, (mode,))
        graph.recompile()
        compiled = aot_backend(Counting())(graph, [x, w])
        actual = compiled(x, w)
        assert not torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        expected = f(x, w)
        if not inside:
            actual = aot_backend(Counting())(graph, [x, w])(x, w)
    for a, e in zip(actual, expected):
        assert a.dtype == e.dtype
        torch.testing.assert_close(a, e, rtol=2e-2, atol=2e-2)


def test_low_precision_decompositions_round_once():
    x = torch.randn(8, 64, dtype=torch.bfloat16)

    def f(x):
        return F.softmax(x, -1), F.gelu(x), F.silu(x), F.layer_norm(x, (64,)), x.mean(-1), F.log_softmax(x, 0)

    compiled = aot_backend(Counting())(capture(f, [x]), [x])
    for mine, eager, reference in zip(compiled(x), f(x), f(x.double())):
        assert mine.dtype == torch.bfloat16
        assert (mine.double() - reference).abs().max() <= 1.01 * (eager.double() - reference).abs().max() + 1e-6


def test_graph_that_depends_on_data_runs_eagerly_with_one_warning(monkeypatch):
    def f(x):
        return x.nonzero() + 1

    graph = capture(f, [torch.ones(3)])
    for node in graph.graph.nodes:
        node.meta["user_line"] = 'File "model.py", line 7, in f'
    with pytest.raises(UnsupportedForAot, match="nonzero") as caught:
        aot_backend(Counting())(graph, [torch.ones(3)])
    assert "model.py" in str(caught.value) and caught.value.hint
    monkeypatch.setenv("LAMPWORK_STRICT", "0")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        compiled = aot_backend(Counting())(graph, [torch.ones(3)])
        x = torch.tensor([0.0, 1, 2])
        assert torch.equal(compiled(x), f(x))
    assert [w.category for w in seen] == [RanEagerlyWarning]
    assert "nonzero" in str(seen[0].message) and "model.py" in str(seen[0].message)


def test_nothing_is_left_behind_after_a_failed_trace():
    def f(x):
        x.add_(1)
        return x.nonzero()

    x = torch.ones(3)
    graph = capture(f, [x])
    with torch.no_grad(), pytest.raises(UnsupportedForAot):
        trace_functional(graph, [x])
    assert torch.equal(x, torch.ones(3)) and torch.is_grad_enabled()
    y = torch.zeros(2)
    assert not torch._is_functional_tensor(y) and type(y + 1) is torch.Tensor


def test_placeholders_and_nodes_carry_their_metadata():
    x, w = torch.randn(3, 4), nn.Parameter(torch.randn(5, 4))
    graph = fx.symbolic_trace(linear)
    for node in graph.graph.nodes:
        node.meta["user_line"] = f"line of {node.name}"
        if node.op == "placeholder":
            node.meta["source"] = f"L[{node.name}]"
    with torch.no_grad():
        functional = trace_functional(graph, [x, w])
    nodes = list(functional.graph.graph.nodes)
    assert [n.meta["static_input"] for n in nodes[:2]] == [False, True]
    assert [n.meta["source"] for n in nodes[:2]] == ["L[x]", "L[w]"]
    assert {n.meta["user_line"] for n in nodes if n.op == "call_function"} == {"line of linear", "line of relu"}
    assert all("val" in n.meta for n in nodes)
    text = print_functional(functional)
    assert "input w: f32[5, 4] static = L[w]" in text and "# line of relu" in text and "aten.relu(" in text


def test_verify_sees_what_is_not_functional():
    graph = fx.Graph()
    x = graph.placeholder("x")
    x.meta["val"] = torch.zeros(2)
    y = graph.call_function(aten.add_.Tensor, (x, x))
    y.meta["val"] = torch.zeros(2)
    graph.output(y).meta["val"] = None
    with pytest.raises(NotFunctional, match="writes"):
        verify(fx.GraphModule(nn.Module(), graph))


def test_operators_on_lists():
    def f(a, b):
        torch._foreach_add_([a, b], 1.0)
        torch._foreach_mul_([a, b], [a, b])
        return torch._foreach_sqrt([a, b])

    def crossed(a, b):
        torch._foreach_mul_([a, b], [b, a])
        return a + b

    check(f, torch.rand(4), torch.rand(4, 6))
    with pytest.raises(UnsupportedForAot, match="also reads"):
        check(crossed, torch.rand(4), torch.rand(4))


def test_memory_given_to_an_input_is_refused():
    def f(x, y):
        x.set_(y)
        return x + 1

    with pytest.raises(UnsupportedForAot, match="other memory"):
        check(f, torch.rand(4), torch.rand(4), graph=fx.symbolic_trace(f))


def test_custom_operators():
    with torch.library._scoped_library("lampwork_aot_test", "DEF") as library:
        library.define("scale(Tensor x, float k) -> Tensor")
        library.define("bump(Tensor(a!) x) -> ()")
        library.impl("scale", lambda x, k: x * k, "CompositeExplicitAutograd")
        library.impl("bump", lambda x: [x.add_(1)].clear(), "CompositeExplicitAutograd")
        scale, bump = torch.ops.lampwork_aot_test.scale.default, torch.ops.lampwork_aot_test.bump.default
        compiler = check(lambda x: scale(x, 2.0) + 1, torch.randn(3))
        assert scale in [n.target for n in compiler.graphs[0].graph.nodes]
        with pytest.raises(UnsupportedForAot):
            check(lambda x: (bump(x), x * 2)[1], torch.randn(3))


def test_dynamic_sizes_of_another_frontend():
    torch._dynamo.reset()
    compiler = Counting()

    def f(x, w):
        a, b = F.linear(x, w).chunk(2, -1)
        x.add_(1)
        return (
            F.softmax(a * b, -1).view(-1),
            torch.cat([a, b], 0),
            x.new_zeros(x.shape[0] * 2 + 1),
            x.mean(0),
            x.shape[0],
        )

    compiled = torch.compile(f, backend=aot_backend(compiler), dynamic=True)
    with torch.no_grad():
        for n in (3, 7, 12):
            x, w = torch.randn(n, 8), torch.randn(6, 8)
            mine = x.clone()
            for actual, expected in zip(compiled(mine, w), f(x, w)):
                assert actual == expected if isinstance(expected, int) else actual.stride() == expected.stride()
                if isinstance(expected, torch.Tensor):
                    torch.testing.assert_close(actual, expected)
            assert torch.equal(mine, x)
    assert len(compiler.graphs) == 1 and compiler.calls == 3
    assert all(
        "user_line" in n.meta for n in compiler.graphs[0].graph.nodes if isinstance(n.target, torch._ops.OpOverload)
    )


def test_numbers_that_compare_equal_are_not_merged():
    def f(x):
        return x + 1, x + 1.0, x + True, torch.full((2,), 0.0), torch.full((2,), -0.0)

    x = torch.arange(3)
    compiled = aot_backend(Counting())(capture(f, [x]), [x])
    out = compiled(x)
    assert [o.dtype for o in out[:3]] == [torch.int64, torch.float32, torch.int64]
    assert torch.signbit(out[4]).all() and not torch.signbit(out[3]).any()


def test_example_inputs_can_be_fake():
    with torch._subclasses.FakeTensorMode() as mode:
        fakes = [torch.empty(3, 4), torch.empty(5, 4)]
    functional = trace_functional(fx.symbolic_trace(linear), fakes)
    assert [n.meta["val"].fake_mode is mode for n in functional.graph.graph.nodes if n.op == "placeholder"] == [
        True,
        True,
    ]


def test_graph_is_not_changed_by_tracing():
    module = nn.BatchNorm1d(3)
    before = copy.deepcopy(module.state_dict())
    trace_functional(fx.symbolic_trace(nn.Sequential(module)), [torch.randn(4, 3)])
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert type(module.weight) is nn.Parameter
