"""Floats that are known when the graph is called: its float inputs, and what Python computes from those and from sizes.

A scale that is an argument, `1 / sqrt(size)`, a ratio of two sizes. The lowering makes them of a graph's numeric nodes,
a kernel takes each as one argument, and the wrapper computes it once, by the functions that the program itself calls.
Invariants: leaves are float inputs, integer expressions and literals; nobody is told the truth or the order of one.
"""

from __future__ import annotations

import operator
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias, cast

from lampwork_symshape import IntExpr, Symbol


class NumberOfTheCall(TypeError):
    """A lowering asked for the value of a float that only a call knows."""

    def __init__(self, number: FloatExpr) -> None:
        super().__init__(f"{number} is known when the graph is called")


class FloatExpr(ABC):
    """A Python float of the call. Interned, as integer expressions are: equal expressions are the same object.

    Comparing one with a number raises NumberOfTheCall.
    """

    __slots__ = ("__weakref__", "free_symbols", "inputs", "parts")

    free_symbols: frozenset[Symbol]
    """The symbols of all sizes inside."""
    inputs: frozenset[str]
    """The names of all float inputs inside."""
    parts: tuple[FloatExpr, ...]
    """The operands that are such expressions, in order; one may occur several times."""

    @abstractmethod
    def compute(
        self, integer: Callable[[IntExpr], int], floats: Mapping[str, float], made: Mapping[FloatExpr, Any]
    ) -> Any:
        """The value, where `made` has those of `parts`; the rest as in `evaluate`."""

    @abstractmethod
    def text(self, texts: Mapping[FloatExpr, str]) -> str:
        """The expression for people, where `texts` has those of `parts`."""

    def evaluate(self, integer: Callable[[IntExpr], int], floats: Mapping[str, float]) -> Any:
        """The value, where `integer` tells that of an integer expression and `floats` those of inputs."""
        made: dict[FloatExpr, Any] = {}
        for part in parts_of(self):
            made[part] = part.compute(integer, floats, made)
        return made[self]

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int | float | IntExpr):
            raise NumberOfTheCall(self)
        return self is other

    def __bool__(self) -> bool:
        raise NumberOfTheCall(self)

    def __float__(self) -> float:
        raise NumberOfTheCall(self)

    def __str__(self) -> str:
        """As `(a + b)`; what occurs in it several times stands behind: `(p0 * p0) where p0 = (a + b)`."""
        names: dict[FloatExpr, str] = {part: f"p{k}" for k, part in enumerate(shared_parts(self))}
        texts: dict[FloatExpr, str] = {}
        behind: list[str] = []
        for part in parts_of(self):
            texts[part] = part.text(texts)
            if part in names:
                behind.append(f"{names[part]} = {texts[part]}")
                texts[part] = names[part]
        return f"{texts[self]} where {', '.join(behind)}" if behind else texts[self]

    def __repr__(self) -> str:
        return str(self)


class FloatInput(FloatExpr):
    """A float input of the graph, by its name; in a kernel, a float argument."""

    __slots__ = ("name",)

    name: str

    def __new__(cls, name: str) -> FloatInput:
        key = (cls, name)
        found = _table.get(key)
        if found is None:
            made = super().__new__(cls)
            made.name, made.parts = name, ()
            made.free_symbols, made.inputs = frozenset(), frozenset((name,))
            found = _table.setdefault(key, made)
        return cast("FloatInput", found)

    def __reduce__(self) -> tuple[Any, ...]:
        return FloatInput, (self.name,)

    def compute(
        self, integer: Callable[[IntExpr], int], floats: Mapping[str, float], made: Mapping[FloatExpr, Any]
    ) -> Any:
        return floats[self.name]

    def text(self, texts: Mapping[FloatExpr, str]) -> str:
        return self.name


class FloatOf(FloatExpr):
    """`function(*operands)`, for a pure function of Python that takes numbers."""

    __slots__ = ("function", "operands")

    function: Callable[..., Any]
    operands: tuple[Operand, ...]

    def __new__(cls, function: Callable[..., Any], operands: tuple[Operand, ...]) -> FloatOf:
        key = (cls, function, *map(_key, operands))
        found = _table.get(key)
        if found is None:
            made = super().__new__(cls)
            made.function, made.operands = function, operands
            made.parts = tuple(o for o in operands if isinstance(o, FloatExpr))
            numbers = [o for o in operands if isinstance(o, FloatExpr | IntExpr)]
            made.free_symbols = frozenset[Symbol]().union(*(o.free_symbols for o in numbers))
            made.inputs = frozenset[str]().union(*(o.inputs for o in made.parts))
            found = _table.setdefault(key, made)
        return cast("FloatOf", found)

    def __reduce__(self) -> tuple[Any, ...]:
        return FloatOf, (self.function, self.operands)

    def compute(
        self, integer: Callable[[IntExpr], int], floats: Mapping[str, float], made: Mapping[FloatExpr, Any]
    ) -> Any:
        values: list[Any] = []
        for operand in self.operands:
            if isinstance(operand, FloatExpr):
                values.append(made[operand])
            else:
                values.append(integer(operand) if isinstance(operand, IntExpr) else operand)
        return self.function(*values)

    def text(self, texts: Mapping[FloatExpr, str]) -> str:
        own = [texts[o] if isinstance(o, FloatExpr) else str(o) for o in self.operands]
        if self.function in INFIX and len(own) == 2:
            return f"({own[0]} {INFIX[self.function]} {own[1]})"
        return f"{getattr(self.function, '__name__', self.function)}({', '.join(own)})"


def parts_of(expr: FloatExpr) -> list[FloatExpr]:
    """An expression and all inside it, each once, what others are made of in front of these."""
    found: dict[FloatExpr, None] = {}
    pending = [expr]
    while pending:
        missing = [part for part in pending[-1].parts if part not in found]
        if missing:
            pending.extend(reversed(missing))
        else:
            found[pending.pop()] = None
    return list(found)


def shared_parts(expr: FloatExpr) -> list[FloatOf]:
    """What is computed inside an expression and read there more than once, in the order of `parts_of`."""
    every = parts_of(expr)
    reads = Counter(part for one in every for part in one.parts)
    return [part for part in every if isinstance(part, FloatOf) and reads[part] > 1]


def _key(operand: Operand) -> Hashable:
    """Equal for equal operands: 0.0, -0.0, 0 and False differ. No key is a number, to which none may be compared."""
    if isinstance(operand, FloatExpr):
        return (operand,)
    return operand if isinstance(operand, IntExpr) else repr(operand)


Operand: TypeAlias = FloatExpr | IntExpr | int | float
_table: weakref.WeakValueDictionary[Hashable, FloatExpr] = weakref.WeakValueDictionary()
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
