"""Scatters are generated, equal eager's, and go straight into what they are added to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lampwork_inductor_core import CompileOptions, compile_graph
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
CompileCpu = Callable[..., Any]


def _t(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _check(function: Callable[..., Any], *inputs: Any, generated: bool = True) -> str:
    """The wrapper's text, after two calls gave eager's results."""
    with torch.no_grad():
        graph = make_fx(function, tracing_mode="fake")(*inputs)
        compiled = compile_graph(graph, inputs, options=CompileOptions())
        for _ in range(2):
            for got, want in zip(compiled(*inputs), function(*inputs), strict=True):
                torch.testing.assert_close(got, want)
                assert got.stride() == want.stride()
    called = [
        name for name in ("embedding_dense", "index_put", "index_add", "scatter_add") if f"aten_{name}" in compiled.text
    ]
    assert bool(called) != generated, compiled.text
    return compiled.text


I = torch.tensor([[3, 0, 3, 6], [1, 3, 0, 5]])  # noqa: E741


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("padding_idx", [-1, 3])
@pytest.mark.parametrize("width", [1, 7, 64])
def test_gradient_of_an_embedding(dtype: torch.dtype, padding_idx: int, width: int) -> None:
    def function(g: torch.Tensor, i: torch.Tensor) -> Any:
        return (aten.embedding_dense_backward(g * 2, i, 9, padding_idx, False),)

    _check(function, _t(2, 4, width, dtype=dtype), I)
    _check(function, _t(width, 4, 2, dtype=dtype).permute(2, 1, 0), I)
    _check(function, _t(0, width, dtype=dtype), I[0, :0])
    _check(function, _t(4, width, dtype=dtype), I[0].int())


def test_what_stays_the_librarys() -> None:
    _check(lambda g, i: (aten.embedding_dense_backward(g, i, 9, -1, True),), _t(2, 4, 8), I, generated=False)
    half = _t(2, 4, 8).bfloat16()
    _check(lambda g, i: (aten.embedding_dense_backward(g, i, 9, -1, False),), half, I, generated=False)


def test_wrong_indices_raise() -> None:
    graph = make_fx(lambda g, i: (aten.embedding_dense_backward(g, i, 5, -1, False),), tracing_mode="fake")(
        _t(2, 4, 8), I.clamp(max=4)
    )
    compiled = compile_graph(graph, [_t(2, 4, 8), I.clamp(max=4)])
    with pytest.raises(IndexError):
        compiled(_t(2, 4, 8), I)


@pytest.mark.parametrize("padding_idx", [-1, 3])
@pytest.mark.parametrize("first", [True, False])
def test_two_gradients_of_one_weight(padding_idx: int, first: bool) -> None:
    """A sum with a matrix product, in whose memory the rows are added."""

    def function(g: torch.Tensor, i: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> Any:
        rows = aten.embedding_dense_backward(g, i, 9, padding_idx, False)
        product = aten.mm(a, b)
        return (rows + product if first else product + rows,)

    text = _check(function, _t(2, 4, 16), I, _t(9, 30), _t(30, 16))
    assert text.count("empty((9, 16)") == 1 and "copy_" not in text, text


def test_scatters_into_zeros_that_are_added() -> None:
    def function(x: torch.Tensor, g: torch.Tensor, i: torch.Tensor) -> Any:
        zeros = torch.zeros(9, 16)
        put = aten.index_put(zeros, [i], g, True)
        added = aten.index_add(aten.new_zeros(x, [9, 16]), 0, i, g, alpha=2)
        replaced = aten.index_put(zeros, [torch.tensor([1, 2])], g[:2])
        ones = aten.index_add(torch.ones(9, 16), 0, i, g)
        return x + put, added + x, x + replaced, x + ones, put

    _check(function, _t(9, 16), _t(4, 16), I[0])


def test_a_sum_with_an_input_leaves_it_alone() -> None:
    x, g = _t(9, 16), _t(4, 16)
    kept = x.clone()
    _check(lambda x, g, i: (x + aten.index_add(torch.zeros(9, 16), 0, i, g),), x, g, I[0])
    assert torch.equal(x, kept)
