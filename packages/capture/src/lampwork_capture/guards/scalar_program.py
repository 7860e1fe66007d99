"""Scalar programs: an expression over a few Python numbers as steps of a stack machine.

Conditions about numbers that are inputs (`n % 8 == 0`, `scale > 1.0`) are checked on every call, natively
(csrc/guard_scalar.c) and in plain Python by `evaluate`. A step calls what the traced program itself would call, so big
integers, nan and signed zeros behave as in Python. Invariant: the numbers are exact ints and floats (guarded before),
so a step runs no code of the user's.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lampwork_symshape.condition import BoolExpr
from lampwork_symshape.expr import Symbol
from lampwork_symshape.scalar_expr import FloatSymbol, ScalarExpr, ScalarTerm, applied, select

MOST_NUMBERS = 32  # of one program, as csrc/guard.h has it
DEEPEST = 64  # values on the stack, as csrc/guard_scalar.c has it


class StepKind(enum.IntEnum):
    """What a step does; the numbers are those of csrc/guard_scalar.c."""

    LOAD = 0
    CONSTANT = 1
    CALL = 2
    ADD = 3
    SUBTRACT = 4
    MULTIPLY = 5
    FLOOR_DIVIDE = 6
    REMAINDER = 7
    TRUE_DIVIDE = 8
    AND = 9
    OR = 10
    LESS = 11
    LESS_EQUAL = 12
    EQUAL = 13
    NOT_EQUAL = 14
    GREATER = 15
    GREATER_EQUAL = 16
    SELECT = 17
    TYPE = 18


_NATIVE: dict[Callable[..., Any], StepKind] = {
    operator.add: StepKind.ADD,
    operator.sub: StepKind.SUBTRACT,
    operator.mul: StepKind.MULTIPLY,
    operator.floordiv: StepKind.FLOOR_DIVIDE,
    operator.mod: StepKind.REMAINDER,
    operator.truediv: StepKind.TRUE_DIVIDE,
    operator.and_: StepKind.AND,
    operator.or_: StepKind.OR,
    operator.lt: StepKind.LESS,
    operator.le: StepKind.LESS_EQUAL,
    operator.eq: StepKind.EQUAL,
    operator.ne: StepKind.NOT_EQUAL,
    operator.gt: StepKind.GREATER,
    operator.ge: StepKind.GREATER_EQUAL,
    select: StepKind.SELECT,
    type: StepKind.TYPE,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: load number `count`, push `value`, or call `value` (an operation of `kind`) on `count` operands."""

    kind: StepKind
    value: Any = None
    count: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ScalarProgram:
    """Steps that leave one value. `text` is the expression, with `{0}`, `{1}` ... for the numbers."""

    steps: tuple[Step, ...]
    text: str

    @property
    def depth(self) -> int:
        """How many values are on the stack at most."""
        now = most = 0
        for step in self.steps:
            now += 1 - (step.count if step.kind is not StepKind.LOAD else 0)
            most = max(most, now)
        return most

    def evaluate(self, numbers: Sequence[int | float]) -> Any:
        """The value for these numbers. Raises what Python raises."""
        stack: list[Any] = []
        for step in self.steps:
            if step.kind is StepKind.LOAD:
                stack.append(numbers[step.count])
            elif step.kind is StepKind.CONSTANT:
                stack.append(step.value)
            else:
                operands = stack[-step.count :]
                del stack[-step.count :]
                stack.append(step.value(*operands))
        return stack[0]


EQUAL = ScalarProgram(
    (Step(StepKind.LOAD, None, 0), Step(StepKind.LOAD, None, 1), Step(StepKind.EQUAL, operator.eq, 2)), "{0} == {1}"
)
"""That two numbers are equal."""


def program_of(term: ScalarTerm | BoolExpr) -> tuple[ScalarProgram, tuple[Symbol | FloatSymbol, ...]]:
    """The program of a term, and the symbols whose values are its numbers, in order."""
    steps: list[Step] = []
    numbers: dict[Symbol | FloatSymbol, int] = {}
    tree = applied(term)
    _emit(tree, steps, numbers)
    return ScalarProgram(tuple(steps), spelled(tree, {s: f"{{{i}}}" for s, i in numbers.items()})), tuple(numbers)


def _emit(term: ScalarTerm, steps: list[Step], numbers: dict[Symbol | FloatSymbol, int]) -> None:
    if isinstance(term, ScalarExpr):
        for operand in term.operands:
            _emit(operand, steps, numbers)
        steps.append(Step(_NATIVE.get(term.function, StepKind.CALL), term.function, len(term.operands)))
    elif isinstance(term, Symbol | FloatSymbol):
        steps.append(Step(StepKind.LOAD, None, numbers.setdefault(term, len(numbers))))
    else:
        steps.append(Step(StepKind.CONSTANT, term))


_SYMBOLS: dict[Callable[..., Any], str] = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
    operator.eq: "==", operator.ne: "!=", operator.and_: "and", operator.or_: "or",
}  # fmt: skip


def spelled(term: ScalarTerm, names: Mapping[Symbol | FloatSymbol, str], *, inner: bool = False) -> str:
    """A term as a person would write it, with these names for its symbols."""
    if isinstance(term, Symbol | FloatSymbol):
        return names[term]
    if not isinstance(term, ScalarExpr):
        return repr(term)
    symbol = _SYMBOLS.get(term.function)
    if symbol is not None and len(term.operands) == 2:
        left, right = (spelled(operand, names, inner=True) for operand in term.operands)
        return f"({left} {symbol} {right})" if inner else f"{left} {symbol} {right}"
    if term.function is select:
        condition, if_true, if_false = (spelled(operand, names, inner=True) for operand in term.operands)
        return f"({if_true} if {condition} else {if_false})"
    operands = ", ".join(spelled(operand, names) for operand in term.operands)
    return f"{getattr(term.function, '__name__', term.function)}({operands})"
