"""Interned, immutable integer expressions: what sizes, strides, offsets and indices are made of.

Built once, simplified as they are built (by `rules`, from the value ranges of their symbols) and shared from then on;
nothing later on the path changes an expression. Invariants: expressions that are built alike are the same object, so
`==` is identity and hashing is O(1); an expression is a polynomial in normal form over symbols, floor divisions,
remainders, minima, maxima and choices; what it simplifies to agrees with what was written wherever that is defined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, TypeAlias

from . import rules
from .kind import Kind
from .node import Expr, SymbolicValueError, interned, remember
from .value_range import (
    ValueRange,
    add_bounds,
    floor_div_bounds,
    mod_bounds,
    mul_bounds,
    scale_bounds,
    square_bounds,
)

Term: TypeAlias = "tuple[IntExpr, int]"
_EXPANSION_LIMIT = 64  # products of sums with more terms than this stay factored
_TRAILING_NUMBER = re.compile(r"(.*?)(\d{0,15})$", re.DOTALL)

_sums: dict[tuple[Any, Any], IntExpr] = {}
_products: dict[tuple[Any, Any], IntExpr] = {}
_quotients: dict[tuple[Any, Any], IntExpr] = {}
_remainders: dict[tuple[Any, Any], IntExpr] = {}


class IntExpr(Expr):
    """An integer expression.

    `terms` and `constant` read it as a linear combination: the sum of `coefficient * term` over `terms`, plus
    `constant`. A term is never a literal and never a sum.
    """

    __slots__ = ("constant", "lower", "terms", "upper")

    lower: int | None
    """Greatest known lower bound, inclusive."""
    upper: int | None
    """Least known upper bound, inclusive."""
    constant: int
    terms: tuple[Term, ...]

    @property
    def value_range(self) -> ValueRange:
        """The interval that contains every value."""
        return ValueRange(self.lower, self.upper)

    @property
    def constant_value(self) -> int:
        """The value of a literal; raises SymbolicValueError for any other expression."""
        raise SymbolicValueError(self, "constant value", "substitute its symbols, or test `is_constant` first.")

    def coefficient(self, sym: Symbol) -> IntExpr | None:
        """`stride_of(self, sym)`."""
        return stride_of(self, sym)

    def divide_terms(self, divisor: int) -> tuple[IntExpr, IntExpr]:
        """The pair (q, r) with self == divisor * q + r, where q takes every term whose coefficient `divisor` divides.

        The constant is split so that r's is in [0, divisor). `divisor` is at least 1.
        """
        quotient: list[Term] = []
        rest: list[Term] = []
        for term, coefficient in self.terms:
            if coefficient % divisor:
                rest.append((term, coefficient))
            else:
                quotient.append((term, coefficient // divisor))
        if not quotient and 0 <= self.constant < divisor:
            return integer(0), self
        return (
            combine(self.constant // divisor, quotient),
            combine(self.constant % divisor, rest),
        )

    def __add__(self, other: IntExpr | int) -> IntExpr:
        found = _sums.get((self, other))
        if found is not None and other.__class__ is not float:
            return found
        value = _operand(other)
        if value is None:
            return NotImplemented
        return remember(_sums, (self, other), _add(self, value))

    def __radd__(self, other: int) -> IntExpr:
        return self.__add__(other)

    def __sub__(self, other: IntExpr | int) -> IntExpr:
        value = _operand(other)
        return NotImplemented if value is None else self + scaled(value, -1)

    def __rsub__(self, other: int) -> IntExpr:
        return scaled(self, -1) + other

    def __neg__(self) -> IntExpr:
        return scaled(self, -1)

    def __pos__(self) -> IntExpr:
        return self

    def __mul__(self, other: IntExpr | int) -> IntExpr:
        found = _products.get((self, other))
        if found is not None and other.__class__ is not float:
            return found
        value = _operand(other)
        if value is None:
            return NotImplemented
        return remember(_products, (self, other), _multiply(self, value))

    def __rmul__(self, other: int) -> IntExpr:
        return self.__mul__(other)

    def __floordiv__(self, other: IntExpr | int) -> IntExpr:
        found = _quotients.get((self, other))
        if found is not None and other.__class__ is not float:
            return found
        value = _operand(other)
        if value is None:
            return NotImplemented
        return remember(_quotients, (self, other), _floor_div(self, value))

    def __rfloordiv__(self, other: int) -> IntExpr:
        return integer(other) // self

    def __mod__(self, other: IntExpr | int) -> IntExpr:
        found = _remainders.get((self, other))
        if found is not None and other.__class__ is not float:
            return found
        value = _operand(other)
        if value is None:
            return NotImplemented
        return remember(_remainders, (self, other), _mod(self, value))

    def __rmod__(self, other: int) -> IntExpr:
        return integer(other) % self

    def __int__(self) -> int:
        return self.constant_value

    if TYPE_CHECKING:
        # at run time this is object's own comparison; literals may be compared with integers

        def __eq__(self, other: object) -> bool: ...
        def __hash__(self) -> int: ...

    def __bool__(self) -> bool:
        raise SymbolicValueError(self, "truth value", "build a condition with eq, ne, lt, le, gt or ge.")


class Integer(IntExpr):
    """A literal. It equals the Python integer of the same value, and hashes alike."""

    __slots__ = ("value",)
    kind = Kind.INTEGER
    value: int

    @property
    def is_constant(self) -> bool:
        return True

    @property
    def constant_value(self) -> int:
        return self.value

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, int) and other == self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __index__(self) -> int:
        return self.value

    def __bool__(self) -> bool:
        return self.value != 0

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return self.value

    def __reduce__(self) -> tuple[object, ...]:
        return integer, (self.value,)


class Symbol(IntExpr):
    """A named integer in [`lower`, `upper`]; equal names with different bounds are different symbols."""

    __slots__ = ("name",)
    kind = Kind.SYMBOL
    name: str

    def replaced(self, mapping: Mapping[Symbol, IntExpr | int]) -> IntExpr:
        return as_expr(mapping.get(self, self))

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return mapping[self]

    def __reduce__(self) -> tuple[object, ...]:
        return symbol, (self.name, self.lower, self.upper)


class Add(IntExpr):
    """A sum: at least one term, and more than one summand."""

    __slots__ = ()
    kind = Kind.ADD

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        return combine(self.constant, ((child, c) for child, (_, c) in zip(children, self.terms)))

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return self.constant + sum(v * c for v, (_, c) in zip(children, self.terms))

    def __reduce__(self) -> tuple[object, ...]:
        return sum_node, (self.constant, self.terms)


class Mul(IntExpr):
    """A product `coefficient * factors`; a factor is no literal and no product, and powers repeat it."""

    __slots__ = ("factors", "scale")
    kind = Kind.MUL
    scale: int
    factors: tuple[IntExpr, ...]

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        result = integer(self.scale)
        for child in children:
            result = result * child
        return result

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        result = self.scale
        for value in children:
            result *= value
        return result

    def __reduce__(self) -> tuple[object, ...]:
        return product_node, (self.scale, self.factors)


class BinaryInt(IntExpr):
    """An integer operation of two operands that is not a sum or a product."""

    __slots__ = ("lhs", "rhs")
    lhs: IntExpr
    rhs: IntExpr

    def __reduce__(self) -> tuple[object, ...]:
        return binary_node, (type(self), self.lhs, self.rhs)


class FloorDiv(BinaryInt):
    """`lhs // rhs`, rounding down."""

    __slots__ = ()
    kind = Kind.FLOOR_DIV

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        return children[0] // children[1]

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return children[0] // children[1]


class Mod(BinaryInt):
    """`lhs % rhs`, with the sign of rhs."""

    __slots__ = ()
    kind = Kind.MOD

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        return children[0] % children[1]

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return children[0] % children[1]


class MinMax(IntExpr):
    """The least or the greatest of two or more arguments."""

    __slots__ = ("args",)
    args: tuple[IntExpr, ...]

    def __reduce__(self) -> tuple[object, ...]:
        return min_max_node, (type(self), self.args)


class Min(MinMax):
    """The least of `args`."""

    __slots__ = ()
    kind = Kind.MIN

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        return minimum(*children)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return min(children)


class Max(MinMax):
    """The greatest of `args`."""

    __slots__ = ()
    kind = Kind.MAX

    def _rebuild(self, children: Sequence[Any]) -> IntExpr:
        return maximum(*children)

    def _value(self, children: Sequence[Any], mapping: Mapping[Symbol, int]) -> int:
        return max(children)


# ---------------------------------------------------------------------------------------------------------- building


def integer(value: int) -> Integer:
    """The literal `value`."""
    found = interned.get((Integer, value))
    if found is not None:
        return found
    node = Integer()
    node.value = node.lower = node.upper = node.constant = int(value)
    node.terms = ()
    node.seal((), node.value)
    return interned.setdefault((Integer, node.value), node)


def symbol(name: str, lower: int | None = 0, upper: int | None = None) -> Symbol:
    """The symbol of this name and these inclusive bounds; None is unbounded. Raises ValueError if no integer fits."""
    key = (Symbol, name, lower, upper)
    found = interned.get(key)
    if found is not None:
        return found
    if lower is not None and upper is not None and lower > upper:
        raise ValueError(f"symbol {name!r} would have no value: lower {lower} > upper {upper}")
    node = Symbol()
    node.name, node.lower, node.upper = name, lower, upper
    node.children = ()
    node.free_symbols = frozenset((node,))
    digest = int.from_bytes(blake2b(f"{name}|{lower}|{upper}".encode(), digest_size=7).digest(), "big")
    match = _TRAILING_NUMBER.match(name)
    prefix, number = (match[1], int(match[2] or -1)) if match else (name, -1)
    node.order = (prefix, number, 0, 0, digest)
    node.constant, node.terms = 0, ((node, 1),)
    return interned.setdefault(key, node)


def _operand(value: IntExpr | int) -> IntExpr | None:
    if isinstance(value, IntExpr):
        return value
    return integer(value) if isinstance(value, int) else None


def as_expr(value: IntExpr | int) -> IntExpr:
    """`value` as an expression; raises TypeError for anything but integers."""
    result = _operand(value)
    if result is None:
        raise TypeError(f"expected an integer or an integer expression, got {type(value).__name__}: {value!r}")
    return result


def _factors(term: IntExpr) -> tuple[IntExpr, ...]:
    return term.factors if isinstance(term, Mul) else (term,)


def product_node(scale: int, factors: tuple[IntExpr, ...]) -> IntExpr:
    """The product node of sorted factors, as it is; `scale` is not zero. For unpickling and this module."""
    if scale == 1 and len(factors) == 1:
        return factors[0]
    key = (Mul, scale, factors)
    found = interned.get(key)
    if found is not None:
        return found
    node = Mul()
    node.scale, node.factors = scale, factors
    if scale == 1:
        low, high = 1, 1
        position = 0
        while position < len(factors):
            factor = factors[position]
            if position + 1 < len(factors) and factors[position + 1] is factor:
                low, high = mul_bounds(low, high, *square_bounds(factor.lower, factor.upper))
                position += 2
            else:
                low, high = mul_bounds(low, high, factor.lower, factor.upper)
                position += 1
        node.lower, node.upper = low, high
        node.terms = ((node, 1),)
    else:
        unit = product_node(1, factors)
        node.lower, node.upper = scale_bounds(unit.lower, unit.upper, scale)
        node.terms = ((unit, scale),)
    node.constant = 0
    node.seal(factors, scale)
    return interned.setdefault(key, node)


def sum_node(constant: int, terms: tuple[Term, ...]) -> IntExpr:
    """The linear combination of sorted terms with non-zero coefficients, as it is. For unpickling and this module."""
    if not terms:
        return integer(constant)
    if not constant and len(terms) == 1:
        term, coefficient = terms[0]
        return term if coefficient == 1 else product_node(coefficient, _factors(term))
    key = (Add, constant, terms)
    found = interned.get(key)
    if found is not None:
        return found
    node = Add()
    node.constant, node.terms = constant, terms
    low: int | None = constant
    high: int | None = constant
    for term, coefficient in terms:
        bounds = scale_bounds(term.lower, term.upper, coefficient)
        low, high = add_bounds(low, high, *bounds)
    node.lower, node.upper = low, high
    node.seal(tuple([t for t, _ in terms]), constant, *[c for _, c in terms])
    return interned.setdefault(key, node)


def _order_of(term: Term) -> tuple[str, int, int, int, int]:
    return term[0].order


def _normal(constant: int, coefficients: dict[IntExpr, int]) -> IntExpr:
    terms = [item for item in coefficients.items() if item[1]]
    if len(terms) > 1:
        if any(term.kind is Kind.MOD for term, _ in terms):
            merged = rules.merge_remainders(terms)
            if merged is not None:
                return merged + constant
        if any(isinstance(term, MinMax) for term, _ in terms):
            drawn = rules.drawn_into_extremum(terms)
            if drawn is not None:
                rest, kind, args = drawn
                return rest + _extremum(Min if kind is Kind.MIN else Max, args) + constant
        terms.sort(key=_order_of)
    return sum_node(constant, tuple(terms))


def combine(constant: int, parts: Iterable[tuple[IntExpr, int]]) -> IntExpr:
    """The sum of `constant` and `coefficient * expression` over `parts`; linear in the number of terms."""
    coefficients: dict[IntExpr, int] = {}
    for part, scale in parts:
        constant += part.constant * scale
        for term, coefficient in part.terms:
            coefficients[term] = coefficients.get(term, 0) + coefficient * scale
    return _normal(constant, coefficients)


def scaled(value: IntExpr, factor: int) -> IntExpr:
    """`factor * value`."""
    if factor == 1:
        return value
    if factor == 0:
        return integer(0)
    return sum_node(value.constant * factor, tuple([(t, c * factor) for t, c in value.terms]))


def _add(a: IntExpr, b: IntExpr) -> IntExpr:
    if not b.terms:
        return sum_node(a.constant + b.constant, a.terms) if b.constant else a
    if not a.terms:
        return sum_node(a.constant + b.constant, b.terms) if a.constant else b
    coefficients = dict(a.terms)
    for term, coefficient in b.terms:
        coefficients[term] = coefficients.get(term, 0) + coefficient
    return _normal(a.constant + b.constant, coefficients)


def _multiply(a: IntExpr, b: IntExpr) -> IntExpr:
    if not a.terms:
        return scaled(b, a.constant)
    if not b.terms:
        return scaled(a, b.constant)
    if (len(a.terms) + 1) * (len(b.terms) + 1) > _EXPANSION_LIMIT:
        # a scaled product may not be a factor, so the scales come first
        scale = math.prod(e.scale for e in (a, b) if isinstance(e, Mul))
        return product_node(scale, tuple(sorted(_factors(a) + _factors(b), key=lambda f: f.order)))
    coefficients: dict[IntExpr, int] = {}
    for left, m in a.terms:
        for right, n in b.terms:
            factors = sorted(_factors(left) + _factors(right), key=lambda f: f.order)
            term = product_node(1, tuple(factors))
            coefficients[term] = coefficients.get(term, 0) + m * n
    for expr, by in ((a, b.constant), (b, a.constant)):
        if by:
            for term, m in expr.terms:
                coefficients[term] = coefficients.get(term, 0) + m * by
    return _normal(a.constant * b.constant, coefficients)


def binary_node(cls: type[BinaryInt], lhs: IntExpr, rhs: IntExpr) -> IntExpr:
    """The division or remainder node, as it is; a literal if its range is one value."""
    key = (cls, lhs, rhs)
    found = interned.get(key)
    if found is not None:
        return found
    bounds = floor_div_bounds if cls is FloorDiv else mod_bounds
    low, high = bounds(lhs.lower, lhs.upper, rhs.lower, rhs.upper)
    if low is not None and low == high:
        return integer(low)
    node = cls()
    node.lhs, node.rhs, node.lower, node.upper = lhs, rhs, low, high
    node.constant, node.terms = 0, ((node, 1),)
    node.seal((lhs, rhs))
    return interned.setdefault(key, node)


def _floor_div(lhs: IntExpr, rhs: IntExpr) -> IntExpr:
    if rhs.lower == rhs.upper == 0:
        raise ZeroDivisionError(f"({lhs}) // 0")
    found = rules.apply(rules.FLOOR_DIV, lhs, rhs)
    return binary_node(FloorDiv, lhs, rhs) if found is None else found


def _mod(lhs: IntExpr, rhs: IntExpr) -> IntExpr:
    if rhs.lower == rhs.upper == 0:
        raise ZeroDivisionError(f"({lhs}) % 0")
    found = rules.apply(rules.MOD, lhs, rhs)
    return binary_node(Mod, lhs, rhs) if found is None else found


def floor_div(a: IntExpr | int, b: IntExpr | int) -> IntExpr:
    """`a // b`, rounding down. Raises ZeroDivisionError when b is certainly zero."""
    return as_expr(a) // b


def mod(a: IntExpr | int, b: IntExpr | int) -> IntExpr:
    """`a % b`, with the sign of b. Raises ZeroDivisionError when b is certainly zero."""
    return as_expr(a) % b


def ceil_div(a: IntExpr | int, b: IntExpr | int) -> IntExpr:
    """`a / b` rounded up, for any non-zero b."""
    return -((-as_expr(a)) // b)


def sum_(values: Iterable[IntExpr | int]) -> IntExpr:
    """The sum of many; linear, where repeated `+` would be quadratic."""
    return combine(0, ((as_expr(v), 1) for v in values))


def product(values: Iterable[IntExpr | int]) -> IntExpr:
    """The product of many; 1 for none."""
    result: IntExpr = integer(1)
    for value in values:
        result = result * value
    return result


def min_max_node(cls: type[MinMax], args: tuple[IntExpr, ...]) -> IntExpr:
    """The minimum or maximum node of sorted arguments, as it is."""
    key = (cls, args)
    found = interned.get(key)
    if found is not None:
        return found
    node = cls()
    node.args = args
    span = args[0].value_range
    for arg in args[1:]:
        span = span.minimum(arg.value_range) if cls is Min else span.maximum(arg.value_range)
    node.lower, node.upper = span.lower, span.upper
    node.constant, node.terms = 0, ((node, 1),)
    node.seal(args)
    return interned.setdefault(key, node)


def _extremum(cls: type[MinMax], values: Sequence[IntExpr | int]) -> IntExpr:
    if not values:
        raise ValueError("the minimum or maximum of nothing does not exist")
    flat: dict[IntExpr, None] = {}
    for value in map(as_expr, values):
        for arg in value.args if isinstance(value, cls) else (value,):
            flat[arg] = None
    kept: list[IntExpr] = []
    for arg in flat:
        if any(_dominates(cls, other, arg) for other in kept):
            continue
        kept = [other for other in kept if not _dominates(cls, arg, other)]
        kept.append(arg)
    if len(kept) == 1:
        return kept[0]
    return min_max_node(cls, tuple(sorted(kept, key=lambda e: (e.is_constant, e.order))))


def _dominates(cls: type[MinMax], a: IntExpr, b: IntExpr) -> bool:
    difference = a - b
    if cls is Min:
        return difference.upper is not None and difference.upper <= 0
    return difference.lower is not None and difference.lower >= 0


def minimum(*values: IntExpr | int) -> IntExpr:
    """The least of one or more values."""
    return _extremum(Min, values)


def maximum(*values: IntExpr | int) -> IntExpr:
    """The greatest of one or more values."""
    return _extremum(Max, values)


# ------------------------------------------------------------------------------------------------------------- reading


def linear_terms(expr: IntExpr) -> tuple[int, dict[IntExpr, int]]:
    """The pair (constant, {term: coefficient}): expr == constant + sum of coefficient * term; no term is a literal."""
    return expr.constant, dict(expr.terms)


def stride_of(expr: IntExpr, sym: Symbol) -> IntExpr | None:
    """The c of expr == c * sym + rest, with sym in neither; None if expr is not affine in sym, 0 if sym is absent."""
    if sym not in expr.free_symbols:
        return integer(0)
    parts: list[tuple[IntExpr, int]] = []
    for term, coefficient in expr.terms:
        if sym not in term.free_symbols:
            continue
        if term is sym:
            parts.append((integer(1), coefficient))
            continue
        others = [f for f in _factors(term) if f is not sym]
        if len(others) + 1 != len(_factors(term)) or any(sym in f.free_symbols for f in others):
            return None
        parts.append((product_node(1, tuple(others)), coefficient))
    return combine(0, parts)
