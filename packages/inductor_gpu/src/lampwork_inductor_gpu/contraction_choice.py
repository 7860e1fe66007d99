"""When a product of matrices is ours, and in which blocks.

The lowerings of products that the library is slow at, what may join their kernels, and a cost model for their blocks.
Measured on an H200 (bf16): cuBLAS reaches 600 to 770 TFLOP/s where rows of all three matrices start at multiples of 16
bytes, and 94 where a vocabulary of 50,257 makes rows of the result start anywhere; ours 550. Invariant: a product that
is not chosen is the library's, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lampwork_inductor_core.ir.loop_body import ops
from lampwork_inductor_core.ir.loops import Reduction
from lampwork_inductor_core.lowering.context import LoweringContext
from lampwork_inductor_core.lowering.table import LeftToLibrary
from lampwork_inductor_core.lowering.values import BufferValue, TensorValue
from lampwork_inductor_core.schedule.fusion import FusedNode
from lampwork_symshape import IntExpr

from .contraction import Contraction, block_of, column_space, inner_space, row_space
from .device import DeviceProperties
from .heuristics import KernelShape, LaunchConfig
from .traffic import size_of

aten = torch.ops.aten
_HALVES = frozenset({torch.float16, torch.bfloat16})
_ALIGNED = 8  # elements of a half that 16 bytes hold
_LEAST = 64  # rows, columns and products from which on the matrix units are worth their blocks


def is_contraction(node: FusedNode) -> bool:
    """Whether a node of the schedule has a contraction in it."""
    loops = (m.node.buffer.loops for m in node.members)
    return any(isinstance(item, Reduction) and item.contraction for item in loops)


def follows(node: FusedNode, contraction: FusedNode) -> bool:
    """Whether a node computes elements of what a contraction gives, and nothing else."""
    return not node.has_inner and not is_contraction(node) and not contraction.writes.keys().isdisjoint(node.reads)


def blocks_for(contraction: Contraction, device: DeviceProperties) -> LaunchConfig:
    """The blocks of a contraction: as large as registers allow where that leaves a tile for every multiprocessor."""
    rows, columns, inner = (size_of(d) for d in (contraction.rows, contraction.columns, contraction.inner))
    x_block, y_block, warps, stages = 128, 256, 8, 3
    if -(-rows // x_block) * -(-columns // y_block) < device.multiprocessors or columns <= 128:
        y_block, warps, stages = 128, 4, 4
    while x_block > 64 and x_block >= 2 * rows:
        x_block //= 2
    while y_block > 16 and y_block >= 2 * columns:
        y_block //= 2
    k_block = 64
    while k_block > 16 and k_block >= 2 * inner:
        k_block //= 2
    tiles = -(-rows // x_block) * -(-columns // y_block)
    known = all(d.size.is_constant for d in (*contraction.rows, *contraction.columns))
    programs = min(device.multiprocessors, tiles) if known else device.multiprocessors
    spaces = row_space(contraction), column_space(contraction), inner_space(contraction)
    gathers = block_of(contraction.left, spaces[0], spaces[2]) is None
    if gathers and warps == 8:
        stages = 2
    return LaunchConfig(KernelShape.CONTRACTION, x_block, y_block, warps, stages, k_block=k_block, programs=programs)


def _multiply(
    context: LoweringContext, left: TensorValue, right: TensorValue, bias: TensorValue | None = None
) -> TensorValue:
    rows, inner = left.sizes
    columns = right.sizes[1]
    stored = (_matrix(context, left, 0), _matrix(context, right, 1))

    def product(variables: tuple[IntExpr, ...], contracted: tuple[IntExpr, ...]) -> Any:
        (i, j), (k,) = variables, contracted
        first, second = stored[0].load((i, k)), stored[1].load((k, j))
        return ops.mul(ops.to_dtype(first, torch.float32), ops.to_dtype(second, torch.float32))

    result = left.dtype if bias is None else torch.float32
    total = context.contract(left.device, (rows, columns), (inner,), product, result)
    if bias is None:
        return total
    return context.pointwise(
        [total, bias], (rows, columns),
        lambda x, b: ops.to_dtype(ops.add(x, ops.to_dtype(b, torch.float32)), left.dtype),
    )  # fmt: skip


def _matrix(context: LoweringContext, value: TensorValue, position: int) -> BufferValue:
    return context.realise(value)


def _is_ours(left: TensorValue, right: TensorValue) -> bool:
    """Whether the library is slow at a product: rows of the result that start anywhere, of operands that do not."""
    if left.dtype not in _HALVES or right.dtype != left.dtype:
        return False
    rows, inner, columns = left.sizes[0], left.sizes[1], right.sizes[1]
    if not inner.is_constant or not columns.is_constant or int(columns) % _ALIGNED == 0 or int(inner) % _ALIGNED:
        return False
    return min(int(inner), int(columns), int(rows) if rows.is_constant else _LEAST) >= _LEAST


def multiply(context: LoweringContext, left: TensorValue, right: TensorValue) -> TensorValue:
    """`mm`."""
    if not _is_ours(left, right):
        raise LeftToLibrary("the library is as fast")
    return _multiply(context, left, right)


def multiply_and_add(
    context: LoweringContext, bias: TensorValue, left: TensorValue, right: TensorValue, *, beta: Any = 1, alpha: Any = 1
) -> TensorValue:
    """`addmm`, of a vector."""
    if beta != 1 or alpha != 1 or bias.rank != 1 or bias.dtype != left.dtype or not _is_ours(left, right):
        raise LeftToLibrary("the library is as fast")
    return _multiply(context, left, right, bias)


MATRIX_LOWERINGS: Mapping[Any, Callable[..., Any]] = {
    aten.mm.default: multiply,
    aten.addmm.default: multiply_and_add,
}
