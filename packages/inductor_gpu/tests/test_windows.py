"""Depthwise convolutions and pooling that are ours: under the interpreter against eager, at any edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.passes.rewriting import PassContext
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.depthwise import lay_out_weights
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.heuristics import KernelShape
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

FEW, ONE = replace(H100, multiprocessors=8), replace(H100, multiprocessors=1)
DOWN = "for down in range("


class Recording(TritonBackend):
    """Keeps the configurations of what it makes, for CPU tensors."""

    device_type = "cpu"

    def __init__(self, device=ONE) -> None:
        super().__init__(device)
        self.configs = []
        self.texts = []

    def generate(self, kernel):
        source = super().generate(kernel)
        self.configs.append(source.launch["config"])
        self.texts.append(source.text)
        return source


def compiled(function, inputs, device=ONE):
    with torch.no_grad():
        graph = make_fx(lambda *tensors: [function(*tensors)], tracing_mode="fake")(*inputs)
    backend = Recording(device)
    options = CompileOptions(backends={"cpu": backend}, config=Config(verify=True))
    return compile_graph(graph, inputs, options=options), backend


def check(function: Callable[..., torch.Tensor], *inputs: torch.Tensor, device=ONE) -> str:
    """Ours against float64: one kernel, over a window. Its text."""
    graph, backend = compiled(function, list(inputs), device)
    (got,) = graph(*inputs)
    eager, expected = function(*inputs), function(*(t.double() for t in inputs))
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}[got.dtype]
    scale = float(expected.abs().nan_to_num(0, 0, 0).max()) if expected.numel() else 1.0
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
    assert got.stride() == eager.stride() and got.dtype == eager.dtype
    assert [c.shape for c in backend.configs] == [KernelShape.WINDOW]
    (text,) = backend.texts
    assert DOWN in text
    return text


def random(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def image(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return random(*shape, dtype=dtype).to(memory_format=torch.channels_last)


def weights(channels: int, *kernel: int, dtype=torch.float32, packed: bool = True) -> torch.Tensor:
    if packed:
        return random(*kernel, channels, 1, dtype=dtype).permute(2, 3, 0, 1)
    return random(channels, 1, *kernel, dtype=dtype)


# -------------------------------------------------------------------------------------------------------- convolutions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 2, 2), (7, 1, 3)])
def test_a_depthwise_convolution(kernel, stride, padding, dtype):
    x, w, b = image(2, 24, 13, 17, dtype=dtype), weights(24, kernel, kernel, dtype=dtype), random(24, dtype=dtype)
    check(lambda x, w, b: F.conv2d(x, w, b, stride, padding, 1, x.shape[1]), x, w, b)


@pytest.mark.parametrize("channels", [8, 9, 30, 96])
@pytest.mark.parametrize("batch", [1, 3])
def test_any_number_of_channels(channels, batch):
    x, w = image(batch, channels, 9, 10, dtype=torch.float16), weights(channels, 3, 3, dtype=torch.float16)
    check(lambda x, w: F.conv2d(x, w, None, 1, 1, 1, x.shape[1]), x, w)


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (5, 31), (31, 5), (23, 29), (1, 9), (9, 1)])
@pytest.mark.parametrize("device", [H100, FEW, ONE], ids=["132", "8", "1"])
def test_strips_of_any_length(size, device):
    """Few multiprocessors make long strips."""
    x, w = image(2, 16, *size), weights(16, 7, 7)
    check(lambda x, w: F.conv2d(x, w, None, 1, 3, 1, 16), x, w, device=device)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [((3, 5), (2, 1), (0, 4)), ((2, 4), (3, 2), (1, 0))])
def test_windows_that_are_not_square(kernel, stride, padding):
    x, w, b = image(2, 8, 15, 12), weights(8, *kernel), random(8)
    check(lambda x, w, b: F.conv2d(x, w, b, stride, padding, 1, 8), x, w, b)


def test_padding_wider_than_the_window():
    x, w = image(1, 8, 6, 6), weights(8, 3, 3)
    check(lambda x, w: F.conv2d(x, w, None, 1, 5, 1, 8), x, w)


def test_weights_in_their_own_layout():
    x, w = image(2, 16, 9, 9), weights(16, 3, 3, packed=False)
    check(lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 16), x, w)


def test_a_part_of_a_larger_image():
    whole, w = image(2, 16, 12, 12), weights(16, 3, 3)
    x = whole[:1]
    check(lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 16), x, w)


def test_what_follows_joins_the_kernel():
    x, w, b, r = image(2, 16, 9, 10), weights(16, 3, 3), random(16), image(2, 16, 9, 10)
    text = check(lambda x, w, b, r: F.gelu(F.conv2d(x, w, b, 1, 1, 1, 16)) * 2 + r, x, w, b, r)
    assert text.index("tl.load(in3") < text.index("tl.store(")  # reads ahead of all stores
    assert text.rindex("tl.load(in3") < text.index("tl.store(")


def test_what_an_image_is_made_of_is_stored_once():
    def function(x, w):
        return F.silu(F.conv2d(F.silu(x * 3), w, None, 1, 1, 1, 16))

    x, w = image(2, 16, 9, 10), weights(16, 3, 3)
    graph, backend = compiled(function, [x, w])
    torch.testing.assert_close(graph(x, w)[0], function(x, w), rtol=1e-4, atol=1e-4)
    assert sorted(c.shape.value for c in backend.configs) == ["pointwise", "window"]


def test_a_normalisation_behind_has_a_kernel_of_its_own():
    def function(x, w):
        return F.layer_norm(F.conv2d(x, w, None, 1, 1, 1, 16).permute(0, 2, 3, 1), (16,))

    x, w = image(2, 16, 9, 10), weights(16, 3, 3)
    graph, backend = compiled(function, [x, w])
    torch.testing.assert_close(graph(x, w)[0], function(x, w), rtol=1e-4, atol=1e-4)
    assert [c.shape.value for c in backend.configs].count("window") == 1 and len(backend.configs) == 2


def _text(channels: int, size: int) -> str:
    """Of a convolution of 64 images, 7 x 7, on an H100."""
    x, w = image(64, channels, size, size, dtype=torch.float16), weights(channels, 7, 7, dtype=torch.float16)
    _, backend = compiled(lambda x, w: F.conv2d(x, w, None, 1, 3, 1, channels), [x, w], H100)
    (text,), (config,) = backend.texts, backend.configs
    assert config.strip == 7 and "x_mask" not in text
    return text


def test_columns_inside_have_no_mask():
    reads = [line for line in _text(64, 28).splitlines() if "tl.load(in0_at" in line]
    assert len(reads) == 13 and sum("inside" in line for line in reads) == 6  # three on either side


def test_what_is_outside_of_one_strip_is_left_out():
    text = _text(768, 7)
    assert text.count("total6 += ") == 4 and text.count("total3 += ") == 7 and "inside" not in text


@pytest.mark.parametrize(
    ("options", "shape"),
    [((1, 1, 2, 16), (16, 1, 3, 3)), ((1, 1, 1, 8), (16, 2, 3, 3)), ((1, 1, 1, 16), (32, 1, 3, 3))],
    ids=["dilated", "groups of two", "two results a channel"],
)
def test_others_are_the_librarys(options, shape):
    stride, padding, dilation, groups = options
    x, w = image(2, 16, 9, 9), random(*shape)
    _, backend = compiled(lambda x, w: F.conv2d(x, w, None, stride, padding, dilation, groups), [x, w])
    assert not backend.configs
    _, backend = compiled(
        lambda x, w: F.conv2d(x, w, None, 1, 1, 1, 16), [x.contiguous(), weights(16, 3, 3, packed=False)]
    )
    assert not backend.configs


def test_weights_are_laid_out_by_a_pass():
    with FakeTensorMode(), torch.no_grad():
        x = torch.empty(2, 16, 9, 9, device="cuda").to(memory_format=torch.channels_last)
        w = torch.empty(16, 1, 3, 3, device="cuda")
        dense = torch.empty(16, 16, 3, 3, device="cuda")
        graph = make_fx(lambda x, w, v: [F.conv2d(x, w, None, 1, 1, 1, 16), F.conv2d(x, v)])(x, w, dense)
        depthwise, other = (n for n in graph.graph.nodes if n.target is torch.ops.aten.convolution.default)
        depthwise.meta["val"] = torch.empty_like(x)  # as a build with cuDNN describes it
        graph = lay_out_weights(graph, PassContext())
        graph.graph.lint()
    weight = depthwise.args[1].meta["val"]
    assert weight.shape == w.shape and weight.stride() == (1, 1, 48, 16)
    assert other.args[1].op == "placeholder"
    before = len(graph.graph.nodes)
    assert len(lay_out_weights(graph, PassContext()).graph.nodes) == before  # once


# ------------------------------------------------------------------------------------------------------------- pooling


@pytest.mark.parametrize("make", [image, random], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1), ((2, 3), (3, 2), (1, 0))])
def test_the_largest(kernel, stride, padding, ceil_mode, make):
    x = make(2, 12, 13, 18, dtype=torch.bfloat16)
    text = check(lambda x: F.max_pool2d(x, kernel, stride, padding, 1, ceil_mode), x)
    assert "maximum(" in text


@pytest.mark.parametrize("place", [(0, 0), (6, 7), (12, 17)])
def test_nan_wins(place):
    x = image(1, 8, 13, 18)
    x[0, 3, place[0], place[1]] = float("nan")
    x[0, 4] = float("-inf")
    (got,) = compiled(lambda x: F.max_pool2d(x, 3, 2, 1), [x])[0](x)
    expected = F.max_pool2d(x, 3, 2, 1)
    assert expected.isnan().any()
    torch.testing.assert_close(got, expected, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("make", [image, random], ids=["channels last", "contiguous"])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("with_padding", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), ((2, 3), (3, 2), (1, 0))])
def test_the_mean(kernel, stride, padding, ceil_mode, with_padding, make):
    check(lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, with_padding), make(2, 12, 14, 18))


def test_the_mean_by_another_divisor():
    check(lambda x: F.avg_pool2d(x, 3, 2, 1, False, True, 5), image(2, 8, 9, 9, dtype=torch.float16))


def test_places_are_the_librarys():
    graph, backend = compiled(lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[1], [image(2, 8, 9, 9)])
    assert not backend.configs
    _, backend = compiled(lambda x: F.max_pool2d(x, 3, 2, 1, 2), [image(2, 8, 9, 9)])
    assert not backend.configs  # dilated


def test_no_images():
    for function in (
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: F.conv2d(x, torch.ones(8, 1, 3, 3), None, 1, 1, 1, 8) + 1,
    ):
        x = torch.empty(0, 8, 9, 9).to(memory_format=torch.channels_last)
        (got,) = compiled(function, [x])[0](x)
        assert got.shape == function(x).shape


def test_pooling_of_a_convolution_is_a_kernel_of_its_own():
    def function(x, w):
        return F.max_pool2d(F.relu(F.conv2d(x, w, None, 1, 1, 1, 16)), 3, 2, 1)

    x, w = image(2, 16, 9, 10), weights(16, 3, 3)
    graph, backend = compiled(function, [x, w])
    torch.testing.assert_close(graph(x, w)[0], function(x, w), rtol=1e-5, atol=1e-5)
    assert [c.shape for c in backend.configs] == [KernelShape.WINDOW] * 2
