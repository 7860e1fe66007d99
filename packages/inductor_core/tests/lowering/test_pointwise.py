"""Pointwise operators: every row on special values, promotion exactly as ATen's, division and powers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.ir.buffer import ComputedBuffer, ExternBuffer
from lampwork_inductor_core.ir.views import to_exprs
from lampwork_inductor_core.lowering.graph import lower
from lampwork_inductor_core.lowering.pointwise import _BINARY, _UNARY, TABLE
from lampwork_inductor_core.lowering.promotion import SUPPORTED, result_dtype
from lampwork_inductor_core.lowering.values import TensorValue
from lampwork_inductor_core.passes.pipeline import run_passes
from lampwork_inductor_core.passes.rewriting import PassContext
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
SPECIAL = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, -1.0, 0.5, -2.5, 3.0, 1e-30, -1e30, 88.0])


def no_calls(lowered: object) -> None:
    assert not any(isinstance(b, ExternBuffer) for b in lowered.buffers), lowered.notes  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "packet", [row[0] for row in _UNARY if row[0] is not aten.bitwise_not], ids=lambda p: p.__name__
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_unary_special_values(lowers_as_eager, packet, dtype):
    lowered = lowers_as_eager(lambda x: packet(x), SPECIAL.to(dtype))
    no_calls(lowered)


@pytest.mark.parametrize(
    "packet", [row[0] for row in _BINARY if "bitwise" not in row[0].__name__], ids=lambda p: p.__name__
)
def test_binary_special_values(lowers_as_eager, packet):
    no_calls(lowers_as_eager(lambda x, y: packet(x, y), SPECIAL[:, None], SPECIAL[None, :].clone()))


@pytest.mark.parametrize("name", ["add", "sub", "mul", "maximum", "bitwise_xor", "eq", "logical_and"])
def test_binary_integers(lowers_as_eager, name):
    packet = getattr(aten, name)
    small = torch.arange(-3, 4)
    no_calls(lowers_as_eager(lambda x, y: packet(x, y), small[:, None].int(), small.clone()))


def test_promotion_is_torchs():
    device = torch.device("cpu")
    for left, right in itertools.product(sorted(SUPPORTED, key=str), repeat=2):
        for left_rank, right_rank in itertools.product((0, 1), repeat=2):
            values = [TensorValue(to_exprs((2,) * r), d, device) for r, d in ((left_rank, left), (right_rank, right))]
            tensors = [torch.empty((2,) * r, dtype=d) for r, d in ((left_rank, left), (right_rank, right))]
            assert result_dtype(values) == torch.result_type(*tensors), (left, left_rank, right, right_rank)
        for number in (True, 2, 2.5):
            for rank in (0, 1):
                value = TensorValue(to_exprs((2,) * rank), left, device)
                assert result_dtype([value, number]) == torch.result_type(torch.empty((2,) * rank, dtype=left), number)


@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_division_by_a_number(lowers_as_eager, mode, dtype):
    x = torch.tensor([-7, -6, -1, 0, 1, 6, 7]).to(dtype)
    no_calls(lowers_as_eager(lambda x: aten.div(x, 3, rounding_mode=mode), x))
    no_calls(lowers_as_eager(lambda x: aten.div(x, -2, rounding_mode=mode), x))


def test_truncation_of_half_quotients(lowers_as_eager):
    x, y = torch.randn(4000).bfloat16() * 30, torch.rand(4000).bfloat16() + 0.5
    no_calls(lowers_as_eager(lambda x, y: torch.div(x, y, rounding_mode="trunc"), x, y, rtol=0.0, atol=0.0))


def test_integer_division_that_may_raise_is_eagers(lowers_as_eager):
    lowered = lowers_as_eager(lambda x, y: aten.remainder(x, y), torch.tensor([7, 8]), torch.tensor([2, 3]))
    assert any(isinstance(b, ExternBuffer) for b in lowered.buffers)
    assert "may raise" in lowered.notes[0]


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, -1, -2, 0.5, -0.5, 2.5, 8.0, 9])
def test_power_by_a_number(lowers_as_eager, exponent):
    no_calls(lowers_as_eager(lambda x: x**exponent, torch.tensor([-2.0, -0.0, 0.0, 0.7, 3.0, math.inf, math.nan])))


def test_half_types_round_once_an_operator(lowers_as_eager):
    x = torch.randn(64).bfloat16()
    lowered = lowers_as_eager(lambda x: (x * 3 + 0.125) * x, x, rtol=0.0, atol=0.0)
    (buffer,) = (b for b in lowered.buffers if isinstance(b, ComputedBuffer))
    assert buffer.layout.dtype == torch.bfloat16


def test_clamp_where_masked_fill_and_lerp(lowers_as_eager):
    x, y = torch.randn(3, 4), torch.randn(4)
    x[0, 0] = math.nan
    no_calls(
        lowers_as_eager(
            lambda x, y: [
                aten.clamp(x, -0.5, 0.5),
                aten.clamp(x, min=y),
                torch.where(x > y, x, 2),
                x.masked_fill(y > 0, -math.inf),
                torch.lerp(x, y.expand(3, 4), 0.7),
                torch.addcmul(x, y, y, value=2.0),
                torch.nan_to_num(x),
                1 - x,
                torch.rsub(y, x, alpha=3),
            ],
            x,
            y,
        )
    )


def test_conversions(lowers_as_eager):
    x = torch.tensor([0.0, 1.7, -2.3, 200.0])
    no_calls(
        lowers_as_eager(
            lambda x: [x.int(), x.bool(), x.half(), x.double().float(), x.int().bool().long(), x.to(torch.uint8)],
            torch.tensor([0.0, 1.7, 2.3, 200.0]),
        )
    )
    no_calls(lowers_as_eager(lambda x: [x.long(), x.short()], x))


def test_every_row_of_the_table_is_an_overload():
    assert len(TABLE) > 150
    assert all(isinstance(o, torch._ops.OpOverload) for o in TABLE)


ZEROS = torch.tensor([-0.0, 0.0, math.nan, 0.5, -2.0, 9.0])


@pytest.mark.parametrize(
    "function",
    [
        torch.relu,
        lambda x: x.clamp(0, 1),
        lambda x: x.clamp_min(0),
        lambda x: x.clamp(0.0, math.nan),
        lambda x: torch.clamp(x, torch.zeros(1), torch.tensor([math.nan, 1.0, 1.0, 1.0, 1.0, 1.0])),
        lambda x: aten.hardtanh(x, 0, 1),
    ],
)
def test_bounds_keep_negative_zero_and_nan(function):
    graph = make_fx(function, tracing_mode="fake")(ZEROS)
    (got,) = interpret(lower(graph), [ZEROS])
    want = function(ZEROS)
    torch.testing.assert_close(got, want, equal_nan=True)
    numbers = ~want.isnan()
    assert torch.equal(got.signbit()[numbers], want.signbit()[numbers])


@pytest.mark.parametrize("divisor", [0, 1])
def test_integer_division_by_a_masked_or_checked_number_is_called(divisor):
    def padded(x: torch.Tensor) -> torch.Tensor:
        return x // torch.nn.functional.pad(x, (1, 0), value=3)[:-1]

    lowered = lower(make_fx(padded, tracing_mode="fake")(torch.ones(5, dtype=torch.int64)))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        interpret(lowered, [torch.full((5,), 0)])
    assert torch.equal(interpret(lowered, [torch.full((5,), 2 + divisor)])[0], padded(torch.full((5,), 2 + divisor)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.masked_fill(x > 0, -1e30),
        lambda x: aten.fill(x, 1e30),
        lambda x: torch.full((3,), 1e30, dtype=torch.float16) + x.sum(),
        lambda x: torch.nn.functional.pad(x, (1, 1), value=1e30),
    ],
)
def test_fills_that_do_not_fit_raise_as_in_eager(function):
    x = torch.ones(3)
    graph = make_fx(lambda x: function(x.half()), tracing_mode="fake")(x)
    with pytest.raises(RuntimeError, match="without overflow"):
        function(x.half())
    with pytest.raises(RuntimeError, match="without overflow"):
        interpret(lower(graph), [x])


def test_calls_that_may_raise_are_made_though_unused():
    def function(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        x.index_select(0, i)
        x.gather(0, i)
        return x + 1

    x = torch.randn(4)
    graph = make_fx(function, tracing_mode="fake")(x, torch.tensor([0, 1]))
    lowered = lower(run_passes(graph, PassContext()))
    assert torch.equal(interpret(lowered, [x, torch.tensor([1, 2])])[0], x + 1)
    with pytest.raises((IndexError, RuntimeError)):
        interpret(lowered, [x, torch.tensor([0, 7])])


def test_floating_ranges_are_computed_in_double():
    graph = make_fx(lambda x: torch.arange(0.0, 1e6, 0.1, dtype=torch.float32) + x, tracing_mode="fake")(torch.zeros(1))
    (got,) = interpret(lower(graph), [torch.zeros(1)])
    exact = (torch.arange(got.numel(), dtype=torch.float64) * 0.1).float()
    assert torch.equal(got, exact)
