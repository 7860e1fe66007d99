"""The gradients of operators, written as pointwise work and sums: each equals eager's kernel, which the graph lacks."""

from __future__ import annotations

import math
import operator

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import aot_backend
from torch import fx

from .differential import capture

aten = torch.ops.aten
ALL = [True, True, True]


def draw(*sizes, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*sizes, generator=generator, dtype=torch.float64).to(dtype)


def check(op, *arguments, kept=False, exact=1e-10, **keywords):
    """`op` on these arguments, traced and run, against eager in sizes, dtype and numbers."""
    tensors = [a for a in arguments if isinstance(a, torch.Tensor)]

    def call(*values):
        remaining = iter(values)
        given = [next(remaining) if isinstance(a, torch.Tensor) else a for a in arguments]
        found = op(*given, **keywords)
        return tuple(t for t in found if t is not None) if isinstance(found, tuple) else (found,)

    graphs = []

    def compiler(graph, _):
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        expected = call(*tensors)
        actual = aot_backend(compiler)(capture(call, tensors), tensors)(*tensors)
    targets = {str(node.target) for node in graphs[0].graph.nodes}
    assert any("backward" in name for name in targets) == kept, targets
    for got, want in zip(actual, expected, strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        half = want.dtype == torch.bfloat16
        double = want.dtype == torch.float64
        rtol, atol = (2e-2, 2e-2) if half else (exact, exact) if double else (1e-4, 1e-5)
        torch.testing.assert_close(got, want, rtol=rtol, atol=atol, equal_nan=True)


DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])


@DTYPES
@pytest.mark.parametrize("mask", [ALL, [True, False, False], [False, True, True], None])
def test_layer_norm(dtype, mask):
    x, grad = draw(3, 4, 5, dtype=dtype), draw(3, 5, 4, dtype=dtype, seed=1).transpose(1, 2)
    weight, bias = (None if mask is None else draw(5, dtype=dtype, seed=s) for s in (2, 3))
    _, mean, rstd = aten.native_layer_norm(x, [5], weight, bias, 1e-5)
    mask = mask or [True, False, False]
    check(aten.native_layer_norm_backward, grad, x, [5], mean, rstd, weight, bias, mask)


def test_layer_norm_of_every_dimension_and_of_nothing():
    x, weight = draw(4, 5), draw(4, 5, seed=2)
    _, mean, rstd = aten.native_layer_norm(x, [4, 5], weight, weight, 1e-5)
    check(aten.native_layer_norm_backward, x + 1, x, [4, 5], mean, rstd, weight, weight, ALL)
    empty = draw(0, 5)
    check(aten.native_layer_norm_backward, empty, empty, [5], draw(0, 1), draw(0, 1), draw(5), draw(5), ALL, kept=True)


@DTYPES
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("form", ["planes", "channels last", "vectors", "no weight", "bias only"])
def test_batch_norm(dtype, train, form):
    x, grad = draw(6, 3, 4, 5, dtype=dtype) * 2 + 1, draw(6, 3, 4, 5, dtype=dtype, seed=1)
    if form == "channels last":
        x, grad = (t.to(memory_format=torch.channels_last) for t in (x, grad))
    if form == "vectors":
        x, grad = x[:, :, 0, 0].contiguous(), grad[:, :, 0, 0].contiguous()
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    weight = None if form == "no weight" else draw(3, dtype=wide, seed=2)
    mean, var = draw(3, dtype=wide, seed=3), draw(3, dtype=wide, seed=4).abs() + 0.5
    mask = [False, False, True] if form == "bias only" else ALL
    if form == "no weight" and dtype == torch.bfloat16:
        mask = [True, False, False]  # the others have one dtype in eager and another by the operator's description
    _, save_mean, save_rstd = aten.native_batch_norm(x, weight, weight, mean.clone(), var.clone(), train, 0.1, 1e-5)
    check(aten.native_batch_norm_backward, grad, x, weight, mean, var, save_mean, save_rstd, train, 1e-5, mask)


@DTYPES
@pytest.mark.parametrize("form", ["planes", "channels last", "signals", "no weight", "input only"])
def test_group_norm(dtype, form):
    x, grad = draw(2, 6, 4, 5, dtype=dtype) + 1, draw(2, 6, 4, 5, dtype=dtype, seed=1)
    if form == "channels last":
        x, grad = (t.to(memory_format=torch.channels_last) for t in (x, grad))
    if form == "signals":
        x, grad = x[..., 0].contiguous(), grad[..., 0].contiguous()
    weight = None if form == "no weight" else draw(6, dtype=dtype, seed=2)
    n, c, hxw = 2, 6, math.prod(x.shape[2:])
    _, mean, rstd = aten.native_group_norm(x, weight, weight, n, c, hxw, 3, 1e-5)
    mask = [True, False, False] if form in ("input only", "no weight") else ALL
    if form == "channels last":
        grad, x = grad.contiguous(), x.contiguous()
    check(aten.native_group_norm_backward, grad, x, mean, rstd, weight, n, c, hxw, 3, mask)


@pytest.mark.parametrize("mask", [[True, True], [True, False], [False, True]])
def test_rms_norm(mask):
    x, grad, weight = draw(3, 4, 5), draw(3, 4, 5, seed=1), draw(5, seed=2)
    rstd = (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    leaves = [t.clone().requires_grad_() for t in (x, weight)]  # eager has no kernel on this device
    out = leaves[0] * (leaves[0].square().mean(-1, keepdim=True) + 1e-6).rsqrt() * leaves[1]
    expected = torch.autograd.grad(out, leaves, grad)
    graphs = []

    def compiler(graph, _):
        graphs.append(graph)
        return graph.forward

    inputs = [grad, x, rstd, weight]
    graph = fx.Graph()
    g, value, scale, factor = (graph.placeholder(name) for name in ("g", "x", "rstd", "weight"))
    found = graph.call_function(aten._fused_rms_norm_backward.default, (g, value, [5], scale, factor, mask))
    graph.output(tuple(graph.call_function(operator.getitem, (found, k)) for k in range(2) if mask[k]))
    with torch.no_grad():
        actual = aot_backend(compiler)(fx.GraphModule(torch.nn.Module(), graph), inputs)(*inputs)
    assert not any("backward" in str(node.target) for node in graphs[0].graph.nodes)
    for got, want in zip(actual, [t for t, wanted in zip(expected, mask) if wanted], strict=True):
        torch.testing.assert_close(got, want)


@DTYPES
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dtype, dim):
    x, grad = draw(3, 4, 5, dtype=dtype), draw(5, 4, 3, dtype=dtype, seed=1).permute(2, 1, 0)
    check(aten._softmax_backward_data, grad, x.softmax(dim), dim, dtype)
    check(aten._log_softmax_backward_data, grad, x.log_softmax(dim), dim, dtype)
    if dtype == torch.bfloat16:
        check(aten._softmax_backward_data, grad.float(), x.float().softmax(dim), dim, torch.float32)


X = torch.tensor([-math.inf, -9.0, -3.0, -1.0, -0.5, -0.0, 0.0, 0.25, 0.5, 1.0, 3.0, 25.0, math.inf, math.nan])
ACTIVATIONS = {
    "hardsigmoid": (aten.hardsigmoid_backward, ()),
    "hardswish": (aten.hardswish_backward, ()),
    "hardtanh": (aten.hardtanh_backward, (-1.0, 1.0)),
    "leaky_relu": (aten.leaky_relu_backward, (0.1, False)),
    "softplus": (aten.softplus_backward, (2.0, 20.0)),
    "mish": (aten.mish_backward, ()),
    "hardshrink": (aten.hardshrink_backward, (0.5,)),
    "softshrink": (aten.softshrink_backward, (0.5,)),
    "logit": (aten.logit_backward, (0.25,)),
    "logit_of_all": (aten.logit_backward, (None,)),
}


@DTYPES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(dtype, name):
    op, arguments = ACTIVATIONS[name]
    special = X if name not in ("mish", "softplus") else X[X.isfinite()]  # whose kernels give nan of infinities
    if dtype == torch.bfloat16:
        special = special[special == special]  # what becomes of nan differs from dtype to dtype
    x = torch.cat([special.double(), draw(42 - len(special)), special[special == special].double()]).to(dtype)
    if name.startswith("logit"):
        x = x[x != 0]  # of which eager takes the sign of a reciprocal
    exact = 1e-7 if name == "hardsigmoid" else 1e-10  # whose constant has single precision
    check(op, draw(len(x), dtype=dtype, seed=1), x, *arguments, exact=exact)


@DTYPES
@pytest.mark.parametrize("is_result", [True, False])
def test_elu(dtype, is_result):
    x = torch.cat([X[X.isfinite()].double(), draw(40)]).to(dtype)
    value = F.elu(x, 1.5) if is_result else x
    check(aten.elu_backward, draw(len(x), dtype=dtype, seed=1), 1.5, 1.25, 0.5, is_result, value)


@DTYPES
def test_activations_of_several_operands(dtype):
    x, weight = draw(4, 6, dtype=dtype), draw(4, 6, dtype=dtype, seed=1)
    check(aten._prelu_kernel_backward, draw(4, 6, dtype=dtype, seed=2), x, weight)
    check(aten.glu_backward, draw(4, 3, dtype=dtype, seed=2), x, 1)
    check(aten.glu_backward, draw(2, 6, dtype=dtype, seed=2), x, 0)
    check(aten.native_dropout_backward, x, weight > 0, 1.25)
    check(aten.log_sigmoid_backward, x, weight, aten.log_sigmoid_forward(weight)[1])


LOSSES = {
    "mse": (aten.mse_loss_backward, ()),
    "smooth_l1": (aten.smooth_l1_loss_backward, (0.5,)),
    "huber": (aten.huber_loss_backward, (0.5,)),
    "soft_margin": (aten.soft_margin_loss_backward, ()),
}


@DTYPES
@pytest.mark.parametrize("reduction", [0, 1, 2])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(dtype, reduction, name):
    op, arguments = LOSSES[name]
    x, target = draw(4, 5, dtype=dtype), draw(5, 4, dtype=dtype, seed=1).t()
    grad = draw(4, 5, dtype=dtype, seed=2) if reduction == 0 else draw(1, dtype=dtype, seed=2)[0]
    check(op, grad, x, target, reduction, *arguments)


@pytest.mark.parametrize("reduction", [0, 1, 2])
@pytest.mark.parametrize("weighted", [True, False])
def test_binary_cross_entropy(reduction, weighted):
    x, target = draw(4, 5).sigmoid(), draw(4, 5, seed=1).sigmoid()
    x[0, :2] = torch.tensor([0.0, 1.0])  # where the kernel divides by a bound of single precision
    grad = draw(4, 5, seed=2) if reduction == 0 else draw(1, seed=2)[0]
    weight = draw(4, 5, seed=3) if weighted else None
    check(aten.binary_cross_entropy_backward, grad, x, target, weight, reduction, exact=1e-7)


@DTYPES
@pytest.mark.parametrize("reduction", [0, 1, 2])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("sizes", [(6, 5), (5,), (2, 5, 3, 4)])
def test_negative_log_likelihood(dtype, reduction, weighted, sizes):
    x = draw(*sizes, dtype=dtype).log_softmax(min(1, len(sizes) - 1))
    shape = (sizes[0], *sizes[2:]) if len(sizes) > 1 else ()
    target = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(1))
    if shape:
        target.view(-1)[1] = -100
    weight = draw(5, dtype=dtype, seed=2).abs() if weighted else None
    plane = len(sizes) == 4
    forward, op = (
        (aten.nll_loss2d_forward, aten.nll_loss2d_backward)
        if plane
        else (aten.nll_loss_forward, aten.nll_loss_backward)
    )
    loss, total = forward(x, target, weight, reduction, -100)
    grad = draw(*loss.shape, dtype=dtype, seed=3) if loss.dim() else draw(1, dtype=dtype, seed=3)[0]
    check(op, grad, x, target, weight, reduction, -100, total)


def test_ignored_class_among_the_classes():
    x, target = draw(6, 5).log_softmax(1), torch.tensor([0, 1, 2, 3, 4, 1])
    _, total = aten.nll_loss_forward(x, target, None, 1, 1)
    check(aten.nll_loss_backward, draw(1)[0], x, target, None, 1, 1, total)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_views(dtype):
    check(aten.slice_backward, draw(3, 2, dtype=dtype), [3, 6], 1, 1, 3, 1)
    check(aten.slice_backward, draw(3, 5, dtype=dtype), [3, 6], -1, 1, 2**63 - 1, 1)
    check(aten.slice_backward, draw(3, 3, dtype=dtype), [3, 6], 1, 1, 6, 2)
    check(aten.slice_backward, draw(0, 6, dtype=dtype), [3, 6], 0, 3, 3, 1)
    check(aten.select_backward, draw(3, 5, dtype=dtype), [3, 4, 5], 1, 2)
    check(aten.select_backward, draw(4, 5, dtype=dtype), [3, 4, 5], 0, -1)
    check(aten.select_backward, draw(3, 4, dtype=dtype).t(), [4, 5, 3], 1, 0)
