"""Whole kernels by hand: tails, strides, broadcasts, fused segments, conditions, indirect accesses, scatters, scans."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from kernels import (
    Accumulate,
    ArgumentRole,
    BufferArgument,
    Case,
    Dimension,
    InnerLoop,
    LocalBuffer,
    OuterSegment,
    ScheduledKernel,
    Stage,
    Store,
    f32,
    pointwise,
    read,
    write,
)
from lampwork_inductor_core.codegen.scheduled_kernel import FloatArgument, Prefix, SizeArgument, forwarded
from lampwork_inductor_core.ir.float_expr import FloatInput
from lampwork_inductor_core.ir.loop_body import index_variable, ops, reduction_variable
from lampwork_inductor_core.ir.loops import ReductionKind, ScanKind, ScatterMode
from lampwork_symshape import integer, symbol

SIZES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 48, 1000)


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_pointwise_sizes(backend: Any, run_cases: Any) -> None:
    cases = []
    for n in SIZES:
        x, y = _random(n), _random(n, seed=1)
        out = torch.full((n + 40,), 7.0)  # what lies behind the end must stay as it is
        kernel = pointwise(
            "scale",
            [n],
            lambda i: ops.mul(ops.load("in0", i, f32), ops.load("in1", i, f32)),
            [read("in0", f32, n), read("in1", f32, n), write("out0", f32, n)],
        )
        expected = torch.cat([x * y, torch.full((40,), 7.0)])
        cases.append(Case(kernel, [x, y, out], [out], [expected], f"n={n}"))
        for rows in (1, 3):
            x2, b = _random(rows, n), _random(n, seed=3)
            out2 = torch.empty(rows, n)
            kernel = pointwise(
                "add",
                [rows, n],
                lambda i, j, n=n: ops.add(ops.load("in0", i * n + j, f32), ops.load("in1", j, f32)),
                [read("in0", f32, rows * n), read("in1", f32, n), write("out0", f32, rows * n)],
            )
            cases.append(Case(kernel, [x2, b, out2], [out2], [x2 + b], f"{rows}x{n}"))
    run_cases(backend, cases)


def test_strides_and_views(backend: Any, run_cases: Any) -> None:
    cases = []
    x = _random(40, 50)
    # transposed read, strided read, reversed by a negative stride, division and remainder of merged dimensions
    bodies = {
        "transpose": (lambda i, j: j * 50 + i, x.t()[:50, :40]),
        "every other": (lambda i, j: i * 40 % 50 * 0 + i % 40 * 50 + j, x[torch.arange(50) % 40, :40]),
        "backwards": (lambda i, j: (39 - j) * 50 + i, x.t().flip(1)),
        "merged": (lambda i, j: (i * 40 + j) // 50 * 50 + (i * 40 + j) % 50, x.reshape(50, 40)),
        "repeated": (lambda i, j: j // 16 * 50 + i, x[torch.arange(40) // 16].t()),
    }
    for name, (index, expected) in bodies.items():
        out = torch.empty(50, 40)
        kernel = pointwise(
            "view",
            [50, 40],
            lambda i, j, f=index: ops.load("in0", f(i, j), f32),
            [read("in0", f32, 2000), write("out0", f32, 2000)],
        )
        cases.append(Case(kernel, [x, out], [out], [expected.contiguous()], name))
    run_cases(backend, cases)


def test_mixed_dtypes_in_one_kernel(backend: Any, run_cases: Any) -> None:
    n = 53
    x, k, b = _random(n), torch.arange(n), torch.arange(n) % 3 == 0

    def body(i: Any) -> Any:
        value = ops.load("in0", i, f32)
        count = ops.to_dtype(ops.load("in1", i, torch.int64), torch.float64)
        chosen = ops.where(ops.load("in2", i, torch.bool), ops.to_dtype(value, torch.float64), count)
        return ops.to_dtype(chosen, torch.bfloat16), ops.lt(count, ops.constant(10.0, torch.float64))

    kernel = pointwise(
        "mixed",
        [n],
        body,
        [
            read("in0", f32, n),
            read("in1", torch.int64, n),
            read("in2", torch.bool, n),
            write("out0", torch.bfloat16, n),
            write("out1", torch.bool, n),
        ],
    )
    out0, out1 = torch.empty(n, dtype=torch.bfloat16), torch.empty(n, dtype=torch.bool)
    expected = torch.where(b, x.double(), k.double()).bfloat16()
    run_cases(backend, [Case(kernel, [x, k, b, out0, out1], [out0, out1], [expected, k < 10], "mixed")])


@pytest.mark.parametrize("scalar_rows", [True, False])
def test_padding_never_reads_outside(backend: Any, run_cases: Any, scalar_rows: bool) -> None:
    """The input lies at the end of a page-sized block; a read before its start gives a wrong value."""
    rows, columns = 5, 21
    x = _random(rows, columns)

    def body(i: Any, j: Any) -> Any:
        row, column = ops.index_value(i - 1), ops.index_value(j - 2)
        zero = ops.constant(0, torch.int64)
        inside = ops.logical_and(ops.ge(row, zero), ops.lt(row, ops.constant(rows, torch.int64)))
        if not scalar_rows:
            across = ops.logical_and(ops.ge(column, zero), ops.lt(column, ops.constant(columns, torch.int64)))
            inside = ops.logical_and(inside, across)
            load = ops.load("in0", (i - 1) * columns + j - 2, f32)
        else:
            load = ops.load("in0", (i - 1) * columns + j % columns, f32)
        return ops.masked(inside, ops.exp(load), -1.0)

    shape = (rows + 2, columns + 4)
    kernel = pointwise(
        "pad", list(shape), body, [read("in0", f32, rows * columns), write("out0", f32, shape[0] * shape[1])]
    )
    expected = torch.full(shape, -1.0)
    if scalar_rows:
        expected[1:-1] = x.exp()[:, torch.arange(shape[1]) % columns]
    else:
        expected[1:-1, 2:-2] = x.exp()
    out = torch.empty(shape)
    run_cases(backend, [Case(kernel, [x, out], [out], [expected], "pad", 1e-6)])


def _softmax(rows: int, columns: int) -> ScheduledKernel:
    i, r = index_variable(0, rows), reduction_variable(0, columns)
    x = ops.load("in0", i * columns + r, f32)
    exponential = ops.exp(ops.sub(x, forwarded(0, f32)))
    segments = (
        InnerLoop((Stage(x, accumulate=Accumulate(ReductionKind.MAX, f32, f32)),)),
        InnerLoop(
            (
                Stage(exponential, Store("local0", r)),
                Stage(forwarded(1, f32), accumulate=Accumulate(ReductionKind.SUM, f32, f32)),
            )
        ),
        InnerLoop((Stage(ops.truediv(ops.load("local0", r, f32), forwarded(2, f32)), Store("out0", i * columns + r)),)),
    )
    return ScheduledKernel(
        "softmax",
        (Dimension(i, integer(rows)),),
        (Dimension(r, integer(columns)),),
        segments,
        (read("in0", f32, rows * columns), write("out0", f32, rows * columns)),
        (LocalBuffer("local0", f32, integer(columns)),),
    )


def _column_softmax(rows: int, columns: int) -> ScheduledKernel:
    """Over dimension 0: lanes are columns, the local row is one per lane."""
    i, r = index_variable(0, columns), reduction_variable(0, rows)
    x = ops.load("in0", r * columns + i, f32)
    segments = (
        InnerLoop((Stage(x, accumulate=Accumulate(ReductionKind.MAX, f32, f32)),)),
        InnerLoop(
            (
                Stage(ops.exp(ops.sub(x, forwarded(0, f32))), Store("local0", r)),
                Stage(forwarded(1, f32), accumulate=Accumulate(ReductionKind.SUM, f32, f32)),
            )
        ),
        OuterSegment((Stage(ops.reciprocal(forwarded(2, f32))),)),
        InnerLoop((Stage(ops.mul(ops.load("local0", r, f32), forwarded(3, f32)), Store("out0", r * columns + i)),)),
    )
    return ScheduledKernel(
        "column_softmax",
        (Dimension(i, integer(columns)),),
        (Dimension(r, integer(rows)),),
        segments,
        (read("in0", f32, rows * columns), write("out0", f32, rows * columns)),
        (LocalBuffer("local0", f32, integer(rows)),),
    )


def test_softmax_along_rows_and_columns(backend: Any, run_cases: Any) -> None:
    cases = []
    for rows, columns in ((3, 5), (4, 16), (7, 128), (300, 197), (2, 33)):
        x = _random(rows, columns) * 5
        for dim, make in ((1, _softmax), (0, _column_softmax)):
            out = torch.empty(rows, columns)
            expected = x.double().softmax(dim).float()
            cases.append(
                Case(
                    make(rows, columns), [x, out], [out], [expected], f"softmax {rows}x{columns} dim {dim}", 2e-6, 1e-9
                )
            )
    run_cases(backend, cases)


def test_layer_norm_keeps_its_input_in_place(backend: Any, run_cases: Any) -> None:
    rows, columns = 6, 77
    i, r = index_variable(0, rows), reduction_variable(0, columns)
    place = i * columns + r
    x = ops.add(ops.load("inout0", place, f32), ops.load("in0", place, f32))
    scale = ops.constant(1 / columns, f32)
    stages = (
        InnerLoop(
            (
                Stage(x, Store("inout0", place)),
                Stage(forwarded(0, f32), accumulate=Accumulate(ReductionKind.SUM, f32, f32)),
            )
        ),
        OuterSegment((Stage(ops.mul(forwarded(1, f32), scale)),)),
        InnerLoop(
            (
                Stage(
                    ops.mul(
                        ops.sub(ops.load("inout0", place, f32), forwarded(2, f32)),
                        ops.sub(ops.load("inout0", place, f32), forwarded(2, f32)),
                    ),
                    accumulate=Accumulate(ReductionKind.SUM, f32, f32),
                ),
            )
        ),
        OuterSegment((Stage(ops.rsqrt(ops.add(ops.mul(forwarded(3, f32), scale), ops.constant(1e-5, f32)))),)),
        InnerLoop(
            (
                Stage(
                    ops.mul(ops.sub(ops.load("inout0", place, f32), forwarded(2, f32)), forwarded(4, f32)),
                    Store("out0", place),
                ),
            )
        ),
    )
    count = integer(rows * columns)
    arguments = (
        read("in0", f32, rows * columns),
        BufferArgument("inout0", f32, ArgumentRole.READ_WRITE, count),
        write("out0", f32, rows * columns),
    )
    kernel = ScheduledKernel(
        "norm", (Dimension(i, integer(rows)),), (Dimension(r, integer(columns)),), stages, arguments
    )
    a, b, out = _random(rows, columns), _random(rows, columns, seed=4), torch.empty(rows, columns)
    total = a + b
    expected = torch.nn.functional.layer_norm(total, (columns,))
    run_cases(backend, [Case(kernel, [b, a, out], [a, out], [total, expected], "norm", 1e-5, 1e-6)])


def _embedding(count: int, width: int, table: int, by_row: bool) -> ScheduledKernel:
    j = symbol("j0", 0, table - 1)

    def body(i: Any, k: Any) -> Any:
        position = ops.checked_index(ops.load("in0", i if by_row else k, torch.int64), integer(table))
        index = j * width + k if by_row else j + i * 0
        return ops.load("in1", index, f32, ((j, position),))

    return pointwise(
        "embedding",
        [count, width],
        body,
        [
            read("in0", torch.int64, count if by_row else width),
            read("in1", f32, table * width),
            write("out0", f32, count * width),
        ],
    )


@pytest.mark.parametrize("by_row", [True, False])
def test_indirect_loads_wrap_and_raise_as_eager(backend: Any, by_row: bool) -> None:
    count, width, table = 6, 37, 11
    kernel = _embedding(count, width, table, by_row)
    source = backend.generate(kernel)
    run = backend.compile([source])[source.name]
    index = torch.arange(count if by_row else width) % table
    index[2] = -3
    weight = _random(table, width) if by_row else _random(table)
    out = torch.empty(count, width)
    run(index, weight, out)
    expected = weight[index] if by_row else weight[index].expand(count, width)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    for bad in (table, -table - 1, 2**40):
        index[index.numel() - 1] = bad
        with pytest.raises(IndexError, match=f"index {bad} is out of bounds for dimension with size {table}"):
            run(index, weight, out)


def test_scatter_adds_every_hit(backend: Any, run_cases: Any) -> None:
    points, width, rows = 50, 21, 4
    i, k = index_variable(0, points), index_variable(1, width)
    j = symbol("j0", 0, rows - 1)
    position = ops.checked_index(ops.load("in0", i, torch.int64), integer(rows))
    arguments = (
        read("in0", torch.int64, points),
        read("in1", f32, points * width),
        BufferArgument("inout0", f32, ArgumentRole.READ_WRITE, integer(rows * width)),
    )
    cases = []
    index, values = torch.arange(points) * 7 % rows, _random(points, width)
    for dims in ((i, k), (k, i)):
        store = Store("inout0", j * width + k, ScatterMode.ADD, ((j, position),))
        stage = Stage(ops.load("in1", i * width + k, f32), store)
        sizes = {i: points, k: width}
        kernel = ScheduledKernel(
            "scatter", tuple(Dimension(d, integer(sizes[d])) for d in dims), (), (OuterSegment((stage,)),), arguments
        )
        out = torch.ones(rows, width)
        expected = torch.ones(rows, width).index_add(0, index, values)
        cases.append(Case(kernel, [index, values, out], [out], [expected], f"scatter {dims}", 1e-5, 1e-5))
    run_cases(backend, cases)


def test_scans(backend: Any, run_cases: Any) -> None:
    cases = []
    for kind, function in (
        (ScanKind.SUM, torch.cumsum),
        (ScanKind.MAX, lambda t, d: t.cummax(d).values),
        (ScanKind.PROD, torch.cumprod),
    ):
        for dim in (0, 1):
            rows, columns = 13, 35
            x = _random(rows, columns)
            i, r = index_variable(0, rows if dim else columns), reduction_variable(0, columns if dim else rows)
            place = i * columns + r if dim else r * columns + i
            stage = Stage(ops.load("in0", place, f32), Store("out0", place), scan=Prefix(kind, f32, f32))
            kernel = ScheduledKernel(
                "scan",
                (Dimension(i, integer(rows if dim else columns)),),
                (Dimension(r, integer(columns if dim else rows)),),
                (InnerLoop((stage,)),),
                (read("in0", f32, x.numel()), write("out0", f32, x.numel())),
            )
            out = torch.empty_like(x)
            cases.append(Case(kernel, [x, out], [out], [function(x, dim)], f"scan {kind} dim {dim}", 1e-5, 1e-6))
    run_cases(backend, cases)


def test_sizes_known_at_call_time_only(backend: Any) -> None:
    n = symbol("s0", 0, None)
    i = symbol("i0", 0, None)
    kernel = ScheduledKernel(
        "dynamic",
        (Dimension(i, n),),
        (),
        (OuterSegment((Stage(ops.exp(ops.load("in0", i, f32)), Store("out0", i)),)),),
        (
            BufferArgument("in0", f32, ArgumentRole.READ, n),
            BufferArgument("out0", f32, ArgumentRole.WRITE, n),
            SizeArgument("s0", n),
        ),
    )
    source = backend.generate(kernel)
    run = backend.compile([source])[source.name]
    for size in (*SIZES, 50000):
        x = _random(size)
        out = torch.empty(size)
        run(x, out, size)
        torch.testing.assert_close(out, x.exp(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_float_of_the_call_is_as_exact_as_a_literal(make_backend: Any, dtype: torch.dtype) -> None:
    n, backend = 37, make_backend()

    def kernel(number: Any) -> ScheduledKernel:
        def body(i: Any) -> Any:
            return ops.add(ops.mul(ops.load("in0", i, dtype), number), number)

        return pointwise("scaled", [n], body, [read("in0", dtype, n), write("out0", dtype, n)])

    values = [0.1, 1 / 3, -0.0, 1e-40, 1e-310, 65519.0, 1e40, math.inf, -math.inf, math.nan, 1 + 2**-50]
    with_float = kernel(ops.float_value(FloatInput("f0"), dtype))
    with_float = dataclasses.replace(with_float, arguments=(*with_float.arguments, FloatArgument("f0")))
    kernels = [with_float, *(kernel(ops.constant(value, dtype)) for value in values)]
    sources = [backend.generate(k) for k in kernels]
    built = backend.compile(list({s.name: s for s in sources}.values()))
    run = built[sources[0].name]
    x = _random(n).to(dtype)
    for value, source in zip(values, sources[1:]):
        expected, out = torch.empty(n, dtype=dtype), torch.empty(n, dtype=dtype)
        built[source.name](x, expected)
        run(x, out, value)
        torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(out.signbit(), expected.signbit()) or value != value
    with pytest.raises(TypeError, match="must be real number, not str"):
        run(x, x, "1")


def test_a_deep_chain_stays_linear_and_right(make_backend: Any) -> None:
    depth, n = 1500, 20

    def body(i: Any) -> Any:
        value = ops.load("in0", i, f32)
        for k in range(depth):
            value = ops.add(value, ops.constant(float(k % 3), f32)) if k % 2 else ops.mul(value, ops.constant(0.5, f32))
        return value

    backend = make_backend()
    kernel = pointwise("chain", [n], body, [read("in0", f32, n), write("out0", f32, n)])
    source = backend.generate(kernel)
    assert source.text.count("\n") < depth + 30
    x, out = _random(n), torch.empty(n)
    backend.compile([source])[source.name](x, out)
    expected = x.clone()
    for k in range(depth):
        expected = expected + float(k % 3) if k % 2 else expected * 0.5
    torch.testing.assert_close(out, expected, rtol=0, atol=0)


def test_equal_kernels_have_one_text_and_arguments_are_checked(make_backend: Any) -> None:
    backend = make_backend()
    a, b = (backend.generate(_softmax(4, 16)) for _ in range(2))
    assert a == b
    run = backend.compile([a, b])[a.name]
    with pytest.raises(TypeError, match="takes 2 arguments, got 1"):
        run(torch.empty(4, 16))
    with pytest.raises(AttributeError, match="data_ptr"):
        run("not a tensor", torch.empty(4, 16))


def test_local_rows_of_unknown_length_are_recomputed(backend: Any) -> None:
    n = symbol("s0", 0, None)
    i, r = index_variable(0, 3), symbol("r0", 0, None)
    x = ops.load("in0", i * n + r, f32)
    segments = (
        InnerLoop(
            (
                Stage(ops.exp(x), Store("local0", r)),
                Stage(forwarded(0, f32), accumulate=Accumulate(ReductionKind.SUM, f32, f32)),
            )
        ),
        InnerLoop((Stage(ops.truediv(ops.load("local0", r, f32), forwarded(1, f32)), Store("out0", i * n + r)),)),
    )
    arguments = (
        BufferArgument("in0", f32, ArgumentRole.READ, n * 3),
        BufferArgument("out0", f32, ArgumentRole.WRITE, n * 3),
        SizeArgument("s0", n),
    )
    kernel = ScheduledKernel(
        "rows", (Dimension(i, integer(3)),), (Dimension(r, n),), segments, arguments, (LocalBuffer("local0", f32, n),)
    )
    source = backend.generate(kernel)
    run = backend.compile([source])[source.name]
    for size in (1, 5, 16, 33, 500):
        x_values, out = _random(3, size), torch.empty(3, size)
        run(x_values, out, size)
        torch.testing.assert_close(out, x_values.softmax(-1), rtol=1e-5, atol=1e-7)
