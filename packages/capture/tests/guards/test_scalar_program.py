"""Conditions about numbers: the native check, the reference check and Python agree, errors included."""

from __future__ import annotations

import itertools
import math
import operator

import pytest
from lampwork_capture.guards.check import fact_holds
from lampwork_capture.guards.facts import ByIdentity, Guard, GuardSet, IntegerWithin, ScalarIs, TypeIs
from lampwork_capture.guards.scalar_program import program_of
from lampwork_capture.guards.tree import build_tree
from lampwork_capture.source import FrameScope, LocalSource
from lampwork_symshape import and_, eq, le, maximum, ne, or_, symbol, where
from lampwork_symshape.scalar_expr import FloatSymbol, apply

A, B = symbol("s0", None, None), symbol("s1", None, None)
F, G = FloatSymbol("f0", "x"), FloatSymbol("f1", "y")
INTS = [-(2**80), -7, -1, 0, 1, 2, 3, 8, 2**63 - 1, 2**63, 2**90]
FLOATS = [-math.inf, -1.5, -0.0, 0.0, 0.5, 1.0, 1e308, math.inf, math.nan]

CONDITIONS = [
    eq(A % 8, 0),
    le(A, 3),
    and_(ne(B, 0), eq(A // B, 2)),
    or_(le(A, B), eq(A * B, 8)),
    eq(maximum(A, B), 3),
    eq(where(le(A, B), A * A, B - 1), 4),
    le(3 * A * B + 2 * A - 7, B),
]
TERMS = [
    apply(operator.gt, F, 0.5),
    apply(operator.mul, F, G),
    apply(operator.truediv, F, G),
    apply(type, apply(operator.truediv, F, G)),
    apply(math.sqrt, F),
    apply(divmod, F, G),
    apply(int, F),
    apply(operator.pow, F, G),
    apply(max, F, G),
]


def f(x, y):
    return x


def check(fact, x, y):
    tree = build_tree(GuardSet((Guard(fact),)), f.__code__)
    native = tree.check((x, y), None, globals(), {})
    reference = fact_holds(fact, FrameScope({"x": x, "y": y}, {}, {}, {}))
    assert native == reference, (fact, x, y)
    return native


@pytest.mark.parametrize("number", range(len(CONDITIONS)))
def test_conditions_of_integers(number):
    condition = CONDITIONS[number]
    program, symbols = program_of(condition)
    sources = [LocalSource("x" if s is A else "y") for s in symbols]
    fact = ScalarIs(sources[0], tuple(sources[1:]), program, ByIdentity(True))
    seen = set()
    for x, y in itertools.product(INTS, INTS):
        try:
            expected = condition.evaluate({A: x, B: y})
        except ZeroDivisionError:
            expected = False
        assert check(fact, x, y) == expected, (condition, x, y)
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize("number", range(len(TERMS)))
def test_terms_of_floats(number):
    term = TERMS[number]
    program, symbols = program_of(term)
    sources = [LocalSource("x" if s is F else "y") for s in symbols]
    values = {}
    for x, y in itertools.product(FLOATS, FLOATS):
        try:
            value = program.evaluate([x if s is F else y for s in symbols])
        except (ArithmeticError, ValueError):
            continue
        values[repr(value)] = value
    assert len(values) > 1 or number == 3
    for value in values.values():
        fact = ScalarIs(sources[0], tuple(sources[1:]), program, ByIdentity(value))
        assert any([check(fact, x, y) for x, y in itertools.product(FLOATS, FLOATS)])


def test_other_types_never_fit():
    class Number(int):
        pass

    program, _ = program_of(le(A, 3))
    condition = ScalarIs(LocalSource("x"), (), program, ByIdentity(True))
    within = IntegerWithin(LocalSource("x"), -(2**63), 2**63 - 1)
    for value, fits in ((1, True), (True, False), (1.0, False), (Number(1), False), ("1", False), (None, False)):
        assert check(within, value, 0) == fits
        assert check(condition, value, 0) == (fits or value == 1.0 and type(value) is float)
    assert not check(within, 2**63, 0) and check(within, -(2**63), 0)
    assert not check(TypeIs(LocalSource("x"), float), 1, 0)
