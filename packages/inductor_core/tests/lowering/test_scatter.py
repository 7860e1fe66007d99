"""Scatters, generated when the config asks for it."""

from __future__ import annotations

import pytest
import torch
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.ir.buffer import ExternBuffer
from lampwork_inductor_core.lowering.graph import lower
from torch.fx.experimental.proxy_tensor import make_fx

X, S = torch.randn(5, 4), torch.randn(3, 4)
I, J = torch.tensor([[0, 4, 2, 1], [3, 1, 0, 0], [1, 2, 3, 4]]), torch.tensor([4, 0, 3])  # noqa: E741
FORMS = {
    "scatter": lambda x, s, i, j: x.scatter(0, i, s * 2),
    "scatter_value": lambda x, s, i, j: x.t().scatter(1, i.t(), 1.5),
    "scatter_add": lambda x, s, i, j: (x + 1).scatter_add(0, i, s),
    "index_add": lambda x, s, i, j: x.index_add(0, j, s, alpha=2),
    "index_copy": lambda x, s, i, j: x[:, 1:].index_copy(0, j, s[:, 1:]),
    "index_put": lambda x, s, i, j: x.index_put([j], s),
    "index_put_adds": lambda x, s, i, j: x.index_put([-j - 1, j % 4], s[:, 0], accumulate=True),
    "index_put_columns": lambda x, s, i, j: torch.ops.aten.index_put(x, [None, j % 4], s[0, 0]),
    "of_an_input_twice": lambda x, s, i, j: [x.index_put([j], s), x.index_put([j], s + 1), x],
}


def lowered(function):
    return lower(make_fx(function, tracing_mode="fake")(X, S, I, J), config=Config(verify=True, lower_scatter=True))


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    graph = lowered(FORMS[name])
    assert not any(isinstance(b, ExternBuffer) for b in graph.buffers), graph.notes
    inputs = [X.clone(), S, I, J]
    actual, expected = interpret(graph, inputs), FORMS[name](X, S, I, J)
    for one, other in zip(actual, expected if isinstance(expected, list) else [expected], strict=True):
        torch.testing.assert_close(one, other)
        assert one.stride() == other.stride()
    assert torch.equal(inputs[0], X)


def test_wrong_indices_raise():
    with pytest.raises(IndexError):
        interpret(lowered(FORMS["index_put"]), [X, S, I, torch.tensor([5, 0, 1])])


def test_the_librarys_by_default(lowers_as_eager):
    graph = lowers_as_eager(FORMS["index_put"], X, S, I, J)
    assert any(isinstance(b, ExternBuffer) for b in graph.buffers)
