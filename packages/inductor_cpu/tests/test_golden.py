"""The text of a fixed set of kernels, kept in tests/golden: a change in what is generated shows in review.

`LAMPWORK_UPDATE_GOLDEN=1 pytest packages/inductor_cpu/tests/test_golden.py` writes the files anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import test_kernels
from kernels import f32, pointwise, read, reduction, write
from lampwork_inductor_core.codegen.scheduled_kernel import FloatArgument
from lampwork_inductor_core.ir.float_expr import FloatInput
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_inductor_cpu.backend import CpuBackend
from lampwork_inductor_cpu.config import CpuConfig
from lampwork_inductor_cpu.isa import detect

GOLDEN = Path(__file__).parent / "golden"


def _gelu(i: Any, j: Any) -> Any:
    x = ops.add(ops.load("in0", i * 3072 + j, f32), ops.load("in1", j, f32))
    gate = ops.add(ops.erf(ops.mul(x, ops.constant(0.7071067811865476, f32))), ops.constant(1.0, f32))
    return ops.mul(ops.mul(x, ops.constant(0.5, f32)), gate)


def _scaled_clamp() -> Any:
    """A float of the call twice, and another: rounded once, in front of the loops."""
    scale, most = (ops.float_value(FloatInput(name), f32) for name in ("f0", "f1"))

    def body(i: Any, j: Any) -> Any:
        x = ops.add(ops.mul(ops.load("in0", i * 768 + j, f32), scale), scale)
        return ops.where(ops.gt(x, most), most, x)

    kernel = pointwise("scaled_clamp", [128, 768], body, [read("in0", f32, 128 * 768), write("out0", f32, 128 * 768)])
    return replace(kernel, arguments=(*kernel.arguments, FloatArgument("f0"), FloatArgument("f1")))


KERNELS: dict[str, Callable[[], Any]] = {
    "add_gelu": lambda: pointwise(
        "add_gelu",
        [128, 3072],
        _gelu,
        [read("in0", f32, 128 * 3072), read("in1", f32, 3072), write("out0", f32, 128 * 3072)],
    ),
    "scaled_clamp": _scaled_clamp,
    "softmax_with_tail": lambda: test_kernels._softmax(300, 197),
    "column_softmax": lambda: test_kernels._column_softmax(12, 768),
    "embedding": lambda: test_kernels._embedding(128, 768, 30522, True),
    "column_sum": lambda: reduction("column_sum", [768], [128], ([1], [768]), ReductionKind.SUM, f32, f32, f32),
    "total": lambda: reduction("total", [], [1 << 20], ([], [1]), ReductionKind.SUM, f32, f32, f32),
}


@pytest.mark.parametrize("isa", ["avx512", "avx2", "neon"])
@pytest.mark.parametrize("name", KERNELS)
def test_text(name: str, isa: str, tmp_path: Path) -> None:
    text = CpuBackend(CpuConfig(isa=isa, cache_dir=tmp_path)).generate(KERNELS[name]()).text
    path = GOLDEN / f"{name}.{isa}.cpp"
    if os.environ.get("LAMPWORK_UPDATE_GOLDEN") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs; LAMPWORK_UPDATE_GOLDEN=1 writes it anew"


def test_detection_from_plain_data() -> None:
    assert detect("x86_64", "AVX512").name == "avx512"
    assert detect("AMD64", "AVX2").name == "avx2"
    assert detect("x86_64", "DEFAULT").name == "baseline"
    assert detect("arm64", "DEFAULT").name == "neon"
    assert [detect("x86_64", c).lanes for c in ("AVX512", "AVX2", "DEFAULT")] == [16, 8, 4]
