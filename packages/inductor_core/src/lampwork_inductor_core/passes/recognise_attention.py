"""recognise_attention: softmax(q @ k.T * scale + mask) @ v, written out, becomes one attention operator.

The written-out form stores the matrix of scores twice and more; the operator never does. Invariant: taken only where
the meaning is the same: floating 4-d operands of one dtype, probabilities with no other user, and a mask that cannot
hold an infinity (a row of nothing but -inf is nan when written out, and not in the operator).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from .rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    is_row_major,
    may_be_empty,
    same_numbers,
    same_strides,
)

aten = torch.ops.aten
_RESHAPES = frozenset({aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default})
_SCALES = (aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar)
_FINITE_WRAPPERS = _RESHAPES | {
    aten.clone.default, aten.slice.Tensor, aten.unsqueeze.default, aten.squeeze.dim, aten.permute.default,
    aten.select.int, aten.alias.default,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Match:
    query: torch.fx.Node
    key: torch.fx.Node  # [batch, heads, positions, width]: not transposed
    value: torch.fx.Node
    scale: float
    mask: torch.fx.Node | None
    result: torch.fx.Node


def recognise_attention(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph with each written-out attention replaced."""
    mode = fake_mode_of(graph)
    for node in calls(graph, (aten.bmm.default,)):
        match = _match(node)
        if match is not None:
            _replace(graph, mode, match)
    return graph


def _replace(graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], match: _Match) -> None:
    expected = match.result.meta["val"]
    with graph.graph.inserting_before(match.result):
        attention = add_call(
            graph, mode, match.result, aten.scaled_dot_product_attention.default, match.query, match.key, match.value,
            match.mask, 0.0, False, scale=match.scale,
        )  # fmt: skip
        found = attention.meta["val"]
        if not same_numbers(found.shape, expected.shape) or found.dtype != expected.dtype:
            graph.graph.erase_node(attention)
            return
        if not same_strides(found, expected):
            if not is_row_major(expected):
                graph.graph.erase_node(attention)
                return
            attention = add_call(
                graph, mode, match.result, aten.clone.default, attention, memory_format=torch.contiguous_format
            )
    match.result.replace_all_uses_with(attention)


def _match(product: torch.fx.Node) -> _Match | None:
    """`product` as the second matrix product of an attention."""
    if len(product.users) != 1:
        return None
    (result,) = product.users
    if result.target not in _RESHAPES or result.meta["val"].dim() != 4:
        return None
    probabilities, value = _unreshaped(product.args[0]), _four_dimensional(product.args[1])
    scores = _softmax_argument(probabilities)
    if scores is None or value is None:
        return None
    scale, mask = 1.0, None
    if scores.target is aten.add.Tensor and not scores.kwargs and isinstance(scores.args[1], torch.fx.Node):
        left, right = scores.args
        assert isinstance(left, torch.fx.Node)
        if not _is_finite(right):
            left, right = right, left
        if not isinstance(left, torch.fx.Node) or not _is_finite(right):
            return None
        scores, mask = left, right
    inner, factor = _scaled(scores)
    if inner is not None:
        scores, scale = inner, factor
    scores = _unreshaped(scores)
    if not isinstance(scores, torch.fx.Node) or scores.target is not aten.bmm.default:
        return None
    query, key = _four_dimensional(scores.args[0]), _transposed(scores.args[1])
    if query is None or key is None:
        return None
    match = _Match(query, key, value, scale, mask, result)
    return match if _fits(match) else None


def _fits(match: _Match) -> bool:
    q, k, v = (n.meta["val"] for n in (match.query, match.key, match.value))
    out = match.result.meta["val"]
    if not (q.dtype == k.dtype == v.dtype == out.dtype) or q.dtype not in (
        torch.float32,
        torch.bfloat16,
        torch.float16,
    ):
        return False
    if not (same_numbers(q.shape[:2], k.shape[:2]) and same_numbers(k.shape[:3], v.shape[:3])):
        return False
    if not same_numbers(q.shape[3:], k.shape[3:]) or not same_numbers(out.shape, (*q.shape[:3], v.shape[3])):
        return False
    if may_be_empty(out) or may_be_empty(k):
        return False
    if match.mask is not None:
        mask = match.mask.meta["val"]
        if mask.dtype != q.dtype or mask.dim() != 4:
            return False
        whole = (q.shape[0], q.shape[1], q.shape[2], k.shape[2])
        return all(same_numbers((a,), (1,)) or same_numbers((a,), (b,)) for a, b in zip(mask.shape, whole))
    return True


def _scaled(node: torch.fx.Node) -> tuple[torch.fx.Node | None, float]:
    """What a product or quotient by a number was applied to, and the factor; (None, 1) for anything else."""
    if node.target not in _SCALES or len(node.args) != 2:
        return None, 1.0
    inner, number = node.args
    if not isinstance(inner, torch.fx.Node) or isinstance(number, bool) or not isinstance(number, (int, float)):
        return None, 1.0
    if number == 0 or not math.isfinite(number):
        return None, 1.0
    return inner, float(number) if node.target in _SCALES[:2] else 1 / number


def _unreshaped(node: Any) -> Any:
    """What reshapes, expansions that change nothing, and copies with one user were applied to."""
    while isinstance(node, torch.fx.Node) and node.target in _RESHAPES:
        source = node.args[0]
        if not isinstance(source, torch.fx.Node) or source.meta["val"].numel() != node.meta["val"].numel():
            break
        node = source
    return node


def _four_dimensional(node: Any) -> torch.fx.Node | None:
    """The 4-d tensor of which a 3-d operand of `bmm` is the reshape (batch and heads merged)."""
    if not isinstance(node, torch.fx.Node) or node.target not in _RESHAPES:
        return None
    merged, source = node.meta["val"], node
    while isinstance(source, torch.fx.Node) and source.target in (*_RESHAPES, aten.clone.default):
        inner = source.args[0]
        if not isinstance(inner, torch.fx.Node) or not _as_many(inner.meta["val"], merged):
            break
        source = inner
        if source.meta["val"].dim() == 4 and source.target not in (*_RESHAPES, aten.clone.default):
            break
    value = source.meta["val"]
    if value.dim() != 4 or not same_numbers((value.shape[0] * value.shape[1], *value.shape[2:]), merged.shape):
        return None
    return source


def _as_many(left: torch.Tensor, right: torch.Tensor) -> bool:
    return same_numbers((left.numel(),), (right.numel(),))


def _transposed(node: Any) -> torch.fx.Node | None:
    """The 4-d key whose last two dimensions a `bmm` operand has exchanged."""
    source = _four_dimensional(node)
    if source is None:
        return None
    inner = source.args[0] if source.args else None
    if not isinstance(inner, torch.fx.Node) or inner.meta["val"].dim() != 4:
        return None
    if source.target is aten.permute.default:
        order = [int(d) % 4 for d in source.args[1]]  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable, reportArgumentType]
        return inner if order == [0, 1, 3, 2] else None
    if source.target is aten.transpose.int:
        return inner if {int(source.args[1]) % 4, int(source.args[2]) % 4} == {2, 3} else None  # pyright: ignore[reportArgumentType]
    return None


def _softmax_argument(node: Any) -> Any:
    """x of a softmax over the last dimension, whole or as exp(x - max) / sum, of which nothing else is used."""
    if not isinstance(node, torch.fx.Node) or len(node.users) != 1:
        return None
    last = node.meta["val"].dim() - 1
    if node.target is aten._softmax.default:
        return node.args[0] if node.args[1] in (-1, last) and not node.args[2] else None
    if node.target is not aten.div.Tensor:
        return None
    exponential, total = node.args
    if not isinstance(exponential, torch.fx.Node) or exponential.target is not aten.exp.default:
        return None
    if not _reduces(total, aten.sum.dim_IntList, exponential, last) or len(exponential.users) != 2:
        return None
    shifted = exponential.args[0]
    if not isinstance(shifted, torch.fx.Node) or shifted.target is not aten.sub.Tensor or len(shifted.users) != 1:
        return None
    argument, best = shifted.args
    return argument if _reduces(best, aten.amax.default, argument, last) else None


def _reduces(node: Any, target: Any, argument: Any, last: int) -> bool:
    if not isinstance(node, torch.fx.Node) or node.target is not target or node.args[0] is not argument:
        return False
    dims, keep = [*node.args[1:3], None, None][:2]
    return dims in ([-1], [last]) and keep is True and not node.kwargs


def _is_finite(node: Any) -> bool:
    """Whether no element can be infinite or nan, by how the tensor was made."""
    if isinstance(node, (int, float)):
        return math.isfinite(node)
    while isinstance(node, torch.fx.Node) and node.target in _FINITE_WRAPPERS:
        node = node.args[0]
    if not isinstance(node, torch.fx.Node):
        return False
    if node.target in (aten.full.default, aten.full_like.default, aten.scalar_tensor.default):
        value = node.args[0] if node.target is aten.scalar_tensor.default else node.args[1]
        return isinstance(value, (int, float)) and math.isfinite(value)
    if node.target in (aten.zeros.default, aten.zeros_like.default, aten.ones.default, aten.ones_like.default):
        return True
    if node.target in (aten.where.self, aten.where.ScalarSelf, aten.where.ScalarOther, aten.where.Scalar):
        return _is_finite(node.args[1]) and _is_finite(node.args[2])
    if node.target in (aten.masked_fill.Scalar, aten.masked_fill.Tensor):
        return _is_finite(node.args[0]) and _is_finite(node.args[2])
    return False
