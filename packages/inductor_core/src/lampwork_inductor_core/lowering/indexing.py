"""Indexing by tensors: embedding, gather, index, index_select.

An element is loaded at an index that is itself a node of the body. Invariant: what is indexed lies in a buffer; every
index is checked against its size, so a wrong one raises as in eager and never reads elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr, symbol

from ..ir.loop_body import IndexValue, Load, Node, ops, rewrite, walk
from ..ir.views import Indices, canonical_indices, element_count, to_expr
from .context import LoweringContext, broadcast_indices, broadcast_sizes
from .promotion import is_supported
from .table import Lowering, Unsupported, lowers
from .values import BufferValue, TensorValue
from .view import normal_dim

aten = torch.ops.aten
TABLE: dict[Any, Lowering] = {}
_INDEX_DTYPES = (torch.int64, torch.int32)
_FEW = 16  # of so many elements at least, one is selected


def indirect_load(
    context: LoweringContext, source: BufferValue, position: dict[int, Node], direct: dict[int, IntExpr]
) -> Node:
    """The element of `source` at `direct` indices and, in the other dimensions, at indices that nodes compute."""
    indices: list[IntExpr] = []
    bound: list[tuple[Any, Node]] = []
    for dim, size in enumerate(source.sizes):
        if dim in direct:
            indices.append(direct[dim])
            continue
        upper = int(size) - 1 if size.is_constant else None
        name = symbol(f"t{len(bound)}", 0, upper if upper is None else max(upper, 0))
        bound.append((name, ops.checked_index(position[dim], size)))
        indices.append(name)
    return ops.load(source.name, source.layout.index(indices), source.dtype, tuple(bound))


def _source(context: LoweringContext, value: TensorValue) -> BufferValue:
    if not is_supported(value.dtype):
        raise Unsupported(f"dtype {value.dtype}")
    return context.realise(value)


def not_negative(index: Node, size: IntExpr) -> Node:
    """The index as int64, a negative one turned into one that is out of bounds: for operators that do not wrap."""
    wide = ops.to_dtype(index, torch.int64)
    return ops.where(ops.lt(wide, ops.constant(0, torch.int64)), ops.index_value(size), wide)


@lowers(TABLE, aten.embedding.default)
def embedding(
    context: LoweringContext, weight: TensorValue, indices: TensorValue, padding_idx: Any = -1, *_: Any
) -> TensorValue:
    """Rows of a matrix."""
    if indices.dtype not in _INDEX_DTYPES or weight.rank != 2 or indices.device != weight.device:
        raise Unsupported("indices of another dtype or device")
    return _rows(context, weight, indices, 0)


def _rows(context: LoweringContext, value: TensorValue, indices: TensorValue, dim: int) -> TensorValue:
    """`value` with dimension `dim` replaced by the dimensions of `indices`; negative indices are errors."""
    source = _source(context, value)
    sizes = (*value.sizes[:dim], *indices.sizes, *value.sizes[dim + 1 :])
    variables = canonical_indices(sizes)
    context.prepare_substitution(indices)
    context.prepare_many_reads(indices)
    at = indices.load(variables[dim : dim + indices.rank])
    direct: dict[int, IntExpr] = {}
    for k in range(value.rank):
        if k != dim:
            direct[k] = variables[k] if k < dim else variables[k - 1 + indices.rank]
    body = indirect_load(context, source, {dim: not_negative(at, value.sizes[dim])}, direct)
    return context.expression([source, indices], [at], sizes, body)


@lowers(TABLE, aten.index_select.default)
def index_select(context: LoweringContext, value: TensorValue, dim: int, indices: TensorValue) -> TensorValue:
    """Indices of a dimension."""
    if indices.dtype not in _INDEX_DTYPES or indices.rank != 1 or not value.rank or indices.device != value.device:
        raise Unsupported("indices of another dtype or rank")
    return _rows(context, value, indices, normal_dim(dim, value.rank))


@lowers(TABLE, aten.gather.default)
def gather(
    context: LoweringContext, value: TensorValue, dim: int, indices: TensorValue, *, sparse_grad: bool = False
) -> TensorValue:
    """Elements at indices along one dimension, in the sizes of `indices`."""
    if (
        indices.dtype not in _INDEX_DTYPES
        or not value.rank
        or indices.rank != value.rank
        or indices.device != value.device
    ):
        raise Unsupported("indices of another dtype or rank")
    axis = normal_dim(dim, value.rank)
    variables = canonical_indices(indices.sizes)
    context.prepare_users(indices)
    at = indices.load(variables)
    direct = {k: v for k, v in enumerate(variables) if k != axis}
    position = not_negative(at, value.sizes[axis])
    if _selects_few(value, indices):
        computed = _computed_at(value, axis, position, direct)
        if computed is not None:
            return context.expression([value, indices], [at], indices.sizes, computed)
    source = _source(context, value)
    body = indirect_load(context, source, {axis: position}, direct)
    return context.expression([source, indices], [at], indices.sizes, body)


def _selects_few(value: TensorValue, indices: TensorValue) -> bool:
    """Whether so few elements are selected that they are better computed than the whole is stored."""
    whole, few = element_count(value.sizes), element_count(indices.sizes)
    known = whole.is_constant and few.is_constant and value.buffer is None and is_supported(value.dtype)
    return known and int(few) * _FEW <= int(whole)


def _computed_at(value: TensorValue, axis: int, position: Node, direct: dict[int, IntExpr]) -> Node | None:
    """The element of a value that no buffer holds, at an index that a node computes; None where its body uses indices
    as data."""
    size = value.sizes[axis]
    whole = value.load(canonical_indices(value.sizes))
    used = {s.name for n in walk(whole) if isinstance(n, Load) for s, _ in n.indirect}
    name = next(name for k in range(len(used) + 1) if (name := f"t{k}") not in used)
    selected = symbol(name, 0, max(int(size) - 1, 0) if size.is_constant else None)
    checked = ops.checked_index(position, size)
    body = value.load([selected if k == axis else direct[k] for k in range(value.rank)])
    done: dict[Node, Node] = {}
    for node in walk(body):
        if isinstance(node, IndexValue) and selected in node.expression.free_symbols:
            return None
        if isinstance(node, Load) and selected in node.index.free_symbols:
            pairs = tuple((s, rewrite(n, done.get, _same)) for s, n in node.indirect)
            done[node] = ops.load(node.buffer, node.index, node.dtype, (*pairs, (selected, checked)))
    return rewrite(body, done.get, _same) if done else None  # else nothing would check the index


def _same(index: IntExpr) -> IntExpr:
    return index


@lowers(TABLE, aten.index.Tensor, aten._unsafe_index.Tensor)
def index(context: LoweringContext, value: TensorValue, indices: Sequence[TensorValue | None]) -> TensorValue:
    """Advanced indexing by integer tensors, which broadcast together."""
    used = [(dim, t) for dim, t in enumerate(indices) if t is not None]
    if not used or any(t.dtype not in _INDEX_DTYPES for _, t in used) or any(t.device != value.device for _, t in used):
        raise Unsupported("masks, or indices of another dtype or device")
    if len(indices) > value.rank:
        raise Unsupported("too many indices")
    source = _source(context, value)
    common = broadcast_sizes([t.sizes for _, t in used])
    dims = [dim for dim, _ in used]
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    kept = [k for k in range(value.rank) if k not in dims]
    before = [k for k in kept if k < dims[0]] if adjacent else []
    after = [k for k in kept if k not in before]
    sizes: Indices = (*(value.sizes[k] for k in before), *common, *(value.sizes[k] for k in after))
    variables = canonical_indices(sizes)
    start = len(before)
    middle = variables[start : start + len(common)]
    position: dict[int, Node] = {}
    elements: list[Node] = []
    for dim, tensor in used:
        context.prepare_repeat(tensor, common)
        context.prepare_substitution(tensor)
        if len(common) < len(sizes):
            context.prepare_many_reads(tensor)
        at = tensor.load(broadcast_indices(tensor.sizes, common, middle))
        elements.append(at)
        position[dim] = ops.to_dtype(at, torch.int64)
    direct: dict[int, IntExpr] = {k: variables[j] for j, k in enumerate(before)}
    direct.update({k: variables[start + len(common) + j] for j, k in enumerate(after)})
    body = indirect_load(context, source, position, direct)
    return context.expression([source, *(t for _, t in used)], elements, sizes, body)


__all__ = ["TABLE", "gather", "index", "to_expr"]
