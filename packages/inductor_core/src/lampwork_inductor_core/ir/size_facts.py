"""Sizes as the lowering sees them: symbols replaced by what the facts of their environment say about them.

Between torch's SymInts and every expression of the IR. A symbol that a fact equates to something simpler is replaced by
that; one that a fact says is a multiple of k becomes `k * (a symbol for the quotient)`, so that products, divisions and
remainders by k simplify by the rules alone. Invariant: two sizes that the facts make equal are the same expression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from lampwork_symshape import IntExpr, Kind, ShapeEnv, Symbol, symbol

_Meanings = tuple[int, Mapping[Symbol, IntExpr]]
_known: WeakKeyDictionary[ShapeEnv, _Meanings] = WeakKeyDictionary()  # with the number of facts that it was made from


def with_facts(expression: IntExpr, env: object) -> IntExpr:
    """`expression` with its symbols replaced by what `env`, its environment, has come to know about them."""
    if not isinstance(env, ShapeEnv) or not env.facts or not expression.free_symbols:
        return expression
    known = _known.get(env)
    if known is None or known[0] != len(env.facts):
        known = _known[env] = (len(env.facts), _meanings(env))
    expression = env.simplified(expression)
    return expression.substitute(known[1]) if known[1] else expression


def _meanings(env: ShapeEnv) -> Mapping[Symbol, IntExpr]:
    """The symbols that facts say are multiples of a number, as multiples."""
    divisors: dict[Symbol, int] = {}
    for fact in env.facts:
        for term, divisor in _multiples(fact.condition):
            meaning = env.simplified(term)
            if isinstance(meaning, Symbol):
                divisors[meaning] = math.lcm(divisors.get(meaning, 1), divisor)
    return {sym: divisor * quotient_symbol(sym, divisor) for sym, divisor in divisors.items() if divisor > 1}


def _multiples(condition: Any) -> list[tuple[IntExpr, int]]:
    """(symbol, k) where the condition says that k divides the symbol."""
    if condition.kind is Kind.AND:
        return [pair for part in condition.args for pair in _multiples(part)]
    if condition.kind is not Kind.EQ:
        return []
    difference = condition.difference
    if difference.constant or len(difference.terms) != 1 or difference.terms[0][0].kind is not Kind.MOD:
        return []
    remainder: Any = difference.terms[0][0]
    if isinstance(remainder.lhs, Symbol) and remainder.rhs.is_constant and int(remainder.rhs) > 1:
        return [(remainder.lhs, int(remainder.rhs))]
    return []


def quotient_symbol(sym: Symbol, divisor: int) -> Symbol:
    """The symbol for `sym // divisor`, where that is exact."""
    lower = None if sym.lower is None else -(-sym.lower // divisor)
    upper = None if sym.upper is None else sym.upper // divisor
    return symbol(f"{sym.name}_by_{divisor}", lower, upper)
