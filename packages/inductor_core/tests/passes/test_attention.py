"""recognise_attention on the forms that transformers writes out, and merge_linears."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.passes.merge_linears import merge_linears
from lampwork_inductor_core.passes.recognise_attention import recognise_attention

aten = torch.ops.aten
SDPA = aten.scaled_dot_product_attention.default
Q, K, V = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4)


def softmax(x):
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def plain(q, k, v):
    return torch.matmul(softmax(torch.matmul(q, k.transpose(2, 3)) * 0.5), v)


def whole_softmax(q, k, v):
    return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(4), -1), v)


def masked(q, k, v):
    mask = torch.full((5, 7), torch.finfo(torch.float32).min).triu(1)
    keep = torch.ones(5, 7, dtype=torch.bool).tril()
    mask = torch.where(keep, 0.0, torch.finfo(torch.float32).min)[None, None]
    return torch.matmul(softmax(torch.matmul(q, k.transpose(2, 3)) * 0.5 + mask), v)


def from_projections(q, k, v):
    heads = lambda x: x.transpose(1, 2).reshape(2, -1, 12).view(2, -1, 3, 4).transpose(1, 2)  # noqa: E731
    out = torch.matmul(softmax(torch.matmul(heads(q), heads(k).transpose(2, 3))), heads(v))
    return out.transpose(1, 2).contiguous().view(2, 5, 12)


@pytest.mark.parametrize("function", [plain, whole_softmax, masked, from_projections], ids=lambda f: f.__name__)
def test_recognised(rewritten, targets, function):
    graph = rewritten(recognise_attention, function, Q, K, V)
    graph.graph.eliminate_dead_code()
    assert SDPA in targets(graph) and aten.bmm.default not in targets(graph)


def with_probabilities(q, k, v):
    p = softmax(torch.matmul(q, k.transpose(2, 3)))
    return [torch.matmul(p, v), p]


def infinite_mask(q, k, v):
    mask = torch.where(torch.ones(5, 7, dtype=torch.bool).tril(), 0.0, -math.inf)
    return torch.matmul(softmax(torch.matmul(q, k.transpose(2, 3)) + mask), v)


def other_dimension(q, k, v):
    return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(2, 3)), 2), v)


@pytest.mark.parametrize("function", [with_probabilities, infinite_mask, other_dimension], ids=lambda f: f.__name__)
def test_not_recognised(rewritten, targets, function):
    assert SDPA not in targets(rewritten(recognise_attention, function, Q, K, V))


def projections(x, a, b, c, bias):
    return [F.linear(x, a, bias) * 2, F.linear(x, b, bias) + 1, F.linear(x, c, bias).relu()]


def test_linears_merge(rewritten, targets):
    inputs = (torch.randn(2, 5, 4), *(torch.randn(6, 4) for _ in range(3)), torch.randn(6))
    graph = rewritten(merge_linears, projections, *inputs, static=(1, 2, 3, 4), merge_linears=True)
    assert targets(graph).count(aten.addmm.default) == 1
    off = rewritten(merge_linears, projections, *inputs, static=(1, 2, 3, 4))
    assert targets(off).count(aten.addmm.default) == 3
    dynamic = rewritten(merge_linears, projections, *inputs, static=(1, 2), merge_linears=True)
    assert targets(dynamic).count(aten.addmm.default) == 3
