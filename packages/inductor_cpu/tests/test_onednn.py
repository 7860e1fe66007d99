"""Packed linears and convolutions: found in graphs, fused with what follows, equal to eager, never stale."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.passes.rewriting import PassContext
from lampwork_inductor_cpu import onednn
from lampwork_inductor_cpu.onednn import LinearLibrary
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

pytestmark = pytest.mark.skipif(not onednn.available(), reason="torch without oneDNN")


def _graph(function: Callable[..., Any], inputs: list[torch.Tensor], static: set[int]) -> torch.fx.GraphModule:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = [mode.from_tensor(t) for t in inputs]
        graph = make_fx(function)(*fakes)
    for position, node in enumerate(n for n in graph.graph.nodes if n.op == "placeholder"):
        node.meta["static_input"] = position in static
    return graph


def _packed(graph: torch.fx.GraphModule, library: LinearLibrary = LinearLibrary.ONEDNN) -> torch.fx.GraphModule:
    for _, rewrite in onednn.passes(library):
        graph = rewrite(graph, PassContext())
    graph.graph.lint()
    graph.recompile()
    return graph


def _calls(graph: torch.fx.GraphModule) -> list[str]:
    return [str(n.target).removeprefix("mkldnn.") for n in graph.graph.nodes if str(n.target).startswith("mkldnn.")]


def new_gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


@pytest.mark.parametrize(
    ("activation", "attribute"),
    [
        (lambda y: y, "none"),
        (torch.relu, "none"),  # oneDNN's makes 0 of nan
        (F.gelu, "gelu"),
        (lambda y: 0.5 * y * (1 + torch.erf(y * 0.7071067811865476)), "gelu"),
        (new_gelu, "gelu"),
        (F.silu, "swish"),
        (lambda y: torch.clamp_min(y, 0), "none"),
        (lambda y: F.hardtanh(y, 0, 20), "none"),
        (lambda y: F.silu(torch.clamp(y, -10, 10)), "none"),
        (lambda y: torch.relu(y) + y, "none"),
        (lambda y: 0.4 * y * (1 + torch.erf(y * 0.7071067811865476)), "none"),
        (lambda y: y.exp(), "none"),
    ],
)
@pytest.mark.parametrize("form", ["addmm", "mm", "conv1d"])
def test_linears_with_activations(activation: Callable[..., Any], attribute: str, form: str) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 6, 16, generator=generator)
    weight = torch.randn(24, 16, generator=generator) if form != "conv1d" else torch.randn(16, 24, generator=generator)
    bias = torch.randn(24, generator=generator)

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        rows = x.view(6, 16)
        if form == "mm":
            y = torch.mm(rows, weight.t())
        else:
            y = torch.addmm(bias, rows, weight if form == "conv1d" else weight.t())
        return activation(y.view(1, 6, 24)) * 2

    graph = _packed(_graph(function, [x, weight, bias], {1, 2}))
    linear = next(n for n in graph.graph.nodes if n.target is torch.ops.mkldnn._linear_pointwise.default)
    assert linear.args[3] == attribute
    assert "_reorder_linear_weight.default" in _calls(graph)
    if attribute != "none":
        assert not any("erf" in str(n.target) or "tanh" in str(n.target) for n in graph.graph.nodes)
    got, want = graph(x, weight, bias), function(x, weight, bias)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert got.stride() == want.stride()


@pytest.mark.skipif(not hasattr(torch.ops.mkl, "_mkl_linear"), reason="torch without MKL")
@pytest.mark.parametrize("form", ["addmm", "mm", "conv1d"])
def test_linears_through_mkl(form: str) -> None:
    x, bias = torch.randn(6, 16), torch.randn(24)
    weight = torch.randn(16, 24) if form == "conv1d" else torch.randn(24, 16)

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if form == "mm":
            return torch.mm(x, weight.t())
        return torch.addmm(bias, x, weight if form == "conv1d" else weight.t())

    graph = _packed(_graph(function, [x, weight, bias], {1, 2}), LinearLibrary.MKL)
    names = [str(n.target) for n in graph.graph.nodes]
    assert "mkl._mkl_linear.default" in names and "mkl._mkl_reorder_linear_weight.default" in names
    torch.testing.assert_close(graph(x, weight, bias), function(x, weight, bias), rtol=1e-5, atol=1e-5)


def test_what_is_left_alone() -> None:
    x, w, b = torch.randn(6, 16), torch.randn(24, 16), torch.randn(24)

    def function(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.addmm(b, x, w.t())

    assert _calls(_packed(_graph(function, [x, w, b], set()))) == []  # small, and the weight may change at any call
    assert _calls(_packed(_graph(function, [x.double(), w.double(), b.double()], {1, 2}))) == []
    assert _calls(_packed(_graph(function, [x[:1], w, b], {1, 2}))) == []  # one row

    def scaled(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.addmm(b, x, w.t(), alpha=2.0)

    assert _calls(_packed(_graph(scaled, [x, w, b], {1, 2}))) == []


@pytest.mark.parametrize("form", ["addmm", "mm", "conv1d", "gelu"])
def test_large_linears_of_weights_that_change(form: str) -> None:
    x, bias = torch.randn(64, 256), torch.randn(192)
    weight = torch.randn(256, 192) if form == "conv1d" else torch.randn(192, 256)

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if form == "mm":
            return torch.mm(x, weight.t())
        y = torch.addmm(bias, x, weight if form == "conv1d" else weight.t())
        return F.gelu(y) if form == "gelu" else y

    graph = _packed(_graph(function, [x, weight, bias], set()))
    assert _calls(graph) == ["_linear_pointwise.default"]
    (call,) = (n for n in graph.graph.nodes if n.target is torch.ops.mkldnn._linear_pointwise.default)
    assert call.args[3] == ("gelu" if form == "gelu" else "none")
    got, want = graph(x, weight, bias), function(x, weight, bias)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert got.stride() == want.stride()
    weight.mul_(2)  # nothing is kept
    torch.testing.assert_close(graph(x, weight, bias), function(x, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("outputs", [256, 128])
def test_gradients_of_a_linear(outputs: int) -> None:
    gradient, x, weight = torch.randn(128, outputs), torch.randn(128, 192), torch.randn(outputs, 192)

    def function(g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.mm(g, weight), torch.mm(g.t(), x)

    graph = _packed(_graph(function, [gradient, x, weight], set()))
    # the weight's gradient has rows that are columns in memory: it is copied where it is the smaller operand
    assert len(_calls(graph)) == (1 if outputs > 192 else 2)
    for got, want in zip(graph(gradient, x, weight), function(gradient, x, weight)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        assert got.stride() == want.stride()


@pytest.mark.parametrize("tail", ["none", "relu", "add", "add_relu", "silu"])
@pytest.mark.parametrize("geometry", [(3, 1, 1, 1), (1, 1, 0, 1), (3, 2, 1, 2)])
def test_convolutions(tail: str, geometry: tuple[int, int, int, int]) -> None:
    kernel, stride, pad, groups = geometry
    x = torch.randn(2, 8, 12, 12).to(memory_format=torch.channels_last)
    weight = torch.randn(8, 8 // groups, kernel, kernel).to(memory_format=torch.channels_last)
    bias = torch.randn(8)
    other = torch.randn(2, 8, 12 // stride, 12 // stride).to(memory_format=torch.channels_last)

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        y = torch.convolution(x, weight, bias, [stride, stride], [pad, pad], [1, 1], False, [0, 0], groups)
        if "add" in tail:
            y = y + other.relu()
        return torch.relu(y) if "relu" in tail else F.silu(y) if tail == "silu" else y

    graph = _packed(_graph(function, [x, weight, bias, other], {1, 2}))
    assert _calls(graph)[-1] == f"_convolution_pointwise.{'binary' if 'add' in tail else 'default'}"
    last = next(n for n in reversed(graph.graph.nodes) if n.op == "call_function")
    assert str(last.target).startswith("mkldnn.") is ("relu" not in tail)
    got, want = graph(x, weight, bias, other), function(x, weight, bias, other)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    assert got.stride() == want.stride()


_SPECIAL = [0.0, -0.0, 25.0, -25.0, 1e20, -1e20, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize(
    "activation",
    [
        torch.relu,
        lambda y: F.hardtanh(y, 0, 20),
        lambda y: torch.clamp(y * 1.0, 0, 20),
        lambda y: torch.where(y > 0, y, 0.0),
        torch.tanh,
        torch.sigmoid,
        F.silu,
        F.gelu,
        new_gelu,
    ],
)
@pytest.mark.parametrize("form", ["linear", "convolution", "convolution and sum"])
def test_special_and_large_values(activation: Callable[..., Any], form: str) -> None:
    image = torch.tensor(_SPECIAL).reshape(1, 1, 9, 1).repeat(1, 1, 1, 9).to(memory_format=torch.channels_last)
    weight = torch.ones(1, 1, 1, 1)

    def function(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if form == "linear":
            return activation(torch.mm(x.view(81, 1), weight.view(1, 1)))
        y = torch.convolution(x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)
        return activation(y + x if "sum" in form else y)

    graph = _packed(_graph(function, [image, weight], {1}))
    assert _calls(graph)
    got, want = graph(image, weight), function(image, weight)
    if activation is F.gelu:  # eager's own gives inf or nan for inf, as its vector code goes
        finite = ~(got.isinf() | want.isinf())
        got, want = got[finite], want[finite]
    torch.testing.assert_close(got, want, equal_nan=True)
