"""Compile generated kernels to machine code for compute capability 9.0, with no GPU. Run by test_cubin in a process of
its own, since Triton's interpreter is off here. Prints one line a kernel: its name, the bytes of its cubin, and the
bits of its widest access."""

import dataclasses
import re
from itertools import product

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import FloatArgument
from lampwork_inductor_core.ir.float_expr import FloatInput
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.ir.loops import ReductionKind, ScanKind
from lampwork_inductor_core.ir.scalar_ops import SCALAR_OPS
from lampwork_inductor_core.runtime.kernel_cache import cache_directory
from lampwork_inductor_gpu.backend import launch_spec
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig
from lampwork_inductor_gpu.kernel import write_kernel
from lampwork_inductor_gpu.launch_spec import Variant
from lampwork_inductor_gpu.ops import is_generated
from lampwork_inductor_gpu.triton_compile import compiled_kernel, parameter_sizes
from lampwork_symshape import symbol
from triton_kernels import pointwise, row_reduction, row_scan, row_softmax, scaled_rows

PERSISTENT = LaunchConfig(KernelShape.PERSISTENT, 1, 64, 4)
LOOPED = LaunchConfig(KernelShape.LOOPED, 1, 256, 4)
ROWS, COLUMNS = symbol("s0", 1), symbol("s1", 1)
POINTWISE = LaunchConfig(KernelShape.POINTWISE, 256, 1, 4)


def every_float_operation(a, b, c):
    """One expression with every operation on floats: that each has a body on the device."""
    total = a
    for name, row in SCALAR_OPS.items():
        if name in ("to_dtype", "bitcast", "where") or not is_generated(name):
            continue
        if name.startswith(("bitwise", "shift")):
            continue
        value = getattr(ops, name)(*(a, b, c)[: row.arity])
        total = ops.add(total, ops.to_dtype(value, a.dtype))
    return total


def scaled(name, dtype):
    """`out0[i] = in0[i] * f0`, and its launch is told that f0 is a double."""
    kernel = pointwise(name, 1000, [dtype], lambda x: ops.mul(x, ops.float_value(FloatInput("f0"), dtype)), dtype)
    return dataclasses.replace(kernel, arguments=(*kernel.arguments, FloatArgument("f0")))


KERNELS = [
    (pointwise("every_float_operation", 1000, [torch.float32] * 3, every_float_operation, torch.float32), POINTWISE),
    (pointwise("every_double_operation", 1000, [torch.float64] * 3, every_float_operation, torch.float64), POINTWISE),
    (pointwise("half", 1000, [torch.bfloat16] * 3, every_float_operation, torch.bfloat16), POINTWISE),
    (row_softmax(100, 50), PERSISTENT),
    (row_softmax(100, 5000), LOOPED),
    (row_scan(ScanKind.SUM, 10, 5000), LOOPED),
    (row_reduction(ReductionKind.ARGMAX, 10, 5000, torch.float32, torch.float32, torch.int64), LOOPED),
    (row_reduction(ReductionKind.MAX, 10, 50, torch.bfloat16, torch.float32, torch.bfloat16), PERSISTENT),
    (row_reduction(ReductionKind.ALL, 10, 50, torch.bool, torch.bool, torch.bool), PERSISTENT),
    (row_softmax(100, COLUMNS), LaunchConfig(KernelShape.LOOPED, 1, 1024, 8)),
    (scaled_rows(ROWS, COLUMNS), LaunchConfig(KernelShape.POINTWISE, 1024, 1, 8)),
    (scaled("scaled", torch.float32), POINTWISE),
    (scaled("scaled_double", torch.float64), POINTWISE),
    (scaled("scaled_half", torch.bfloat16), POINTWISE),
]


def widest_access(ptx: str) -> int:
    """The bits of the widest load from or store to the card's memory."""
    found = re.findall(r"(?:ld|st)\.global\S*?(?:\.v(\d))?\.[bfsu](\d+)", ptx)
    return max((int(count or 1) * int(bits) for count, bits in found), default=0)


if __name__ == "__main__":
    for kernel, config in KERNELS:
        source = write_kernel(kernel, config)
        spec = launch_spec(source)
        for divided, narrow in product((False, True), (False, True)) if spec.size_names else [(False, False)]:
            variant = Variant(True, (divided,) * len(spec.size_names), narrow)
            job = spec.job(source.name, source.text, variant, 90)
            compiled = compiled_kernel(job, cache_directory() / "triton_sources")
            assert parameter_sizes(compiled.asm["ptx"], source.name) == spec.parameter_sizes(narrow=narrow)
            if spec.float_names:
                assert "%f0: f64" in compiled.asm["ttir"], compiled.asm["ttir"]
            words = [word for word, holds in (("divided", divided), ("narrow", narrow)) if holds]
            print("_".join((source.name, *words)), len(compiled.asm["cubin"]), widest_access(compiled.asm["ptx"]))
