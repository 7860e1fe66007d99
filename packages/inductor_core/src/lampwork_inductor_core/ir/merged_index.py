"""Index expressions after loops were merged: `i % n`, `i // n % m` and `i // (n * m)` put together again.

Merging loops writes each old variable as a quotient or remainder of the new one. With constant sizes the rules of
symshape see that `i // n * n + i % n` is `i`; here the same for sizes that are symbols, with any common factor.
Invariant: the value of an expression never changes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lampwork_symshape import IntExpr, Kind, integer
from lampwork_symshape.node import postorder
from lampwork_symshape.rules import factors_of


@lru_cache(maxsize=8192)
def put_together(expression: IntExpr) -> IntExpr:
    """An equal expression, with fewer divisions where some belong together."""
    if not any(node.kind is Kind.MOD for node in postorder(expression)):
        return expression
    while True:
        simpler = _one_step(expression)
        if simpler is None:
            return expression
        expression = simpler


def _one_step(expression: IntExpr) -> IntExpr | None:
    """`c * (x % n) + c * n * (x // n % m)` is `c * (x % (n * m))`, and `c * (x % n) + c * n * (x // n)` is `c * x`."""
    for low, low_scale in expression.terms:
        for remainder in factors_of(low):
            if remainder.kind is not Kind.MOD:
                continue
            whole, size = _operands(remainder)
            if size.lower is None or size.lower < 1:
                continue
            common = _without(low, remainder, low_scale)
            quotient = whole // size
            rest = expression - common * remainder
            for high, high_scale in rest.terms:
                for factor in factors_of(high):
                    outer: IntExpr | None = None
                    if factor is quotient:
                        outer = whole
                    elif factor.kind is Kind.MOD and _operands(factor)[0] is quotient:
                        outer_size = _operands(factor)[1]
                        if outer_size.lower is not None and outer_size.lower >= 1:
                            outer = whole % (size * outer_size)
                    if outer is not None and _without(high, factor, high_scale) is common * size:
                        return rest - common * size * factor + common * outer
    return None


def _operands(node: IntExpr) -> tuple[IntExpr, IntExpr]:
    pair: Any = node
    return pair.lhs, pair.rhs


def _without(term: IntExpr, factor: IntExpr, scale: int) -> IntExpr:
    """The other factors of a term, times its coefficient."""
    left = list(factors_of(term))
    left.remove(factor)
    result: IntExpr = integer(scale)
    for other in left:
        result = result * other
    return result
