"""Proofs are sound, by brute force over every assignment that satisfies the facts; and the ones we need are found."""

from __future__ import annotations

from importlib import import_module

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lampwork_symshape import (
    BoolExpr,
    Facts,
    IntExpr,
    Truth,
    and_,
    eq,
    floor_div,
    ge,
    gt,
    integer,
    le,
    lt,
    maximum,
    minimum,
    ne,
    not_,
    or_,
    prove,
    simplify,
    symbol,
)

from .strategies import SYMBOLS, Written, WrittenCondition, assignments, conditions, expressions

s, t = symbol("s0", 2), symbol("s1", 2)
i, j = symbol("i", 0), symbol("j", 0)
x, y = symbol("x", None), symbol("y", None)
thorough = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
ALL = frozenset(SYMBOLS)


@thorough
@given(conditions, st.lists(conditions, max_size=3))
def test_proofs_are_sound(goal: WrittenCondition, facts: list[WrittenCondition]) -> None:
    known = Facts([f.built for f in facts])
    truth = prove(goal.built, known)
    opposite = prove(not_(goal.built), known)
    satisfiable = False
    for values in assignments(ALL, 200):
        try:
            if not all(f.built.evaluate(values) for f in facts):
                continue
            satisfiable = True
            if truth is not Truth.UNKNOWN:
                assert goal.value(values) is (truth is Truth.TRUE), (goal.built, known.conditions, values)
        except ZeroDivisionError:
            continue
    if satisfiable:  # contradictory facts prove a condition and its opposite
        assert opposite is ~truth


@thorough
@given(expressions, st.lists(conditions, max_size=2))
def test_simplification_with_facts_is_sound(written: Written, facts: list[WrittenCondition]) -> None:
    built = simplify(written.built, [f.built for f in facts])
    for values in assignments(ALL, 150):
        try:
            if all(f.built.evaluate(values) for f in facts):
                assert built.evaluate(values) == written.value(values)
        except ZeroDivisionError:
            continue


PROVEN: list[tuple[BoolExpr, list[BoolExpr]]] = [
    (lt(i * s + j, s * t), [lt(i, t), lt(j, s)]),
    (lt(i, t + 3), [lt(i, t)]),
    (le(4 * (s // 4), s), []),
    (ge(4 * (s // 4) + 3, s), []),
    (eq(8 * (s // 8), s), [eq(s % 8, 0)]),
    (le(floor_div(s, 2), s), []),
    (lt(minimum(s, t), t + 1), []),
    (ge(maximum(s, t), t), []),
    (ge(s, 3), [ne(s, 2)]),
    (ge(s * t, 2 * t), []),
    (eq(x, 4), [le(x, 4), ge(x, 4)]),
    (eq(s, 6), [eq(s, t), eq(t, 6)]),
    (lt(x, y), [lt(x, i), lt(i, j), lt(j, y)]),
    (ne(x, y), [lt(x, y)]),
    (or_(lt(x, 0), ge(x, 0)), []),
    (and_(gt(s, 1), gt(t, 1)), []),
    (le(2 * x, 7), [le(x, 3)]),
]


@pytest.mark.parametrize(("goal", "facts"), PROVEN, ids=[str(goal) for goal, _ in PROVEN])
def test_is_proven(goal: BoolExpr, facts: list[BoolExpr]) -> None:
    assert prove(goal, facts) is Truth.TRUE
    assert prove(not_(goal), facts) is Truth.FALSE


@pytest.mark.parametrize("goal", [lt(i, s), eq(s, t), le(s * i, s * j), eq(s % 4, 0), lt(i * s + j, s * t)], ids=str)
def test_stays_unknown_without_facts(goal: BoolExpr) -> None:
    assert prove(goal) is Truth.UNKNOWN


SIMPLIFIED: list[tuple[IntExpr, IntExpr, list[BoolExpr]]] = [
    ((s * i + j) // s, i, [lt(j, s)]),
    ((s * i + j) % s, j, [lt(j, s)]),
    ((s * t * 3 + s * i + j) // (s * t), integer(3), [lt(j, s), lt(i, t)]),
    (minimum(i, s) + 1, i + 1, [lt(i, s)]),
    (maximum(i, s), s, [lt(i, s)]),
]


@pytest.mark.parametrize(("before", "after", "facts"), SIMPLIFIED, ids=[str(b) for b, _, _ in SIMPLIFIED])
def test_is_simplified(before: IntExpr, after: IntExpr, facts: list[BoolExpr]) -> None:
    assert before is not after
    assert simplify(before, facts) is after


def test_a_question_asked_again_is_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = symbol("a", 1), symbol("b", 1)
    known, goal = Facts([le(a + b, a * b + a * a)]), ne(a, 1)
    assert prove(goal, known) is Truth.UNKNOWN
    with monkeypatch.context() as patched:
        patched.setattr(import_module("lampwork_symshape.prove"), "_at_most_zero", None)
        assert prove(goal, known) is Truth.UNKNOWN
    assert prove(goal, known.with_facts([goal])) is Truth.TRUE
