"""How fast this machine multiplies with each library and weight layout: the numbers behind `onednn`'s shape rules.

    python packages/inductor_cpu/benchmarks/cpu_matmul.py

Prints the best of a few runs, in microseconds and GFLOP/s, for BERT's linears and ResNet's convolutions.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

LINEARS = ((128, 768, 768), (128, 768, 3072), (128, 3072, 768), (128, 768, 30522), (1, 768, 3072), (197, 768, 3072))
CONVOLUTIONS = (
    (64, 64, 56, 3, 1),
    (64, 256, 56, 1, 1),
    (256, 64, 56, 1, 1),
    (256, 512, 28, 3, 2),
    (512, 512, 14, 3, 1),
    (3, 64, 224, 7, 2),
)


def best(function: Callable[[], object], seconds: float = 0.4) -> float:
    """The shortest of repeated calls, in seconds."""
    function()
    shortest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        function()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest


def report(label: str, flops: int, candidates: dict[str, Callable[[], object]]) -> None:
    print(label)
    for name, function in candidates.items():
        seconds = best(function)
        print(f"  {name:24} {seconds * 1e6:9.1f} us {flops / seconds / 1e9:8.0f} GFLOP/s", flush=True)


def linears() -> None:
    for rows, inputs, outputs in LINEARS:
        linear(rows, inputs, outputs)


def linear(rows: int, inputs: int, outputs: int) -> None:
    x, w, b = torch.randn(rows, inputs), torch.randn(outputs, inputs), torch.randn(outputs)
    packed = torch.ops.mkldnn._reorder_linear_weight(w, rows)
    mkl = torch.ops.mkl._mkl_reorder_linear_weight(w, rows)
    report(f"linear {rows} x {inputs} -> {outputs}", 2 * rows * inputs * outputs, {
        "F.linear": lambda: F.linear(x, w, b),
        "mkldnn prepacked": lambda: torch.ops.mkldnn._linear_pointwise(x, packed, b, "none", [], ""),
        "mkldnn prepacked + gelu": lambda: torch.ops.mkldnn._linear_pointwise(x, packed, b, "gelu", [], "none"),
        "mkl prepacked": lambda: torch.ops.mkl._mkl_linear(x, mkl, w, b, rows),
    })  # fmt: skip


def convolutions() -> None:
    for inputs, outputs, size, kernel, stride in CONVOLUTIONS:
        convolution(inputs, outputs, size, kernel, stride)


def convolution(inputs: int, outputs: int, size: int, kernel: int, stride: int) -> None:
    pad = kernel // 2
    x, w, b = torch.randn(1, inputs, size, size), torch.randn(outputs, inputs, kernel, kernel), torch.randn(outputs)
    last = x.to(memory_format=torch.channels_last)
    packed = torch.ops.mkldnn._reorder_convolution_weight(w, [pad, pad], [stride, stride], [1, 1], 1, list(x.shape))
    out = size // stride
    pointwise = torch.ops.mkldnn._convolution_pointwise
    arguments = (packed, b, [pad, pad], [stride, stride], [1, 1], 1)
    flops = 2 * inputs * outputs * kernel**2 * out**2
    report(f"conv {inputs} -> {outputs} {size}x{size} k{kernel} s{stride}", flops, {
        "F.conv2d": lambda: F.conv2d(x, w, b, stride, pad),
        "F.conv2d channels last": lambda: F.conv2d(last, w, b, stride, pad),
        "prepacked": lambda: pointwise(x, *arguments, "none", [], ""),
        "prepacked channels last": lambda: pointwise(last, *arguments, "none", [], ""),
        "  and relu": lambda: pointwise(last, *arguments, "relu", [], ""),
    })  # fmt: skip


if __name__ == "__main__":
    with torch.inference_mode():
        linears()
        convolutions()
