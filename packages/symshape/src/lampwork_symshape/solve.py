"""The bridge to sympy: translation both ways, and solving an equation for a symbol.

The only module that imports sympy, and off every hot path: used for derived dimensions (an input of size 2*s0 + 1 gives
s0) and as the oracle of property tests. Invariant: `from_sympy(to_sympy(e))` means what `e` means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import sympy

from .condition import BoolExpr, Connective, Relation, Where, and_, boolean, eq, ge, gt, le, lt, ne, not_, or_, where
from .expr import Add, BinaryInt, Integer, IntExpr, MinMax, Mul, Symbol, as_expr, integer, maximum, minimum, sum_
from .kind import Kind
from .node import Expr, postorder

_RELATIONS: dict[Kind, Callable[[Any, Any], Any]] = {
    Kind.EQ: sympy.Eq,
    Kind.NE: sympy.Ne,
    Kind.LT: sympy.Lt,
    Kind.LE: sympy.Le,
}
_FROM_RELATION: dict[str, Callable[[IntExpr, IntExpr], BoolExpr]] = {
    "==": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}


class UntranslatableError(ValueError):
    """A sympy expression that has no counterpart here."""

    def __init__(self, expr: object) -> None:
        self.hint = "only integer polynomials, floor of a quotient, Mod, Min, Max, Piecewise and relations translate."
        super().__init__(f"cannot translate {expr!r} from sympy. Hint: {self.hint}")


class Remainder(sympy.Function):
    """`x % y` with the sign of y, opaque to sympy but for literals.

    sympy's own Mod is wrong on extrema: sympy 1.14 has Mod(Max(2, 2*i), 6) == 0.
    """

    nargs = 2
    is_integer = True

    @classmethod
    def eval(cls, *args: Any) -> Any:
        """The value for two literals; None leaves it as it is."""
        x, y = args
        if isinstance(x, sympy.Integer) and isinstance(y, sympy.Integer) and int(y) != 0:
            return sympy.Integer(int(x) % int(y))
        return None


def sympy_symbol(sym: Symbol) -> sympy.Symbol:
    """The sympy symbol that stands for `sym`; its bounds go into the assumptions that sympy has."""
    positive = True if sym.lower is not None and sym.lower >= 1 else None
    nonnegative = True if sym.lower is not None and sym.lower >= 0 else None
    return sympy.Symbol(sym.name, integer=True, positive=positive, nonnegative=nonnegative)


def to_sympy(expr: Expr) -> Any:
    """The sympy expression of the same meaning. Symbols of equal names and bounds must not be mixed with others'."""
    done: dict[Expr, Any] = {}
    for node in postorder(expr):
        done[node] = _to_sympy(node, [done[c] for c in node.children])
    return done[expr]


def _to_sympy(node: Expr, children: list[Any]) -> Any:
    if isinstance(node, Integer):
        return sympy.Integer(node.value)
    if isinstance(node, Symbol):
        return sympy_symbol(node)
    if isinstance(node, Add):
        parts = [child * c for child, (_, c) in zip(children, node.terms)]
        return sympy.Add(sympy.Integer(node.constant), *parts)
    if isinstance(node, Mul):
        return sympy.Mul(sympy.Integer(node.scale), *children)
    if isinstance(node, BinaryInt):
        if node.kind is Kind.FLOOR_DIV:
            return sympy.floor(children[0] / children[1])
        return Remainder(children[0], children[1])
    if isinstance(node, MinMax):
        return (sympy.Min if node.kind is Kind.MIN else sympy.Max)(*children)
    if isinstance(node, Where):
        return sympy.Piecewise((children[1], children[0]), (children[2], True))
    if isinstance(node, Relation):
        return _RELATIONS[node.kind](*children)
    if isinstance(node, Connective):
        return (sympy.And if node.kind is Kind.AND else sympy.Or)(*children)
    return sympy.true if cast(Any, node).value else sympy.false


def from_sympy(expr: Any, symbols: Mapping[str, Symbol]) -> IntExpr | BoolExpr:
    """The expression of the same meaning; `symbols` by sympy name. Raises UntranslatableError or KeyError."""
    if expr is sympy.true or expr is sympy.false:
        return boolean(expr is sympy.true)
    if isinstance(expr, sympy.Integer):
        return integer(int(expr))
    if isinstance(expr, sympy.Symbol):
        return symbols[expr.name]
    if isinstance(expr, sympy.floor):
        numerator, denominator = expr.args[0].as_numer_denom()
        return _int(numerator, symbols) // _int(denominator, symbols)
    if isinstance(expr, sympy.Not):
        return not_(_bool(expr.args[0], symbols))
    if isinstance(expr, sympy.And | sympy.Or):
        build = and_ if isinstance(expr, sympy.And) else or_
        return build(*(_bool(a, symbols) for a in expr.args))
    if isinstance(expr, sympy.core.relational.Relational):
        return _FROM_RELATION[cast(Any, expr).rel_op](_int(expr.lhs, symbols), _int(expr.rhs, symbols))
    if isinstance(expr, sympy.Pow):
        base, power = expr.args
        if isinstance(power, sympy.Integer) and int(power) >= 0:
            return reduce(lambda a, b: a * b, [_int(base, symbols)] * int(power), as_expr(1))
        raise UntranslatableError(expr)
    if isinstance(expr, sympy.Piecewise):
        pieces = [(_int(value, symbols), _bool(condition, symbols)) for value, condition in cast(Any, expr).args]
        return reduce(lambda rest, piece: where(piece[1], piece[0], rest), reversed(pieces[:-1]), pieces[-1][0])
    return _from_operation(expr, symbols)


def _from_operation(expr: Any, symbols: Mapping[str, Symbol]) -> IntExpr:
    if isinstance(expr, sympy.Add | sympy.Mul | sympy.Mod | Remainder | sympy.Min | sympy.Max):
        args = [_int(a, symbols) for a in expr.args]
        if isinstance(expr, sympy.Add):
            return sum_(args)
        if isinstance(expr, sympy.Mul):
            return reduce(lambda a, b: a * b, args)
        if isinstance(expr, sympy.Mod | Remainder):
            return args[0] % args[1]
        return minimum(*args) if isinstance(expr, sympy.Min) else maximum(*args)
    raise UntranslatableError(expr)


def _int(expr: Any, symbols: Mapping[str, Symbol]) -> IntExpr:
    result = from_sympy(expr, symbols)
    if not isinstance(result, IntExpr):
        raise UntranslatableError(expr)
    return result


def _bool(expr: Any, symbols: Mapping[str, Symbol]) -> BoolExpr:
    result = from_sympy(expr, symbols)
    if not isinstance(result, BoolExpr):
        raise UntranslatableError(expr)
    return result


@dataclass(frozen=True, slots=True)
class Solution:
    """The symbol equals `value`, provided `condition` (that a division is exact) holds."""

    value: IntExpr
    condition: BoolExpr


def solve_equality(equation: BoolExpr, sym: Symbol) -> Solution | None:
    """The only value of `sym` for which an equation holds, or None if there is none, several, or no formula.

    Bounds of `sym` are not checked against the value.
    """
    if not isinstance(equation, Relation) or equation.kind is not Kind.EQ or sym not in equation.free_symbols:
        return None
    free = {s.name: s for s in equation.free_symbols}
    if len(free) != len(equation.free_symbols):
        return None  # two symbols of one name would be mixed up
    unknown = sympy_symbol(sym)
    polynomial = sympy.Poly(to_sympy(equation.difference), unknown) if _is_polynomial(equation, sym) else None
    if polynomial is None or polynomial.degree() != 1:
        return None
    slope, rest = polynomial.all_coeffs()
    if not slope.is_Integer:
        return None
    divisor = integer(int(slope))
    numerator = -_int(sympy.expand(rest), free)
    return Solution(numerator // divisor, eq(numerator % divisor, 0))


def _is_polynomial(equation: Relation, sym: Symbol) -> bool:
    opaque = (BinaryInt, MinMax, Where)
    return not any(isinstance(n, opaque) and sym in n.free_symbols for n in postorder(equation.difference))
