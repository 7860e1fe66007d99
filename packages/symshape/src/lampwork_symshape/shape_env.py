"""ShapeEnv: the symbols of one capture, their hints, and the facts that the program came to rely on.

Capture makes symbols here for input sizes; torch's meta kernels ask it, through `sym_node`, to decide conditions; what
could not be proven is decided by the hints and recorded as a fact with the user's line. Afterwards `shape_guard` turns
the facts into checks. Invariant: every answer given is implied by the symbols' bounds and the recorded facts.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from .condition import And, Boolean, BoolExpr, Relation, as_condition, eq, ge, not_
from .dim_policy import DimDecision
from .expr import IntExpr, Symbol, as_expr, integer, symbol
from .kind import Kind
from .prove import Facts, Truth, holds, prove
from .scalar_expr import FloatSymbol, ScalarExpr, ScalarFact, ScalarTerm, evaluate, integers_of, structure_of
from .shape_symbol import BACKED_PREFIX, UNBACKED_PREFIX, ShapeSymbol, SymbolKind, UserFrame

FrameFinder = Callable[[], UserFrame | None]

_HERE = os.path.dirname(os.path.abspath(__file__))
_INTERNAL_PARTS = (f"{os.sep}torch{os.sep}", f"{os.sep}lampwork_", "<frozen", "<string>", "contextlib.py")


class DataDependentError(RuntimeError):
    """A condition or value depends on what only the run time knows."""

    def __init__(self, what: str, unknown: Sequence[ShapeSymbol], frame: UserFrame | None) -> None:
        self.frame = frame
        self.hint = "state what you know with torch._check(...), or keep the value out of Python control flow."
        origins = ", ".join(f"{s.symbol.name} (from {s.origin})" for s in unknown)
        place = f" At {frame}." if frame else ""
        super().__init__(f"cannot decide {what}: no value is known for {origins}.{place} Hint: {self.hint}")


class ContradictionError(RuntimeError):
    """A fact that must hold certainly does not."""

    def __init__(self, condition: BoolExpr, frame: UserFrame | None) -> None:
        self.frame = frame
        self.hint = "this check fails for every size that the earlier ones allow; see the program's own condition."
        place = f" At {frame}." if frame else ""
        super().__init__(f"{condition} was required, but it cannot hold.{place} Hint: {self.hint}")


@dataclass(frozen=True, slots=True)
class Fact:
    """A condition that the captured program relies on, and the user's line that made it so."""

    condition: BoolExpr
    frame: UserFrame | None
    deferred: bool = False
    """Whether it speaks about unbacked symbols, so that it must be checked while the program runs."""

    def __str__(self) -> str:
        return f"{self.condition}  # {self.frame}" if self.frame else str(self.condition)


@dataclass(frozen=True, slots=True)
class Specialization:
    """A symbol that became one number, and the user's line that made it so."""

    symbol: ShapeSymbol
    value: int
    frame: UserFrame | None

    def __str__(self) -> str:
        place = f" because of {self.frame}" if self.frame else ""
        return f"{self.symbol.origin} became {self.value}{place}"


def calling_user_frame() -> UserFrame | None:
    """The innermost line on the Python stack that belongs neither to torch nor to Lampwork."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_HERE) and not any(part in name for part in _INTERNAL_PARTS):
            text = linecache.getline(name, frame.f_lineno).strip()
            return UserFrame(name, frame.f_lineno, frame.f_code.co_name, text)
        frame = frame.f_back
    return None


_CHANGED_BY_FACTS = (
    "_hints", "_hint_memo", "_facts", "_recorded", "_deferred", "_known", "_specializations", "_larger_facts"
)  # fmt: skip


def _no_frame() -> UserFrame | None:
    return None


def _as_many(condition: BoolExpr) -> BoolExpr | None:
    """What a condition about one size, or its negation, says of sizes from 2 on; None if it does not hold for all."""
    if not isinstance(condition, Relation) or len(condition.difference.terms) != 1:
        return None
    size, factor = condition.difference.terms[0]
    if abs(factor) != 1 or size.lower is None or size.lower < 0:
        return None
    many = Facts([ge(size, 2)])
    return next((found for found in (condition, not_(condition)) if holds(found, many)), None)


class ShapeEnv:
    """Symbols, hints and facts of one capture.

    `duck_shaping`: inputs of equal size share a symbol (and the equality is checked). `find_frame` says which line of
    the user's program is running, `undecidable` makes the error that is raised for what only the run time knows:
    capture passes its own.
    """

    def __init__(
        self,
        *,
        duck_shaping: bool = True,
        find_frame: FrameFinder = calling_user_frame,
        undecidable: Callable[[str, Sequence[ShapeSymbol], UserFrame | None], Exception] = DataDependentError,
    ) -> None:
        self._undecidable = undecidable
        self._duck_shaping = duck_shaping
        self._find_frame = find_frame
        self._symbols: dict[Symbol, ShapeSymbol] = {}
        self._by_hint: dict[tuple[int, int | None, int | None], Symbol] = {}
        self._hints: dict[Symbol, int] = {}
        self._hint_memo: dict[IntExpr | BoolExpr, int | bool] = {}
        self._facts: list[Fact] = []
        # the conditions of the facts: no proof is needed of one, nor always found
        self._recorded: set[BoolExpr] = set()
        self._deferred: list[Fact] = []
        self._known = Facts()
        self._specializations: list[Specialization] = []
        self._suppressed = 0
        self._only_equalities = 0
        self._as_larger = False
        self._unknown_as_many = False
        self._larger_facts: tuple[int, Facts] = (0, Facts())
        self._counts = {SymbolKind.BACKED: 0, SymbolKind.UNBACKED: 0}
        self._floats: dict[FloatSymbol, float] = {}
        self._scalar_facts: dict[Hashable, ScalarFact] = {}

    # ------------------------------------------------------------------------------------------------- symbols

    @property
    def symbols(self) -> tuple[ShapeSymbol, ...]:
        """Every symbol made, in order."""
        return tuple(self._symbols.values())

    @property
    def hints(self) -> Mapping[Symbol, int]:
        """The values that backed symbols had during capture."""
        return self._hints

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What was recorded, in order, each once."""
        return tuple(self._facts)

    @property
    def deferred_facts(self) -> Sequence[Fact]:
        """The facts that must be checked while the program runs, in order; a list that grows."""
        return self._deferred

    @property
    def specializations(self) -> tuple[Specialization, ...]:
        """Symbols that became numbers, in order."""
        return tuple(self._specializations)

    def describe(self, sym: Symbol) -> ShapeSymbol:
        """Where a symbol of this environment comes from. Raises KeyError for another's."""
        return self._symbols[sym]

    def create_size(self, hint: int, origin: str, decision: DimDecision) -> IntExpr:
        """The expression for an input size of `hint` elements: a literal, a new symbol, or one that it shares."""
        if not decision.symbolic:
            return integer(hint)
        return self.create_backed(hint, origin, lower=decision.lower, upper=decision.upper)

    def create_backed(self, hint: int, origin: str, *, lower: int | None = 2, upper: int | None = None) -> Symbol:
        """A symbol in [lower, upper] whose value now is `hint`; a shared one under duck shaping."""
        if (lower is not None and hint < lower) or (upper is not None and hint > upper):
            raise ValueError(f"{origin} is {hint}, which is outside the bounds [{lower}, {upper}] of its symbol")
        key = (hint, lower, upper)
        if self._duck_shaping and key in self._by_hint:
            return self._by_hint[key]
        made = self._make(SymbolKind.BACKED, hint, origin, lower, upper)
        self._by_hint.setdefault(key, made)
        return made

    def create_unbacked(self, origin: str, *, lower: int | None = None, upper: int | None = None) -> Symbol:
        """A symbol in [lower, upper] whose value only the run time knows."""
        return self._make(SymbolKind.UNBACKED, None, origin, lower, upper)

    def _make(self, kind: SymbolKind, hint: int | None, origin: str, lower: int | None, upper: int | None) -> Symbol:
        prefix = BACKED_PREFIX if kind is SymbolKind.BACKED else UNBACKED_PREFIX
        made = symbol(f"{prefix}{self._counts[kind]}", lower, upper)
        self._counts[kind] += 1
        self._symbols[made] = ShapeSymbol(made, kind, hint, origin, self._find_frame())
        if hint is not None:
            self._hints[made] = hint
        return made

    def create_float(self, hint: float, origin: str) -> FloatSymbol:
        """A symbol for a float input whose value now is `hint`."""
        made = FloatSymbol(f"f{len(self._floats)}", origin, self._find_frame())
        self._floats[made] = hint
        return made

    def find_frame(self) -> UserFrame | None:
        """The user's line that is running."""
        return self._find_frame()

    def forget_frames(self) -> None:
        """The program is not traced any more: later questions have no line, and what told lines is let go."""
        self._find_frame = _no_frame

    def has_hint(self, expr: IntExpr | BoolExpr) -> bool:
        """Whether no unbacked symbol is inside."""
        return expr.free_symbols <= self._hints.keys()

    def hint_of(self, expr: IntExpr | BoolExpr) -> int | bool | None:
        """The value during capture; None when an unbacked symbol is inside."""
        known = self._hint_memo.get(expr)
        if known is None and self.has_hint(expr):
            known = self._hint_memo[expr] = expr.evaluate(self._hints)
        return known

    # ---------------------------------------------------------------------------------------------- deciding

    def known(self, condition: BoolExpr | bool) -> bool | None:
        """The truth of a condition if bounds and facts settle it, else None. Records nothing."""
        condition = as_condition(condition)
        if isinstance(condition, Boolean):
            return condition.value
        if condition in self._recorded:
            return True
        value = self.hint_of(condition)
        if value is None:
            truth = prove(condition, self._known)
            return None if truth is Truth.UNKNOWN else truth is Truth.TRUE
        # the hints satisfy every fact, so only what they say can be proven
        return bool(value) if holds(condition if value else not_(condition), self._known) else None

    def evaluate(self, condition: BoolExpr | bool, frame: UserFrame | None = None) -> bool:
        """The truth of a condition, by proof or else by the hints; in the latter case it becomes a fact.

        Raises DataDependentError if the hints do not settle it.
        """
        condition = as_condition(condition)
        if isinstance(condition, Boolean):
            return condition.value
        known = self.known(condition)
        if known is not None:
            return known
        value = self.hint_of(condition)
        if value is None:
            assumed = _as_many(condition) if self._unknown_as_many else None
            if assumed is None:
                raise self.undecidable(f"whether {condition}", condition, frame)
            self._record(assumed, frame)
            return assumed is condition
        holding = condition if value else not_(condition)
        if not (self._as_larger and self._holds_from_two(holding)):
            self._record(holding, frame)
        return bool(value)

    def evaluate_int(self, expr: IntExpr | int, frame: UserFrame | None = None) -> int:
        """The value of an expression; unless it is a literal, this specializes it, which becomes a fact.

        Raises DataDependentError if there is no hint.
        """
        expr = self.simplified(as_expr(expr))
        if expr.is_constant:
            return expr.constant_value
        value = self.hint_of(expr)
        if value is None:
            raise self.undecidable(f"the value of {expr}", expr, frame)
        self._record(eq(expr, value), frame)
        return int(value)

    # --------------------------------------------------------------------------------------- floats

    @property
    def scalar_facts(self) -> tuple[ScalarFact, ...]:
        """What was recorded about expressions in which floats take part."""
        return tuple(self._scalar_facts.values())

    def forget_scalar_facts(self, count: int) -> None:
        """Forget all but the first `count` of these: nothing relies on the others any more."""
        for key in list(self._scalar_facts)[count:]:
            del self._scalar_facts[key]

    def scalar_hint(self, term: ScalarTerm) -> Any:
        """The value of a number during capture. Raises what computing it raises, and as `evaluate_int`."""
        unknown = self._unknown_part(term)
        if unknown is not None:
            raise self.undecidable(f"the value of {term}", unknown)
        return evaluate(term, self._hints, self._floats)

    def has_unknown(self, term: ScalarTerm) -> bool:
        """Whether a number that only the run time knows takes part."""
        return self._unknown_part(term) is not None

    def _unknown_part(self, term: ScalarTerm) -> IntExpr | None:
        if not self._counts[SymbolKind.UNBACKED]:
            return None
        return next((part for part in integers_of(term) if self.hint_of(part) is None), None)

    def decide_scalar(self, term: ScalarTerm, frame: UserFrame | None = None) -> Any:
        """The value of a number; unless it is a literal, that becomes a fact. Raises what computing it raises."""
        if isinstance(term, IntExpr):
            return self.evaluate_int(term, frame)
        if not isinstance(term, ScalarExpr | FloatSymbol):
            return term
        value = self.scalar_hint(term)
        if not self._suppressed:
            # by structure, so that a question asked in a loop is recorded once
            key = structure_of(term)
            if key not in self._scalar_facts:
                self._scalar_facts[key] = ScalarFact(term, value, frame or self._find_frame())
        return value

    def specialize(self, sym: Symbol, value: int, frame: UserFrame | None = None) -> None:
        """Require that a symbol has this value. Raises ContradictionError if it cannot."""
        self.require(eq(sym, value), frame)

    def require(self, condition: BoolExpr | bool, frame: UserFrame | None = None) -> None:
        """Record that a condition holds, as the user's `torch._check` says. Raises ContradictionError if it cannot.

        About backed symbols it becomes a guard, about unbacked ones an assertion at run time.
        """
        condition = as_condition(condition)
        known = self.known(condition)
        if known is None and self.hint_of(condition) is not False:
            self._record(condition, frame)
        elif not known:
            raise ContradictionError(condition, frame or self._find_frame())

    def assume(self, condition: BoolExpr | bool) -> None:
        """Take for granted what holds by the way in which a symbol was made: there is nothing to check."""
        self._known = self._known.with_facts([as_condition(condition)])

    def simplified(self, expr: IntExpr) -> IntExpr:
        """`expr` with symbols that facts equate to something simpler replaced."""
        return self._known.replaced(expr)

    @property
    def way_of_answering(self) -> Hashable:
        """Which of the contexts below questions are asked in; None if in none. What was found in one is right when it
        is asked for there again: the facts that it relies on are recorded. What was found in none is right in all."""
        way = self._suppressed > 0, self._only_equalities > 0, self._unknown_as_many, self._as_larger
        return way if any(way) else None

    @contextmanager
    def suppress_facts(self) -> Generator[None]:
        """Within this context answers by hint are not recorded: for questions whose answer changes nothing."""
        self._suppressed += 1
        try:
            yield
        finally:
            self._suppressed -= 1

    @contextmanager
    def only_equalities(self) -> Generator[None]:
        """Within this context only equalities are recorded: for questions of size that choose between equal ways."""
        self._only_equalities += 1
        try:
            yield
        finally:
            self._only_equalities -= 1

    @contextmanager
    def unknown_as_many(self) -> Generator[None]:
        """Within this context a size that only the run time knows is neither 0 nor 1 where that is asked: a fact, which
        is checked at run time."""
        before, self._unknown_as_many = self._unknown_as_many, True
        try:
            yield
        finally:
            self._unknown_as_many = before

    @contextmanager
    def as_larger_sizes(self, applies: bool = True) -> Generator[None]:
        """Within this context, what holds whenever no size is 1 is answered so, and that no size is 1 is no fact.

        For whoever computes with sizes what is right for 1 too: broadcasting, strides; never where a size of 1 would be
        an error. Concerns the symbols with 1 as lower bound that were not 1 in the capture. `applies` false: not so,
        whatever the context around says.
        """
        before, self._as_larger = self._as_larger, applies
        try:
            yield
        finally:
            self._as_larger = before

    @contextmanager
    def reconsidering(self, hints: Mapping[Symbol, int]) -> Generator[list[Fact]]:
        """Within this context backed symbols have the values `hints`, and what is recorded is kept apart: the list that
        it gives holds these facts when the context ends. The environment is then as before.

        For what is worked out after the facts were handed on as guards, for a call of other sizes.
        """
        before = {name: getattr(self, name) for name in _CHANGED_BY_FACTS}
        self._hints, self._hint_memo = {**self._hints, **hints}, {}
        self._facts, self._recorded = [*self._facts], {*self._recorded}
        self._deferred, self._specializations = [*self._deferred], [*self._specializations]
        count, found = len(self._facts), list[Fact]()
        try:
            yield found
        finally:
            found += self._facts[count:]
            for name, value in before.items():
                setattr(self, name, value)

    def _larger(self) -> dict[Symbol, IntExpr]:
        """The symbols that may be 1 but were not, as 2 and something: so products of them are sums that show it."""
        return {
            s: symbol(s.name, 0, None if s.upper is None else s.upper - 2) + 2
            for s, hint in self._hints.items()
            if s.lower == 1 and hint > 1
        }

    def _holds_from_two(self, condition: BoolExpr) -> bool:
        """Whether a condition, which the hints satisfy, holds whenever no size is 1."""
        larger = self._larger()
        if not larger:
            return False
        if self._larger_facts[0] != len(self._facts):
            facts = Facts([fact.condition.substitute(larger) for fact in self._facts])
            self._larger_facts = (len(self._facts), facts)
        return holds(condition.substitute(larger), self._larger_facts[1])

    def undecidable(self, what: str, expr: IntExpr | BoolExpr, frame: UserFrame | None = None) -> Exception:
        """The error for what depends on symbols without a hint."""
        return self._undecidable(what, self._unknown(expr), frame or self._find_frame())

    def _unknown(self, expr: IntExpr | BoolExpr) -> list[ShapeSymbol]:
        return [self._symbols[s] for s in sorted(expr.free_symbols, key=lambda s: s.order) if s not in self._hints]

    def _record(self, condition: BoolExpr, frame: UserFrame | None) -> None:
        if self._suppressed or (self._only_equalities and condition.kind is not Kind.EQ):
            return
        if condition in self._recorded:
            return
        frame = frame or self._find_frame()
        if isinstance(condition, And):  # each by itself, so that it shows which of them specializes
            for part in condition.args:
                if self.known(part) is None:
                    self._record(part, frame)
            return
        deferred = any(s not in self._hints for s in condition.free_symbols)
        self._facts.append(Fact(condition, frame, deferred))
        self._recorded.add(condition)
        if deferred:
            self._deferred.append(self._facts[-1])
        before = self._known
        self._known = before.with_facts([condition])
        for sym, meaning in self._known.equal.items():
            if meaning.is_constant and not before.equal.get(sym, sym).is_constant:
                self._specializations.append(Specialization(self._symbols[sym], meaning.constant_value, frame))
