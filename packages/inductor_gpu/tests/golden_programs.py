"""The programs whose kernels are kept as text: one for each way in which kernels walk memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from lampwork_inductor_core import CompiledGraph, CompileOptions, compile_graph
from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource
from lampwork_inductor_core.config import Config
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.device import H100
from torch.fx.experimental.proxy_tensor import make_fx


class RecordingBackend(TritonBackend):
    """Stands in for the CPU's, so that the interpreter can run what it makes; keeps the sources."""

    device_type = "cpu"

    def __init__(self) -> None:
        super().__init__(replace(H100, multiprocessors=8))  # fewer and smaller programs fill it
        self.sources: dict[str, KernelSource] = {}

    def compile(self, sources):
        self.sources.update((s.name, s) for s in sources)
        return super().compile(sources)


def compiled(program: Callable[..., Any], inputs: tuple[torch.Tensor, ...], backend: TritonBackend) -> CompiledGraph:
    """A program through the whole lowering."""
    with torch.no_grad():
        graph = make_fx(torch.func.functionalize(program), tracing_mode="fake")(*inputs)
    options = CompileOptions(backends={"cpu": backend}, config=Config(verify=True), keep_artifacts=True)
    return compile_graph(graph, inputs, options=options)


def _x(*sizes: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(sizes, generator=torch.Generator().manual_seed(sum(sizes))).to(dtype)


def _half(*sizes: int) -> torch.Tensor:
    return _x(*sizes, dtype=torch.float16)


def softmax(x):
    return [torch.softmax(x, -1)]


def softmax_of_long_rows(x):
    return [torch.softmax(x, -1)]


def residual_layer_norm(x, y, weight, bias):
    total = x + y
    return [total, F.layer_norm(total, (x.shape[-1],), weight, bias)]


def layer_norm_of_long_rows(x, weight, bias):
    return [F.layer_norm(x, (x.shape[-1],), weight, bias)]


def layer_norm_gradients(dy, x, mean, inverse, weight):
    normal = (x.float() - mean) * inverse
    wide = dy.float()
    scaled = wide * weight
    rows = scaled.sum(-1, keepdim=True) + normal * (scaled * normal).sum(-1, keepdim=True)
    dx = (scaled - rows / x.shape[-1]) * inverse
    return [dx.to(x.dtype), (wide * normal).sum(0), wide.sum(0)]


def bias_gelu_residual(x, bias, residual):
    return [F.gelu(x + bias) + residual]


def column_sums(x):
    return [x.sum(0), (x * x).sum(0)]


def sum_of_all(x):
    return [x.sum()]


def cross_entropy(x, target):
    return [-torch.log_softmax(x, -1).gather(1, target[:, None]).mean()]


def transposed(x):
    return [x.transpose(1, 2).contiguous()]


def to_channels_last(x):
    return [(x * 2).contiguous(memory_format=torch.channels_last)]


def channel_scale(x, scale, shift):
    return [torch.relu(x * scale[:, None, None] + shift[:, None, None])]


def channel_statistics(x):
    return list(torch.var_mean(x, (0, 2, 3)))


def depthwise_convolution(x, weight, bias):
    return [F.silu(F.conv2d(x, weight, bias, padding=1, groups=x.shape[1]))]


def max_pooling(x):
    return [F.max_pool2d(x, 3, 2, 1)]


def _channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.to(memory_format=torch.channels_last)


PROGRAMS: Mapping[Callable[..., Any], Callable[[], tuple[torch.Tensor, ...]]] = {
    softmax: lambda: (_half(40, 768),),
    softmax_of_long_rows: lambda: (_x(2, 40_000) * 20,),
    residual_layer_norm: lambda: (_half(24, 768), _half(24, 768), _half(768), _half(768)),
    layer_norm_of_long_rows: lambda: (_x(2, 33_000) + 1, _x(33_000), _x(33_000)),
    layer_norm_gradients: lambda: (
        _half(512, 768), _half(512, 768), _x(512, 1) / 30, _x(512, 1).abs() + 0.5, _x(768),
    ),
    bias_gelu_residual: lambda: (_half(40, 256), _half(256), _half(40, 256)),
    column_sums: lambda: (_x(4096, 96),),
    sum_of_all: lambda: (_x(600, 768),),
    cross_entropy: lambda: (_x(24, 1000), torch.arange(24) * 41),
    transposed: lambda: (_half(2, 80, 64),),
    to_channels_last: lambda: (_x(2, 32, 9, 11),),
    channel_scale: lambda: (_channels_last(_half(2, 64, 8, 8)), _x(64), _x(64)),
    depthwise_convolution: lambda: (
        _channels_last(_half(2, 32, 11, 13)), _half(3, 3, 32, 1).permute(2, 3, 0, 1), _half(32),
    ),
    max_pooling: lambda: (_channels_last(_half(2, 32, 11, 13)),),
    channel_statistics: lambda: (_channels_last(_x(8, 64, 24, 24)) * 3 + 50,),
}  # fmt: skip
