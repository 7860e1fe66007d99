"""Every scalar operation, every dtype it takes, as vectors and as scalars, against its reference function."""

from __future__ import annotations

import math

import pytest
import torch
from kernels import Case, pointwise, read, write
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.ir.scalar_ops import SCALAR_OPS, DtypeRule
from lampwork_inductor_cpu.isa import detect
from lampwork_inductor_cpu.ops import SPELLINGS

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
NOT_ON_BOOL = {
    "sub",
    "neg",
    "pow",
    "floordiv",
    "truncdiv",
    "remainder",
    "fmod",
    "shift_left",
    "shift_right",
    "sign",
    "abs",
}
NOT_ON_INTEGERS = {"pow"}
NOT_ON_FLOATS = {"bitwise_not", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left", "shift_right"}
# within this many units in the last place of the fp64 reference (float32); 0: bit for bit the reference function
ULPS = {
    "sqrt": 0.5,
    "exp": 1.5,
    "exp2": 1.5,
    "expm1": 2,
    "log": 1.5,
    "log2": 2,
    "log10": 2,
    "log1p": 2.5,
    "sin": 2,
    "cos": 2,
    "tanh": 2,
    "sigmoid": 3,
    "erf": 2,
    "tan": 2,
    "asin": 2,
    "acos": 2,
    "atan": 2,
    "sinh": 2,
    "cosh": 2,
    "asinh": 3,
    "acosh": 3,
    "atanh": 3,
    "erfc": 3,
    "erfinv": 3,
    "lgamma": 64,
    "digamma": 64,
    "pow": 2,
    "atan2": 2,
    "hypot": 2,
    "rsqrt": 2,
    "reciprocal": 1,
    "truediv": 1,
    "fma": 1,
    "frac": 0,
}


def test_every_operation_has_a_spelling() -> None:
    assert set(SPELLINGS) == set(SCALAR_OPS)


def _samples(dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    if dtype == torch.bool:
        return torch.tensor([True, False, False, True] * 10)
    if not dtype.is_floating_point:
        info = torch.iinfo(dtype)
        special = [0, 1, 2, 3, 7, info.max, info.max - 1, info.min, info.min + 1, 5]
        low = max(info.min, -100)
        plain = torch.randint(low, 100, (27,), generator=generator)
        return torch.cat([torch.tensor(special, dtype=torch.int64), plain]).to(dtype)
    info = torch.finfo(dtype)
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        2.0,
        3.0,
        math.inf,
        -math.inf,
        math.nan,
        info.max,
        -info.max,
        info.tiny,
        -info.tiny,
        info.tiny / 4,
        1e-4,
        88.6,
        -88.0,
        -103.5,
        1.5,
        -2.5,
        2.5,
        0.9999,
        5e4,
        127.5,
        -149.0,
        9.0,
        -9.0,
        1000.0,
    ]
    plain = torch.randn(40, generator=generator, dtype=torch.float64) * 3
    tiny = torch.randn(8, generator=generator, dtype=torch.float64) * 1e-3
    unit = torch.rand(15, generator=generator, dtype=torch.float64) * 2 - 1
    return torch.cat([torch.tensor(special, dtype=torch.float64), plain, tiny, unit]).to(dtype)


def _operands(op: str, dtype: torch.dtype) -> list[torch.Tensor]:
    row = SCALAR_OPS[op]
    base = _samples(dtype)
    count = base.numel()
    operands = [base]
    for k in range(1, row.arity):
        shift = 5 * k + 2
        operands.append(torch.cat([torch.roll(base, shift)]))
    if row.arity == 2:  # every special value with every other one
        specials = base[: min(count, 24)]
        left, right = torch.meshgrid(specials, specials, indexing="ij")
        operands = [torch.cat([operands[0], left.flatten()]), torch.cat([operands[1], right.flatten()])]
    if op in ("floordiv", "truncdiv", "remainder", "fmod") and not dtype.is_floating_point:
        operands[1] = torch.where(operands[1] == 0, torch.ones_like(operands[1]), operands[1])
    if op in ("shift_left", "shift_right"):
        operands[1] = operands[1].abs() % (torch.iinfo(dtype).bits)
        operands[1] = torch.where(operands[1] < 0, torch.zeros_like(operands[1]), operands[1])
    if op in ("floordiv", "truncdiv", "remainder", "fmod") and dtype.is_floating_point:
        # where the quotient leaves the type, eager's own result depends on the position in the tensor
        quotient = operands[0].double() / operands[1].double()
        ordinary = ~(quotient.abs() > 1e4) | (operands[1] == 0)
        usual = ordinary & ~(operands[1].abs() < torch.finfo(dtype).tiny * 2) | (operands[1] == 0)
        operands = [o[usual & ~(operands[0].isinf() & operands[1].isinf())] for o in operands]
    if op == "where":
        operands[0] = torch.arange(count) % 3 == 0
    return operands


def _dtypes(op: str) -> list[torch.dtype]:
    row = SCALAR_OPS[op]
    result: list[torch.dtype] = []
    for dtype in (*FLOATS, *INTEGERS, torch.bool):
        if row.floating_only and not dtype.is_floating_point:
            continue
        if dtype.is_floating_point and op in NOT_ON_FLOATS:
            continue
        if dtype == torch.bool and op in NOT_ON_BOOL:
            continue
        if not dtype.is_floating_point and op in NOT_ON_INTEGERS:
            continue
        if op == "nextafter" and dtype == torch.float16:
            continue
        if op in ("nextafter",) and dtype == torch.bfloat16:
            continue
        result.append(dtype)
    return result


def _kernel(op: str, operands: list[torch.Tensor], result: torch.dtype, vector: bool) -> object:
    """`vector` loops are contiguous; the scalar ones read and write with stride 3 through a dimension of their own."""
    count = operands[0].numel()
    arguments = [read(f"in{k}", t.dtype, count) for k, t in enumerate(operands)]
    arguments.append(write("out0", result, count))

    def body(i: object, j: object = None) -> object:
        index = i if j is None else i + j  # type: ignore[operator]
        loads = [ops.load(f"in{k}", index, t.dtype) for k, t in enumerate(operands)]  # type: ignore[arg-type]
        return ops.compute(op, *loads, dtype=result)

    if vector:
        return pointwise(op, [count], body, arguments)
    # an inner dimension of size one leaves nothing to vectorise
    return pointwise(op, [count, 1], body, arguments)


def _expected(op: str, operands: list[torch.Tensor]) -> tuple[torch.Tensor, float, float]:
    """Reference value and tolerances (relative, absolute)."""
    dtype = operands[-1].dtype
    reference = SCALAR_OPS[op].reference
    ulps = ULPS.get(op, 0)
    if op in ("floordiv", "truncdiv") and dtype in (torch.float16, torch.bfloat16):
        return reference(*operands), 2 * torch.finfo(dtype).eps, 0.0  # eager rounds the quotient to the half type first
    if not dtype.is_floating_point or not ulps:
        return reference(*operands), 0.0, 0.0
    if dtype == torch.float64:
        return reference(*operands), 1e-10 if op in ("digamma", "lgamma", "erfinv") else 4e-15, 1e-300
    exact = reference(*(t.double() for t in operands))
    epsilon = torch.finfo(dtype).eps
    return exact.to(dtype), ulps * epsilon if dtype == torch.float32 else epsilon, 1e-44


@pytest.mark.parametrize("family", ["float", "integer"])
def test_operations(backend: object, run_cases: object, family: str) -> None:
    cases: list[Case] = []
    native = backend.isa == detect()  # type: ignore[attr-defined]
    for op, row in SCALAR_OPS.items():
        if row.rule is DtypeRule.EXPLICIT:
            continue
        for dtype in _dtypes(op):
            if dtype.is_floating_point != (family == "float"):
                continue
            if not native and dtype not in (torch.float32, torch.int32, torch.bool):
                continue
            operands = _operands(op, dtype)
            try:
                expected, rtol, atol = _expected(op, operands)
            except RuntimeError:
                continue
            for vector in (True, False):
                out = torch.empty_like(expected)
                kernel = _kernel(op, operands, expected.dtype, vector)
                label = f"{op} {dtype} {'vector' if vector else 'scalar'}"
                cases.append(Case(kernel, [*operands, out], [out], [expected], label, rtol, atol))  # type: ignore[arg-type]
    assert len(cases) > (100 if native else 40)
    run_cases(backend, cases)  # type: ignore[operator]


def test_conversions(backend: object, run_cases: object) -> None:
    cases: list[Case] = []
    every = (*FLOATS, *INTEGERS, torch.bool)
    if backend.isa != detect():  # type: ignore[attr-defined]
        every = (torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool)
    for source in every:
        for target in every:
            values = _samples(source)
            if source.is_floating_point and not target.is_floating_point and target != torch.bool:
                values = values.double().nan_to_num(0, 0, 0).clamp(-100, 100)
                if target == torch.uint8:
                    values = values.abs()
                values = values.to(source)
            expected = values.to(target)
            for vector in (True, False):
                out = torch.empty_like(expected)
                kernel = _kernel("to_dtype", [values], target, vector)
                cases.append(Case(kernel, [values, out], [out], [expected], f"{source}->{target} {vector}"))  # type: ignore[arg-type]
    run_cases(backend, cases)  # type: ignore[operator]


def test_bit_casts(backend: object, run_cases: object) -> None:
    cases: list[Case] = []
    for source, target in ((torch.float32, torch.int32), (torch.int32, torch.float32), (torch.float64, torch.int64)):
        values = _samples(source)
        for vector in (True, False):
            expected = values.view(target)
            out = torch.empty_like(expected)
            kernel = _kernel("bitcast", [values], target, vector)
            cases.append(Case(kernel, [values, out], [out], [expected], f"{source} as {target}"))  # type: ignore[arg-type]
    run_cases(backend, cases)  # type: ignore[operator]


@pytest.mark.parametrize("value", [0.1, -0.0, math.nan, math.inf, -math.inf, 1e-45, 3.4028234e38, 16777217.0])
def test_float_constants_keep_their_bits(make_backend: object, value: float) -> None:
    backend = make_backend()  # type: ignore[operator]
    bits = {}
    for dtype in (torch.float32, torch.float64):
        kernel = pointwise(
            "constant",
            [5],
            lambda i, d=dtype: ops.add(ops.load("in0", i * 0, d), ops.constant(value, d)),
            [read("in0", dtype, 1), write("out0", dtype, 5)],
        )
        source = backend.generate(kernel)
        out = torch.empty(5, dtype=dtype)
        zero = torch.full((1,), -0.0, dtype=dtype)
        backend.compile([source])[source.name](zero, out)
        want = torch.full((5,), value, dtype=dtype) + zero
        bits[dtype] = torch.equal(out, want) or bool((out != out).all() and (want != want).all())
        assert torch.equal(torch.signbit(out), torch.signbit(want)) or value != value
    assert all(bits.values())


def test_division_by_zero_of_integers_raises(backend: object) -> None:
    for op in ("floordiv", "remainder"):
        for size in (3, 40):
            kernel = pointwise(
                "divide",
                [size],
                lambda i, op=op: ops.compute(op, ops.load("in0", i, torch.int64), ops.load("in1", i, torch.int64)),
                [read("in0", torch.int64, size), read("in1", torch.int64, size), write("out0", torch.int64, size)],
            )
            source = backend.generate(kernel)  # type: ignore[attr-defined]
            run = backend.compile([source])[source.name]  # type: ignore[attr-defined]
            a, b, out = torch.arange(size), torch.ones(size, dtype=torch.int64), torch.empty(size, dtype=torch.int64)
            run(a, b, out)
            assert torch.equal(out, a if op == "floordiv" else torch.zeros_like(a))
            b[size - 1] = 0
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                run(a, b, out)
