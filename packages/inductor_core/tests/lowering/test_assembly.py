"""Concatenation, creation, padding, indexing, embedding: what assembles tensors out of others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.ir.buffer import ExternBuffer
from lampwork_inductor_core.lowering.graph import lower
from torch.fx.experimental.proxy_tensor import make_fx

X, Y = torch.randn(3, 4), torch.randn(3, 2)
FORMS = {
    "cat": lambda x, y: [torch.cat([x, y], 1), torch.cat([x, x * 2, x[:1]], 0) + 1],
    "cat_promotes": lambda x, y: torch.cat([x, y.long()], 1),
    "rotate_half": lambda x, y: torch.cat([-x[:, 2:], x[:, :2]], -1) * 2,
    "stack": lambda x, y: [torch.stack([x, x + 1], 1), torch.stack([x, x], -1)],
    "pad": lambda x, y: [F.pad(x, (1, 2)), F.pad(x, (0, 0, 2, -1), value=3.0), F.pad(x, (-1, -1))],
    "triangles": lambda x, y: [x.tril(), x.triu(1), torch.ones(3, 3).tril(-1)],
    "arange": lambda x, y: [torch.arange(4) + x, torch.arange(2, 14, 3) * x, torch.arange(0.0, 1.0, 0.25) + x],
    "fills": lambda x, y: [torch.full((2, 2), 7), torch.zeros(3) + x[:, 0], torch.ones_like(x), torch.eye(3, 4) * x],
    "slice_scatter": lambda x, y: [torch.slice_scatter(x, y, 1, 1, 3), torch.select_scatter(x, y[:, 0], 1, -2)],
    "slice_scatter_step": lambda x, y: torch.slice_scatter(x, y * 2, 1, 0, 4, 2),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(lowers_as_eager, name):
    lowered = lowers_as_eager(FORMS[name], X, Y)
    assert not any(isinstance(b, ExternBuffer) for b in lowered.buffers), lowered.notes


def test_many_pieces_are_the_librarys(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: torch.cat([x] * 9), X)
    assert any(isinstance(b, ExternBuffer) for b in lowered.buffers)


INDEXING = {
    "embedding": lambda x, i: F.embedding(i, x),
    "embedding_of_expression": lambda x, i: F.embedding(i + 0, x * 2) + 1,
    "index_select": lambda x, i: [x.index_select(1, i[0] % 4), x.index_select(0, i[0])],
    "gather": lambda x, i: [x.gather(0, i), torch.gather(x * 2, 1, i)],
    "advanced": lambda x, i: [x[i], x[:, i], x[i, i], x[-i]],
    "apart": lambda x, i: x.unsqueeze(1).expand(3, 2, 4)[i, :, i],
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, d) for name in INDEXING for d in (torch.int64, torch.int32) if name != "gather" or d == torch.int64],
)
def test_indexing(lowers_as_eager, name, dtype):
    lowered = lowers_as_eager(INDEXING[name], X, torch.tensor([[0, 2], [1, 1]], dtype=dtype))
    assert not any(isinstance(b, ExternBuffer) for b in lowered.buffers), lowered.notes


@pytest.mark.parametrize(
    ("function", "index"),
    [
        (lambda x, i: F.embedding(i, x), 3),
        (lambda x, i: F.embedding(i, x), -1),
        (lambda x, i: x.index_select(0, i), -1),
        (lambda x, i: x[i], 3),
        (lambda x, i: x[i], -4),
    ],
)
def test_wrong_indices_raise_as_in_eager(function, index):
    good, bad = torch.tensor([0]), torch.tensor([index])
    lowered = lower(make_fx(function, tracing_mode="fake")(X, good), config=Config(verify=True))
    interpret(lowered, [X, good])
    with pytest.raises(IndexError):
        function(X, bad)
    with pytest.raises(IndexError):
        interpret(lowered, [X, bad])
