"""ATen graphs through the whole lowering core to Triton text, run under the interpreter against eager.

The backend stands in for the CPU's, so that the host program allocates CPU tensors and the interpreter can run on them.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_recording_device import FakeDevice
from lampwork_inductor_core import CompiledGraph, CompileOptions, compile_graph
from lampwork_inductor_core.runtime.replay import Replays
from lampwork_inductor_gpu import recording
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.cuda_graphs import CudaGraphs
from lampwork_inductor_gpu.device import H100
from torch.fx.experimental.proxy_tensor import make_fx


def layer_norm_with_residual(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.layer_norm(x + y, (x.shape[-1],), w, w) * 2


def residual_in_place(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    # the sum is stored over the product, of which nothing may be read again
    h = x + y @ (w[:, None] * w)
    return h + torch.nn.functional.layer_norm(h, (x.shape[-1],), w, w) @ (w[:, None] * w)


def softmax_of_masked(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.softmax(torch.where(y > 0, x, float("-inf")), -1).nan_to_num() + w


def gelu_tanh(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.gelu(x @ y.transpose(-1, -2), approximate="tanh")


def rms_norm(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w


def column_sums_and_views(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    flat = x.reshape(-1, x.shape[-1])
    return flat.sum(0), flat.t().contiguous(), torch.cat([x, y], -1)[..., ::2], flat.amax(1), y.argmax(-1)


def half_precision(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    a, b = x.half(), y.half()  # the interpreter truncates where a card rounds to the nearest bfloat16
    return (torch.sigmoid(a) * b).float().sum(-1)


def integers_and_booleans(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    i = (x * 10).to(torch.int64)
    return i // 3, i % 4, (i > 2) & (y < 0), (i == 0).any(-1), torch.arange(7) * 2


def gather_rows(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    rows = (y[..., 0].abs() * 2).to(torch.int64).clamp(max=x.shape[0] - 1)
    return torch.nn.functional.embedding(rows, x.reshape(-1, x.shape[-1])) * w


def index_as_data(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    far = torch.arange(0, 10**11, 10**9)
    return far + 1, torch.tril(x, -1), torch.triu(y, 2), torch.digamma(w.abs() + 1) * 2


PROGRAMS = [
    index_as_data,
    layer_norm_with_residual,
    residual_in_place,
    softmax_of_masked,
    gelu_tanh,
    rms_norm,
    column_sums_and_views,
    half_precision,
    integers_and_booleans,
    gather_rows,
]


def compiled(
    function: Callable[..., object], inputs: list[torch.Tensor], *, replays: Replays | None = None, **options: Any
) -> CompiledGraph:
    def flat(*tensors: torch.Tensor) -> list[torch.Tensor]:
        result = function(*tensors)
        return list(result) if isinstance(result, tuple) else [result]

    graph = make_fx(flat, tracing_mode="fake")(*inputs)
    backend = TritonBackend(H100)
    backend.device_type = "cpu"
    backend.replays = replays
    chosen = CompileOptions(backends={"cpu": backend}, keep_artifacts=True, **options)
    return compile_graph(graph, inputs, options=chosen)


@pytest.mark.parametrize("columns", [1, 19, 64])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_program(program: Callable[..., object], columns: int) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(3, 5, columns), torch.randn(3, 5, columns), torch.randn(columns)]
    expected = program(*inputs)
    got = compiled(program, inputs)(*inputs)
    for a, b in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert a.stride() == b.stride()


@pytest.mark.parametrize(("small", "recorded"), [(1 << 16, 1), (0, 3)], ids=["copied", "given"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_program_replayed(
    program: Callable[..., object], small: int, recorded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same through the books of CUDA graphs, on a stand-in for the card, with results that are held."""
    monkeypatch.setattr(recording, "_SMALL", small)
    torch.manual_seed(0)
    device = FakeDevice()
    weight = torch.randn(19)
    inputs = [torch.randn(3, 5, 19), torch.randn(3, 5, 19), weight]
    replays = Replays("CUDA graph", 1, lambda call, facts, load: CudaGraphs(call, facts, device, load))
    graph = compiled(program, inputs, replays=replays, static_inputs=frozenset({2}))
    kept: list[tuple[list[torch.Tensor], object]] = []
    for _ in range(4):
        inputs = [torch.randn(3, 5, 19), torch.randn(3, 5, 19), weight]
        kept.append((graph(*inputs), program(*inputs)))
    assert (device.recorded, device.replays, graph.notes) == (recorded, 3, graph._notes)
    for got, expected in kept:
        for a, b in zip(got, expected if isinstance(expected, tuple) else (expected,), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
            assert a.stride() == b.stride()


def test_layer_norm_is_one_kernel() -> None:
    inputs = [torch.randn(4, 19), torch.randn(4, 19), torch.randn(19)]
    graph = compiled(layer_norm_with_residual, inputs)
    assert len(graph.kernels) == 1


def test_an_index_out_of_bounds_is_noticed() -> None:
    table, rows = torch.randn(4), torch.tensor([0, 1])
    graph = compiled(lambda t, i: t[i] * 2, [table, rows])
    torch.testing.assert_close(graph(table, rows)[0], table[rows] * 2)
    with pytest.raises(Exception, match="out of bounds"):
        graph(table, torch.tensor([0, 4]))
