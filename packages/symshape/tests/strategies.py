"""Random expressions with a plain-Python meaning beside each, to compare what we build with what was written."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st
from lampwork_symshape import (
    BoolExpr,
    IntExpr,
    Symbol,
    and_,
    eq,
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
    sum_,
    symbol,
    where,
)

SYMBOLS = (
    symbol("i", 0, 3),
    symbol("j", 0, 7),
    symbol("k", -2, 2),
    symbol("m", 1, 3),
    symbol("n", 2, 5),
    symbol("z", 0, 0),
)
Values = Mapping[Symbol, int]


@dataclass(frozen=True)
class Written:
    """An expression as built, and what was written, as a function of the symbols' values."""

    built: IntExpr
    value: Callable[[Values], int]


@dataclass(frozen=True)
class WrittenCondition:
    """The same for a condition."""

    built: BoolExpr
    value: Callable[[Values], bool]


def assignments(symbols: frozenset[Symbol], limit: int = 400) -> Iterator[dict[Symbol, int]]:
    """Every assignment of values in range, the first `limit` of a shuffled-looking order."""
    names = sorted(symbols, key=lambda s: s.order)
    spans = [range(s.lower, s.upper + 1) for s in names]
    total = 1
    for span in spans:
        total *= len(span)
    step = max(1, total // limit) | 1
    for values in itertools.islice(itertools.product(*spans), 0, None, step):
        yield dict(zip(names, values))


def _leaf() -> st.SearchStrategy[Written]:
    literals = st.integers(-6, 17).map(lambda v: Written(integer(v), lambda _: v))
    symbols = st.sampled_from(SYMBOLS).map(lambda s: Written(s, lambda values: values[s]))
    scaled = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from([2, 3, 4, 6, 8, -1, -4, 16])).map(
        lambda p: Written(p[0] * p[1], lambda values: values[p[0]] * p[1])
    )
    return st.one_of(symbols, scaled, literals)


def _add(a: Written, b: Written) -> Written:
    return Written(a.built + b.built, lambda v: a.value(v) + b.value(v))


def _sub(a: Written, b: Written) -> Written:
    return Written(a.built - b.built, lambda v: a.value(v) - b.value(v))


def _mul(a: Written, b: Written) -> Written:
    return Written(a.built * b.built, lambda v: a.value(v) * b.value(v))


def _sum(a: Written, b: Written) -> Written:
    return Written(sum_([a.built, b.built, a.built, 3]), lambda v: 2 * a.value(v) + b.value(v) + 3)


def _div(a: Written, b: Written) -> Written:
    if b.built.lower == b.built.upper == 0:
        return a
    return Written(a.built // b.built, lambda v: a.value(v) // b.value(v))


def _mod(a: Written, b: Written) -> Written:
    if b.built.lower == b.built.upper == 0:
        return a
    return Written(a.built % b.built, lambda v: a.value(v) % b.value(v))


def _div_constant(c: int) -> Callable[[Written], Written]:
    return lambda a: Written(a.built // c, lambda v: a.value(v) // c)


def _mod_constant(c: int) -> Callable[[Written], Written]:
    return lambda a: Written(a.built % c, lambda v: a.value(v) % c)


def _recombine(c: int) -> Callable[[Written], Written]:
    return lambda a: Written((a.built // c) * c + a.built % c, a.value)


def _min(a: Written, b: Written) -> Written:
    return Written(minimum(a.built, b.built, 5), lambda v: min(a.value(v), b.value(v), 5))


def _max(a: Written, b: Written) -> Written:
    return Written(maximum(a.built, b.built), lambda v: max(a.value(v), b.value(v)))


def _where(a: Written, b: Written) -> Written:
    return Written(where(lt(a.built, b.built), a.built, b.built + 1),
                   lambda v: (b.value(v) + 1, a.value(v))[a.value(v) < b.value(v)])  # fmt: skip


_DIVISORS = st.sampled_from([1, 2, 3, 4, 6, 8, 12, 16, -2, -4])


def _grow(inner: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    binary = st.sampled_from([_add, _add, _sub, _mul, _sum, _div, _mod, _min, _max, _where])
    unary = st.tuples(st.sampled_from([_div_constant, _mod_constant, _recombine]), _DIVISORS).map(lambda p: p[0](p[1]))
    return st.one_of(
        st.tuples(binary, inner, inner).map(lambda p: p[0](p[1], p[2])),
        st.tuples(unary, inner).map(lambda p: p[0](p[1])),
    )


expressions = st.recursive(_leaf(), _grow, max_leaves=9)

_RELATIONS: dict[Callable[..., BoolExpr], Callable[[int, int], bool]] = {
    eq: lambda a, b: a == b,
    ne: lambda a, b: a != b,
    lt: lambda a, b: a < b,
    le: lambda a, b: a <= b,
    gt: lambda a, b: a > b,
    ge: lambda a, b: a >= b,
}


def _relation(relation: Callable[..., BoolExpr], a: Written, b: Written) -> WrittenCondition:
    meaning = _RELATIONS[relation]
    return WrittenCondition(relation(a.built, b.built), lambda v: meaning(a.value(v), b.value(v)))


small = st.recursive(_leaf(), _grow, max_leaves=4)
relations = st.builds(_relation, st.sampled_from(list(_RELATIONS)), small, small)


def _and(a: WrittenCondition, b: WrittenCondition) -> WrittenCondition:
    return WrittenCondition(and_(a.built, b.built), lambda v: a.value(v) & b.value(v))


def _or(a: WrittenCondition, b: WrittenCondition) -> WrittenCondition:
    return WrittenCondition(or_(a.built, b.built), lambda v: a.value(v) | b.value(v))


def _not(a: WrittenCondition) -> WrittenCondition:
    return WrittenCondition(not_(a.built), lambda v: not a.value(v))


def _grow_condition(inner: st.SearchStrategy[WrittenCondition]) -> st.SearchStrategy[WrittenCondition]:
    return st.one_of(st.builds(_and, inner, inner), st.builds(_or, inner, inner), st.builds(_not, inner))


conditions = st.recursive(relations, _grow_condition, max_leaves=3)
