"""View operators as index maps: no element moves.

Over a buffer the strided ones are layout arithmetic, which keeps eager's strides to the letter; the others, and views
of what no buffer holds yet, are maps that later loads go through. Invariant: a view never copies here; a copy is made
only where memory with certain strides is demanded (`LoweringContext.materialise`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lampwork_symshape import IntExpr, Truth, ceil_div, le, lt, maximum, minimum, prove, where

from ..ir.layout import Layout, contiguous_strides
from ..ir.views import (
    ONE,
    ZERO,
    IndexMap,
    Indices,
    canonical_indices,
    element_count,
    is_dense,
    map_of,
    reshape_layout,
    reshape_map,
    to_expr,
)
from .context import LoweringContext
from .table import Lowering, Unsupported, lowers
from .values import BufferValue, TensorValue

aten = torch.ops.aten
prims = torch.ops.prims
TABLE: dict[Any, Lowering] = {}


def normal_dim(dim: int, rank: int) -> int:
    """A dimension counted from the front. Raises Unsupported out of range (eager raises: let it)."""
    rank = max(rank, 1)
    if not -rank <= dim < rank:
        raise Unsupported("a dimension out of range")
    return dim % rank


def normal_dims(dims: Sequence[int] | int | None, rank: int) -> tuple[int, ...]:
    """Several dimensions counted from the front, in order; None and () mean all."""
    if dims is None:
        return tuple(range(rank))
    if isinstance(dims, int):
        dims = (dims,)
    result = tuple(sorted(normal_dim(d, rank) for d in dims)) if dims else tuple(range(rank))
    if len(set(result)) != len(result):
        raise Unsupported("a dimension given twice")
    return result if rank else ()


def restrided(value: TensorValue, sizes: Indices, strides: Indices, offset: IntExpr) -> BufferValue:
    """The buffer under `value` through other sizes and strides."""
    buffer = value.buffer
    assert buffer is not None
    layout = buffer.layout
    return BufferValue(buffer.name, Layout(layout.device, layout.dtype, sizes, strides, offset))


def permute_value(value: TensorValue, order: Sequence[int]) -> TensorValue:
    """Dimension k of the result is dimension `order[k]` of the value."""
    sizes = tuple(value.sizes[d] for d in order)
    if value.buffer is not None:
        layout = value.buffer.layout
        return restrided(value, sizes, tuple(layout.strides[d] for d in order), layout.offset)

    def indices(variables: Indices) -> Indices:
        result: list[IntExpr] = [ZERO] * len(order)
        for variable, d in zip(variables, order):
            result[d] = variable
        return tuple(result)

    return value.view(map_of(sizes, indices))


def reshape_value(value: TensorValue, sizes: Indices) -> TensorValue:
    """The same elements in row-major order."""
    if sizes == value.sizes:
        return value
    if value.buffer is not None:
        layout = reshape_layout(value.buffer.layout, sizes)
        if layout is not None:
            return BufferValue(value.buffer.name, layout)
    return value.view(reshape_map(value.sizes, sizes))


def expand_value(context: LoweringContext, value: TensorValue, sizes: Indices) -> TensorValue:
    """Broadcast to larger sizes."""
    if sizes == value.sizes:
        return value
    context.prepare_repeat(value, sizes)
    added = len(sizes) - value.rank
    if value.buffer is not None:
        layout = value.buffer.layout
        strides: list[IntExpr] = []
        strides.extend([ZERO] * added)
        for k, (size, stride) in enumerate(zip(layout.sizes, layout.strides)):
            strides.append(ZERO if size == 1 and sizes[added + k] != 1 else stride)
        for k in range(added - 1, -1, -1):
            if sizes[k] == 1:  # a new dimension of size one gets a stride as if it were contiguous
                strides[k] = sizes[k + 1] * strides[k + 1] if k + 1 < len(sizes) else ONE
        return restrided(value, sizes, tuple(strides), layout.offset)
    variables = canonical_indices(sizes)
    indices = tuple(ZERO if size == 1 else v for size, v in zip(value.sizes, variables[added:]))
    return value.view(IndexMap(sizes, indices))


def slice_value(value: TensorValue, dim: int, start: IntExpr, length: IntExpr, step: int = 1) -> TensorValue:
    """`length` elements of a dimension from `start` on, every `step`th. All in bounds."""
    sizes = (*value.sizes[:dim], length, *value.sizes[dim + 1 :])
    if value.buffer is not None:
        layout = value.buffer.layout
        strides = list(layout.strides)
        offset = layout.offset + start * strides[dim]
        strides[dim] = strides[dim] * step
        return restrided(value, sizes, tuple(strides), offset)

    def indices(variables: Indices) -> Sequence[IntExpr]:
        result = list(variables)
        result[dim] = start + variables[dim] * step
        return result

    return value.view(map_of(sizes, indices))


def select_value(value: TensorValue, dim: int, index: IntExpr) -> TensorValue:
    """One index of a dimension, which goes away."""
    sizes = (*value.sizes[:dim], *value.sizes[dim + 1 :])
    if value.buffer is not None:
        layout = value.buffer.layout
        strides = (*layout.strides[:dim], *layout.strides[dim + 1 :])
        return restrided(value, sizes, strides, layout.offset + index * layout.strides[dim])
    return value.view(map_of(sizes, lambda v: (*v[:dim], index, *v[dim:])))


def unsqueeze_value(value: TensorValue, dim: int) -> TensorValue:
    """A new dimension of size one."""
    sizes = (*value.sizes[:dim], ONE, *value.sizes[dim:])
    if value.buffer is not None:
        layout = value.buffer.layout
        stride = layout.strides[dim] * layout.sizes[dim] if dim < value.rank else ONE
        strides = (*layout.strides[:dim], stride, *layout.strides[dim:])
        return restrided(value, sizes, strides, layout.offset)
    return value.view(map_of(sizes, lambda v: (*v[:dim], *v[dim + 1 :])))


def squeeze_value(value: TensorValue, dims: Sequence[int]) -> TensorValue:
    """Without those of `dims` that have size one."""
    gone = {d for d in dims if d < value.rank and value.sizes[d] == 1}
    if not gone:
        return value
    kept = [k for k in range(value.rank) if k not in gone]
    sizes = tuple(value.sizes[k] for k in kept)
    if value.buffer is not None:
        layout = value.buffer.layout
        return restrided(value, sizes, tuple(layout.strides[k] for k in kept), layout.offset)

    def indices(variables: Indices) -> Sequence[IntExpr]:
        result: list[IntExpr] = [ZERO] * value.rank
        for k, variable in zip(kept, variables):
            result[k] = variable
        return result

    return value.view(map_of(sizes, indices))


# ------------------------------------------------------------------------------------------------------------ lowerings


@lowers(TABLE, aten.alias.default, aten.detach.default, aten.positive.default, aten.lift_fresh.default,
        aten.resolve_conj.default, aten.resolve_neg.default)  # fmt: skip
def alias(context: LoweringContext, value: TensorValue) -> TensorValue:
    """The tensor itself."""
    return value


@lowers(TABLE, aten.view.default, aten.reshape.default, aten._unsafe_view.default,
        aten._reshape_alias.default)  # fmt: skip
def view(context: LoweringContext, value: TensorValue, sizes: Sequence[Any], *_: Any) -> TensorValue:
    """Other sizes, the same elements in order; one size may be -1."""
    meta = context.meta
    known = list(sizes)
    if isinstance(meta, torch.Tensor) and len(meta.shape) == len(known):
        known = list(meta.shape)  # the same sizes, with what the facts say of them
    elif -1 in [s for s in known if isinstance(s, int)]:
        position = known.index(-1)
        rest = element_count([to_expr(s) for k, s in enumerate(known) if k != position])
        if rest == 0:
            raise Unsupported("an ambiguous size")
        known[position] = element_count(value.sizes) // rest
    result = tuple(to_expr(s) for s in known)
    count, old = element_count(result), element_count(value.sizes)
    if count != old and (count.is_constant or old.is_constant) and not (count.free_symbols or old.free_symbols):
        raise Unsupported("sizes that do not match")
    stored = value.buffer
    if (
        stored is not None
        and reshape_layout(stored.layout, result) is None
        and (count.free_symbols or old.free_symbols)
    ):
        strides = context.result_strides() if context.target is aten.view.default else None
        if strides is not None and not is_dense(result, strides):
            raise Unsupported("a view of memory in an order that is not known")
    return reshape_value(value, result)


@lowers(TABLE, aten.permute.default)
def permute(context: LoweringContext, value: TensorValue, order: Sequence[int]) -> TensorValue:
    """Dimensions in another order."""
    if len(order) != value.rank:
        raise Unsupported("an order of another rank")
    return permute_value(value, [normal_dim(d, value.rank) for d in order]) if value.rank else value


@lowers(TABLE, aten.transpose.int, aten.swapaxes.default, aten.swapdims.default)
def transpose(context: LoweringContext, value: TensorValue, first: int, second: int) -> TensorValue:
    """Two dimensions exchanged."""
    if not value.rank:
        return value
    order = list(range(value.rank))
    a, b = normal_dim(first, value.rank), normal_dim(second, value.rank)
    order[a], order[b] = order[b], order[a]
    return permute_value(value, order)


@lowers(TABLE, aten.t.default, aten.numpy_T.default)
def matrix_transpose(context: LoweringContext, value: TensorValue) -> TensorValue:
    """A matrix transposed; vectors are their own."""
    return permute_value(value, list(range(value.rank))[::-1])


@lowers(TABLE, aten.expand.default)
def expand(
    context: LoweringContext, value: TensorValue, sizes: Sequence[Any], *, implicit: bool = False
) -> TensorValue:
    """Broadcast; -1 keeps a size."""
    added = len(sizes) - value.rank
    if added < 0:
        raise Unsupported("fewer dimensions")
    result = tuple(
        value.sizes[k - added] if isinstance(size, int) and size == -1 else to_expr(size)
        for k, size in enumerate(sizes)
    )
    return expand_value(context, value, result)


@lowers(TABLE, aten.slice.Tensor)
def slice_(
    context: LoweringContext, value: TensorValue, dim: int = 0, start: Any = None, end: Any = None, step: Any = 1
) -> TensorValue:
    """Part of a dimension; bounds are clamped."""
    dim = normal_dim(dim, value.rank)
    first, length = slice_bounds(context, value.sizes[dim], start, end, step, dim)
    if first == 0 and step == 1 and length == value.sizes[dim]:
        return value
    return slice_value(value, dim, first, length, step)


def slice_bounds(
    context: LoweringContext, size: IntExpr, start: Any, end: Any, step: Any, dim: int
) -> tuple[IntExpr, IntExpr]:
    """The first index and the number of indices of a slice of a dimension, as expressions."""
    if not isinstance(step, int) or step < 1:
        raise Unsupported("a step that is not a positive constant")
    first, last = clamped(start, size, ZERO), clamped(end, size, size)
    if first.is_constant and last.is_constant:
        return first, to_expr(max(0, -((int(first) - int(last)) // step)))
    # where the meta kernel could say more about the bounds (by facts), its length is the simpler one
    meta = context.meta
    if isinstance(meta, torch.Tensor) and context.target in (aten.slice.Tensor, aten.slice_copy.Tensor):
        return first, to_expr(meta.shape[dim])
    return first, maximum(ceil_div(last - first, step), 0)


def clamped(bound: Any, size: IntExpr, default: IntExpr) -> IntExpr:
    """A bound of a slice as an index in [0, size]."""
    if bound is None:
        return default
    if isinstance(bound, int) and bound >= 2**62:
        return size
    index = to_expr(bound)
    if index.lower is None or index.lower < 0:
        if index.upper is not None and index.upper < 0:
            return maximum(index + size, 0)
        index = where(lt(index, 0), maximum(index + size, 0), index)
    return index if holds_at_most(index, size) else minimum(index, size)


def holds_at_most(low: IntExpr, high: IntExpr) -> bool:
    """Whether `low <= high` whatever the sizes are."""
    return prove(le(low, high)) is Truth.TRUE


@lowers(TABLE, aten.narrow.default)
def narrow(context: LoweringContext, value: TensorValue, dim: int, start: Any, length: Any) -> TensorValue:
    """`length` elements of a dimension."""
    dim = normal_dim(dim, value.rank)
    return slice_value(value, dim, wrapped_index(start, value.sizes[dim]), to_expr(length))


def wrapped_index(index: Any, size: IntExpr) -> IntExpr:
    """An index that counts from the end where it is negative."""
    position = to_expr(index)
    if position.lower is not None and position.lower >= 0:
        return position
    if position.upper is not None and position.upper < 0:
        return position + size
    return where(lt(position, 0), position + size, position)


@lowers(TABLE, aten.select.int)
def select(context: LoweringContext, value: TensorValue, dim: int, index: Any) -> TensorValue:
    """One index of a dimension."""
    dim = normal_dim(dim, value.rank)
    return select_value(value, dim, wrapped_index(index, value.sizes[dim]))


@lowers(TABLE, aten.unsqueeze.default)
def unsqueeze(context: LoweringContext, value: TensorValue, dim: int) -> TensorValue:
    """A new dimension of size one."""
    return unsqueeze_value(value, normal_dim(dim, value.rank + 1))


@lowers(TABLE, aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims)  # fmt: skip
def squeeze(context: LoweringContext, value: TensorValue, dims: Any = None) -> TensorValue:
    """Without dimensions of size one."""
    if dims is None:
        return squeeze_value(value, range(value.rank))
    dims = (dims,) if isinstance(dims, int) else dims
    return squeeze_value(value, [normal_dim(d, value.rank) for d in dims])


@lowers(TABLE, aten.split.Tensor, aten.split_with_sizes.default, aten.split.sizes)  # fmt: skip
def split(context: LoweringContext, value: TensorValue, sizes: Any, dim: int = 0) -> list[TensorValue]:
    """Consecutive parts of a dimension."""
    dim = normal_dim(dim, value.rank)
    if isinstance(sizes, int | IntExpr):
        # into how many parts is known to whoever traced the graph
        parts_of = context.meta
        if not isinstance(parts_of, list | tuple):
            raise Unsupported("a split into parts of which nothing is known")
        sizes = [part.shape[dim] for part in parts_of]
    parts: list[TensorValue] = []
    start = ZERO
    for size in sizes:
        length = to_expr(size)
        parts.append(slice_value(value, dim, start, length))
        start = start + length
    return parts


@lowers(TABLE, aten.unbind.int)
def unbind(context: LoweringContext, value: TensorValue, dim: int = 0) -> list[TensorValue]:
    """Every index of a dimension."""
    dim = normal_dim(dim, value.rank)
    if not value.sizes[dim].is_constant:
        raise Unsupported("a size that is not constant")  # tracing it pins the size: this is not reached
    return [select_value(value, dim, to_expr(k)) for k in range(int(value.sizes[dim]))]


@lowers(TABLE, aten.diagonal.default)
def diagonal(
    context: LoweringContext, value: TensorValue, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> TensorValue:
    """The diagonal of two dimensions, as a last one."""
    a, b = normal_dim(dim1, value.rank), normal_dim(dim2, value.rank)
    rows, columns = value.sizes[a], value.sizes[b]
    length = maximum(minimum(rows, columns - offset) if offset >= 0 else minimum(rows + offset, columns), 0)
    if isinstance(context.meta, torch.Tensor) and not length.is_constant:
        length = to_expr(context.meta.shape[-1])
    kept = [k for k in range(value.rank) if k not in (a, b)]

    def indices(variables: Indices) -> Sequence[IntExpr]:
        result: list[IntExpr] = [ZERO] * value.rank
        for k, variable in zip(kept, variables):
            result[k] = variable
        result[a] = variables[-1] + max(-offset, 0)
        result[b] = variables[-1] + max(offset, 0)
        return result

    return value.view(map_of((*(value.sizes[k] for k in kept), to_expr(length)), indices))


@lowers(TABLE, aten.flip.default)
def flip(context: LoweringContext, value: TensorValue, dims: Sequence[int]) -> TensorValue:
    """Dimensions read backwards. Eager copies; so does whoever needs the memory."""
    flipped = {normal_dim(d, value.rank) for d in dims}
    indices = tuple(
        size - 1 - v if k in flipped and size != 1 else v
        for k, (v, size) in enumerate(zip(canonical_indices(value.sizes), value.sizes))
    )
    viewed = value.view(IndexMap(value.sizes, indices)) if value.rank else value
    return context.pointwise([viewed], value.sizes, lambda x: x)


@lowers(TABLE, aten.roll.default)
def roll(context: LoweringContext, value: TensorValue, shifts: Any, dims: Any = ()) -> TensorValue:
    """Dimensions rotated."""
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if not dims or len(dims) != len(shifts) or not value.rank or any(s == 0 for s in value.sizes):
        raise Unsupported("a flattened or empty roll")
    indices = list(canonical_indices(value.sizes))
    for shift, dim in zip(shifts, dims):
        k = normal_dim(dim, value.rank)
        indices[k] = (indices[k] - shift) % value.sizes[k]
    viewed = value.view(IndexMap(value.sizes, tuple(indices)))
    return context.pointwise([viewed], value.sizes, lambda x: x)


@lowers(TABLE, aten.repeat.default)
def repeat(context: LoweringContext, value: TensorValue, repeats: Sequence[Any]) -> TensorValue:
    """Tiled copies."""
    if len(repeats) < value.rank:
        raise Unsupported("fewer repeats than dimensions")
    added = len(repeats) - value.rank
    old = (ONE,) * added + value.sizes
    sizes = tuple(size * to_expr(r) for size, r in zip(old, repeats))
    root = value if value.buffer is not None else context.realise(value)

    def indices(variables: Indices) -> Sequence[IntExpr]:
        return [ZERO if size == 1 or size == 0 else v % size for v, size in list(zip(variables, old))[added:]]

    return context.pointwise([root.view(map_of(sizes, indices))], sizes, lambda x: x)


@lowers(TABLE, aten.contiguous.default)
def contiguous(
    context: LoweringContext, value: TensorValue, *, memory_format: Any = torch.contiguous_format
) -> TensorValue:
    """The tensor itself where eager would return it, else a copy."""
    stored = value.buffer if memory_format is torch.contiguous_format else None
    if stored is not None and stored.layout.strides == contiguous_strides(value.sizes):
        return value
    return context.pointwise([value], value.sizes, lambda x: x)


@lowers(TABLE, aten.as_strided.default)
def as_strided(
    context: LoweringContext, value: TensorValue, sizes: Sequence[Any], strides: Sequence[Any], offset: Any = None
) -> TensorValue:
    """Any strides over the storage: only over a whole dense buffer that starts where its storage does."""
    source = context.argument_meta(0)
    if not isinstance(source, torch.Tensor) or source.storage_offset() != 0:
        raise Unsupported("a source that does not start its storage")
    stored = context.realise(value)
    if stored.layout.strides != tuple(to_expr(s) for s in source.stride()) or stored.layout.offset != 0:
        raise Unsupported("a source whose strides are not eager's")
    layout = stored.layout
    new = Layout(
        layout.device, layout.dtype, tuple(map(to_expr, sizes)), tuple(map(to_expr, strides)), to_expr(offset or 0)
    )
    return BufferValue(stored.name, new)


@lowers(TABLE, prims.broadcast_in_dim.default)
def broadcast_in_dim(
    context: LoweringContext, value: TensorValue, sizes: Sequence[Any], dims: Sequence[int]
) -> TensorValue:
    """Dimension k of the value becomes `dims[k]` of the result."""
    result = tuple(to_expr(s) for s in sizes)
    for k in range(len(sizes)):
        if k not in dims:
            value = unsqueeze_value(value, k)
    return expand_value(context, value, result)


def _copying(lowering: Lowering) -> Lowering:
    def copied(context: LoweringContext, *arguments: Any, **keywords: Any) -> Any:
        result = lowering(context, *arguments, **keywords)
        if isinstance(result, list):
            return [context.pointwise([v], v.sizes, lambda x: x) for v in result]
        return context.pointwise([result], result.sizes, lambda x: x)

    return copied


_COPIES: tuple[tuple[Any, Any], ...] = (
    (aten._reshape_copy.default, aten.view.default),
    (aten.view_copy.default, aten.view.default),
    (aten.permute_copy.default, aten.permute.default),
    (aten.transpose_copy.int, aten.transpose.int),
    (aten.t_copy.default, aten.t.default),
    (aten.expand_copy.default, aten.expand.default),
    (aten.slice_copy.Tensor, aten.slice.Tensor),
    (aten.select_copy.int, aten.select.int),
    (aten.unsqueeze_copy.default, aten.unsqueeze.default),
    (aten.squeeze_copy.default, aten.squeeze.default),
    (aten.squeeze_copy.dim, aten.squeeze.dim),
    (aten.squeeze_copy.dims, aten.squeeze.dims),
    (aten.split_copy.Tensor, aten.split.Tensor),
    (aten.split_with_sizes_copy.default, aten.split_with_sizes.default),
    (aten.unbind_copy.int, aten.unbind.int),
    (aten.diagonal_copy.default, aten.diagonal.default),
)
for _copy, _view in _COPIES:
    TABLE[_copy] = _copying(TABLE[_view])
