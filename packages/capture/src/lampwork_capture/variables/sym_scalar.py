"""SymScalarValue: a Python int or float that stays symbolic while tracing.

A number whose source was seen to vary, a size that depends on one, or arithmetic on these: an expression of
`lampwork_symshape`. Arithmetic gives expressions; what Python or a container needs to know is decided by the value in
this call, which becomes a guard: comparisons and truth by their outcome, anything else by the value itself. Invariants:
it stands for an exact int or float; once its value was needed it is a constant.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from lampwork_symshape.condition import BoolExpr, eq, ge, gt, le, lt, ne, not_
from lampwork_symshape.expr import IntExpr, integer, maximum, minimum, product
from lampwork_symshape.float_node import compute
from lampwork_symshape.scalar_expr import FloatSymbol, ScalarExpr, ScalarTerm, applied, apply
from lampwork_symshape.sym_node import term_of_symbol

from ..source import Source
from . import operators
from .base import Tracer, Value
from .constant import ConstantValue, fold
from .sym_emit import emit_term
from .sym_truth import SymTruthValue
from .undecided import UndecidedValue

if TYPE_CHECKING:
    from ..graph.builder import GraphBuilder
    from ..interpreter.reconstruct import ValueEmitter

SYMBOLIC_TYPES: frozenset[type] = frozenset({torch.SymInt, torch.SymFloat, torch.SymBool})
_WORD = 1 << 63
_MOST_COMPARED = 4  # of `max` and `min`: the expression grows with each
_COMPARISONS: dict[Callable[..., Any], Callable[..., Any]] = {
    operator.eq: eq, operator.ne: ne, operator.lt: lt, operator.le: le, operator.gt: gt, operator.ge: ge,
}  # fmt: skip
_RING: frozenset[Callable[..., Any]] = frozenset({operator.add, operator.sub, operator.mul})
_UNCHANGED: frozenset[Callable[..., Any]] = frozenset(
    {operator.pos, operator.index, int, round, math.floor, math.ceil, math.trunc}
)
_DIVISIONS: frozenset[Callable[..., Any]] = frozenset({operator.floordiv, operator.mod})
_UNARY: dict[str, Callable[..., Any]] = {
    "__neg__": operator.neg, "__pos__": operator.pos, "__abs__": operator.abs, "__invert__": operator.invert,
}  # fmt: skip
_NUMBERS = (int, float, bool)


class SymScalarValue(UndecidedValue):
    """A symbolic int or float: the expression, and the graph whose inputs it is made of."""

    kind = "a symbolic number"
    __slots__ = ("term",)

    def __init__(self, graph: GraphBuilder, term: ScalarTerm, source: Source | None = None) -> None:
        super().__init__(graph, source)
        self.term = term

    def __repr__(self) -> str:
        return f"SymScalarValue({self.term})"

    def python_type(self) -> type:
        return int if isinstance(self.term, IntExpr) else float

    def decide(self) -> Any:
        return self.graph.scalars.env.decide_scalar(self.term)

    def as_graph_argument(self) -> Any:
        return self.graph.number_argument(self.term) if self._known is None else self._known.obj

    def truth(self, tracer: Tracer) -> bool:
        zero = 0 if isinstance(self.term, IntExpr) else 0.0
        return _compare(tracer, operator.ne, self.term, zero)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op not in operators.BINARY_METHODS:
            return None  # an in-place form: numbers have none
        other = other.realize()
        if other.kind == "a tensor":
            mine, theirs = self.as_graph_argument(), other.as_graph_argument()
            return tracer.add_node("call_function", op, (theirs, mine) if reflected else (mine, theirs), {})
        if other.kind == "a number of a tensor":
            return None  # it knows both forms
        theirs = number_term(other)
        if theirs is not None:
            terms = [theirs, self.term] if reflected else [self.term, theirs]
            result = calculate(tracer, op, terms)
            if result is not None:
                return result
        elif other.is_constant() and op in (operator.eq, operator.ne) and other.python_type() in (type(None), str):
            return tracer.constant(op is operator.ne)
        if isinstance(other, SymScalarValue):
            other = other.settled()
        left, right = (other, self.settled()) if reflected else (self.settled(), other)
        return operators.binary(tracer, op, left, right)

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        op = _UNARY.get(name)
        if op is not None and not args and not kwargs:
            result = calculate(tracer, op, [self.term])
            if result is not None:
                return result
        return self.settled().call_method(tracer, name, args, kwargs)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self._known is not None:
            self._known.reconstruct(emitter)
        else:
            emit_term(self.graph, applied(self.term), emitter)


def symbolic_number(tracer: Tracer, symbol: torch.SymInt | torch.SymFloat | torch.SymBool) -> Value:
    """The value of what torch computed from symbolic numbers, such as a size."""
    return _value_of(tracer, term_of_symbol(symbol), isinstance(symbol, torch.SymBool))


def _value_of(tracer: Tracer, term: ScalarTerm, as_bool: bool = False) -> Value:
    if isinstance(term, IntExpr):
        term = tracer.graph.scalars.env.simplified(term)
        if term.is_constant:
            term = term.constant_value
    if isinstance(term, ScalarExpr | FloatSymbol | IntExpr):
        return SymScalarValue(tracer.graph, term)
    return tracer.constant(bool(term) if as_bool else term)


def number_term(value: Value) -> ScalarTerm | None:
    """The term of a symbolic number, or of a constant that is an exact int, float or bool; else None."""
    value = value.realize()
    if isinstance(value, SymScalarValue):
        return value.term
    if type(value) is ConstantValue and type(value.obj) in _NUMBERS:
        return value.obj
    return None


def is_symbolic(value: Value) -> bool:
    """Whether a value is a number that is not known while tracing."""
    return isinstance(value.realize(), SymScalarValue)


def compares_numbers(left: Value, right: Value) -> bool:
    """Whether a comparison of these runs no code and raises nothing."""
    return number_term(left) is not None and number_term(right) is not None


def condition_of(op: Callable[..., Any], left: Value, right: Value) -> BoolExpr | None:
    """A comparison of integers as a condition; None if it is of anything else."""
    terms = number_term(left), number_term(right)
    if not all(isinstance(term, IntExpr | int) for term in terms):
        return None
    return _COMPARISONS[op](*(term if isinstance(term, IntExpr) else integer(int(cast(int, term))) for term in terms))


def possible_outcomes(tracer: Tracer, op: Callable[..., Any], left: Value, right: Value) -> Sequence[bool]:
    """What a comparison of integers may give in the calls of the graph, both where neither is known; else nothing."""
    condition = condition_of(op, left, right)
    if condition is None:
        return ()
    known = tracer.graph.scalars.env.known(condition)
    return (False, True) if known is None else (known,)


def open_comparison(
    tracer: Tracer, op: Callable[..., Any], left: Value, right: Value, *, negated: bool
) -> SymTruthValue | None:
    """What a comparison of integers gives, or its negation, not decided; None if it is no such thing, or known."""
    condition = condition_of(op, left, right)
    if condition is None or tracer.graph.scalars.env.known(condition) is not None:
        return None
    return SymTruthValue(tracer.graph, not_(condition) if negated else condition)


def calculate(tracer: Tracer, function: Callable[..., Any], terms: Sequence[ScalarTerm]) -> Value | None:
    """`function(*terms)` of a pure function of numbers; None where it needs the numbers themselves."""
    if function in _COMPARISONS:
        undecided = _undecided(tracer, function, terms)
        if undecided is not None:
            return SymTruthValue(tracer.graph, undecided)
        return tracer.constant(_compare(tracer, function, terms[0], terms[1]))
    whole = [term if isinstance(term, IntExpr) else integer(int(term)) for term in terms if _is_whole(term)]
    if len(whole) == len(terms):
        result = _whole(tracer, function, whole)
        if result is not None:
            return result
    env = tracer.graph.scalars.env
    try:
        return _value_of(tracer, compute(env, function, list(terms)))
    except Exception:
        return None  # the real error is raised with the numbers themselves


def _is_whole(term: ScalarTerm) -> TypeGuard[IntExpr | int]:
    return isinstance(term, IntExpr | int)


def _undecided(tracer: Tracer, op: Callable[..., Any], terms: Sequence[ScalarTerm]) -> BoolExpr | None:
    """The condition, if only the run of the graph knows whether it holds."""
    whole = [term if isinstance(term, IntExpr) else integer(int(term)) for term in terms if _is_whole(term)]
    if len(whole) != 2 or not tracer.graph.data:
        return None
    condition: BoolExpr = _COMPARISONS[op](*whole)
    env = tracer.graph.scalars.env
    return condition if env.hint_of(condition) is None and env.known(condition) is None else None


def _compare(tracer: Tracer, op: Callable[..., Any], left: ScalarTerm, right: ScalarTerm) -> bool:
    env = tracer.graph.scalars.env
    if _is_whole(left) and _is_whole(right):
        left, right = (side if isinstance(side, IntExpr) else integer(int(side)) for side in (left, right))
        return env.evaluate(_COMPARISONS[op](left, right))
    return env.decide_scalar(apply(op, left, right))


def _whole(tracer: Tracer, function: Callable[..., Any], terms: list[IntExpr]) -> Value | None:
    """Arithmetic on integers."""
    if function is divmod:
        parts = [_whole(tracer, op, terms) for op in (operator.floordiv, operator.mod)]
        return None if parts[0] is None or parts[1] is None else tracer.make_tuple([parts[0], parts[1]])
    expr = _integer_expression(tracer, function, terms)
    if expr is None:
        return None
    value = tracer.graph.scalars.env.hint_of(expr)
    if value is not None and not -_WORD <= value < _WORD:
        return None  # torch's symbolic integers have 64 bits
    return _value_of(tracer, expr)


def _integer_expression(tracer: Tracer, function: Callable[..., Any], terms: list[IntExpr]) -> IntExpr | None:
    env = tracer.graph.scalars.env
    first, last = terms[0], terms[-1]
    if function in _RING:
        return function(first, last)
    if function in _DIVISIONS:
        return function(first, last) if env.evaluate(ne(last, 0)) else None
    if function is operator.neg:
        return -first
    if function is operator.invert:
        return -first - 1
    if function is operator.abs:
        if env.hint_of(first) is None:
            return maximum(first, -first)
        return first if env.evaluate(ge(first, 0)) else -first
    if function in _UNCHANGED and len(terms) == 1:
        return first
    amount = last.constant_value if last.is_constant else None
    if len(terms) == 2 and amount is not None:
        if function is operator.pow and 0 <= amount <= 4:
            return product([first] * amount) if amount else integer(1)
        if function is operator.lshift and 0 <= amount < 63:
            return first * (1 << amount)
        if function is operator.rshift and 0 <= amount < 63:
            return first // (1 << amount)
    return None


def convert_number(tracer: Tracer, kind: Callable[..., Any], value: Value) -> Value:
    """`int(value)` or `float(value)` of a symbolic number."""
    value = value.realize()
    if value.python_type() is kind:
        return value
    made = compute_number(tracer, kind, [value])
    return made if made is not None else tracer.constant(fold(tracer, kind, value.as_constant()))


def extreme_of_integers(tracer: Tracer, function: Callable[..., Any], items: Sequence[Value]) -> Value | None:
    """`max` or `min` of a few ints, some of them symbolic, with no fact about which it is; None for anything else."""
    if not 1 < len(items) <= _MOST_COMPARED or any(item.python_type() is not int for item in items):
        return None
    terms = [term for term in map(number_term, items) if term is not None]
    if not any(isinstance(term, IntExpr) for term in terms):
        return None
    env = tracer.graph.scalars.env
    best, *others = (term if isinstance(term, IntExpr) else integer(term) for term in terms if _is_whole(term))
    if len(others) != len(items) - 1:
        return None
    for other in others:
        larger = env.known(ge(other, best))
        if larger is None:
            best = maximum(best, other) if function is max else minimum(best, other)
        elif larger == (function is max):
            best = other
    return _value_of(tracer, best)


def compute_number(tracer: Tracer, function: Callable[..., Any], args: Sequence[Value]) -> Value | None:
    """A pure function of numbers, some of them symbolic; None where it needs their values."""
    terms = [number_term(arg) for arg in args]
    known = [term for term in terms if term is not None]
    return calculate(tracer, function, known) if len(known) == len(terms) else None
