"""Reductions, normalisations and softmax against eager."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.ir.buffer import ComputedBuffer, ExternBuffer
from lampwork_inductor_core.ir.loops import Reduction

X = torch.randn(3, 4, 5)
FORMS = {
    "sum": lambda x: [x.sum(), x.sum(1), x.sum((0, 2), keepdim=True), x.sum(-1, dtype=torch.float64)],
    "mean": lambda x: [x.mean(), x.mean((1, 2)), x.mean(0, keepdim=True)],
    "prod": lambda x: [x.prod(), x.prod(1)],
    "extrema": lambda x: [x.amax((0, 1)), x.amin(-1, keepdim=True), x.max(), x.min()],
    "with_position": lambda x: [*x.max(1), *x.min(-1, keepdim=True)],
    "position": lambda x: [x.argmax(), x.argmin(1), x.argmax(-1, keepdim=True)],
    "logical": lambda x: [(x > 0).any(), (x > 0).all(1), (x > 0).any(-1, keepdim=True)],
    "variance": lambda x: [x.var(), x.var(1), x.std((0, 2), correction=0), *torch.var_mean(x, -1, keepdim=True)],
    "norm": lambda x: [torch.linalg.vector_norm(x), torch.linalg.vector_norm(x, 1, 1)],
    "logsumexp": lambda x: [torch.logsumexp(x, -1), torch.logsumexp(x, (0, 1), keepdim=True)],
    "softmax": lambda x: [x.softmax(-1), x.softmax(0), x.log_softmax(1)],
    "layer_norm": lambda x: [F.layer_norm(x, (5,)), F.layer_norm(x, (4, 5))],
    "group_norm": lambda x: [F.group_norm(x, 2)],
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["dense", "strided"])
def test_forms(lowers_as_eager, name, dtype, layout):
    x = X.to(dtype) if layout == "dense" else X.to(dtype).transpose(0, 2)
    if name == "group_norm" and layout == "strided":
        x = x.transpose(0, 2)
    if name == "layer_norm" and layout == "strided":
        x = x.transpose(0, 2)
    lowered = lowers_as_eager(FORMS[name], x)
    is_library_call = name == "group_norm" and dtype == torch.bfloat16
    assert any(isinstance(b, ExternBuffer) for b in lowered.buffers) == is_library_call, lowered.notes


def test_nan_and_ties(lowers_as_eager):
    x = torch.tensor([[1.0, math.nan, 3.0, math.nan], [2.0, 2.0, 1.0, 2.0], [-math.inf] * 4])
    lowers_as_eager(lambda x: [x.amax(1), x.argmax(1), x.argmin(1), x.max(), x.logsumexp(1)], x)


def test_integers_sum_in_int64(lowers_as_eager):
    x = torch.full((300,), 120, dtype=torch.uint8)
    lowered = lowers_as_eager(lambda x: [x.sum(), (x > 1).sum(), x.int().prod()], x[:20])
    assert all(b.loops.dtype == torch.int64 for b in lowered.buffers if isinstance(b, ComputedBuffer))


@pytest.mark.parametrize("function", [lambda x: x.sum(1), lambda x: x.prod(1), lambda x: x.mean(1), lambda x: x.any(1)])
def test_empty_reductions(lowers_as_eager, function):
    lowers_as_eager(function, torch.randn(3, 0))


def test_prologue_is_inlined(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: torch.exp(x * 2 + 1).sum(-1), X)
    (buffer,) = (b for b in lowered.buffers if isinstance(b, ComputedBuffer))
    assert isinstance(buffer.loops, Reduction)
    assert buffer.origin.nodes == ("mul", "add", "exp", "sum_1")


def test_batch_norm_inference(lowers_as_eager):
    x = torch.randn(2, 3, 4, 4)
    mean, spread, weight, bias = torch.randn(3), torch.rand(3) + 0.5, torch.randn(3), torch.randn(3)
    lowered = lowers_as_eager(
        lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b, training=False), x, mean, spread, weight, bias
    )
    assert not any(isinstance(b, ExternBuffer) for b in lowered.buffers), lowered.notes
