"""Floats that are known when the graph is called: its float inputs, and what Python computes from those and from sizes.

A scale that is an argument, `1 / sqrt(size)`, a ratio of two sizes. The lowering makes them of a graph's numeric nodes,
a kernel takes each as one argument, and the wrapper computes it once, by the functions that the program itself calls.
Invariants: leaves are float inputs, integer expressions and literals; nobody is told the truth or the order of one.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from lampwork_symshape import IntExpr, Symbol


class NumberOfTheCall(TypeError):
    """A lowering asked for the value of a float that only a call knows."""

    def __init__(self, number: FloatExpr) -> None:
        super().__init__(f"{number} is known when the graph is called")


class FloatExpr(ABC):
    """A Python float of the call. Equal expressions are equal; comparing one with a number raises NumberOfTheCall."""

    __slots__ = ("_hash", "key")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        """Equal for equal expressions, apart for all others: 0.0, -0.0, 0 and False differ."""
        self._hash = hash(key)

    @property
    @abstractmethod
    def free_symbols(self) -> frozenset[Symbol]:
        """The symbols of all sizes inside."""

    @property
    @abstractmethod
    def inputs(self) -> frozenset[str]:
        """The names of all float inputs inside."""

    @abstractmethod
    def evaluate(self, integer: Callable[[IntExpr], int], floats: Mapping[str, float]) -> Any:
        """The value, where `integer` tells that of an integer expression and `floats` those of inputs."""

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int | float | IntExpr):
            raise NumberOfTheCall(self)
        return isinstance(other, FloatExpr) and (self is other or self.key == other.key)

    def __bool__(self) -> bool:
        raise NumberOfTheCall(self)

    def __float__(self) -> float:
        raise NumberOfTheCall(self)

    def __repr__(self) -> str:
        return str(self)


class FloatInput(FloatExpr):
    """A float input of the graph, by its name; in a kernel, a float argument."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        super().__init__(("input", name))
        self.name = name

    @property
    def free_symbols(self) -> frozenset[Symbol]:
        return frozenset()

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset((self.name,))

    def evaluate(self, integer: Callable[[IntExpr], int], floats: Mapping[str, float]) -> Any:
        return floats[self.name]

    def __str__(self) -> str:
        return self.name


class FloatOf(FloatExpr):
    """`function(*operands)`, for a pure function of Python that takes numbers."""

    __slots__ = ("function", "operands")

    def __init__(self, function: Callable[..., Any], operands: tuple[FloatExpr | IntExpr | int | float, ...]) -> None:
        super().__init__((function, *map(_key, operands)))
        self.function = function
        self.operands = operands

    @property
    def free_symbols(self) -> frozenset[Symbol]:
        parts = (o.free_symbols for o in self.operands if isinstance(o, FloatExpr | IntExpr))
        return frozenset[Symbol]().union(*parts)

    @property
    def inputs(self) -> frozenset[str]:
        return frozenset[str]().union(*(o.inputs for o in self.operands if isinstance(o, FloatExpr)))

    def evaluate(self, integer: Callable[[IntExpr], int], floats: Mapping[str, float]) -> Any:
        values: list[Any] = []
        for operand in self.operands:
            if isinstance(operand, FloatExpr):
                values.append(operand.evaluate(integer, floats))
            else:
                values.append(integer(operand) if isinstance(operand, IntExpr) else operand)
        return self.function(*values)

    def __str__(self) -> str:
        texts = list(map(str, self.operands))
        if self.function in INFIX and len(texts) == 2:
            return f"({texts[0]} {INFIX[self.function]} {texts[1]})"
        return f"{getattr(self.function, '__name__', self.function)}({', '.join(texts)})"


def _key(operand: FloatExpr | IntExpr | int | float) -> Hashable:
    if isinstance(operand, FloatExpr):
        return operand.key
    return operand if isinstance(operand, IntExpr) else repr(operand)


INFIX: dict[Callable[..., Any], str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.floordiv: "//",
    operator.mod: "%",
    operator.pow: "**",
}
"""Functions that Python writes as operators."""
