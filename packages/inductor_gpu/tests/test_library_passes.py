"""Passes that choose library kernels: traced as on a card, compared on the CPU with plain calls in place of cuDNN's."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.passes.channels_last import choose_channels_last
from lampwork_inductor_core.passes.rewriting import PassContext
from lampwork_inductor_gpu.attention_kernels import attention_pass
from lampwork_inductor_gpu.device import H100, DeviceProperties
from lampwork_inductor_gpu.few_channels import pad_channels
from lampwork_inductor_gpu.library_epilogues import add_biases_behind, fuse_convolutions, fuse_linears
from lampwork_inductor_gpu.matrix_operands import align_rows
from lampwork_inductor_gpu.patch_convolutions import multiply_patches
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten


STAND_INS: dict[Any, Callable[..., Any]] = {
    aten.cudnn_convolution_relu.default: lambda x, w, b, s, p, d, g: F.relu(F.conv2d(x, w, b, s, p, d, g)),
    aten.cudnn_convolution_add_relu.default: lambda x, w, z, a, b, s, p, d, g: F.relu(
        F.conv2d(x, w, b, s, p, d, g) + a * z
    ),
    aten._addmm_activation.default: lambda b, x, w, use_gelu: F.gelu(torch.addmm(b, x, w), approximate="tanh"),
    aten._scaled_dot_product_cudnn_attention.default: lambda q, k, v, mask, lse, p, causal, debug, scale=None: [
        F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, scale=scale)
    ],
}


class _OnCpu(torch.fx.Interpreter):
    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target is operator.getitem and args[1] >= len(args[0]):
            return None  # what attention gives beside its result
        kwargs = {key: "cpu" if key == "device" else value for key, value in kwargs.items()}
        return STAND_INS.get(target, target)(*args, **kwargs)


class _AsOnACard(torch.fx.Interpreter):
    """Fake values as cuDNN gives them: a build of torch without it describes convolutions as contiguous."""

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.target is aten.convolution.default and n.args[0].meta["val"].is_contiguous(
            memory_format=torch.channels_last
        ):
            result = torch.empty_like(result, memory_format=torch.channels_last)
        if n.op != "output":
            n.meta["val"] = result
        return result


def rewritten(
    passes: list[Callable[..., Any]],
    function: Callable[..., Any],
    *inputs: torch.Tensor,
    static: tuple[int, ...] = (),
    strides: bool = True,
) -> list[Any]:
    """The operators after the passes, traced on a card that need not be there; the values are what they were."""
    with FakeTensorMode(), torch.no_grad():
        fakes = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda") for t in inputs]
        graph = make_fx(function)(*fakes)
        _AsOnACard(graph).run(*fakes)
    before = _OnCpu(graph).run(*inputs)
    for position, node in enumerate(graph.graph.find_nodes(op="placeholder")):
        node.meta["static_input"] = position in static
    for rewrite in passes:
        graph = rewrite(graph, PassContext())
        graph.graph.lint()
    after = _OnCpu(graph).run(*inputs)
    for one, other in zip(after, before, strict=True):
        torch.testing.assert_close(one, other, rtol=3e-2, atol=3e-2)
        assert not strides or one.stride() == other.stride()
    return [n.target for n in graph.graph.nodes if n.op == "call_function"]


def _halves(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float32).bfloat16() / 2


def _last(*shape: int) -> torch.Tensor:
    return _halves(*shape).to(memory_format=torch.channels_last)


def test_a_relu_joins_its_convolution():
    found = rewritten(
        [fuse_convolutions],
        lambda x, w, b: [F.conv2d(x, w, b, padding=1).relu()],
        _last(2, 8, 6, 6), _last(16, 8, 3, 3), _halves(16),
    )  # fmt: skip
    assert found == [aten.cudnn_convolution_relu.default]


def test_of_two_convolutions_that_are_added_one_takes_sum_and_biases():
    found = rewritten(
        [fuse_convolutions],
        lambda x, w, b, y, v, c: [(F.conv2d(x, w, b) + F.conv2d(y, v, c)).relu()],
        _last(2, 8, 6, 6), _last(16, 8, 1, 1), _halves(16), _last(2, 4, 6, 6), _last(16, 4, 1, 1), _halves(16),
    )  # fmt: skip
    assert sorted(map(str, found)) == [
        "aten.add.Tensor", "aten.convolution.default", "aten.cudnn_convolution_add_relu.default",
    ]  # fmt: skip


def test_a_sum_that_is_read_again_is_not_fused():
    def function(x, w, z):
        total = F.conv2d(x, w) + z
        return [total.relu(), total * 2]

    found = rewritten([fuse_convolutions], function, _last(2, 8, 6, 6), _last(16, 8, 1, 1), _last(2, 16, 6, 6))
    assert aten.convolution.default in found and aten.cudnn_convolution_add_relu.default not in found


def test_a_sum_that_broadcasts_is_not_fused():
    found = rewritten(
        [fuse_convolutions],
        lambda x, w, z: [(F.conv2d(x, w) + z).relu()],
        _last(2, 8, 6, 6), _last(16, 8, 1, 1), _last(1, 16, 1, 1),
    )  # fmt: skip
    assert aten.cudnn_convolution_add_relu.default not in found


@pytest.mark.parametrize("groups", [1, 8])
def test_a_bias_without_a_relu_is_arithmetic(groups):
    found = rewritten(
        [fuse_convolutions, add_biases_behind],
        lambda x, w, b: [F.silu(F.conv2d(x, w, b, groups=groups))],
        _last(2, 8, 6, 6), _last(8, 8 // groups, 3, 3), _halves(8),
    )  # fmt: skip
    assert found[:3] == [aten.convolution.default, aten.view.default, aten.add.Tensor]


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_patches_are_multiplied(format, bias):
    x = _halves(2, 3, 8, 12).to(memory_format=format)
    w, b = _halves(5, 3, 4, 2).to(memory_format=format), _halves(5)
    found = rewritten([multiply_patches], lambda x, w, b: [F.conv2d(x, w, b if bias else None, (4, 2))], x, w, b)
    assert aten.convolution.default not in found
    assert (aten.addmm.default if bias else aten.mm.default) in found


def test_points_in_channels_last_are_multiplied_without_a_copy():
    found = rewritten(
        [multiply_patches], lambda x, w, b: [F.conv2d(x, w, b)], _last(2, 8, 6, 6), _last(16, 8, 1, 1), _halves(16)
    )
    assert aten.addmm.default in found and aten.clone.default not in found
    found = rewritten([multiply_patches], lambda x, w: [F.conv2d(x, w)], _halves(2, 8, 6, 6), _halves(16, 8, 1, 1))
    assert found == [aten.convolution.default]


@pytest.mark.parametrize(
    "options", [{"stride": 1}, {"stride": 2, "padding": 2}, {"stride": 2, "dilation": 2}, {"stride": 3}]
)
def test_windows_that_overlap_or_leave_gaps_are_convolved(options):
    found = rewritten(
        [multiply_patches], lambda x, w: [F.conv2d(x, w, **options)], _halves(2, 3, 9, 9), _halves(5, 3, 2, 2)
    )
    assert found == [aten.convolution.default]


def test_patches_that_do_not_cover_the_image_are_convolved():
    found = rewritten(
        [multiply_patches], lambda x, w: [F.conv2d(x, w, stride=2)], _halves(2, 3, 9, 8), _halves(5, 3, 2, 2)
    )
    assert found == [aten.convolution.default]


def test_a_graph_in_channels_last_multiplies_patches_in_channels_last():
    def function(x, *weights):
        for w in weights[:3]:
            x = F.conv2d(x, w, padding=1).relu()
        return [F.conv2d(x, weights[3], stride=2)]

    weights = [_halves(8, 3, 3, 3), _halves(8, 8, 3, 3), _halves(8, 8, 3, 3), _halves(5, 8, 2, 2)]
    found = rewritten(
        [choose_channels_last, multiply_patches, fuse_convolutions], function, _halves(2, 3, 8, 8), *weights
    )
    # that of three channels is a kernel of ours
    assert found.count(aten.cudnn_convolution_relu.default) == 2 and aten.mm.default in found


@pytest.mark.parametrize("spelling", ["function", "words"])
def test_gelu_by_tanh_joins_its_linear(spelling):
    def function(x, w, b):
        y = F.linear(x, w, b)
        if spelling == "function":
            return [F.gelu(y, approximate="tanh")]
        return [0.5 * y * (1.0 + torch.tanh(0.7978845608028654 * (y + 0.044715 * y.pow(3.0))))]

    found = rewritten([fuse_linears], function, _halves(2, 6, 8), _halves(16, 8), _halves(16))
    assert aten._addmm_activation.default in found and aten.tanh.default not in found


def test_exact_gelu_stays():
    found = rewritten(
        [fuse_linears], lambda x, w, b: [F.gelu(F.linear(x, w, b))], _halves(6, 8), _halves(16, 8), _halves(16)
    )
    assert aten.addmm.default in found


def _heads(*shape: int) -> torch.Tensor:
    batch, heads, length, width = shape
    return _halves(batch, length, heads, width).transpose(1, 2)


def test_one_number_may_stand_for_both_dimensions():
    def function(x, w, v):
        y = aten.convolution(x, w, None, [2], [0], [1], False, [0], 1).relu()
        return [aten.convolution(y, v, None, [2], [0], [1], False, [0], 1)]

    found = rewritten(
        [fuse_convolutions, multiply_patches], function, _last(2, 8, 9, 9), _last(8, 8, 3, 3), _halves(4, 8, 2, 2)
    )
    assert aten.cudnn_convolution_relu.default in found and aten.mm.default in found


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_few_channels_get_four(channels):
    inputs = _halves(2, channels, 64, 64), _halves(16, channels, 3, 3)
    function = lambda x, w: [F.conv2d(x, w, padding=1)]  # noqa: E731
    found = rewritten([pad_channels], function, *inputs, static=(1,), strides=False)  # which are the lowering's
    assert found.count(aten.constant_pad_nd.default) == 2
    assert rewritten([pad_channels], function, *inputs) == [aten.convolution.default]  # the weight may change


def _whole(q, k, v, *mask):
    return [aten.scaled_dot_product_attention(q, k, v, *mask).transpose(1, 2).contiguous()]


def _attention_graph(inputs: list[torch.Tensor], strides: Any = None, copies: int = 1, **options: Any) -> Any:
    """A graph of one attention call whose result is turned and copied, for a card that need not be there."""
    with FakeTensorMode() as mode:
        fakes = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda") for t in inputs]
        result = torch.empty((*inputs[0].shape[:3], inputs[2].shape[3]), dtype=inputs[0].dtype, device="cuda")
        if strides is not None:
            result = result.as_strided(result.shape, strides)
        copy = torch.empty([result.shape[d] for d in (0, 2, 1, 3)], dtype=result.dtype, device="cuda")
    graph = torch.fx.Graph()
    nodes = [graph.placeholder(f"x{k}") for k in range(len(inputs))]
    whole = graph.call_function(aten.scaled_dot_product_attention.default, tuple(nodes), options)
    turned = graph.call_function(aten.permute.default, (whole, [0, 2, 1, 3]))
    doubled = []
    for _ in range(copies):
        copied = graph.call_function(aten.clone.default, (turned,), {"memory_format": torch.contiguous_format})
        copied.meta["val"] = copy
        doubled.append(graph.call_function(aten.mul.Tensor, (copied, 2)) if copies == 1 else copied)
        doubled[-1].meta["val"] = copy
    graph.output(doubled)
    for node, fake in zip(nodes, fakes):
        node.meta["val"] = fake
    whole.meta["val"] = result
    with mode:
        turned.meta["val"] = result.permute(0, 2, 1, 3)
    return torch.fx.GraphModule({}, graph)


def _after(module: Any, device: DeviceProperties = H100) -> list[Any]:
    module = attention_pass(device)(module, PassContext())
    module.graph.lint()
    module.recompile()
    return [n.target for n in module.graph.nodes if n.op == "call_function"]


MASKS = {
    "none": [],
    "numbers": [_halves(2, 1, 16, 16)],
    "one for all keys": [_halves(2, 1, 16, 1)],
    "odd strides": [_halves(16, 16, 3).permute(2, 0, 1).unsqueeze(0)],
    "booleans": [torch.ones(16, 16, dtype=torch.bool).tril()],
}


@pytest.mark.parametrize("kind", MASKS)
def test_attention_is_cudnns_on_hopper(kind):
    inputs = [_heads(2, 3, 16, 8), _heads(2, 3, 16, 8), _heads(2, 3, 16, 8), *MASKS[kind]]
    module = _attention_graph(inputs)
    targets = _after(module)
    assert aten._scaled_dot_product_cudnn_attention.default in targets
    assert kind != "none" or aten.clone.default not in targets  # heads lie beside each other already
    (got,) = _OnCpu(module).run(*inputs)
    expected = F.scaled_dot_product_attention(*inputs).transpose(1, 2) * 2
    torch.testing.assert_close(got, expected, rtol=3e-2, atol=3e-2)


def test_copies_that_a_caller_gets_stay_copies():
    targets = _after(_attention_graph([_heads(2, 3, 16, 8)] * 3, copies=2))
    assert aten._scaled_dot_product_cudnn_attention.default in targets and targets.count(aten.clone.default) >= 2


@pytest.mark.parametrize(
    "why", ["older card", "older library", "wide heads", "more keys", "groups", "astray", "mask and causal", "float32"]
)
def test_attention_stays_with_torchs_choice(why):
    device = {
        "older card": DeviceProperties("A100", (8, 0), 108, 1, 1, 91_000),
        "older library": DeviceProperties("H100", (9, 0), 132, 1, 1, 8_900),
    }.get(why, H100)
    width = 256 if why == "wide heads" else 8
    query, key, value = (_heads(2, 4, 16, width) for _ in range(3))
    mask, causal = [], why in ("more keys", "mask and causal")
    if why == "more keys":
        key = value = _heads(2, 4, 24, width)
    elif why == "groups":
        key = value = _heads(2, 2, 16, width)
    elif why == "astray":
        key = _heads(2, 4, 16, 9)[..., :8]
    elif why == "mask and causal":
        mask = MASKS["numbers"]
    elif why == "float32":
        query, key, value = query.float(), key.float(), value.float()
    targets = _after(_attention_graph([query, key, value, *mask], is_causal=causal), device)
    assert aten.scaled_dot_product_attention.default in targets


def test_a_value_whose_memory_is_read_as_it_lies_is_not_padded():
    def function(a, c):
        y = a.relu()
        return [y @ c, y.as_strided([1000], [1001], 1)]

    inputs = _halves(1024, 1001), _halves(1001, 64)
    assert aten.constant_pad_nd.default not in rewritten([align_rows], function, *inputs)
    found = rewritten([align_rows], lambda a, c: [a.relu() @ c], *inputs)
    assert aten.constant_pad_nd.default in found
