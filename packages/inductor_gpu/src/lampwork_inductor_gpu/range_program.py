"""The ranges of index expressions as one Python function of the sizes.

Between the kernel's text and its launches: sizes are new in many calls, so what their ranges mean is written as plain
arithmetic when the launch is prepared. Invariant: ranges come bottom-up from the expression as it is printed, never
from a simplified one, and every part that the text computes is bounded: each operand, and each partial sum and product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lampwork_symshape import Expr, IntExpr, Kind, Symbol
from lampwork_symshape.condition import BoolExpr, Where
from lampwork_symshape.expr import BinaryInt, MinMax, Mul
from lampwork_symshape.node import postorder
from lampwork_symshape.value_range import floor_div_bounds, mod_bounds, mul_bounds

_Bound = int | str  # known now, or the name of a local of the function
_FUNCTIONS: dict[str, object] = {
    "floor_div_bounds": floor_div_bounds,
    "mod_bounds": mod_bounds,
    "mul_bounds": mul_bounds,
}


@dataclass(frozen=True, slots=True)
class _Range:
    """What a part is between. `positive`: certainly not negative; `exact`: one value, which the sizes tell."""

    low: _Bound
    high: _Bound
    positive: bool

    @property
    def exact(self) -> bool:
        return self.low == self.high

    @property
    def arguments(self) -> str:
        return f"{self.low}, {self.high}"


class RangeProgram:
    """Writes the function. `bounded` lists what has to stay in +-`limit`; then `function()`.

    Symbols: `sizes` are the function's argument; `counters` run from 0 to an expression of the sizes, exclusive; `wide`
    ones have 64 bits in the text, so parts with them need no bound.
    """

    def __init__(self, limit: int, sizes: Sequence[Symbol], wide: Iterable[Symbol]) -> None:
        self.limit = limit
        self.sizes = tuple(sizes)
        self.lines: list[str] = []
        self.checks: dict[str, None] = {}
        self.possible = True
        self._names: dict[str, str] = {}
        self._ranges: dict[Expr, _Range | None] = dict.fromkeys(wide)
        for position, size in enumerate(self.sizes):
            name = f"n{position}"
            self._ranges[size] = self._bounded(_Range(name, name, (size.lower or 0) >= 0 and size.lower is not None))

    def counters(self, last: Mapping[Symbol, IntExpr]) -> None:
        """Loop counters, each with its size."""
        for counter, size in last.items():
            self.bounded(size)
            known = self._ranges[size]
            assert known is not None
            self._ranges[counter] = _Range(0, self._sum(known.high, -1), True)

    def bounded(self, expression: Expr) -> None:
        """Ask that an expression and all its parts fit."""
        for node in postorder(expression):
            if node not in self._ranges:
                self._ranges[node] = self._of(node)

    def function(self) -> Callable[[Sequence[int]], bool]:
        """From the sizes, in order, to whether all fits."""
        if not self.possible:
            return lambda _: False
        start = [f"{', '.join(f'n{k}' for k in range(len(self.sizes)))}, = sizes"] if self.sizes else []
        lines = [*start, *self.lines, f"return {' and '.join(self.checks) or 'True'}"]
        text = "def fits(sizes):\n" + "".join(f"    {line}\n" for line in lines)
        namespace = dict(_FUNCTIONS)
        exec(compile(text, "<index ranges>", "exec"), namespace)
        return namespace["fits"]  # pyright: ignore[reportReturnType]

    # Bounds: numbers are computed now, the rest is a local of the function

    def _name(self, text: str) -> str:
        name = self._names.get(text)
        if name is None:
            name = self._names[text] = f"v{len(self._names)}"
            self.lines.append(f"{name} = {text}")
        return name

    def _sum(self, a: _Bound, b: _Bound) -> _Bound:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0 or b == 0:
            return b if a == 0 else a
        return self._name(f"{a} + {b}")

    def _product(self, a: _Bound, b: _Bound) -> _Bound:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if a == 1 or b == 1:
            return b if a == 1 else a
        return self._name(f"{a} * {b}")

    def _extreme(self, function: str, bounds: Sequence[_Bound]) -> _Bound:
        distinct = tuple(dict.fromkeys(bounds))
        if len(distinct) == 1:
            return distinct[0]
        return self._name(f"{function}({', '.join(map(str, distinct))})")

    def _general(self, function: str, a: _Range, b: _Range) -> _Range:
        """Ranges of any sign, by symshape's own function; open ones do not fit."""
        call = f"{function}({a.arguments}, {b.arguments})"
        known = call in self._names
        pair = self._name(call)
        low, high = f"{pair}_low", f"{pair}_high"
        if not known:
            self.lines += [f"{low}, {high} = {pair}", f"if {low} is None or {high} is None: return False"]
        return _Range(low, high, False)

    def _bounded(self, found: _Range) -> _Range:
        """The same range, which must fit."""
        if isinstance(found.high, int):
            self.possible &= found.high <= self.limit
        else:
            self.checks[f"{found.high} <= {self.limit}"] = None
        if isinstance(found.low, int):
            self.possible &= found.low >= -self.limit
        elif not found.positive:
            self.checks[f"{found.low} >= {-self.limit}"] = None
        return found

    # Ranges of expressions

    def _of(self, node: Expr) -> _Range | None:
        """The range of a node whose operands have one; None where it is a condition or has 64 bits."""
        if isinstance(node, BoolExpr):
            return None
        assert isinstance(node, IntExpr)
        if node.is_constant:
            value = int(node)
            return self._bounded(_Range(value, value, value >= 0))
        if node.kind is Kind.SYMBOL:
            raise KeyError(f"nothing is known of {node}")
        if isinstance(node, Mul):
            found = self._of_product(node.scale, node.factors)
        elif node.kind is Kind.ADD:
            found = self._of_sum(node)
        else:
            found = self._of_operation(node)
        if found is None:
            return None
        if node.lower is not None and node.lower >= 0 and not found.positive:
            found = _Range(found.low if found.exact else node.lower, found.high, True)
        return self._bounded(found)

    def _of_product(self, scale: int, factors: Sequence[IntExpr]) -> _Range | None:
        result = self._bounded(_Range(scale, scale, scale >= 0))
        for factor in factors:
            known = self._ranges[factor]
            if known is None:  # from here on the text has 64 bits
                return None
            result = self._bounded(self._times(result, known))
        return result

    def _times(self, a: _Range, b: _Range) -> _Range:
        if a.exact and b.exact:
            value = self._product(a.low, b.low)
            return _Range(value, value, a.positive and b.positive)
        if a.positive and b.positive:
            return _Range(self._product(a.low, b.low), self._product(a.high, b.high), True)
        if isinstance(a.low, int) and a.exact and a.low < 0:
            return _Range(self._product(a.low, b.high), self._product(a.low, b.low), False)
        return self._general("mul_bounds", a, b)

    def _of_sum(self, node: IntExpr) -> _Range | None:
        """In the order of the text: terms, then the constant. All terms are bounded, also behind one of 64 bits."""
        result: _Range | None = _Range(0, 0, True)
        for term, coefficient in node.terms:
            known = self._of_product(coefficient, term.factors if isinstance(term, Mul) else (term,))
            result = None if result is None or known is None else self._bounded(self._plus(result, known))
        constant = _Range(node.constant, node.constant, node.constant >= 0)
        return None if result is None else self._plus(result, self._bounded(constant))

    def _plus(self, a: _Range, b: _Range) -> _Range:
        positive = a.positive and b.positive
        high = self._sum(a.high, b.high)
        return _Range(high if a.exact and b.exact else self._sum(a.low, b.low), high, positive)

    def _of_operation(self, node: IntExpr) -> _Range | None:
        if isinstance(node, BinaryInt):
            a, b = self._ranges[node.lhs], self._ranges[node.rhs]
            if a is None or b is None:
                return None
            simple = a.positive and (node.rhs.lower or 0) >= 1
            if node.kind is Kind.FLOOR_DIV:
                return self._quotient(a, b) if simple else self._general("floor_div_bounds", a, b)
            return self._remainder(a, b) if simple else self._general("mod_bounds", a, b)
        if isinstance(node, MinMax):
            ranges = [self._ranges[arg] for arg in node.args]
            low = high = "min" if node.kind is Kind.MIN else "max"
        else:
            assert isinstance(node, Where)
            ranges = [self._ranges[node.if_true], self._ranges[node.if_false]]
            low, high = "min", "max"
        known = [r for r in ranges if r is not None]
        if len(known) < len(ranges):
            return None
        positive = all(r.positive for r in known)
        return _Range(
            self._extreme(low, [r.low for r in known]), self._extreme(high, [r.high for r in known]), positive
        )

    def _quotient(self, a: _Range, b: _Range) -> _Range:
        """Of something that is not negative, by something positive."""

        def divided(bound: _Bound, by: _Bound) -> _Bound:
            if isinstance(bound, int) and isinstance(by, int):
                return bound // by
            return 0 if bound == 0 else self._name(f"{bound} // {by}")

        return _Range(divided(a.low, b.high), divided(a.high, b.low), True)

    def _remainder(self, a: _Range, b: _Range) -> _Range:
        """Of something that is not negative, by something positive."""
        if a.exact and b.exact:
            value = a.low % b.low if isinstance(a.low, int) and isinstance(b.low, int) else None
            bound = self._name(f"{a.low} % {b.low}") if value is None else value
            return _Range(bound, bound, True)
        below = self._sum(b.high, -1)
        return _Range(0, self._name(f"{a.high} if {a.high} < {below} else {below}"), True)
