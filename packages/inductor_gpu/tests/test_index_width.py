"""How wide the indices of a kernel are, and that the launcher's choice computes the same."""

import dataclasses
from random import Random

import pytest
import torch
from lampwork_inductor_core.codegen.scheduled_kernel import (
    Dimension,
    OuterSegment,
    ScheduledKernel,
    SizeArgument,
    Stage,
    Store,
)
from lampwork_inductor_core.ir.loop_body import index_variable, ops
from lampwork_inductor_gpu.backend import import_source, launch_spec
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.heuristics import LARGEST_BLOCK, KernelShape, LaunchConfig, choose
from lampwork_inductor_gpu.index_width import LIMIT, IndexReach, IndexWidth
from lampwork_inductor_gpu.interpreted_launcher import InterpretedLauncher
from lampwork_inductor_gpu.kernel import write_kernel
from lampwork_symshape import IntExpr, Symbol, as_expr, integer, lt, maximum, minimum, symbol, where
from lampwork_symshape.node import interned, postorder
from triton_kernels import argument, pointwise, row_softmax, run, scaled_rows

ROWS, COLUMNS = symbol("s0", 1), symbol("s1", 1)


def test_known_sizes_decide_when_the_text_is_written() -> None:
    small = pointwise("small", 1000, [torch.float32], lambda a: a, torch.float32)
    large = pointwise("large", LIMIT + 1, [torch.float32], lambda a: a, torch.float32)
    assert IndexReach.of(small).width is IndexWidth.NARROW
    assert IndexReach.of(large).width is IndexWidth.WIDE
    assert IndexReach.of(row_softmax(3, COLUMNS)).width is IndexWidth.BY_SIZES


def fits(kernel: ScheduledKernel, *sizes: int) -> bool:
    """Whether the indices of a kernel fit in 32 bits for certain sizes, in the order of its arguments."""
    return IndexReach.of(kernel).fits()(sizes)


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [
        (3, 5, True),
        (1 << 15, 1 << 15, True),
        (1 << 16, 1 << 15, False),
        (1, LIMIT, True),
        (1, LIMIT + 1, False),
        (0, LIMIT + 1, False),
        (0, 4, True),
    ],
)
def test_sizes_of_a_call_decide_where_they_are_symbols(rows: int, columns: int, expected: bool) -> None:
    assert fits(scaled_rows(ROWS, COLUMNS), rows, columns) is expected


def numbers(expression: IntExpr, rows: IntExpr | int = ROWS, *sizes: Symbol) -> ScheduledKernel:
    """`out0[i] = expression`."""
    i = index_variable(0, rows)
    arguments = [SizeArgument(size.name, size) for size in sizes or (ROWS,)]
    return ScheduledKernel(
        "numbers",
        (Dimension(i, as_expr(rows)),),
        (),
        (OuterSegment((Stage(ops.index_value(expression), store=Store("out0", as_expr(i))),)),),
        (argument("out0", torch.int64, rows), *arguments),
    )


def test_numbers_made_of_indices_count_too() -> None:
    i = index_variable(0, ROWS)
    squares = numbers(i * i - ROWS * 7)
    assert fits(squares, 1000) and not fits(squares, 1 << 16)
    assert IndexReach.of(numbers(i * (1 << 40))).width is IndexWidth.WIDE


AT, N = index_variable(0, ROWS), symbol("n", None)  # a counter, and an int of any sign
PARTS: dict[str, tuple[IntExpr, dict[int, bool]]] = {
    # what would vanish once the numbers are known is computed by the text all the same
    "remainder": ((AT * COLUMNS) % 3, {3: True, 3 << 20: False, 1 << 20: False}),
    "quotient": ((AT * COLUMNS) // (COLUMNS + 1), {4: True, 1 << 20: False}),
    "difference": (maximum(AT * COLUMNS - COLUMNS * 4095, 0), {4: True, 1 << 20: False}),
    "choice": (where(lt(AT * COLUMNS, 7), 1, 2), {4: True, 1 << 20: False}),
    "of sizes": (AT + (COLUMNS * COLUMNS) % 7, {4: True, 1 << 16: False}),
    "power": (COLUMNS * COLUMNS * COLUMNS % 5 + AT, {1291: False, 1200: True}),
    "scaled": (AT + 3000 * COLUMNS // 4001, {4: True, 1 << 20: False}),
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_to_fit(part: str) -> None:
    expression, expected = PARTS[part]
    kernel = numbers(expression, ROWS, ROWS, COLUMNS)
    assert {columns: fits(kernel, 4096, columns) for columns in expected} == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (AT + N, {5: True, -5: True, 1 << 40: False, -(1 << 40): False}),
        (AT * N, {5: True, -5: True, 1 << 24: False, -(1 << 24): False}),
        ((AT + N) // 3, {5: True, -5: True, 1 << 31: False, -(1 << 31): False}),
        ((AT + 7) % N, {5: True, -5: True, 0: True}),
        (AT - N * N, {-5: True, -(1 << 16): False}),
        (minimum(AT, N) * N, {-5: True, -(1 << 16): False}),
    ],
    ids=str,
)
def test_numbers_of_any_sign(expression: IntExpr, expected: dict[int, bool]) -> None:
    kernel = numbers(expression, ROWS, ROWS, N)
    assert {n: fits(kernel, 4096, n) for n in expected} == expected


@pytest.mark.parametrize("seed", range(40))
def test_what_fits_does_not_overflow(seed: int) -> None:
    """Random expressions: wherever the answer is yes, no part of the expression leaves 32 bits at any point."""
    random = Random(seed)
    parts: list[IntExpr] = [AT, N, ROWS, COLUMNS, integer(3), integer(-70_000)]
    for _ in range(7):
        a, b = random.choice(parts), random.choice(parts)
        positive = random.choice([p for p in parts if p.lower is not None and p.lower > 0])
        parts.append(random.choice([a + b, a - b, a * b, a // positive, a % positive, minimum(a, b), maximum(a, b)]))
    expression = parts[-1] + 5 * parts[-2]
    kernel = numbers(expression, ROWS, ROWS, COLUMNS, N)
    for sizes in [(random.randint(1, 9), random.choice((2, 900, 50_000)), random.choice((-40_000, 5, 1 << 20)))] * 3:
        if fits(kernel, *sizes):
            for i in range(sizes[0]):
                at = dict(zip((ROWS, COLUMNS, N, AT), (*sizes, i)))
                assert all(abs(int(n.evaluate(at))) <= LIMIT for n in postorder(expression) if isinstance(n, IntExpr))


def test_values_behind_the_index_of_a_store_count() -> None:
    i = index_variable(0, 8)
    at = symbol("at", 0, 7)
    where_to = ops.checked_index(ops.index_value(i * COLUMNS % 8), integer(8))
    stage = Stage(ops.load("in0", i, torch.float32), store=Store("out0", at, None, ((at, where_to),)))
    buffers = (argument("in0", torch.float32, 8), argument("out0", torch.float32, 8))
    arguments = (*buffers, SizeArgument("s1", COLUMNS))
    kernel = ScheduledKernel("scatter", (Dimension(i, integer(8)),), (), (OuterSegment((stage,)),), arguments)
    assert fits(kernel, 1 << 20) and not fits(kernel, 1 << 29)


def test_indirect_indices_have_64_bits() -> None:
    i, at = index_variable(0, ROWS), symbol("at", 0)
    row = ops.checked_index(ops.load("in1", i, torch.int64), ROWS)

    def kernel(index: IntExpr) -> ScheduledKernel:
        stage = Stage(ops.load("in0", index, torch.float32, ((at, row),)), store=Store("out0", as_expr(i)))
        buffers = (
            argument("in0", torch.float32, ROWS * COLUMNS),
            argument("in1", torch.int64, ROWS),
            argument("out0", torch.float32, ROWS),
        )
        sizes = (SizeArgument("s0", ROWS), SizeArgument("s1", COLUMNS))
        return ScheduledKernel("gather", (Dimension(i, ROWS),), (), (OuterSegment((stage,)),), (*buffers, *sizes))

    assert fits(kernel(at * COLUMNS + 3), 1 << 20, 1 << 20)
    assert not fits(kernel(at + i * COLUMNS), 1 << 20, 1 << 20)


@pytest.mark.parametrize("flip", [False, True])
def test_an_index_may_reach_beyond_the_extents(flip: bool) -> None:
    """Rows far apart in memory, forwards and backwards."""
    i = index_variable(0, ROWS)
    index = (ROWS - 1 - i) * COLUMNS if flip else i * COLUMNS
    stage = Stage(ops.load("in0", index, torch.float32), store=Store("out0", i))
    buffers = (argument("in0", torch.float32, (ROWS - 1) * COLUMNS + 1), argument("out0", torch.float32, ROWS))
    sizes = (SizeArgument("s0", ROWS), SizeArgument("s1", COLUMNS))
    kernel = ScheduledKernel("far", (Dimension(i, ROWS),), (), (OuterSegment((stage,)),), (*buffers, *sizes))
    assert fits(kernel, 1000, 2_000_000) and not fits(kernel, 1100, 2_000_000)


@pytest.mark.parametrize("n", [0, 3, -4, 2**35, -(2**40)])
def test_an_int_of_the_call_with_constant_extents(n: int) -> None:
    kernel = numbers(index_variable(0, 6) + N, 6, N)
    assert IndexReach.of(kernel).width is IndexWidth.BY_SIZES
    out = torch.empty(6, dtype=torch.int64)
    run(kernel, LaunchConfig(KernelShape.POINTWISE, 8, 1, 1), [out, n])
    assert torch.equal(out, torch.arange(6) + n)
    assert fits(kernel, n) is (abs(n) < LIMIT)


def test_a_size_that_the_kernel_is_not_given_is_wide() -> None:
    stage = Stage(ops.load("in0", index_variable(0, 8) * COLUMNS, torch.float32), store=Store("out0", integer(0)))
    buffers = (argument("in0", torch.float32, ROWS), argument("out0", torch.float32, 8))
    dimensions = (Dimension(index_variable(0, 8), integer(8)),)
    kernel = ScheduledKernel("part", dimensions, (), (OuterSegment((stage,)),), buffers)
    assert IndexReach.of(kernel).width is IndexWidth.WIDE


@pytest.mark.parametrize(("at", "typed"), [(2**31 - 1, "tl.int32"), (2**31, "tl.int64")])
def test_a_known_index_is_as_wide_as_it_has_to_be(at: int, typed: str) -> None:
    i = index_variable(0, 1)
    stage = Stage(ops.load("in0", as_expr(i), torch.float32), store=Store("out0", integer(at)))
    buffers = (argument("in0", torch.float32, 1), argument("out0", torch.float32, at + 1))
    kernel = ScheduledKernel("one", (Dimension(i, integer(1)),), (), (OuterSegment((stage,)),), buffers)
    text = write_kernel(kernel, LaunchConfig(KernelShape.POINTWISE, 64, 1, 1)).text
    assert f"tl.full([X_BLOCK], {at}, {typed})" in text


def test_blocks_reach_no_further_than_the_limit_allows() -> None:
    f = torch.float32
    kernels = [pointwise("p", count, [f], lambda a: a, f) for count in (1, 10**4, 10**9)]
    kernels += [row_softmax(rows, columns) for rows in (1, 10**6) for columns in (1, 37, 8192, 10**6, COLUMNS)]
    for kernel in (*kernels, scaled_rows(ROWS, COLUMNS)):
        config = choose(kernel, H100)
        assert max(config.x_block, config.r_block) <= LARGEST_BLOCK
    for block in (0, 48, 2 * LARGEST_BLOCK):
        with pytest.raises(ValueError, match="power of two"):
            LaunchConfig(KernelShape.POINTWISE, block, 1, 1)


def test_new_sizes_make_no_symbols() -> None:
    asked = IndexReach.of(scaled_rows(ROWS, COLUMNS)).fits()
    before = len(interned)
    assert all(asked((rows, 1234)) for rows in range(5000, 5100))
    assert len(interned) == before


@pytest.mark.parametrize("shape", [(3, 16), (5, 7), (1, 1), (0, 4)])
def test_both_widths_compute_the_same(shape: tuple[int, int]) -> None:
    kernel = scaled_rows(ROWS, COLUMNS)
    source = write_kernel(kernel, LaunchConfig(KernelShape.POINTWISE, 32, 1, 1))
    assert "INDEX: tl.constexpr" in source.text and ".to(INDEX)" in source.text
    spec = launch_spec(source)
    assert spec.narrow_at(shape)
    x, w = torch.randn(shape), torch.randn(shape[1])
    for fits in (True, False):
        out = torch.full(shape, float("nan"))
        chosen = dataclasses.replace(spec, fits_narrow=lambda _, fits=fits: fits)
        InterpretedLauncher(getattr(import_source(source), source.name), chosen)(x, w, out, *shape)
        assert torch.equal(out, x * w)
