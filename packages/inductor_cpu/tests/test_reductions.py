"""Reductions of every kind along every dimension, with sizes around the vector width, against torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernels import Case, reduction
from lampwork_inductor_core.ir.loops import ReductionKind as Kind

KINDS: dict[Kind, Callable[[torch.Tensor, int], torch.Tensor]] = {
    Kind.SUM: lambda t, d: t.sum(d),
    Kind.PROD: lambda t, d: t.prod(d),
    Kind.MAX: lambda t, d: t.amax(d),
    Kind.MIN: lambda t, d: t.amin(d),
    Kind.ARGMAX: lambda t, d: t.argmax(d),
    Kind.ARGMIN: lambda t, d: t.argmin(d),
    Kind.ANY: lambda t, d: t.any(d),
    Kind.ALL: lambda t, d: t.all(d),
}
SIZES = (1, 7, 8, 15, 16, 17, 31, 33, 64, 100, 197)


def _case(kind: Kind, values: torch.Tensor, dim: int, label: str) -> Case:
    rows, columns = values.shape
    dtype = values.dtype
    strides = ([columns], [1]) if dim == 1 else ([1], [columns])
    kept, reduced = ([rows], [columns]) if dim == 1 else ([columns], [rows])
    expected = KINDS[kind](values, dim)
    accumulate = dtype
    if kind in (Kind.SUM, Kind.PROD):
        accumulate = torch.int64 if not dtype.is_floating_point else torch.float32 if dtype.itemsize == 2 else dtype
        expected = KINDS[kind](values.double() if dtype.is_floating_point else values, dim).to(
            dtype if dtype.is_floating_point else torch.int64
        )
    kernel = reduction(kind.value, kept, reduced, strides, kind, dtype, accumulate, expected.dtype)
    out = torch.empty_like(expected)
    exact = kind not in (Kind.SUM, Kind.PROD) or not dtype.is_floating_point
    rtol = 0.0 if exact else {torch.float32: 2e-6, torch.float64: 1e-14}.get(dtype, 1e-2)
    return Case(kernel, [values, out], [out], [expected], label, rtol, 0.0 if exact else 1e-5)


def _values(rows: int, columns: int, dtype: torch.dtype, kind: Kind) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rows * 1000 + columns)
    if dtype == torch.bool:
        return torch.rand(rows, columns, generator=generator) < (0.05 if kind is Kind.ANY else 0.95)
    if not dtype.is_floating_point:
        return torch.randint(-4 if dtype.is_signed else 0, 5, (rows, columns), generator=generator).to(dtype)
    values = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    if kind is Kind.PROD:
        values = 1 + values * 0.05
    return values.to(dtype)


def test_sizes_around_the_vector_width(backend: Any, run_cases: Any) -> None:
    cases = []
    for kind in (Kind.SUM, Kind.MAX, Kind.ARGMAX):
        for size in SIZES:
            for dim in (0, 1):
                shape = (5, size) if dim == 1 else (size, 19)
                values = _values(*shape, torch.float32, kind)
                cases.append(_case(kind, values, dim, f"{kind} {shape} dim {dim}"))
    run_cases(backend, cases)


def test_every_kind_and_dtype(make_backend: Any, run_cases: Any) -> None:
    cases = []
    for kind in KINDS:
        for dtype in (
            torch.float32,
            torch.float64,
            torch.bfloat16,
            torch.float16,
            torch.int64,
            torch.int32,
            torch.int8,
            torch.uint8,
            torch.bool,
        ):
            if dtype == torch.bool and kind in (Kind.ARGMAX, Kind.ARGMIN, Kind.MAX, Kind.MIN):
                continue
            for dim in (0, 1):
                values = _values(37, 21, dtype, kind) if dim == 0 else _values(6, 53, dtype, kind)
                cases.append(_case(kind, values, dim, f"{kind} {dtype} dim {dim}"))
    run_cases(make_backend(), cases)


def test_nan_and_ties(backend: Any, run_cases: Any) -> None:
    cases = []
    for kind in (Kind.MAX, Kind.MIN, Kind.ARGMAX, Kind.ARGMIN):
        for dim in (0, 1):
            for trial in range(4):
                values = torch.randint(-3, 4, (40, 40), generator=torch.Generator().manual_seed(trial)).float()
                if trial == 1:
                    values[3, 17] = values[30, 5] = values[30, 20] = math.nan
                if trial == 2:
                    values[:] = -math.inf if kind in (Kind.MAX, Kind.ARGMAX) else math.inf
                if trial == 3:
                    values[:] = 1.0
                cases.append(_case(kind, values, dim, f"{kind} dim {dim} trial {trial}"))
    run_cases(backend, cases)


@pytest.mark.parametrize("size", [131072, 200003])
def test_a_large_full_reduction_is_split_and_stays_accurate(make_backend: Any, size: int) -> None:
    backend = make_backend()
    values = torch.rand(size, generator=torch.Generator().manual_seed(1))
    kernel = reduction("total", [], [size], ([], [1]), Kind.SUM, torch.float32, torch.float32, torch.float32)
    source = backend.generate(kernel)
    assert "#pragma omp" in source.text
    run = backend.compile([source])[source.name]
    results = set()
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            out = torch.empty(1)
            run(values, out)
            results.add(out.item())
    finally:
        torch.set_num_threads(before)
    assert len(results) == 1, "the result depends on the number of threads"
    assert results.pop() == pytest.approx(values.double().sum().item(), rel=1e-6)


def test_two_reduced_dimensions(backend: Any, run_cases: Any) -> None:
    values = torch.randn(4, 9, 3, 21, generator=torch.Generator().manual_seed(2))
    kernel = reduction(
        "batch", [9], [4, 63], ([63], [9 * 63, 1]), Kind.SUM, torch.float32, torch.float32, torch.float32
    )
    out = torch.empty(9)
    expected = values.double().sum((0, 2, 3)).float()
    run_cases(backend, [Case(kernel, [values, out], [out], [expected], "two dims", 1e-5, 1e-5)])


def test_an_empty_reduction_gives_the_identity(backend: Any, run_cases: Any) -> None:
    cases = []
    for kind, identity in ((Kind.SUM, 0.0), (Kind.PROD, 1.0), (Kind.MAX, -math.inf)):
        kernel = reduction(kind.value, [3], [0], ([0], [1]), kind, torch.float32, torch.float32, torch.float32)
        out = torch.empty(3)
        cases.append(Case(kernel, [torch.empty(0), out], [out], [torch.full((3,), identity)], str(kind)))
    run_cases(backend, cases)


@pytest.mark.parametrize("dim", [0, 1])
def test_long_sums_stay_accurate(backend: Any, run_cases: Any, dim: int) -> None:
    """A quarter of a million numbers near one for each result: a plain float32 sum loses more digits than this."""
    values = torch.rand(1 << 18, 16, generator=torch.Generator().manual_seed(5)) + 0.5
    if dim == 1:
        values = values.t().contiguous()
    kept, reduced = (16, 1 << 18)
    strides = ([1], [16]) if dim == 0 else ([reduced], [1])
    kernel = reduction("long_sum", [kept], [reduced], strides, Kind.SUM, torch.float32, torch.float32, torch.float32)
    out = torch.empty(16)
    expected = values.double().sum(dim).float()
    run_cases(backend, [Case(kernel, [values, out], [out], [expected], f"dim {dim}", 1e-6)])
