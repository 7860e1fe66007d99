"""The check that a graph is what this stage promises: functional, in ATen operators, with a value on every node.

Runs in tests and under LAMPWORK_VERIFY=1, after tracing. Invariant: it changes nothing.
"""

from __future__ import annotations

import math
import operator

import torch
from lampwork_symshape.scalar_expr import select
from lampwork_symshape.sym_node import choose
from torch import SymFloat, fx
from torch._ops import OpOverload

from .settings import Settings

_SCALAR_FUNCTIONS = frozenset(
    {
        operator.getitem,
        operator.add,
        operator.sub,
        operator.mul,
        operator.floordiv,
        operator.mod,
        operator.pow,
        pow,
        operator.truediv,
        operator.neg,
        operator.pos,
        operator.abs,
        operator.eq,
        operator.ne,
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
        operator.and_,
        operator.or_,
        choose,
        torch.sym_max,
        torch.sym_min,
        math.sqrt,
        math.log2,
        select,
        float,
        min,
        max,
    }
)
# Pure functions of numbers; in a graph where they give a float that stays symbolic
_FLOAT_FUNCTIONS = frozenset({round, *(f for name, f in vars(math).items() if name[0] != "_" and callable(f))})


class NotFunctional(AssertionError):
    """A graph that should be functional is not; the message names the node."""


def verify_if_asked(graph: fx.GraphModule) -> None:
    """`verify` under LAMPWORK_VERIFY=1; nothing otherwise."""
    if Settings.from_environment().verify:
        verify(graph)


def verify(graph: fx.GraphModule) -> None:
    """Raises NotFunctional unless `graph` is a functional ATen graph with a `val` on every node."""
    graph.graph.lint()
    inputs_over = False
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            if inputs_over:
                raise NotFunctional(f"input {node.name} comes after an operator")
        else:
            inputs_over = True
        if node.op in ("call_method", "call_module"):
            raise NotFunctional(f"{node.name} calls {node.op} {node.target}")
        if node.op == "call_function":
            _verify_call(node)
        if "val" not in node.meta:
            raise NotFunctional(f"{node.name} has no value")


def _verify_call(node: fx.Node) -> None:
    target = node.target
    if not isinstance(target, OpOverload):
        computes_float = target in _FLOAT_FUNCTIONS and isinstance(node.meta.get("val"), SymFloat)
        if target not in _SCALAR_FUNCTIONS and not computes_float:
            raise NotFunctional(f"{node.name} calls {target}, which is not an operator overload")
        return
    if target._schema.is_mutable:
        raise NotFunctional(f"{node.name} calls {target}, which writes to its arguments")
    if target.namespace == "prims":
        raise NotFunctional(f"{node.name} calls {target}; prims are not part of the operator set")
