"""FloatNode: the object behind `torch.SymFloat`.

Either a known float, or an expression over the float inputs of a capture (`scalar_expr`). torch calls its methods by
name. What is asked of an expression is decided by its value during capture, which becomes a fact; a float result of
arithmetic stays an expression. Invariant: an answer about an expression is recorded as a fact of the environment.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .condition import BoolExpr, boolean, ge, le, ne
from .expr import IntExpr, as_expr, integer
from .scalar_expr import LARGEST, ScalarExpr, ScalarTerm, apply, is_total

if TYPE_CHECKING:
    from .sym_node import SymNode, TorchShapeEnv


_GIVE_FLOATS: frozenset[Callable[..., Any]] = frozenset({float, operator.truediv})
_KNOWN_TO_WORK: frozenset[Callable[..., Any]] = frozenset(
    {float, operator.truediv, operator.add, operator.sub, operator.mul, operator.neg, operator.pos, operator.abs}
)


class FloatNode:
    """One float of one environment, known or symbolic."""

    __slots__ = ("shape_env", "term")

    def __init__(self, term: ScalarTerm, shape_env: TorchShapeEnv) -> None:
        self.term = term
        self.shape_env = shape_env

    @property
    def constant(self) -> float | None:
        """The value of a known float."""
        return self.term if isinstance(self.term, float) else None

    def is_int(self) -> bool:
        """Never."""
        return False

    def is_bool(self) -> bool:
        """Never."""
        return False

    def is_float(self) -> bool:
        """Always."""
        return True

    def is_constant(self) -> bool:
        """Never: torch unwraps only integers and conditions that say so."""
        return False

    def is_nested_int(self) -> bool:
        """Never."""
        return False

    def is_symbolic(self) -> bool:
        """Whether it depends on an input."""
        return self.constant is None

    def has_hint(self) -> bool:
        """Whether it is known during capture."""
        return not self.shape_env.has_unknown(self.term)

    @property
    def hint(self) -> float:
        """The value during capture."""
        return cast(float, self.shape_env.scalar_hint(self.term))

    def maybe_as_float(self) -> float | None:
        """The value of a known float."""
        return self.constant

    def guard_float(self, file: str = "", line: int = 0) -> float:
        """The value; specializes unless it is known."""
        return cast(float, self.shape_env.decide_scalar(self.term))

    def str(self) -> str:
        """The expression as Python."""
        return str(self.term)

    def _graph_repr(self) -> str:
        return str(self.term)

    def __str__(self) -> str:
        return str(self.term)

    def wrap_int(self, value: int) -> SymNode:
        """A literal integer of this environment."""
        return self.shape_env.node_of(integer(value))

    def wrap_float(self, value: float) -> FloatNode:
        """A float of this environment."""
        return FloatNode(value, self.shape_env)

    def __getattr__(self, name: str) -> Callable[..., SymNode | FloatNode]:
        operation = _OPERATIONS.get(name)
        if operation is None:
            raise AttributeError(f"no operation {name!r} on symbolic floats")
        return partial(self._compute, operation)

    def _compute(self, operation: Callable[..., Any], *others: object) -> SymNode | FloatNode:
        terms = [self.term, *(term_of(other) for other in others)]
        return number_node(self.shape_env, compute(self.shape_env, operation, terms))


def compute(env: TorchShapeEnv, function: Callable[..., Any], terms: list[ScalarTerm]) -> ScalarTerm:
    """`function(*terms)`: an expression where the result is a float, else the result decided. Raises what it raises."""
    if not env.symbolic_floats:
        terms = [env.evaluate_int(term) if isinstance(term, IntExpr) else term for term in terms]
    if not any(isinstance(term, IntExpr) or not isinstance(term, int | float) for term in terms):
        return function(*terms)
    whole = _rounded_quotient(env, function, terms)
    if whole is not None:
        return whole
    expr = apply(function, *terms)
    if env.has_unknown(expr):
        return _compute_unknown(env, expr)
    value = env.scalar_hint(expr)
    if type(value) is not float or expr.size > LARGEST:
        return env.decide_scalar(expr)
    if not is_total(expr):
        env.decide_scalar(apply(type, expr))  # that it raises nothing
    return expr


def _compute_unknown(env: TorchShapeEnv, expr: ScalarExpr) -> ScalarTerm:
    """An expression of numbers that only the run time knows, if that says that it is a float; else as decided."""
    is_float = expr.function in _GIVE_FLOATS or any(not isinstance(o, IntExpr | int) for o in expr.operands)
    if not is_float or expr.function not in _KNOWN_TO_WORK or expr.size > LARGEST:
        return env.decide_scalar(expr)
    if expr.function is operator.truediv:
        divisor = expr.operands[1]
        if not isinstance(divisor, IntExpr | int | float):
            return env.decide_scalar(expr)
        if isinstance(divisor, IntExpr):
            env.require(ne(divisor, 0))
        elif divisor == 0:
            return env.decide_scalar(expr)
    return expr


def _rounded_quotient(env: TorchShapeEnv, function: Callable[..., Any], terms: list[ScalarTerm]) -> IntExpr | None:
    """`floor`, `ceil` or `int` of `n / d` or `n * 1.5` as a division of integers; None if it is something else.

    Of integers of less than 53 bits the quotient, rounded to a float, does not reach the next integer.
    """
    quotient = _quotient(terms[0]) if function in _ROUNDINGS else None
    if quotient is None:
        return None
    n, d = quotient
    exact = (ge(d, 1), le(d, _EXACT), ge(n, -_EXACT), le(n, _EXACT))
    if not all(map(env.hint_of, exact)):
        return None
    for condition in exact:
        env.evaluate(condition)
    upwards = function is math.ceil or (function is not math.floor and not env.evaluate(ge(n, 0)))
    return -(-n // d) if upwards else n // d


def _quotient(term: ScalarTerm) -> tuple[IntExpr, IntExpr] | None:
    """The integers that a float is the quotient of: `n / d`, `n / 3.0`, or `n * 1.5`, whose factor is 3 / 2 exactly."""
    if not isinstance(term, ScalarExpr) or term.function not in (operator.truediv, operator.mul):
        return None
    a, b = (_as_integer(operand) for operand in term.operands)
    if a is None or b is None:
        return None
    if term.function is operator.truediv:
        return None if isinstance(a, float) or isinstance(b, float) else (as_expr(a), as_expr(b))
    if not isinstance(a, IntExpr):
        a, b = b, a
    if not isinstance(a, IntExpr) or (isinstance(b, float) and not math.isfinite(b)):
        return None
    if isinstance(b, IntExpr):
        return a * b, integer(1)
    numerator, denominator = b.as_integer_ratio()
    if abs(numerator) >= _SMALL or denominator >= _SMALL:
        return None  # as of 0.7, which would hold for the smallest integers only
    return a * numerator, integer(denominator)


def _as_integer(term: ScalarTerm) -> IntExpr | int | float | None:
    """The integer that a number is, as such or as a float; another float literal; None for anything else."""
    if isinstance(term, ScalarExpr) and term.function is float:
        term = term.operands[0]
    if isinstance(term, float) and term.is_integer():
        return int(term)
    return term if isinstance(term, IntExpr | int | float) else None


def number_node(env: TorchShapeEnv, term: ScalarTerm) -> SymNode | FloatNode:
    """The node of a term, for torch."""
    if isinstance(term, bool):
        return env.node_of(boolean(term))
    if isinstance(term, int):
        return env.node_of(integer(term))
    return env.node_of(term) if isinstance(term, IntExpr) else FloatNode(term, env)


def term_of(value: object) -> ScalarTerm:
    """The term behind a node or number of this environment."""
    if isinstance(value, FloatNode):
        return value.term
    if isinstance(value, bool | int | float):
        return value
    expr = getattr(value, "expr", None)
    if isinstance(expr, BoolExpr):
        return int(cast(Any, value).guard_bool())
    return expr if isinstance(expr, IntExpr) else cast(Any, value).maybe_as_int()  # torch's own node of a literal


_EXACT = (1 << 53) - 1
_SMALL = 1 << 20
_ROUNDINGS: frozenset[Callable[..., Any]] = frozenset({math.floor, math.ceil, math.trunc, int})
_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "mod": operator.mod,
    "truediv": operator.truediv,
    "float_truediv": operator.truediv,
    "pow": operator.pow,
    "float_pow": operator.pow,
    "floordiv": operator.floordiv,
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": operator.abs,
    "round": round,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "sym_int": int,
    "sym_float": float,
    "sym_min": min,
    "sym_max": max,
    "sym_sqrt": math.sqrt,
    "sym_log2": math.log2,
    "is_integer": float.is_integer,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
