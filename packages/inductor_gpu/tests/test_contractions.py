"""Products of matrices that are ours: under the interpreter against eager, in any layout and at any edge."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.contraction_choice import MatrixChoice
from lampwork_inductor_gpu.device import H100
from torch.fx.experimental.proxy_tensor import make_fx


def compiled(function: Callable[..., object], inputs: list[torch.Tensor]) -> Callable[..., list[torch.Tensor]]:
    with torch.no_grad():
        graph = make_fx(lambda *tensors: [function(*tensors)], tracing_mode="fake")(*inputs)
    backend = TritonBackend(H100)
    backend.device_type = "cpu"
    return compile_graph(graph, inputs, options=CompileOptions(backends={"cpu": backend}, keep_artifacts=True))


def _halves(*shape: int) -> torch.Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) / 4).half()


def check(function: Callable[..., torch.Tensor], *inputs: torch.Tensor, kernels: int = 1) -> str:
    """Ours against float64; all of it is one kernel. The kernel's text."""
    graph = compiled(function, list(inputs))
    (got,) = graph(*inputs)
    expected = function(*(t.double() for t in inputs))
    torch.testing.assert_close(got.double(), expected, rtol=3e-3, atol=3e-3)
    assert got.is_contiguous() and got.dtype == torch.float16
    assert len(graph.kernels) == kernels
    text = graph.artifacts.stages["cpu code"]
    assert "tl.dot(" in text
    return text


@pytest.mark.parametrize("rows", [64, 130, 257])
@pytest.mark.parametrize("columns", [65, 301])
def test_a_linear_of_awkward_width(rows, columns):
    text = check(F.linear, _halves(rows, 72), _halves(columns, 72))
    assert text.count("make_tensor_descriptor") == 2


def test_what_follows_joins_the_kernel():
    check(
        lambda x, w, b, r: F.gelu(F.linear(x, w, b), approximate="tanh") * 2 + r,
        _halves(70, 64), _halves(67, 64), _halves(67), _halves(70, 67),
    )  # fmt: skip


def test_rows_that_were_transposed():
    check(lambda x, w: x.t() @ w.t(), _halves(64, 72), _halves(67, 64))


def test_columns_that_start_anywhere_are_gathered():
    text = check(lambda x, w: x @ w, _halves(70, 64), _halves(64, 67))
    assert text.count("make_tensor_descriptor") == 1


def test_three_dimensions_are_rows():
    text = check(F.linear, _halves(2, 35, 64), _halves(67, 64))
    assert text.count("make_tensor_descriptor") == 2


def test_others_are_the_librarys():
    x, w = _halves(70, 64), _halves(64, 64)
    assert not compiled(F.linear, [x, w]).kernels
    small, few = _halves(3, 64), _halves(67, 64)
    assert not compiled(F.linear, [small, few]).kernels


def test_two_products_of_one_value_are_two_kernels():
    def function(x, v, w):
        return F.linear(x, v) + F.linear(x, w)

    check(function, _halves(70, 64), _halves(67, 64), _halves(67, 64), kernels=2)


def test_a_product_that_is_read_by_rows_is_stored():
    check(lambda x, w: F.linear(x, w).softmax(-1), _halves(70, 64), _halves(67, 64), kernels=2)


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_of_few_channels(padding, stride):
    x, w, b = _halves(2, 3, 65, 67), _halves(24, 3, 5, 7), _halves(24)
    graph = compiled(lambda x, w, b: F.conv2d(x, w, b, stride, padding).relu(), [x, w, b])
    (got,) = graph(x, w, b)
    expected = F.conv2d(x.double(), w.double(), b.double(), stride, padding).relu()
    torch.testing.assert_close(got.double(), expected, rtol=5e-3, atol=5e-3)
    assert "tl.dot(" in graph.artifacts.stages["cpu code"]


def test_a_convolution_that_dilates():
    x, w = _halves(1, 4, 70, 70), _halves(16, 4, 3, 3)
    (got,) = compiled(lambda x, w: F.conv2d(x, w, None, 1, (1, 2), (2, 1)), [x, w])(x, w)
    expected = F.conv2d(x.double(), w.double(), None, 1, (1, 2), (2, 1))
    torch.testing.assert_close(got.double(), expected, rtol=5e-3, atol=5e-3)


def test_an_activation_between_products_joins_the_first():
    def function(x, w, b, v):
        return F.linear(F.gelu(F.linear(x, w, b)), v)

    graph = compiled(function, [_halves(4096, 16), _halves(64, 16), _halves(64), _halves(8, 64)])
    assert len(graph.kernels) == 1 and "tl.dot(" in graph.artifacts.stages["cpu code"]


def test_a_residual_that_a_normalisation_reads_is_the_kernel_of_the_normalisation():
    def function(x, w, r, n):
        return F.layer_norm(F.linear(x, w) + r, (64,), n, n)

    graph = compiled(function, [_halves(4096, 16), _halves(64, 16), _halves(4096, 64), _halves(64)])
    assert "tl.dot(" not in graph.artifacts.stages["cpu code"]


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x, w: F.linear(x.expand(70, 64), w), [(1, 64), (67, 64)]),
        (lambda x, w: F.conv2d(x.expand(2, 3, 70, 66), w, None, 2, 3), [(1, 3, 70, 66), (16, 3, 7, 7)]),
    ],
)
def test_an_operand_that_repeats_is_the_librarys(function, inputs):
    tensors = [_halves(*shape) for shape in inputs]
    (got,) = compiled(function, tensors)(*tensors)
    torch.testing.assert_close(got.double(), function(*(t.double() for t in tensors)), rtol=3e-3, atol=3e-3)


@pytest.mark.parametrize("columns", [301, 50257])
def test_blocks_fit_the_shared_memory_of_a_card(columns):
    kept = dataclasses.replace(H100, shared_memory_per_block=101_376)
    function = lambda x, w: [F.linear(x, w)]  # noqa: E731
    inputs = [_halves(128, 768), _halves(columns, 768)]
    with torch.no_grad():
        graph = make_fx(function, tracing_mode="fake")(*inputs)
    backend = TritonBackend(kept)
    backend.device_type = "cpu"
    seen = []
    generate = backend.generate
    backend.generate = lambda kernel: seen.append(generate(kernel)) or seen[-1]
    compile_graph(graph, inputs, options=CompileOptions(backends={"cpu": backend}))
    (config,) = (source.launch["config"] for source in seen)
    assert config.stages * (config.x_block + config.r_block) * config.k_block * 2 < 101_376


def test_on_cards_where_nobody_compared_them_products_are_the_librarys():
    assert not MatrixChoice(dataclasses.replace(H100, capability=(8, 0))).lowerings()
