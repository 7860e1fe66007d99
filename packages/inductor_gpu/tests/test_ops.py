"""Every row of the core's table has Triton text that computes what the row's reference computes."""

import pytest
import torch
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.ir.scalar_ops import SCALAR_OPS, DtypeRule
from lampwork_inductor_gpu.heuristics import KernelShape, LaunchConfig
from lampwork_inductor_gpu.ops import NOT_GENERATED, TRITON_TYPES, format_op, is_generated
from triton_kernels import pointwise, run

CONFIG = LaunchConfig(KernelShape.POINTWISE, 64, 1, 1)
FLOATS = [
    -2.5,
    -1.0,
    -0.5,
    -0.0,
    0.0,
    0.25,
    0.5,
    1.0,
    1.5,
    2.0,
    3.0,
    40.0,
    float("inf"),
    float("-inf"),
    float("nan"),
    1e-40,
]
INTEGERS = [-7, -3, -1, 0, 1, 2, 3, 5, 7, 31, 100]
# Bits are what integers and floats have; a float has no bitwise and, a bool no minus.
INTEGER_ONLY = {"bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"}
EXPLICIT = {"to_dtype", "bitcast"}
NO_BOOL = {
    "abs",
    "sub",
    "neg",
    "floordiv",
    "truncdiv",
    "remainder",
    "fmod",
    "pow",
    "shift_left",
    "shift_right",
    "signbit",
}
UNDEFINED_AT_ZERO = {"floordiv", "truncdiv", "remainder", "fmod"}


def operands(arity: int, dtype: torch.dtype) -> list[torch.Tensor]:
    values = {True: FLOATS, False: [0, 1] if dtype == torch.bool else INTEGERS}[dtype.is_floating_point]
    if dtype == torch.bfloat16:
        values = [v for v in values if abs(v) != 1e-40]  # the interpreter's conversion misreads denormals
    grids = torch.meshgrid(*[torch.tensor(values, dtype=dtype)] * min(arity, 2), indexing="ij")
    tensors = [g.reshape(-1).contiguous() for g in grids]
    return [*tensors, tensors[0].flip(0).contiguous()] if arity == 3 else tensors


def cases() -> list[object]:
    found: list[object] = []
    for name, row in SCALAR_OPS.items():
        if name in EXPLICIT or not is_generated(name):
            continue
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.bool):
            if row.floating_only and not dtype.is_floating_point:
                continue
            if dtype.is_floating_point and name in INTEGER_ONLY:
                continue
            if dtype == torch.bool and name in NO_BOOL:
                continue
            found.append(pytest.param(name, dtype, id=f"{name}-{str(dtype).split('.')[1]}"))
    return found


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_operation_computes_its_reference(name: str, dtype: torch.dtype) -> None:
    row = SCALAR_OPS[name]
    tensors = operands(row.arity, dtype)
    if name == "where":
        tensors[0] = tensors[0] > 0 if dtype != torch.bool else tensors[0]
    if name in UNDEFINED_AT_ZERO and not dtype.is_floating_point:
        tensors[1] = torch.where(tensors[1] == 0, 1, tensors[1])
    if name == "pow" and not dtype.is_floating_point:
        tensors[1] = tensors[1].clamp(0, 5)
    if name == "floordiv" and dtype.is_floating_point:
        tensors[1] = torch.where(
            tensors[1].abs() == torch.tensor(1e-40, dtype=dtype), 1, tensors[1]
        )  # torch's own vector fmod gives nan there
    expected = row.reference(*tensors)
    kernel = pointwise(name, tensors[0].numel(), [t.dtype for t in tensors], getattr(ops, name), expected.dtype)
    out = torch.empty_like(expected)
    run(kernel, CONFIG, [*tensors, out])
    # Division of bfloat16 by rounding once, functions of float32 by numpy or the polynomial of the interpreter.
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}.get(expected.dtype, 0.0)
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("source", [torch.float32, torch.int64, torch.bool, torch.bfloat16])
@pytest.mark.parametrize("target", [torch.float32, torch.float64, torch.int32, torch.bool, torch.float16])
def test_conversion(source: torch.dtype, target: torch.dtype) -> None:
    x = torch.tensor([0.0, 1.0, 2.0, 3.5, 100.0]).to(source)
    kernel = pointwise("cast", x.numel(), [source], lambda v: ops.to_dtype(v, target), target)
    out = torch.empty(x.numel(), dtype=target)
    run(kernel, CONFIG, [x, out])
    assert torch.equal(out, x.to(target))


def test_bitcast() -> None:
    x = torch.tensor([1.0, -0.0, float("nan")])
    kernel = pointwise("bits", 3, [x.dtype], lambda v: ops.bitcast(v, dtype=torch.int32), torch.int32)
    out = torch.empty(3, dtype=torch.int32)
    run(kernel, CONFIG, [x, out])
    assert torch.equal(out, x.view(torch.int32))


def test_table_is_complete() -> None:
    for name, row in SCALAR_OPS.items():
        dtype = torch.float32 if row.floating_only else torch.int32
        if name in NOT_GENERATED:
            continue
        result = torch.bool if row.rule is DtypeRule.BOOL else dtype
        assert format_op(name, ["a", "b", "c"][: row.arity], dtype, result)
    assert torch.bfloat16 in TRITON_TYPES
