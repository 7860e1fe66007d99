"""Programs through the core's whole pipeline and this backend, against eager; a few at each instruction set."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core import CompileOptions, compile_graph
from torch.fx.experimental.proxy_tensor import make_fx


def _rms(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


def _rotate(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return x * c.cos() + torch.cat((-x[..., half:], x[..., :half]), -1) * c.sin()


def _t(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PROGRAMS: dict[str, tuple[Callable[..., Any], list[torch.Tensor]]] = {
    "softmax of 197": (lambda x: (x * 0.125).softmax(-1), [_t(2, 3, 19, 197)]),
    "layer norm": (lambda x, y, w, b: F.layer_norm(x + y, (77,), w, b), [_t(5, 9, 77), _t(5, 9, 77), _t(77), _t(77)]),
    "rms norm": (_rms, [_t(6, 130), _t(130)]),
    "rotary": (_rotate, [_t(2, 3, 7, 64), _t(7, 64)]),
    "column statistics": (lambda x: (x.mean(0), x.var(0), x.amax(0), x.argmax(0)), [_t(41, 67)]),
    "column blocks": (
        lambda x, y: (F.relu(x + y), F.relu(x + y).sum(0), (x * y).amax(0) * 2, x.sum(0).bfloat16()),
        [_t(29, 1024), _t(29, 1024, seed=1)],
    ),
    "column blocks of planes": (lambda x: (x.sum(1) + 1, x.double().prod(1)), [_t(5, 3, 64)]),
    "long column blocks": (lambda x: ((x + 1000).sum(0),), [_t(5000, 512)]),
    "row statistics": (lambda x: (x.mean(1), x.std(1), x.argmin(1), (x > 0).any(1)), [_t(41, 67)]),
    "batch statistics": (lambda x: (x - x.mean((0, 2, 3), keepdim=True)) * 2, [_t(4, 6, 9, 11)]),
    "transposes": (lambda x, y: (x.t() + y).exp().t() * x, [_t(33, 50), _t(50, 33)]),
    "channels last to first": (
        lambda x: F.relu(x).contiguous(),
        [_t(2, 20, 9, 10).to(memory_format=torch.channels_last)],
    ),
    "padding": (lambda x: F.pad(x, (1, 2, 3, 0), value=-1.0) * 2, [_t(3, 9, 21)]),
    "concatenation": (lambda x, y: torch.cat((x, y * 2, x[:, :3]), 1), [_t(5, 20), _t(5, 33)]),
    "embedding": (lambda i, w: F.embedding(i, w) * 2, [torch.arange(14).reshape(2, 7) % 5, _t(5, 48)]),
    "gather": (lambda x, i: x.gather(1, i), [_t(6, 30), torch.arange(60).reshape(6, 10) % 30]),
    "causal mask": (
        lambda x: torch.where(torch.ones(24, 24).tril().bool(), x, float("-inf")).softmax(-1),
        [_t(3, 24, 24)],
    ),
    "dtypes": (lambda x: (x.bfloat16() * 3).float() + x.double().floor().to(torch.int32), [_t(9, 31)]),
    "integers": (lambda i: (i // 3, i % 5, (i * 7).to(torch.uint8), i.cumsum(0)), [torch.arange(-40, 40)]),
    "everything at once": (lambda x: x.sum() + x.max() * x.numel(), [_t(70, 300)]),
    "pooling": (lambda x: F.avg_pool2d(F.max_pool2d(x, 3, 2, 1), 2), [_t(1, 5, 20, 22)]),
    "group norm": (lambda x, w, b: F.silu(F.group_norm(x, 4, w, b)), [_t(2, 12, 6, 7), _t(12), _t(12)]),
    "strided input": (lambda x: x.sigmoid() + 1, [_t(40, 50)[::2, 1::3]]),
    "scalar": (lambda x, s: x * s + s, [_t(17), torch.tensor(1.5)]),
    "empty": (lambda x: x.exp() + 1, [_t(0, 7)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, make_backend: Any) -> None:
    function, inputs = PROGRAMS[name]
    graph = make_fx(function, tracing_mode="fake", decomposition_table={})(*inputs)
    backends = {"cpu": make_backend()}
    compiled = compile_graph(graph, inputs, options=CompileOptions(backends=backends))
    want = function(*inputs)
    want = list(want) if isinstance(want, tuple) else [want]
    for _ in range(2):
        got = list(compiled(*inputs))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=2e-5, atol=2e-5)
            assert g.stride() == w.stride(), (g.stride(), w.stride())


def test_index_errors_are_those_of_eager(make_backend: Any) -> None:
    weight, index = _t(5, 48), torch.tensor([0, 4, 5])
    graph = make_fx(lambda i, w: w[i] + 1, tracing_mode="fake")(torch.zeros(3, dtype=torch.int64), weight)
    compiled = compile_graph(graph, [index, weight], options=CompileOptions(backends={"cpu": make_backend()}))
    with pytest.raises(IndexError, match="index 5 is out of bounds for dimension"):
        compiled(index, weight)


def test_rows_that_cross_loops_stay_small_on_the_stack(make_backend: Callable[..., Any]) -> None:
    def function(x: torch.Tensor) -> list[torch.Tensor]:
        values = [torch.tanh(x + k) for k in range(12)]
        return [((y - y.mean(0)) ** 2).sum(0) for y in values]

    x = _t(4096, 64)
    graph = make_fx(function, tracing_mode="fake")(x)
    backend = make_backend()
    compiled = compile_graph(graph, [x], options=CompileOptions(keep_artifacts=True, backends={"cpu": backend}))
    assert compiled.artifacts is not None
    for kernel in compiled.artifacts.stages["cpu code"].split('extern "C"'):
        rows = [int(n) for n in re.findall(r"alignas\(64\) float local\d+\[(\d+)\]", kernel)]
        assert sum(rows) * 4 <= backend.config.local_bytes
    torch.testing.assert_close(compiled(x), function(x), rtol=1e-4, atol=1e-3)
