"""Whatever is built means what was written: brute force over every symbol's whole range."""

from __future__ import annotations

import pickle

from hypothesis import HealthCheck, given, settings
from lampwork_symshape import PythonPrinter, Symbol

from .strategies import SYMBOLS, Written, WrittenCondition, assignments, conditions, expressions

thorough = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
ALL = frozenset(SYMBOLS)


def _python_value(text: str, values: dict[Symbol, int]) -> object:
    return eval(text, {"min": min, "max": max}, {s.name: v for s, v in values.items()})


@thorough
@given(expressions)
def test_expressions_mean_what_was_written(written: Written) -> None:
    text = PythonPrinter()(written.built)
    for values in assignments(ALL, 150):
        try:
            expected = written.value(values)
        except ZeroDivisionError:
            continue
        assert written.built.evaluate(values) == expected, (text, values)
        assert expected in written.built.value_range, (text, values)
        assert _python_value(text, values) == expected, (text, values)


@thorough
@given(conditions)
def test_conditions_mean_what_was_written(written: WrittenCondition) -> None:
    text = PythonPrinter()(written.built)
    for values in assignments(ALL, 150):
        try:
            expected = written.value(values)
        except ZeroDivisionError:
            continue
        assert written.built.evaluate(values) == expected, (text, values)
        assert _python_value(text, values) == expected, (text, values)


@thorough
@given(expressions)
def test_rebuilding_changes_nothing(written: Written) -> None:
    assert pickle.loads(pickle.dumps(written.built)) is written.built
    assert written.built.substitute({}) is written.built
    assert written.built + 0 is written.built and written.built * 1 is written.built
    assert (written.built - written.built) == 0
    assert written.built - 5 + 5 is written.built


@thorough
@given(expressions, expressions)
def test_substitution_commutes_with_evaluation(written: Written, replacement: Written) -> None:
    j = SYMBOLS[1]
    for values in assignments(ALL, 60):
        try:
            inner = replacement.value(values)
            expected = written.value({**values, j: inner})
        except ZeroDivisionError:
            continue
        if inner not in j.value_range:
            continue  # the expression was simplified for values in the symbol's range
        assert written.built.substitute({j: replacement.built}).evaluate(values) == expected
        assert written.built.substitute({j: inner}).evaluate(values) == expected
