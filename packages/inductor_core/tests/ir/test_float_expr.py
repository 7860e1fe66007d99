"""Floats of the call: which are equal, what they refuse to tell, and what they evaluate to."""

from __future__ import annotations

import copy
import gc
import math
import operator
import weakref

import pytest
import torch
from lampwork_inductor_core.ir.float_expr import FloatInput, FloatOf, NumberOfTheCall, parts_of
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_symshape import symbol

SCALE = FloatInput("scale")


def product(number) -> FloatOf:
    return FloatOf(operator.mul, (FloatInput("scale"), number))


def test_equal_expressions_are_equal():
    assert product(2.0) == product(2.0) and hash(product(2.0)) == hash(product(2.0))
    assert FloatOf(operator.add, (product(2.0), SCALE)) == FloatOf(operator.add, (product(2.0), SCALE))
    assert SCALE != FloatInput("other")


@pytest.mark.parametrize("a, b", [(0.0, -0.0), (0.0, 0), (1, True), (1, 1.0), (math.inf, -math.inf)])
def test_numbers_that_differ_in_type_or_sign_make_other_expressions(a, b):
    assert product(a) != product(b)
    assert ops.float_value(product(a), torch.float32) is not ops.float_value(product(b), torch.float32)


def test_nodes_are_interned_by_expression_and_dtype():
    assert ops.float_value(product(3.0), torch.float32) is ops.float_value(product(3.0), torch.float32)
    assert ops.float_value(SCALE, torch.float32) is not ops.float_value(SCALE, torch.float64)


@pytest.mark.parametrize(
    "question",
    [bool, float, lambda f: f == 1.0, lambda f: f != 0, lambda f: f in (1, 2), lambda f: f == symbol("s0")],
)
def test_nobody_learns_its_value(question):
    for number in (SCALE, product(2.0)):
        with pytest.raises(NumberOfTheCall, match="scale"):
            question(number)


@pytest.mark.parametrize("question", [lambda f: f < 1, lambda f: f + 1, math.sqrt, int, range])
def test_nor_computes_with_it(question):
    with pytest.raises(TypeError):
        question(SCALE)


def test_value_is_what_python_computes():
    size = symbol("s0", 1, None)
    ratio = FloatOf(operator.truediv, (FloatOf(math.sqrt, (SCALE,)), size * 2))
    assert ratio.free_symbols == {size} and ratio.inputs == {"scale"}
    assert ratio.evaluate(lambda number: int(number.evaluate({size: 3})), {"scale": 2.0}) == math.sqrt(2.0) / 6
    assert str(ratio) == "(sqrt(scale) / 2*s0)"


def test_what_is_shared_costs_nothing():
    value, number = SCALE, 1.0 + 2.0**-40
    want = number
    for _ in range(200):
        value, want = FloatOf(operator.mul, (value, value)), want * want
    assert value is FloatOf(operator.mul, value.operands) and hash(value) == hash(FloatOf(operator.mul, value.operands))
    assert value.inputs == {"scale"} and not value.free_symbols
    assert value.evaluate(int, {"scale": number}) == want
    assert len(parts_of(value)) == 201 and len(str(value)) < 5000
    text = str(FloatOf(operator.add, (product(product(2.0)), product(2.0))))
    assert text == "((scale * p0) + p0) where p0 = (scale * 2.0)"
    with pytest.raises(NumberOfTheCall):
        bool(value)


def test_deep_chains_need_no_stack():
    value = SCALE
    for _ in range(5000):
        value = FloatOf(operator.add, (value, 1))
    assert value.evaluate(int, {"scale": 0.5}) == 5000.5


def test_copies_are_the_same():
    value = FloatOf(operator.sub, (product(symbol("s0")), -0.0))
    assert copy.deepcopy(value) is value and copy.copy(SCALE) is SCALE


def test_what_nobody_holds_is_forgotten():
    value = FloatOf(operator.sub, (FloatInput("soon gone"), 3.0))
    gone = weakref.ref(value)
    del value
    gc.collect()
    assert gone() is None
