"""Each line of the rule table is an identity: brute force over its variables, wherever its condition holds."""

from __future__ import annotations

import ast
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lampwork_symshape import ValueRange, integer, symbol
from lampwork_symshape.rules import CONSTANT_NAMES, FLOOR_DIV, MOD, FunctionRule, Rule, below, nonnegative, positive

PATTERNS = [rule for rule in (*FLOOR_DIV, *MOD) if isinstance(rule, Rule)]
FUNCTIONS = [rule for rule in (*FLOOR_DIV, *MOD) if isinstance(rule, FunctionRule)]
VALUES = (-9, -5, -4, -2, -1, 0, 1, 2, 3, 4, 6, 8, 13)


@pytest.mark.parametrize("rule", PATTERNS, ids=lambda r: f"{r.pattern} -> {r.result}")
def test_rule_is_an_identity(rule: Rule) -> None:
    names = sorted({n.id for n in ast.walk(ast.parse(rule.pattern)) if isinstance(n, ast.Name)})
    tried = 0
    for values in itertools.product(VALUES, repeat=len(names)):
        numbers = dict(zip(names, values, strict=True))
        try:
            expected = eval(rule.pattern, {}, numbers)
        except ZeroDivisionError:
            continue
        condition = {n: v if n in CONSTANT_NAMES else integer(v) for n, v in numbers.items()}
        try:
            if not eval(rule.when, {"positive": positive, "nonnegative": nonnegative, "below": below}, condition):
                continue
        except ZeroDivisionError:
            continue
        tried += 1
        assert eval(rule.result, {}, numbers) == expected, numbers
    assert tried >= 5, "the condition never held"


a, b, s = symbol("a", None), symbol("b", 0, 3), symbol("s", 2)
FIRES = {
    "(a*y + b) // y -> a + b // y": (4 * a + b, integer(4)),
    "(g*a + b) // (g*c) -> a // c where 0 <= b < g": (4 * a + b, integer(8)),
    "(a*x) // (a*y) -> x // y": (a * s, s * s),
    "(-x) // y -> -((x + y - 1) // y) where y > 0": (-2 * a - b - 1, integer(3)),
    "x % y -> x - k*y where x // y is k by its range": (b + 4, integer(4)),
    "(a*y + b) % y -> b % y": (4 * a + b * a, integer(4)),
    "(k*(a % (y*z)) + b) % y -> (k*a + b) % y": (a % 8 + b, integer(4)),
    "(g*a + b) % (g*c) -> g*(a % c) + b where 0 <= b < g": (4 * a + b, integer(8)),
    "(a*x) % (a*y) -> a*(x % y)": (a * s, s * s),
}


@pytest.mark.parametrize("rule", FUNCTIONS, ids=lambda r: r.text)
def test_rule_function_fires_and_is_an_identity(rule: FunctionRule) -> None:
    lhs, rhs = FIRES[rule.text]
    result = rule.apply(lhs, rhs)
    assert result is not None
    divide = rule in FLOOR_DIV
    for values in itertools.product(range(-9, 10), range(4), range(2, 7)):
        at = dict(zip((a, b, s), values, strict=True))
        x, y = lhs.evaluate(at), rhs.evaluate(at)
        found = result if isinstance(result, int) else result.evaluate(at)
        assert found == (x // y if divide else x % y), at


def test_malformed_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="two operands"):
        Rule("x", "x")
    with pytest.raises(ValueError, match="only"):
        Rule("f(x) // y", "x")


bounds = st.tuples(st.integers(-9, 9), st.integers(0, 7)).map(lambda p: ValueRange(p[0], p[0] + p[1]))


@settings(max_examples=400, deadline=None)
@given(bounds, bounds)
def test_range_arithmetic_is_sound_and_tight_for_sums(p: ValueRange, q: ValueRange) -> None:
    pairs = list(itertools.product(p, q))
    divided = [(x, y) for x, y in pairs if y]
    assert all(x + y in p + q and x - y in p - q and x * y in p * q for x, y in pairs)
    assert all(x // y in p // q and x % y in p % q for x, y in divided)
    assert all(min(x, y) in p.minimum(q) and max(x, y) in p.maximum(q) for x, y in pairs)
    assert all(x in p.union(q) and y in p.union(q) for x, y in pairs)
    assert [x for x in range(-20, 20) if x in p.intersect(q)] == [x for x in range(-20, 20) if x in p and x in q]
    sums, products = [x + y for x, y in pairs], [x * y for x, y in pairs]
    assert p + q == ValueRange(min(sums), max(sums)) and p * q == ValueRange(min(products), max(products))
    if divided and 0 not in q:
        quotients = [x // y for x, y in divided]
        assert p // q == ValueRange(min(quotients), max(quotients))


@settings(max_examples=300, deadline=None)
@given(bounds, bounds, st.sampled_from(["lower", "upper", "both"]))
def test_open_ranges_are_sound(p: ValueRange, q: ValueRange, side: str) -> None:
    lower = None if side != "upper" else q.lower
    upper = None if side != "lower" else q.upper
    wide = ValueRange(lower, upper)
    for x, y in itertools.product(p, range(-25, 26)):
        if y not in wide:
            continue
        assert x + y in p + wide and x - y in p - wide and x * y in p * wide and y * x in wide * p
        assert min(x, y) in p.minimum(wide) and max(x, y) in p.maximum(wide)
        if y:
            assert x // y in p // wide and x % y in p % wide
        if x:
            assert y // x in wide // p and y % x in wide % p


def test_range_text_and_iteration() -> None:
    assert str(ValueRange(0, None)) == "[0, inf]" and list(ValueRange(2, 4)) == [2, 3, 4]
    assert ValueRange(3, 2).is_empty and ValueRange(2, 2).is_singleton and not ValueRange(None, 2).is_bounded
    with pytest.raises(ValueError, match="no end"):
        list(ValueRange(0, None))
