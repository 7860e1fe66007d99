"""Numbers that torch puts into a tensor only if they fit: `full`, `fill`, `masked_fill`, the borders of `pad`.

Asked by the recorder for graphs that write to their inputs. There torch raises behind the writes in front of it, and a
compiled graph, which writes last, would raise in front of all of them. So whether a number fits is decided in the
trace. Invariant: of a float that varies the outcome is a fact, not the value; one that does not fit refuses the graph.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lampwork_symshape.float_node import FloatNode
from lampwork_symshape.scalar_expr import ScalarTerm, apply
from torch import SymFloat, Tensor
from torch._ops import OpOverload

aten: Any = torch.ops.aten
_FILLED: Mapping[OpOverload, str] = {
    aten.full.default: "fill_value",
    aten.full_like.default: "fill_value",
    aten.new_full.default: "fill_value",
    aten.fill.Scalar: "value",
    aten.masked_fill.Scalar: "value",
    aten.index_fill.int_Scalar: "value",
    aten.constant_pad_nd.default: "value",
}


def may_not_fit(op: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], out: object) -> bool:
    """Whether an operator that gives `out` raises for its number. What is said of a float that varies is a fact.

    One that only the run time knows may not fit.
    """
    name = _FILLED.get(op)
    if name is None or not isinstance(out, Tensor) or not out.dtype.is_floating_point:
        return False
    if out.dim() == 0 and out.dtype.itemsize == 2:
        return False  # an infinity for eager
    parameters = zip(op._schema.arguments, args)
    number = kwargs.get(name, next((value for parameter, value in parameters if parameter.name == name), 0))
    if isinstance(number, SymFloat):
        return not _fits_in_this_call(number, out.dtype)
    return isinstance(number, int | float) and math.isfinite(number) and abs(number) > torch.finfo(out.dtype).max


def _fits_in_this_call(number: SymFloat, dtype: torch.dtype) -> bool:
    node: Any = number.node
    if dtype is torch.float64:
        return True
    if not isinstance(node, FloatNode) or node.shape_env.has_unknown(node.term):
        return False
    size: ScalarTerm = apply(operator.abs, node.term)
    questions = (
        apply(operator.le, size, torch.finfo(dtype).max),
        apply(operator.ne, node.term, node.term),
        apply(operator.eq, size, math.inf),
    )
    return any(node.shape_env.decide_scalar(question) for question in questions)


__all__ = ["may_not_fit"]
