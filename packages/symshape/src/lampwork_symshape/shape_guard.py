"""Shape guards: the facts of a ShapeEnv as checks over the inputs of a call.

The last step of capture on the side of shapes: which input gives each symbol its value, and what must hold of those
values. The result is data, saved with the compiled program and checked natively; the printer here gives Python.
Invariants: the checks together imply every fact about backed symbols; no check follows from the others.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .condition import BoolExpr, ge, le
from .expr import Symbol, symbol
from .kind import Kind
from .printer import PythonPrinter
from .prove import Facts, holds
from .shape_env import Fact, ShapeEnv
from .shape_symbol import UserFrame
from .value_range import ValueRange


class Quantity(enum.Enum):
    """Which integer of an input; the value is how Python spells it."""

    SIZE = "{}.size({})"
    STRIDE = "{}.stride({})"
    OFFSET = "{}.storage_offset()"
    VALUE = "{}"


@dataclass(frozen=True, slots=True)
class SizeSource:
    """An integer that an input carries. `source` is the capture's source object; its text is Python."""

    source: object
    dim: int = 0
    quantity: Quantity = Quantity.SIZE

    def __str__(self) -> str:
        return self.quantity.value.format(self.source, self.dim)


@dataclass(frozen=True, slots=True)
class SymbolBinding:
    """A symbol takes its value from `first`; every one of `others` must be equal to it.

    The value must be in [`lower`, `upper`], inclusive; None needs no check.
    """

    symbol: Symbol
    first: SizeSource
    others: tuple[SizeSource, ...] = ()
    lower: int | None = None
    upper: int | None = None

    def admits(self, value: int) -> bool:
        """Whether the value is within the bounds to check."""
        return (self.lower is None or self.lower <= value) and (self.upper is None or value <= self.upper)


@dataclass(frozen=True, slots=True)
class ShapeCheck:
    """A condition on bound symbols that must hold, and the user's line that needs it."""

    condition: BoolExpr
    frame: UserFrame | None


@dataclass(frozen=True, slots=True)
class ShapeGuards:
    """What a call must satisfy: bind the symbols, then check. `deferred` waits for unbacked values at run time."""

    bindings: tuple[SymbolBinding, ...]
    checks: tuple[ShapeCheck, ...]
    deferred: tuple[Fact, ...] = ()

    def python(self, text_of: Callable[[SizeSource], str] = str) -> tuple[str, ...]:
        """One Python condition a check, over the inputs' own expressions."""
        bound = {b.symbol: text_of(b.first) for b in self.bindings}
        printer = PythonPrinter(rename=lambda s: bound[s])
        lines: list[str] = []
        for binding in self.bindings:
            first = bound[binding.symbol]
            if binding.lower is not None:
                lines.append(f"{first} >= {binding.lower}")
            if binding.upper is not None:
                lines.append(f"{first} <= {binding.upper}")
            lines.extend(f"{text_of(other)} == {first}" for other in binding.others)
        return (*lines, *(printer(check.condition) for check in self.checks))

    def violated(self, values: Mapping[SizeSource, int]) -> str | None:
        """The first check that these values fail, with the line that needs it; None if all hold."""
        symbols: dict[Symbol, int] = {}
        for binding in self.bindings:
            value = symbols[binding.symbol] = values[binding.first]
            if not binding.admits(value):
                return f"{binding.first} is {value}, outside {ValueRange(binding.lower, binding.upper)}"
            for other in binding.others:
                if values[other] != value:
                    return f"{other} == {binding.first} fails: {values[other]} and {value}"
        names = {b.symbol: str(b.first) for b in self.bindings}
        for check in self.checks:
            if not check.condition.evaluate(symbols):
                text = PythonPrinter(rename=lambda s: names[s])(check.condition)
                actual = ", ".join(
                    f"{names[s]} is {symbols[s]}" for s in sorted(check.condition.free_symbols, key=lambda s: s.order)
                )
                return f"{text} fails: {actual}" + (f"; needed by {check.frame}" if check.frame else "")
        return None


def shape_guards(env: ShapeEnv, sources: Mapping[Symbol, Sequence[SizeSource]]) -> ShapeGuards:
    """The guards of a finished capture. Raises ValueError for a symbol of a fact that no input gives."""
    bound = {s for s, found in sources.items() if found}
    deferred = tuple(f for f in env.facts if f.deferred)
    wanted = [ShapeCheck(f.condition, f.frame) for f in env.facts if not f.deferred]
    for check in wanted:
        missing = check.condition.free_symbols - bound
        if missing:
            names = ", ".join(sorted(s.name for s in missing))
            raise ValueError(f"no input gives {names}, which {check.condition} needs. Hint: pass every input's sources")
    checks = _minimal(wanted)
    bindings: list[SymbolBinding] = []
    unchecked: dict[Symbol, Symbol] = {}
    for sym, found in sources.items():
        if found:
            bindings.append(_binding(sym, tuple(found), checks, unchecked))
    return ShapeGuards(tuple(bindings), checks, deferred)


def _minimal(checks: Sequence[ShapeCheck]) -> tuple[ShapeCheck, ...]:
    """Drop what the others imply; equalities and later facts, which tend to be stronger, are kept first."""
    ordered = sorted(checks, key=lambda check: check.condition.kind is Kind.EQ)
    kept = {id(check) for check in _not_implied(ordered, Facts())}
    return tuple(check for check in checks if id(check) in kept)


def _not_implied(checks: Sequence[ShapeCheck], others: Facts) -> list[ShapeCheck]:
    """The checks that neither `others`, nor those of the earlier ones that are kept, nor the later ones imply.

    Halved until one is left: so each is prepared as a fact about log(n) times, not once for each other check.
    """
    if len(checks) <= 1:
        return [check for check in checks if not holds(check.condition, others)]
    first, second = checks[: len(checks) // 2], checks[len(checks) // 2 :]
    kept = _not_implied(first, others.with_facts(check.condition for check in second))
    return kept + _not_implied(second, others.with_facts(check.condition for check in kept))


def _binding(
    sym: Symbol, sources: tuple[SizeSource, ...], checks: Sequence[ShapeCheck], unchecked: dict[Symbol, Symbol]
) -> SymbolBinding:
    """Bind a symbol; its bounds are checked unless the checks, or being a size, imply them.

    `unchecked` holds the symbols whose bounds were dropped before, as symbols without them: what was dropped may not
    be a reason to drop more.
    """
    first = sources[0]
    # as expressions the bounds would be true at once, so ask about a symbol of this name that has none
    free = symbol(sym.name, 0 if first.quantity in (Quantity.SIZE, Quantity.OFFSET) else None, None)
    related = [c.condition for c in checks if sym in c.condition.free_symbols]
    facts = Facts([c.substitute({**unchecked, sym: free}) for c in related])
    lower = None if sym.lower is None or holds(ge(free, sym.lower), facts) else sym.lower
    upper = None if sym.upper is None or holds(le(free, sym.upper), facts) else sym.upper
    if (lower, upper) != (sym.lower, sym.upper):
        kept_lower = free.lower if lower is None else lower
        unchecked[sym] = symbol(sym.name, kept_lower, upper)
    return SymbolBinding(sym, first, sources[1:], lower, upper)
