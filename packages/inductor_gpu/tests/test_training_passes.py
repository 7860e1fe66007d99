"""What is chosen for training steps on a card, on graphs of tensors of a card that need not be there."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from lampwork_inductor_core.passes.rewriting import PassContext
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.matrix_operands import align_rows, multiply_into_float
from lampwork_inductor_gpu.training import recompute_cost
from lampwork_inductor_gpu.training_attention import use_cudnn_in_training
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
_HOPPER = replace(H100, cudnn=91000)


def traced(function: Callable[..., Any], *inputs: torch.Tensor) -> torch.fx.GraphModule:
    with FakeTensorMode(), torch.no_grad():
        fakes = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda") for t in inputs]
        graph = make_fx(function)(*fakes)
    for node in graph.graph.nodes:
        if node.target is operator.getitem and "val" not in node.meta:  # None, which make_fx leaves out
            node.meta["val"] = node.args[0].meta["val"][node.args[1]]
    return graph


class _OnCpu(torch.fx.Interpreter):
    """Runs a graph on CPU tensors, with its fake values checked."""

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            described = n.meta["val"]
            assert (result.shape, result.dtype) == (described.shape, described.dtype), n
            assert result.stride() == described.stride(), n
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        kwargs = {key: "cpu" if key == "device" else value for key, value in kwargs.items()}
        if target is aten.mm.dtype:
            return (args[0].float() @ args[1].float()).to(args[2])
        return target(*args, **kwargs)


def targets(graph: torch.fx.GraphModule) -> list[Any]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def halves(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16() / 4


# ------------------------------------------------------------------------------------------------------------ products


def _head(logits: torch.Tensor, x: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
    gradient = torch.sigmoid(logits).view(-1, logits.shape[-1])
    return [gradient.t() @ x, gradient @ w, gradient.float().sum(0)]


def test_operands_of_odd_width_get_aligned_rows() -> None:
    inputs = halves(8, 64, 1027), halves(512, 24), halves(1027, 24)
    graph = align_rows(traced(_head, *inputs), PassContext())
    graph.graph.lint()
    products = [node for node in graph.graph.nodes if node.target is aten.mm.default]
    assert [product.args[0].meta["val"].stride() for product in products] == [(1, 1032), (1032, 1)]
    for one, other in zip(_OnCpu(graph).run(*inputs), _head(*inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
    assert targets(graph).count(aten.constant_pad_nd.default) == 1


@pytest.mark.parametrize("why", ["even", "small", "an input", "a result"])
def test_operands_that_stay(why: str) -> None:
    def function(logits: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
        left = logits if why == "an input" else torch.sigmoid(logits)
        return [left.t() @ x, *([left] if why == "a result" else [])]

    rows, columns = 8 if why == "small" else 512, 1024 if why == "even" else 1027
    graph = align_rows(traced(function, halves(rows, columns), halves(rows, 24)), PassContext())
    assert aten.constant_pad_nd.default not in targets(graph)


def test_a_gradient_in_float32_is_stored_by_its_product() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        return [(x.t() @ y).t().to(torch.float32)]

    inputs = halves(32, 16), halves(32, 24)
    graph = multiply_into_float(traced(function, *inputs), PassContext())
    graph.graph.lint()
    assert aten.mm.dtype in targets(graph) and aten._to_copy.default not in targets(graph)
    (got,), (expected,) = _OnCpu(graph).run(*inputs), function(*inputs)
    exact = (inputs[0].double().t() @ inputs[1].double()).t()
    assert got.stride() == expected.stride() and (got - exact).norm() <= (expected - exact).norm()


def test_products_that_others_read_stay_in_halves() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        product = x.t() @ y
        return [product.float() * 2, (x.t() @ y).float().sum(0), product]

    graph = multiply_into_float(traced(function, halves(32, 16), halves(32, 24)), PassContext())
    assert aten.mm.dtype not in targets(graph)


# ----------------------------------------------------------------------------------------------------------- attention


def _flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor) -> Any:
    return _flash_with(q, k, v, gradient, 0.0)


def _flash_with(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor, p: float) -> Any:
    out, sums, cum_q, cum_k, max_q, max_k, seed, offset, _ = aten._scaled_dot_product_flash_attention(q, k, v, p, True)
    found = aten._scaled_dot_product_flash_attention_backward(
        gradient, q, k, v, out, sums, cum_q, cum_k, max_q, max_k, p, True, seed, offset
    )
    return [out, *found, sums]


def _efficient(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor) -> Any:
    return _efficient_with(q, k, v, gradient, mask, False)


def _efficient_with(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor, mask: torch.Tensor, of_mask: bool
) -> Any:
    out, sums, seed, offset = aten._scaled_dot_product_efficient_attention(q, k, v, mask, True)
    found = aten._scaled_dot_product_efficient_attention_backward(
        gradient, q, k, v, mask, out, sums, seed, offset, 0.0, [True, True, True, of_mask]
    )
    return [out, *(found if of_mask else found[:3]), sums]


def _attention_graph(function: Callable[..., Any], length: int, *more: torch.Tensor) -> torch.fx.GraphModule:
    heads = [halves(2, length, 3, 16).transpose(1, 2) for _ in range(4)]
    graph = traced(function, *heads, *more)
    forward: set[torch.fx.Node] = set()
    for node in graph.graph.nodes:
        if "backward" in str(node.target):
            break
        forward.add(node)
    before = [n.meta["val"] for n in graph.graph.nodes if n.op == "output" for n in n.args[0][:4]]
    use_cudnn_in_training(graph, frozenset(forward), _HOPPER)
    graph.graph.lint()
    after = [n.meta["val"] for n in graph.graph.nodes if n.op == "output" for n in n.args[0][:4]]
    assert [(v.shape, v.dtype, v.stride()) for v in after] == [(v.shape, v.dtype, v.stride()) for v in before]
    return graph


def _mask(length: int) -> torch.Tensor:
    return halves(2, 1, length, length).expand(2, 3, length, length)


@pytest.mark.parametrize(("function", "more"), [(_flash, ()), (_efficient, (_mask(64),))], ids=["flash", "efficient"])
def test_both_passes_take_cudnns_attention(function: Callable[..., Any], more: tuple[torch.Tensor, ...]) -> None:
    graph = _attention_graph(function, 64, *more)
    found = {node.target: node for node in graph.graph.nodes if "attention" in str(node.target)}
    assert found.keys() == {
        aten._scaled_dot_product_cudnn_attention.default, aten._scaled_dot_product_cudnn_attention_backward.default,
    }  # fmt: skip
    backward = found[aten._scaled_dot_product_cudnn_attention_backward.default]
    names = [a.name for a in backward.target._schema.arguments]
    given: dict[str, Any] = dict(zip(names, backward.args))
    places = {"out": 0, "logsumexp": 1, "philox_seed": 6, "philox_offset": 7}
    for name, place in places.items():
        assert given[name].target is operator.getitem and given[name].args[1] == place
    assert (given["attn_bias"] is not None) == bool(more)
    assert (given["max_q"], given["max_k"], given["dropout_p"], given["is_causal"]) == (64, 64, 0.0, not more)


@pytest.mark.parametrize("why", ["dropout", "short", "mask of odd length", "gradient of the mask"])
def test_attention_that_stays(why: str) -> None:
    if why == "dropout":
        graph = _attention_graph(lambda q, k, v, g: _flash_with(q, k, v, g, 0.5), 64)
    elif why == "short":
        graph = _attention_graph(_flash, 32)
    elif why == "mask of odd length":
        graph = _attention_graph(_efficient, 72, _mask(72))
    else:
        graph = _attention_graph(lambda q, k, v, g, m: _efficient_with(q, k, v, g, m, True), 64, _mask(64))
    assert not any("cudnn" in str(target) for target in targets(graph))


# --------------------------------------------------------------------------------------------------------- recomputing


def test_arithmetic_is_nearly_free_but_for_libraries_and_residual_sums() -> None:
    def function(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> list[torch.Tensor]:
        total = x + y
        return [torch.tanh(total) * 2, total.float().mean(1), torch.sigmoid(x) @ w]

    graph = traced(function, halves(32, 16), halves(32, 16), halves(16, 8))
    cost = {node.target: recompute_cost(node) for node in graph.graph.nodes if node.op == "call_function"}
    size = 32 * 16 * 2
    assert cost[aten.tanh.default] < 0.1 * size and cost[aten.add.Tensor] > size
    assert cost[aten.sigmoid.default] == size and cost[aten.mm.default] == float("inf")
