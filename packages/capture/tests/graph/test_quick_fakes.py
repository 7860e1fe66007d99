"""What is said of pointwise operators on symbolic sizes is what eager gives: sizes, strides, dtype."""

from __future__ import annotations

import itertools

import pytest
import torch
from lampwork_capture.graph.fake_inputs import symbolic_fake_input
from lampwork_capture.graph.quick_fakes import _BINARY, _UNARY, quick_fake
from lampwork_capture.graph.recording_mode import RecordingFakeMode
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of, sym_int

CONSTANT = {1, 3}  # sizes that are numbers in every test


class Tracing:
    """Fake tensors of symbolic sizes; equal sizes share a symbol."""

    def __init__(self):
        self.env = TorchShapeEnv()
        self.mode = RecordingFakeMode()
        self.mode.take_symbols(self.env)
        self.symbols = {}

    def size(self, number):
        if number in CONSTANT:
            return number
        if number not in self.symbols:
            self.symbols[number] = sym_int(self.env.create_backed(number, f"size {number}", lower=1), self.env)
        return self.symbols[number]

    def fake(self, tensor):
        sizes = [self.size(number) for number in tensor.shape]
        strides = []
        for dim, stride in enumerate(tensor.stride()):
            product = 1
            for size in sizes[dim + 1 :]:
                product = product * size
            is_product = stride == tensor.shape[dim + 1 :].numel()
            strides.append(product if is_product else stride)
        return symbolic_fake_input(self.mode, tensor, sizes, strides)

    def number(self, value):
        return self.env.hint_of(expr_of(value))


def check(function, args, is_quick):
    tracing = Tracing()
    fakes = [tracing.fake(arg) if isinstance(arg, torch.Tensor) else arg for arg in args]
    expected = function(*args)
    assert (quick_fake(tracing.mode, function, fakes, {}) is not NotImplemented) == is_quick
    with tracing.mode:
        found = function(*fakes)
    assert [tracing.number(n) for n in found.shape] == list(expected.shape)
    assert [tracing.number(n) for n in found.stride()] == list(expected.stride())
    assert found.dtype == expected.dtype and not tracing.env.facts


@pytest.mark.parametrize("function", sorted(_UNARY, key=str), ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_one(function, dtype):
    check(function, [torch.rand(5, 3, 7).to(dtype)], is_quick=True)


SHAPES = [(5, 3, 7), (3, 7), (1, 3, 1), (7,), (1,), (), (5, 1, 7)]


@pytest.mark.parametrize("function", sorted(_BINARY, key=str), ids=str)
@pytest.mark.parametrize("other", SHAPES)
@pytest.mark.parametrize("swapped", [False, True])
def test_of_two(function, other, swapped):
    args = [torch.rand(5, 3, 7), torch.rand(other)]
    same_rank = len(other) == 3 and other != (5, 3, 7)
    check(function, args[::-1] if swapped else args, is_quick=not (swapped and same_rank))


@pytest.mark.parametrize("function", sorted(_BINARY, key=str), ids=str)
@pytest.mark.parametrize("number", [2, 0.5])
def test_of_a_number(function, number):
    check(function, [torch.rand(5, 7), number], is_quick=True)


def test_what_is_left_to_torch():
    add, x = torch.ops.aten.add.Tensor, torch.rand(5, 7)
    others = [
        torch.ones(5, 7, dtype=torch.float64), torch.ones(5, 7, dtype=torch.int64), torch.rand(7, 5).t(), True,
        torch.rand(2, 5, 7),
    ]  # fmt: skip
    tracing = Tracing()
    fake = tracing.fake(x)
    for other in others[:-1]:
        value = tracing.fake(other) if isinstance(other, torch.Tensor) else other
        assert quick_fake(tracing.mode, add, [fake, value], {}) is NotImplemented
    for function, value in itertools.product(
        [torch.ops.aten.relu.default], [torch.rand(7, 5).t(), torch.ones(5, 7).int()]
    ):
        assert quick_fake(tracing.mode, function, [tracing.fake(value)], {}) is NotImplemented
    assert (
        quick_fake(tracing.mode, torch.ops.aten.div.Tensor_mode, [fake, 2], {"rounding_mode": "floor"})
        is NotImplemented
    )
    assert quick_fake(tracing.mode, add, [tracing.fake(others[-1]), fake], {}) is not NotImplemented
