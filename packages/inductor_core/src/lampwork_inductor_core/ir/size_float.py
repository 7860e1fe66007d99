"""Floats computed from sizes: a scale of `1 / sqrt(size)`, a ratio of two sizes.

The lowering makes them of a graph's numeric nodes; kernels compute them in float64 from sizes, the wrapper as Python
does. Invariant: leaves are size expressions and literals, so no input but sizes decides one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_symshape import IntExpr, Symbol

from .loop_body import Node, ops


@dataclass(frozen=True, slots=True)
class SizeFloat:
    """A Python float that is computed from sizes: `function(*operands)` of Python functions, down to expressions."""

    function: Callable[..., Any]
    operands: tuple[SizeFloat | IntExpr | int | float, ...]

    @property
    def free_symbols(self) -> frozenset[Symbol]:
        """The symbols of all sizes inside."""
        found: frozenset[Symbol] = frozenset()
        for operand in self.operands:
            if isinstance(operand, SizeFloat | IntExpr):
                found |= operand.free_symbols
        return found

    def node(self) -> Node | None:
        """The value as a float64 node of a body; None where the IR has no such function."""
        name = _FUNCTIONS.get(self.function)
        if name is None:
            return None
        nodes = [_operand(operand) for operand in self.operands]
        if any(node is None for node in nodes):
            return None
        return nodes[0] if name == "to_dtype" else ops.compute(name, *[n for n in nodes if n is not None])


def _operand(operand: SizeFloat | IntExpr | int | float) -> Node | None:
    if isinstance(operand, SizeFloat):
        return operand.node()
    if isinstance(operand, IntExpr):
        return ops.to_dtype(ops.index_value(operand), torch.float64)
    return ops.constant(float(operand), torch.float64)


_FUNCTIONS: dict[Callable[..., Any], str] = {
    operator.add: "add",
    operator.sub: "sub",
    operator.mul: "mul",
    operator.truediv: "truediv",
    operator.neg: "neg",
    operator.abs: "abs",
    operator.pow: "pow",
    math.sqrt: "sqrt",
    math.log2: "log2",
    float: "to_dtype",
}
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
