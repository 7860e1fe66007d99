"""Scatters: a copy of a tensor with elements replaced or added to at computed indices.

The loops run over the source's elements; each says where it goes. Only if `config.lower_scatter` says so, or a device
takes `GENERATED` for its own: the library's are good on most devices. Invariant: every computed index is checked
against its size, as in `indexing`, and what meets in one element is added in the order of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr, symbol

from ..ir.layout import Layout, contiguous_strides
from ..ir.loop_body import LoopBody, Node, ops
from ..ir.loops import Scatter, ScatterMode
from ..ir.views import Indices, canonical_indices, canonical_variables, is_dense, to_expr
from .context import LoweringContext, broadcast_indices, broadcast_sizes
from .elementwise import like, number_for_fill
from .indexing import not_negative
from .promotion import HALF, is_supported
from .table import Lowering, Unsupported, lowers
from .values import TensorValue
from .view import normal_dim

aten = torch.ops.aten
GENERATED: dict[Any, Lowering] = {}
"""The lowerings, for devices where generated scatters are the faster ones."""
_INDEX_DTYPES = (torch.int64, torch.int32)


def _scatter(
    context: LoweringContext,
    base: TensorValue,
    sizes: Indices,
    element: Node,
    computed: dict[int, Node],
    direct: dict[int, IntExpr],
    mode: ScatterMode,
) -> TensorValue:
    """`base` with `element`, at each point of `sizes`, put at `direct` and (checked) `computed` indices."""
    if element.dtype != base.dtype or not is_supported(base.dtype):
        raise Unsupported("a source of another dtype")
    if mode is ScatterMode.ADD and (base.dtype in HALF or base.dtype == torch.bool):
        raise Unsupported(f"sums of {base.dtype} into memory")
    strides = context.result_strides()
    if strides is None or not is_dense(base.sizes, strides):
        strides = contiguous_strides(base.sizes)
    layout = Layout(base.device, base.dtype, base.sizes, strides)
    initial = context.whole(base, layout)
    indices: list[IntExpr] = []
    bound: list[tuple[Any, Node]] = []
    for dim, size in enumerate(base.sizes):
        if dim in direct:
            indices.append(direct[dim])
            continue
        upper = max(int(size) - 1, 0) if size.is_constant else None
        name = symbol(f"t{len(bound)}", 0, upper)
        bound.append((name, ops.checked_index(computed[dim], size)))
        indices.append(name)
    body = LoopBody(canonical_variables(sizes), (), element)
    loops = Scatter(sizes, body, layout.index(indices), tuple(bound), mode, initial)
    return context.add_computed(layout, loops, context.origin())


def _require(context: LoweringContext, base: TensorValue, *indices: TensorValue) -> None:
    if not base.rank or any(i.dtype not in _INDEX_DTYPES or i.device != base.device for i in indices):
        raise Unsupported("indices of another dtype or device")


def _along(
    context: LoweringContext, base: TensorValue, dim: int, index: TensorValue, source: Any, mode: ScatterMode
) -> TensorValue:
    """The scatter family: `index` has the rank of `base` and replaces the index of one dimension."""
    _require(context, base, index)
    if index.rank != base.rank or (isinstance(source, TensorValue) and source.rank != base.rank):
        raise Unsupported("indices of another rank")
    axis = normal_dim(dim, base.rank)
    variables = canonical_indices(index.sizes)
    if isinstance(source, TensorValue):
        context.prepare_substitution(source)
        element = source.load(variables)
    else:
        element = number_for_fill(source, base.dtype)
    computed = {axis: not_negative(index.load(variables), base.sizes[axis])}
    direct = {k: v for k, v in enumerate(variables) if k != axis}
    return _scatter(context, base, index.sizes, element, computed, direct, mode)


@lowers(GENERATED, aten.scatter.src, aten.scatter.value)
def scatter(context: LoweringContext, base: TensorValue, dim: int, index: TensorValue, source: Any) -> TensorValue:
    """Elements replaced at indices along one dimension."""
    return _along(context, base, dim, index, source, ScatterMode.ASSIGN)


@lowers(GENERATED, aten.scatter_add.default)
def scatter_add(
    context: LoweringContext, base: TensorValue, dim: int, index: TensorValue, source: TensorValue
) -> TensorValue:
    """Elements added to at indices along one dimension."""
    return _along(context, base, dim, index, source, ScatterMode.ADD)


def _slices(
    context: LoweringContext,
    base: TensorValue,
    dim: int,
    index: TensorValue,
    source: TensorValue,
    alpha: Any,
    mode: ScatterMode,
) -> TensorValue:
    """The index_add family: whole slices of one dimension."""
    _require(context, base, index)
    if index.rank != 1 or source.rank != base.rank:
        raise Unsupported("an index that is not a vector")
    axis = normal_dim(dim, base.rank)
    variables = canonical_indices(source.sizes)
    element = source.load(variables)
    if alpha != 1:
        element = ops.mul(element, like(alpha, element))
    computed = {axis: not_negative(index.load((variables[axis],)), base.sizes[axis])}
    direct = {k: v for k, v in enumerate(variables) if k != axis}
    return _scatter(context, base, source.sizes, element, computed, direct, mode)


@lowers(GENERATED, aten.index_add.default)
def index_add(
    context: LoweringContext, base: TensorValue, dim: int, index: TensorValue, source: TensorValue, *, alpha: Any = 1
) -> TensorValue:
    """Slices added to."""
    return _slices(context, base, dim, index, source, alpha, ScatterMode.ADD)


@lowers(GENERATED, aten.index_copy.default)
def index_copy(
    context: LoweringContext, base: TensorValue, dim: int, index: TensorValue, source: TensorValue
) -> TensorValue:
    """Slices replaced."""
    return _slices(context, base, dim, index, source, 1, ScatterMode.ASSIGN)


@lowers(GENERATED, aten.index_put.default, aten._unsafe_index_put.default)
def index_put(
    context: LoweringContext,
    base: TensorValue,
    indices: Sequence[TensorValue | None],
    values: TensorValue,
    accumulate: bool = False,
) -> TensorValue:
    """Advanced indexing on the left: integer tensors that broadcast together."""
    used = [(dim, t) for dim, t in enumerate(indices) if t is not None]
    _require(context, base, *(t for _, t in used))
    if not used or len(indices) > base.rank:
        raise Unsupported("no indices, or too many")
    common = broadcast_sizes([t.sizes for _, t in used])
    dims = [dim for dim, _ in used]
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    kept = [k for k in range(base.rank) if k not in dims]
    before = [k for k in kept if k < dims[0]] if adjacent else []
    after = [k for k in kept if k not in before]
    sizes: Indices = (*(base.sizes[k] for k in before), *common, *(base.sizes[k] for k in after))
    if values.rank > len(sizes) or broadcast_sizes([values.sizes, sizes]) != sizes:
        raise Unsupported("values that do not broadcast")
    variables = canonical_indices(sizes)
    start = len(before)
    middle = variables[start : start + len(common)]
    context.prepare_repeat(values, sizes)
    element = values.load(broadcast_indices(values.sizes, sizes, variables))
    computed = {dim: ops.to_dtype(t.load(broadcast_indices(t.sizes, common, middle)), torch.int64) for dim, t in used}
    direct: dict[int, IntExpr] = {k: variables[j] for j, k in enumerate(before)}
    direct.update({k: variables[start + len(common) + j] for j, k in enumerate(after)})
    mode = ScatterMode.ADD if accumulate else ScatterMode.ASSIGN
    return _scatter(context, base, sizes, element, computed, direct, mode)


@lowers(GENERATED, aten.embedding_dense_backward.default)
def embedding_dense_backward(
    context: LoweringContext, grad: TensorValue, indices: TensorValue, rows: Any, padding_idx: Any, by_frequency: bool
) -> TensorValue:
    """The gradient of an embedding's weight: each row of `grad` added to the row that its index selects."""
    if by_frequency or grad.rank != indices.rank + 1 or not isinstance(padding_idx, int):
        raise Unsupported("gradients by frequency, or a padding index of the call")
    sizes = (to_expr(rows), grad.sizes[-1])
    base = context.expression([], [], sizes, ops.constant(0, grad.dtype), device=grad.device)
    _require(context, base, indices)
    variables = canonical_indices(grad.sizes)
    context.prepare_many_reads(indices)
    context.realise(grad)  # what it is computed from need not live until there is memory for the whole table
    at = indices.load(variables[:-1])
    element = grad.load(variables)
    if padding_idx >= 0:
        element = ops.where(ops.eq(at, ops.constant(padding_idx, at.dtype)), ops.constant(0, grad.dtype), element)
    computed = {0: not_negative(at, sizes[0])}
    return _scatter(context, base, grad.sizes, element, computed, {1: variables[-1]}, ScatterMode.ADD)


def _if_asked(lowering: Lowering) -> Lowering:
    def lower(context: LoweringContext, *arguments: Any, **keywords: Any) -> Any:
        if not context.config.lower_scatter:
            raise Unsupported("scatters are the library's (config.lower_scatter)")
        return lowering(context, *arguments, **keywords)

    return lower


TABLE: dict[Any, Lowering] = {overload: _if_asked(lowering) for overload, lowering in GENERATED.items()}
