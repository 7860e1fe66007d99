"""expand_lists: an operator on lists of tensors becomes one on each tensor.

The steps of optimizers come as `_foreach_` operators, a handful of calls for hundreds of parameters, which keeps the
trace short; what is fused is what happens to one parameter. Runs first. Invariant: item by item the same operator, with
the fake value that the call on lists had there; a call whose single form is not known stays.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from .rewriting import PassContext, add_call, calls, fake_mode_of

aten = torch.ops.aten
_PREFIX = "_foreach_"
_OPERANDS = 3  # of those that take a scale behind them
_UNARY = (
    "abs acos asin atan ceil clone cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal"
    " round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc"
)


@dataclass(frozen=True, slots=True)
class _Single:
    """The operator on one tensor. `keyword`: how it takes its last positional argument, if the one on lists has it."""

    target: Any
    keyword: str = ""


_SINGLE: Mapping[str, _Single] = {
    **{name: _Single(getattr(aten, name).default) for name in _UNARY.split()},
    **{
        f"{name}.{overload}": _Single(getattr(aten, name).Tensor)
        for name in ("add", "sub", "mul", "div")
        for overload in ("Scalar", "List", "ScalarList", "Tensor")
    },
    **{
        f"{name}.{overload}": _Single(getattr(aten, name).default, "value")
        for name in ("addcmul", "addcdiv")
        for overload in ("Scalar", "ScalarList")
    },
    "lerp.Scalar": _Single(aten.lerp.Scalar),
    "lerp.ScalarList": _Single(aten.lerp.Scalar),
    "lerp.List": _Single(aten.lerp.Tensor),
    "pow.Scalar": _Single(aten.pow.Tensor_Scalar),
    "pow.ScalarList": _Single(aten.pow.Tensor_Scalar),
    "pow.List": _Single(aten.pow.Tensor_Tensor),
    "pow.ScalarAndTensor": _Single(aten.pow.Scalar),
    "maximum.List": _Single(aten.maximum.default),
    "minimum.List": _Single(aten.minimum.default),
    "clamp_min.Scalar": _Single(aten.clamp_min.default),
    "clamp_min.ScalarList": _Single(aten.clamp_min.default),
    "clamp_max.Scalar": _Single(aten.clamp_max.default),
    "clamp_max.ScalarList": _Single(aten.clamp_max.default),
    "norm.Scalar": _Single(aten.linalg_vector_norm.default),
    "copy": _Single(aten.copy.default),
    "zero": _Single(aten.zeros_like.default),
}


def expand_lists(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph without operators on lists that have a form for one tensor. Linear in the lengths of the lists."""
    mode = fake_mode_of(graph)
    for node in calls(graph):
        if isinstance(node.target, torch._ops.OpOverload) and node.target.overloadpacket.__name__.startswith(_PREFIX):
            _expand(graph, mode, node)
    return graph


def _expand(graph: torch.fx.GraphModule, mode: Any, node: torch.fx.Node) -> None:
    values, name = node.meta.get("val"), str(node.target).removeprefix(f"aten.{_PREFIX}").removesuffix(".default")
    single = _SINGLE.get(name)
    if (
        single is None
        or not isinstance(values, list | tuple)
        or not all(isinstance(value, torch.Tensor) for value in values)
    ):
        return
    takers = list(node.users)
    if not all(taker.target is operator.getitem and type(taker.args[1]) is int for taker in takers):
        return
    for taker in takers:
        index: Any = taker.args[1]
        arguments = [_item(argument, index) for argument in node.args]
        keywords = {key: _item(argument, index) for key, argument in node.kwargs.items()}
        if single.keyword and len(arguments) > _OPERANDS:
            keywords[single.keyword] = arguments.pop()
        with graph.graph.inserting_before(node):
            item = add_call(graph, mode, node, single.target, *arguments, known=values[index], **keywords)
        taker.replace_all_uses_with(item)
        graph.graph.erase_node(taker)
    graph.graph.erase_node(node)


def _item(argument: Any, index: int) -> Any:
    return argument[index] if isinstance(argument, list | tuple) else argument
