"""The sympy bridge keeps the meaning, and sympy agrees with our simplifier; equations are solved for a symbol."""

from __future__ import annotations

import pytest
import sympy
from hypothesis import HealthCheck, given, settings
from lampwork_symshape import Symbol, eq, integer, lt, maximum, minimum, symbol, where
from lampwork_symshape.solve import Solution, UntranslatableError, from_sympy, solve_equality, sympy_symbol, to_sympy

from .strategies import SYMBOLS, Written, assignments, small

x, t = symbol("x", 1), symbol("t", 0)
BY_NAME: dict[str, Symbol] = {s.name: s for s in SYMBOLS}
quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(small)
def test_sympy_agrees_with_the_simplifier(written: Written) -> None:
    translated = to_sympy(written.built)
    for values in assignments(frozenset(SYMBOLS), 12):
        try:
            expected = written.value(values)
        except ZeroDivisionError:
            continue
        assert int(translated.subs({sympy_symbol(s): v for s, v in values.items()})) == expected


@quick
@given(small)
def test_there_and_back_keeps_the_meaning(written: Written) -> None:
    try:
        back = from_sympy(to_sympy(written.built), BY_NAME)
    except UntranslatableError:
        # sympy made a fraction of a division: allowed to refuse, never to change the meaning
        return
    for values in assignments(frozenset(SYMBOLS), 40):
        try:
            expected = written.value(values)
        except ZeroDivisionError:
            continue
        assert back.evaluate(values) == expected


def test_remainders_of_extrema_are_kept_from_sympys_own_simplifier() -> None:
    expr = maximum(2, 2 * t) % 6
    assert int(to_sympy(expr).subs(sympy_symbol(t), 0)) == 2
    assert from_sympy(to_sympy(expr), {"t": t}) is expr


def test_conditions_and_choices_translate() -> None:
    expr = where(lt(x, t), x // (t + 1), (t * x + 3) % 7) + minimum(x, t, 5)
    assert from_sympy(to_sympy(expr), {"x": x, "t": t}) is expr
    for condition in (lt(x, t) & eq(t % 2, 0), ~(lt(x, t) | eq(t, 4)), eq(x, x)):
        assert from_sympy(to_sympy(condition), {"x": x, "t": t}) is condition
    with pytest.raises(UntranslatableError, match="Hint"):
        from_sympy(sympy.sqrt(sympy.Symbol("x")), {"x": x})


@pytest.mark.parametrize(
    ("equation", "solution"),
    [
        (eq(2 * x + 1, t), Solution((t - 1) // 2, eq((t - 1) % 2, 0))),
        (eq(x + 3, t * t), Solution(t * t - 3, eq(integer(0), 0))),
        (eq(x * x, t), None),
        (eq(x // 2, t), None),
        (eq(x * t, 6), None),
        (lt(x, t), None),
        (eq(t, 3), None),
    ],
    ids=str,
)
def test_equations_are_solved(equation: object, solution: Solution | None) -> None:
    assert solve_equality(equation, x) == solution  # type: ignore[arg-type]
