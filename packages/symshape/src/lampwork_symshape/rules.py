"""The simplifier of floor division and remainder: a table of rules, one a line, tried in order as a node is built.

A rule is a pattern and a result, both written as Python; what a pattern cannot say (sums of any length) is a named
function in the same table. Called by `expr`; builds results with the expressions' own operators only.
Invariant: each rule is an identity over the integers wherever its left side is defined and its condition holds.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING, Any, cast

from .kind import Kind
from .value_range import floor_div_bounds

if TYPE_CHECKING:
    from .expr import IntExpr

RuleFunction = Callable[[Any, Any], "IntExpr | int | None"]

_OPERATORS: dict[type[ast.operator], str] = {ast.FloorDiv: "FLOOR_DIV", ast.Mod: "MOD"}
_OPPOSITE = {Kind.MIN: Kind.MAX, Kind.MAX: Kind.MIN}
CONSTANT_NAMES = frozenset("cd")
"""Pattern variables that match literals only; every other name matches any expression."""


# ------------------------------------------------------------------------------------- what conditions may say


def positive(x: IntExpr) -> bool:
    """x >= 1, by its range."""
    return x.lower is not None and x.lower >= 1


def nonnegative(x: IntExpr) -> bool:
    """x >= 0, by its range."""
    return x.lower is not None and x.lower >= 0


def below(x: IntExpr, y: IntExpr) -> bool:
    """x < y, by their ranges."""
    return x.upper is not None and y.lower is not None and x.upper < y.lower


# ------------------------------------------------------------------------------------------- rules as patterns


@dataclass(frozen=True, slots=True)
class Rule:
    """Rewrite `pattern` into `result` when the condition holds; all three are Python source."""

    pattern: str
    result: str
    when: str = "True"
    apply: RuleFunction = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "apply", _compile(self))


def _compile(rule: Rule) -> RuleFunction:
    """Turn a rule into straight-line code: test the kinds from the outside in, bind the names, test, build."""
    root = ast.parse(rule.pattern, mode="eval").body
    if not isinstance(root, ast.BinOp):
        raise ValueError(f"the pattern {rule.pattern!r} is not an operation of two operands")
    lines: list[str] = []
    bound: set[str] = set()

    def match(node: ast.expr, path: str) -> None:
        if isinstance(node, ast.BinOp):
            lines.append(f"if {path}.kind is not {_OPERATORS[type(node.op)]}: return None")
            match(node.left, f"{path}.lhs")
            match(node.right, f"{path}.rhs")
        elif isinstance(node, ast.Constant):
            lines.append(f"if {path}.kind is not INTEGER or {path}.value != {node.value!r}: return None")
        elif isinstance(node, ast.Name) and node.id in bound:
            lines.append(f"if {path} is not {node.id}: return None")
        elif isinstance(node, ast.Name) and node.id in CONSTANT_NAMES:
            lines.append(f"if {path}.kind is not INTEGER: return None")
            lines.append(f"{node.id} = {path}.value")
            bound.add(node.id)
        elif isinstance(node, ast.Name):
            lines.append(f"{node.id} = {path}")
            bound.add(node.id)
        else:
            raise ValueError(f"the pattern {rule.pattern!r} may hold names, integers, // and % only")

    match(root.left, "lhs")
    match(root.right, "rhs")
    body = "\n    ".join([*lines, f"if not ({rule.when}): return None", f"return {rule.result}"])
    namespace: dict[str, Any] = {kind.name: kind for kind in Kind}
    namespace.update(positive=positive, nonnegative=nonnegative, below=below)
    exec(compile(f"def apply(lhs, rhs):\n    {body}\n", f"<rule {rule.pattern}>", "exec"), namespace)
    return cast(RuleFunction, namespace["apply"])


@dataclass(frozen=True, slots=True)
class FunctionRule:
    """A rule over sums of any length; `text` says what it does."""

    text: str
    apply: RuleFunction


def apply(table: Sequence[Rule | FunctionRule], lhs: IntExpr, rhs: IntExpr) -> IntExpr | None:
    """The result of the first rule that matches, or None."""
    for rule in table:
        found = rule.apply(lhs, rhs)
        if found is not None:
            return found + 0 * lhs if isinstance(found, int) else found
    return None


# ------------------------------------------------------------------------------------------- rules as functions


def _sum(parts: Iterable[tuple[IntExpr, int]], start: IntExpr) -> IntExpr:
    for part, coefficient in parts:
        start = start + part * coefficient
    return start


def _term_divisors(expr: IntExpr, divisor: int) -> list[int]:
    """The divisors g > 1 of `divisor` that are greatest common divisors of it and some coefficients, greatest first."""
    found: set[int] = set()
    for _, coefficient in expr.terms:
        g = gcd(coefficient, divisor)
        found |= {gcd(g, other) for other in found}
        found.add(g)
    found.discard(1)
    return sorted(found, reverse=True)


def _narrow(expr: IntExpr, divisor: int) -> tuple[int, IntExpr, IntExpr] | None:
    """(g, A, B) with expr == g*A + B, 0 <= B < g and g a divisor of `divisor`; None if there is none."""
    for g in _term_divisors(expr, divisor):
        quotient, rest = expr.divide_terms(g)
        if rest.lower is not None and rest.upper is not None and rest.lower // g == rest.upper // g:
            whole = rest.lower // g
            return g, quotient + whole, rest - whole * g
    return None


def factors_of(term: IntExpr) -> tuple[IntExpr, ...]:
    """The factors of a term; itself when it is no product."""
    return cast(Any, term).factors if term.kind is Kind.MUL else (term,)


def _without(factors: tuple[IntExpr, ...], remove: tuple[IntExpr, ...]) -> list[IntExpr] | None:
    left = list(factors)
    for factor in remove:
        if factor not in left:
            return None
        left.remove(factor)
    return left


def _product(factors: Iterable[IntExpr], start: IntExpr) -> IntExpr:
    for factor in factors:
        start = start * factor
    return start


def split_by_divisor(expr: IntExpr, divisor: IntExpr) -> tuple[IntExpr | None, IntExpr]:
    """(q, r) with expr == q * divisor + r, where r is simpler than expr; q is None when there is no such step."""
    zero = expr * 0
    if not divisor.terms:
        quotient, rest = expr.divide_terms(abs(divisor.constant))
        return (None, expr) if quotient is zero else (quotient if divisor.constant > 0 else -quotient, rest)
    lead, lead_coefficient = max(divisor.terms, key=lambda t: (len(factors_of(t[0])), t[0].order))
    if len(divisor.terms) == 1 and not divisor.constant:
        quotient, rest = zero, zero + expr.constant
        for term, coefficient in expr.terms:
            left = None if coefficient % lead_coefficient else _without(factors_of(term), factors_of(lead))
            if left is None:
                rest = rest + term * coefficient
            else:
                quotient = quotient + _product(left, zero + coefficient // lead_coefficient)
        return (None, expr) if rest is expr else (quotient, rest)
    quotient, rest = zero, expr
    for _ in range(2 * len(expr.terms)):  # division of polynomials, by the divisor's leading term
        step = None
        for term, coefficient in rest.terms:
            left = None if coefficient % lead_coefficient else _without(factors_of(term), factors_of(lead))
            if left is not None:
                step = _product(left, zero + coefficient // lead_coefficient)
                break
        if step is None:
            break
        quotient, rest = quotient + step, rest - step * divisor
    return (quotient, rest) if len(rest.terms) < len(expr.terms) else (None, expr)


def _common_factor(x: IntExpr, y: IntExpr) -> tuple[IntExpr, IntExpr] | None:
    """(x', y') after cancelling the greatest common single product of two expressions; None if there is none."""
    content = gcd(x.constant, y.constant, *(c for _, c in x.terms), *(c for _, c in y.terms))
    common: list[IntExpr] = []
    if not x.constant and not y.constant and x.terms and y.terms:
        for factor in factors_of(x.terms[0][0]):
            trial = (*common, factor)
            if all(_without(factors_of(t), trial) is not None for e in (x, y) for t, _ in e.terms):
                common.append(factor)
    if content <= 1 and not common:
        return None
    shared = _product(common, x * 0 + content)
    return _exact(x, shared), _exact(y, shared)


def _exact(expr: IntExpr, divisor: IntExpr) -> IntExpr:
    quotient, rest = split_by_divisor(expr, divisor)
    assert quotient is not None and not rest.terms and not rest.constant, (expr, divisor)
    return quotient


def _div_pull_out(x: IntExpr, y: IntExpr) -> IntExpr | None:
    quotient, rest = split_by_divisor(x, y)
    return None if quotient is None else quotient + rest // y


def _div_narrow(x: IntExpr, y: IntExpr) -> IntExpr | None:
    if y.kind is not Kind.INTEGER or not x.terms:
        return None
    found = _narrow(x, y.constant)
    return None if found is None else found[1] // (y.constant // found[0])


def _div_cancel(x: IntExpr, y: IntExpr) -> IntExpr | None:
    found = None if y.kind is Kind.INTEGER else _common_factor(x, y)
    return None if found is None else found[0] // found[1]


def _div_flip(x: IntExpr, y: IntExpr) -> IntExpr | None:
    if not x.terms or not positive(y) or any(c > 0 for _, c in x.terms):
        return None
    return -((-x + y - 1) // y)


def _mod_known_quotient(x: IntExpr, y: IntExpr) -> IntExpr | None:
    low, high = floor_div_bounds(x.lower, x.upper, y.lower, y.upper)
    return x - y * low if low is not None and low == high else None


def _mod_drop_multiples(x: IntExpr, y: IntExpr) -> IntExpr | None:
    quotient, rest = split_by_divisor(x, y)
    return None if quotient is None else rest % y


def _mod_open_remainders(x: IntExpr, y: IntExpr) -> IntExpr | None:
    zero = x * 0
    for term, coefficient in x.terms:
        if term.kind is not Kind.MOD:
            continue
        inner, modulus = cast(Any, term).lhs, cast(Any, term).rhs
        quotient, rest = split_by_divisor(modulus * coefficient, y)
        if quotient is not None and rest is zero:
            return (x - term * coefficient + inner * coefficient) % y
    return None


def _mod_narrow(x: IntExpr, y: IntExpr) -> IntExpr | None:
    if y.kind is not Kind.INTEGER or not x.terms:
        return None
    found = _narrow(x, y.constant)
    if found is None:
        return None
    g, quotient, rest = found
    return (quotient % (y.constant // g)) * g + rest


def _mod_cancel(x: IntExpr, y: IntExpr) -> IntExpr | None:
    found = None if y.kind is Kind.INTEGER else _common_factor(x, y)
    if found is None:
        return None
    return (found[0] % found[1]) * _exact(y, found[1])


def merge_remainders(terms: Sequence[tuple[IntExpr, int]]) -> IntExpr | None:
    """Recombine a quotient and its remainder in a sum of (term, coefficient); None when nothing matches.

    k*a*(x // a) + k*(x % a) is k*x, k*(x % a) - k*x is -k*a*(x // a), and for positive a and b,
    k*a*((w + x // a) % b) + k*(x % a) is k*((a*w + x) % (a*b)).
    """
    table = dict(terms)
    for term, k in terms:
        if term.kind is not Kind.MOD:
            continue
        x, a = cast("tuple[IntExpr, IntExpr]", (cast(Any, term).lhs, cast(Any, term).rhs))
        zero = x * 0
        quotient = x // a
        whole = quotient * a
        if whole.terms and all(t is not term and table.get(t) == c * k for t, c in whole.terms):
            used = {term, *(t for t, _ in whole.terms)}
            rest = _sum(((t, c) for t, c in terms if t not in used), zero)
            return rest + (x - whole.constant) * k
        if x.terms and all(t is not term and table.get(t) == -k * c for t, c in x.terms):
            used = {term, *(t for t, _ in x.terms)}
            return _sum(((t, c) for t, c in terms if t not in used), zero) - whole * k + x.constant * k
        for other, m in terms:
            if other.kind is not Kind.MOD or other is term or not positive(a):
                continue
            y, b = cast("tuple[IntExpr, IntExpr]", (cast(Any, other).lhs, cast(Any, other).rhs))
            rest = y - quotient
            if positive(b) and a * k is zero + m and len(rest.terms) < len(y.terms):
                others = _sum(((t, c) for t, c in terms if t is not term and t is not other), zero)
                return others + ((rest * a + x) % (a * b)) * k
    return None


def drawn_into_extremum(terms: Sequence[tuple[IntExpr, int]]) -> tuple[IntExpr, Kind, list[IntExpr]] | None:
    """A sum of (term, coefficient) as a sum and the minimum or maximum of sums, one of them a number; else None.

    x - max(x - 7, 0), the length of the last 7 of x, is min(7, x): so its range is seen.
    """
    table = dict(terms)
    for term, k in terms:
        if term.kind not in _OPPOSITE or abs(k) != 1:
            continue
        for arg in cast(Any, term).args:
            if arg.terms and all(table.get(t) == -k * c for t, c in arg.terms):
                drawn = {t: -k * c for t, c in arg.terms}
                zero = term * 0
                rest = _sum(((t, c) for t, c in terms if t is not term and t not in drawn), zero)
                part = _sum(drawn.items(), zero)
                kind = term.kind if k > 0 else _OPPOSITE[term.kind]
                return rest, kind, [part + each * k for each in cast(Any, term).args]
    return None


# -------------------------------------------------------------------------------------------------- the tables

FLOOR_DIV: tuple[Rule | FunctionRule, ...] = (
    Rule("c // d", "c // d"),
    Rule("0 // x", "0"),
    Rule("x // 1", "x"),
    Rule("x // d", "(-x) // (-d)", "d < 0"),
    Rule("x // x", "1"),
    Rule("x // y", "0", "nonnegative(x) and below(x, y)"),
    Rule("(x // y) // z", "x // (y * z)", "positive(z)"),
    Rule("(x % c) // d", "(x // d) % (c // d)", "c > 0 and d > 0 and c % d == 0"),
    Rule("(x % y) // y", "0"),
    FunctionRule("(a*y + b) // y -> a + b // y", _div_pull_out),
    FunctionRule("(g*a + b) // (g*c) -> a // c where 0 <= b < g", _div_narrow),
    FunctionRule("(a*x) // (a*y) -> x // y", _div_cancel),
    FunctionRule("(-x) // y -> -((x + y - 1) // y) where y > 0", _div_flip),
)

MOD: tuple[Rule | FunctionRule, ...] = (
    Rule("c % d", "c % d"),
    Rule("0 % x", "0"),
    Rule("x % 1", "0"),
    Rule("x % x", "0"),
    Rule("x % d", "-((-x) % (-d))", "d < 0"),
    Rule("x % y", "x", "nonnegative(x) and below(x, y)"),
    Rule("(x % y) % y", "x % y"),
    Rule("(x % c) % d", "x % d", "c % d == 0"),
    FunctionRule("x % y -> x - k*y where x // y is k by its range", _mod_known_quotient),
    FunctionRule("(a*y + b) % y -> b % y", _mod_drop_multiples),
    FunctionRule("(k*(a % (y*z)) + b) % y -> (k*a + b) % y", _mod_open_remainders),
    FunctionRule("(g*a + b) % (g*c) -> g*(a % c) + b where 0 <= b < g", _mod_narrow),
    FunctionRule("(a*x) % (a*y) -> a*(x % y)", _mod_cancel),
)
