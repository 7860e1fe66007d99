"""The lowering table: which function lowers which ATen overload.

Each family's file fills its own table with `@lowers(...)`; `graph.default_table` merges them and a device adds or
overrides rows. Invariant: a lowering either returns values or raises Unsupported before it has any visible effect, and
then the operator is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Lowering = Callable[..., Any]
"""`(context, *arguments, **keywords) -> TensorValue | sequence of them`; tensors arrive as TensorValues."""

LoweringTable = Mapping[Any, Lowering]

_LoweringT = TypeVar("_LoweringT", bound=Lowering)


class Unsupported(Exception):
    """This use of an operator has no lowering; the message says why, for `explain`. The operator is called instead."""


class LeftToLibrary(Unsupported):
    """A device has a lowering for this use, and the library is better at it: no gap that anybody needs to know of."""


def lowers(table: dict[Any, Lowering], *overloads: Any) -> Callable[[_LoweringT], _LoweringT]:
    """Enter the decorated function into `table` for these overloads."""

    def enter(function: _LoweringT) -> _LoweringT:
        for overload in overloads:
            assert overload not in table, f"{overload} has two lowerings"
            table[overload] = function
        return function

    return enter
