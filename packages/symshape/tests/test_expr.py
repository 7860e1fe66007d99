"""Interning, canonical forms, traversal, reading of expressions; and the index maps that compilers build from views."""

from __future__ import annotations

import copy
import itertools
import math
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from lampwork_symshape import (
    IntExpr,
    Symbol,
    SymbolicValueError,
    ValueRange,
    and_,
    ceil_div,
    eq,
    floor_div,
    ge,
    gt,
    integer,
    le,
    linear_terms,
    lt,
    maximum,
    minimum,
    mod,
    ne,
    not_,
    or_,
    product,
    stride_of,
    sum_,
    symbol,
    where,
)

i, j, s = symbol("i", 0, 3), symbol("j", 0, 15), symbol("s0", 2)
x, y = symbol("x", None), symbol("y", None)


def test_equal_construction_gives_one_object() -> None:
    assert symbol("i", 0, 3) is i and symbol("i", 0, 4) is not i
    assert (x + y) * 2 is y + y + 2 * x
    assert (x + 1) * (x - 1) is x * x - 1
    assert sum_([x, 3, y, x]) is 2 * x + y + 3
    assert product([x, 2, x]) is 2 * x * x
    assert le(x, y) is lt(x, y + 1) is ge(y, x) is not_(gt(x, y))
    assert eq(2 * x, 2 * y) is eq(y, x)
    assert and_(lt(x, y), ne(x, 3)) is not_(or_(eq(x, 3), ge(x, y)))


def test_threads_agree_on_one_object() -> None:
    barrier = threading.Barrier(8)
    found: list[list[IntExpr]] = []

    def build() -> None:
        barrier.wait()
        found.append([(symbol(f"thread{n}", 0) * 3 + n) // 7 for n in range(200)])

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(a is b for other in found for a, b in zip(found[0], other, strict=True))


def test_literals_compare_with_python_numbers() -> None:
    assert integer(3) == 3 and integer(3) == 3 and integer(3) != 4 and hash(integer(3)) == hash(3)
    assert int(x - x + 4) == 4 and [10, 20, 30][integer(1)] == 20
    assert bool(integer(1)) and not bool(integer(0))
    assert x != 3


def test_symbolic_values_are_refused() -> None:
    for ask in (int, bool, lambda e: e.constant_value):
        with pytest.raises(SymbolicValueError, match="x"):
            ask(x + 1)
    with pytest.raises(SymbolicValueError, match="prove"):
        bool(lt(x, 3))
    with pytest.raises(TypeError):
        _ = x + 1.0
    assert (x + 1) is not None  # now the sum is remembered: floats must still be refused
    with pytest.raises(TypeError):
        _ = x + 1.0
    with pytest.raises(TypeError):
        eq(x, "1")  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        floor_div(x, 0)
    with pytest.raises(ZeroDivisionError):
        mod(x, x - x)
    with pytest.raises(ValueError, match="no value"):
        symbol("q", 3, 2)


SIMPLIFIED: list[tuple[IntExpr, IntExpr | int]] = [
    ((16 * i + j) // 16, i),
    ((16 * i + j) % 16, j),
    ((16 * i + j) // 4, 4 * i + j // 4),
    ((16 * i + j) % 64, 16 * i + j),
    ((64 * x + 16 * i + j) // 64, x),
    ((64 * x + 16 * i + j) % 64, 16 * i + j),
    ((7 * x) // 7, x),
    (x // 3 // 4, x // 12),
    ((x % 12) % 4, x % 4),
    (j // 16, 0),
    (j % 16, j),
    ((4 * x + y) // 4, x + y // 4),
    ((4 * x + y) % 4, y % 4),
    ((12 * x + 3 * y) // 12, x + y // 4),
    ((x // 4) * 4 + x % 4, x),
    (x - x % 4, (x // 4) * 4),
    (y + (-y) % 4 + 1, 1 - ((-y) // 4) * 4),
    (4 * ((x // 4) % 3) + x % 4, x % 12),
    ((x % 12) // 4, (x // 4) % 3),
    ((j // 4) % 4, j // 4),
    ((s * x) // s, x),
    ((s * x) % s, 0),
    ((s * x) // (s * y), x // y),
    ((s * x + s) // s, x + 1),
    ((x * (s + 1)) // (s + 1), x),
    ((x - 1) // 2 + 1, (x + 1) // 2),
    (ceil_div(x, 4), (x + 3) // 4),
    (minimum(i, j + 4), i),
    (maximum(i, 3, -1), 3),
    (minimum(x, x + 2, minimum(y, x)), minimum(x, y)),
    (x - maximum(x - 7, 0), minimum(x, 7)),
    (maximum(x - 7, -y) - x + 3, maximum(-7, -x - y) + 3),
    (minimum(x, 7) + y - x, y + minimum(7 - x, 0)),
    (where(lt(i, 4), x, y), x),
    (where(lt(x, 4), y, y), y),
]


@pytest.mark.parametrize(("built", "expected"), SIMPLIFIED, ids=lambda e: str(e))
def test_simplification(built: IntExpr, expected: IntExpr | int) -> None:
    assert built == expected


def test_comparisons_are_decided_by_ranges() -> None:
    assert lt(i, 4) == True  # noqa: E712
    assert ge(16 * i + j, 64) == False  # noqa: E712
    assert eq(2 * x, 2 * y + 1) == False  # noqa: E712
    assert eq(s * x, 4 * s) is eq(x, 4)
    assert le(2 * x, 7) is le(x, 3)
    assert str(lt(x, 100)) == "x < 100" and str(ge(x, 2)) == "x >= 2" and str(gt(x, y)) == "y < x"


def test_text_is_readable_and_ordered_by_name() -> None:
    a2, a10 = symbol("a2"), symbol("a10")
    assert str(a10 + a2 * 3 - 1) == "3*a2 + a10 - 1"
    assert str(-(x % 3) + 2) == "-(x % 3) + 2"
    assert str((x + 1) // 4 * 3) == "3*((x + 1) // 4)"
    assert str(minimum(x, y) % 7) == "min(x, y) % 7"


def test_order_is_the_same_in_every_process() -> None:
    program = (
        "from lampwork_symshape import *;"
        "a, b, c = symbol('a'), symbol('b', None), symbol('c', 0, 9);"
        "print((a*b + b//3 + (a+c)%5 + minimum(b, a*c) + (b*b)//(c+1)) * 2);"
        "print(and_(lt(a, b), ne(a, c), or_(eq(b, 3), lt(b, c))))"
    )
    command = [sys.executable, "-c", program]
    texts = {
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


def test_copies_and_pickles_are_the_same_object() -> None:
    expr = where(lt(x, s) & ne(y, 3), (x * s + 7) // (s + 1), maximum(x % 5, y, 2)) * 3 + x
    assert copy.deepcopy(expr) is expr and copy.copy(expr) is expr
    assert pickle.loads(pickle.dumps(expr)) is expr


def test_linear_reading() -> None:
    constant, terms = linear_terms(3 * x + 4 * (y // 2) - 7)
    assert constant == -7 and terms == {x: 3, y // 2: 4}
    assert stride_of(3 * x * s + 2 * x + y, x) is 3 * s + 2
    assert stride_of(y + 1, x) == 0
    assert stride_of(x * x, x) is None
    assert stride_of(x // 2 + x, x) is None
    assert stride_of((x // 2) * y, y) is x // 2
    assert (5 * x + y).coefficient(x) == 5
    assert (x + 3 * y).free_symbols == {x, y}
    assert (16 * i - j).value_range == ValueRange(-15, 48)


def test_substitution_keeps_identity_and_simplifies() -> None:
    expr = (x * 16 + j) // 16
    assert expr.substitute({y: 3}) is expr
    assert expr.substitute({x: i}) is i
    assert (x + y).substitute({x: y, y: x}) is x + y  # all at once
    assert lt(x, 5).substitute({x: 3}) == True  # noqa: E712
    assert expr.evaluate({x: 3, j: 2}) == 3
    with pytest.raises(KeyError):
        (x + y).evaluate({x: 1})


def test_work_is_linear_in_shared_nodes() -> None:
    expr: IntExpr = x
    for _ in range(60):  # as a tree it would have 2**60 leaves: this test would never end
        expr = minimum(expr % 1009 + y, expr // 3)
    assert expr.substitute({x: y}).free_symbols == {y}
    assert isinstance(expr.evaluate({x: 5, y: 4}), int)


def test_depth_is_not_limited() -> None:
    expr: IntExpr = x
    for k in range(3000):
        expr = maximum(expr // 2 + k, y)
    assert expr.evaluate({x: 1, y: 0}) == maximum_chain(3000)
    assert expr.substitute({x: y}).free_symbols == {y}


def maximum_chain(length: int) -> int:
    """The same recurrence on plain integers."""
    value = 1
    for k in range(length):
        value = max(value // 2 + k, 0)
    return value


# --------------------------------------------------------------------------------------------- index maps of views


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[d + 1 :]) for d in range(len(shape))]


def _flatten(index: Sequence[IntExpr], shape: Sequence[int]) -> IntExpr:
    return sum_([at * stride for at, stride in zip(index, _strides(shape), strict=True)])


def _unflatten(flat: IntExpr, shape: Sequence[int]) -> list[IntExpr]:
    return [(flat // stride) % size for stride, size in zip(_strides(shape), shape, strict=True)]


def _loop(shape: Sequence[int]) -> list[Symbol]:
    return [symbol(f"x{d}", 0, size - 1) for d, size in enumerate(shape)]


def test_a_view_and_its_inverse_cancel() -> None:
    loop = _loop((2, 3, 4))
    assert _unflatten(_flatten(loop, (2, 3, 4)), (2, 3, 4)) == list(loop)
    merged = _loop((6, 4))
    back = _flatten(_unflatten(_flatten(merged, (6, 4)), (2, 3, 4)), (2, 3, 4))
    assert back is 4 * merged[0] + merged[1]


def test_attention_heads_split_and_merge_stay_affine() -> None:
    # (batch, sequence, heads * width) -> view -> permute(0, 2, 1, 3), read by (batch, head, sequence, width)
    b, h, t, w = _loop((8, 12, 128, 64))
    flat = _flatten([b, t, h, w], (8, 128, 12, 64))
    source = _unflatten(flat, (8, 128, 768))
    assert source == [b, t, 64 * h + w]
    # and back: permute, reshape to (batch, sequence, hidden), read by (batch * sequence, hidden)
    row, column = symbol("row", 0, 1023), symbol("column", 0, 767)
    merged = _unflatten(768 * row + column, (8, 128, 12, 64))
    assert merged == [row // 128, row % 128, column // 64, column % 64]
    assert _flatten(merged, (8, 128, 12, 64)) is 768 * row + column


@pytest.mark.parametrize("shape", [(2, 3, 4), (4, 6), (24,), (2, 2, 6), (3, 8), (1, 24), (2, 1, 12)])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_view_chain_reads_the_right_element(shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    first = (2, 3, 4)
    permuted = [first[d] for d in order]
    loop = _loop(shape)
    inner = _unflatten(_flatten(loop, shape), permuted)
    at = [inner[order.index(d)] for d in range(3)]
    offset = _flatten(at, first)
    for values in itertools.product(*(range(n) for n in shape)):
        flat = sum(v * n for v, n in zip(values, _strides(shape), strict=True))
        written = [(flat // n) % m for n, m in zip(_strides(permuted), permuted, strict=True)]
        expected = sum(written[order.index(d)] * _strides(first)[d] for d in range(3))
        assert offset.evaluate(dict(zip(loop, values, strict=True))) == expected
    if order == (0, 1, 2):
        assert offset is _flatten(loop, shape)
