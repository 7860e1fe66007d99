"""When a product of matrices is ours, and in which blocks.

The lowerings of products that the library is slow at, what may join their kernels, and a cost model for their blocks.
Measured on an H200 (bf16): cuBLAS reaches 600 to 770 TFLOP/s where rows of all three matrices start at multiples of 16
bytes, and 94 where a vocabulary of 50,257 makes rows of the result start anywhere; ours 550. Where arithmetic follows
that no library has, a kernel of ours saves a pass over the result. Invariant: a product that is not chosen is the
library's, without a word.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_inductor_core.ir.loop_body import Node, ops
from lampwork_inductor_core.ir.loops import Reduction
from lampwork_inductor_core.lowering.context import LoweringContext
from lampwork_inductor_core.lowering.library_calls import is_library_call
from lampwork_inductor_core.lowering.table import LeftToLibrary
from lampwork_inductor_core.lowering.values import BufferValue, TensorValue
from lampwork_inductor_core.lowering.view import permute_value, unsqueeze_value
from lampwork_inductor_core.passes.rewriting import same_numbers
from lampwork_inductor_core.schedule.fusion import FusedNode
from lampwork_symshape import IntExpr, integer

from .contraction import Contraction, block_of, inner_space, row_space
from .device import DeviceProperties
from .few_channels import are_few
from .heuristics import KernelShape, LaunchConfig
from .library_epilogues import HALVES, each_dimension
from .traffic import size_of

aten = torch.ops.aten
_ALIGNED = 8  # elements of a half that 16 bytes hold
_RESHAPES = frozenset(
    {aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.permute.default, aten.transpose.int}
)
_LEAST_BLOCK = 16
_OTHER_SHARED = 1 << 15  # bytes of shared memory that a contraction needs beside its operands, at most
_MEASURED = (9, 10)  # the cards on which ours were compared with the library's
_WIDE, _LONG = 8192, 512  # columns and products from which on blocks are large
_LONGEST = 16  # operators that join a product
_LEAST = 64  # rows, columns and products from which on the matrix units are worth their blocks


def is_contraction(node: FusedNode) -> bool:
    """Whether a node of the schedule has a contraction in it."""
    loops = (m.node.buffer.loops for m in node.members)
    return any(isinstance(item, Reduction) and item.contraction for item in loops)


def follows(node: FusedNode, contraction: FusedNode) -> bool:
    """Whether a node computes elements of what a contraction gives, and nothing else."""
    return not node.has_inner and not is_contraction(node) and not contraction.writes.keys().isdisjoint(node.reads)


def blocks_for(contraction: Contraction, device: DeviceProperties) -> LaunchConfig:
    """The blocks of a contraction, as measured on an H200.

    Two programs of 128 x 128 share a multiprocessor: one computes what follows the sum while the other sums. Wide
    results with nothing to compute want larger blocks, gathered operands many small programs.
    """
    gathers = block_of(contraction.left, row_space(contraction), inner_space(contraction)) is None
    rows, columns, inner = (size_of(d) for d in (contraction.rows, contraction.columns, contraction.inner))
    if gathers:
        shape = _Blocks(64, 64, 32, warps=4, stages=4, programs=6)
    elif columns >= _WIDE and inner >= _LONG:
        shape = _Blocks(128, 256, 64, warps=8, stages=4, programs=1)
    else:
        shape = _Blocks(128, 128, 64, warps=4, stages=3, programs=2)
    x_block, y_block, k_block = (
        _shortened(block, size) for block, size in ((shape.x, rows), (shape.y, columns), (shape.k, inner))
    )
    stages, itemsize = shape.stages, contraction.dtype.itemsize
    while stages * (x_block + y_block) * k_block * itemsize + _OTHER_SHARED > device.shared_memory_per_block:
        if stages > 2:
            stages -= 1
        else:
            y_block //= 2
    programs = device.multiprocessors * shape.programs
    if all(d.size.is_constant for d in (*contraction.rows, *contraction.columns)):
        programs = min(programs, -(-rows // x_block) * -(-columns // y_block))
    return LaunchConfig(
        KernelShape.CONTRACTION, x_block, y_block, shape.warps, stages, k_block=k_block, programs=programs
    )


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Rows, columns and products of a block, and how many programs a multiprocessor runs."""

    x: int
    y: int
    k: int
    warps: int
    stages: int
    programs: int


def _shortened(block: int, size: int) -> int:
    """A block of half the points where that holds all, as often as the matrix units allow."""
    while block > _LEAST_BLOCK and block >= 2 * size:
        block //= 2
    return block


def _multiply(
    context: LoweringContext, left: TensorValue, right: TensorValue, bias: TensorValue | None = None
) -> TensorValue:
    rows, inner = left.sizes
    columns = right.sizes[1]
    stored = context.realise(left), context.realise(right)

    def product(variables: tuple[IntExpr, ...], contracted: tuple[IntExpr, ...]) -> Node:
        (i, j), (k,) = variables, contracted
        first, second = stored[0].load((i, k)), stored[1].load((k, j))
        return ops.mul(ops.to_dtype(first, torch.float32), ops.to_dtype(second, torch.float32))

    if _repeats(stored[0]) or _repeats(stored[1]):
        raise LeftToLibrary("an operand that repeats")
    result = left.dtype if bias is None else torch.float32
    total = context.contract(left.device, (rows, columns), (inner,), product, result)
    if bias is None:
        return total
    return context.pointwise(
        [total, bias], (rows, columns),
        lambda x, b: ops.to_dtype(ops.add(x, ops.to_dtype(b, torch.float32)), left.dtype),
    )  # fmt: skip


def _repeats(value: BufferValue) -> bool:
    """Whether a loop of a product would not show in an operand's index."""
    return any(stride == 0 and size != 1 for size, stride in zip(value.layout.sizes, value.layout.strides))


# --------------------------------------------------------------------------------------------------------- whose it is


@dataclass(frozen=True, slots=True)
class MatrixChoice:
    """Whose a product is, on a device: times by the work, the traffic, and how near each comes to the card's rates.

    The rates were fitted to measurements of bf16 on an H200: short sums leave the matrix units waiting, ours longer.
    """

    device: DeviceProperties

    def library_seconds(self, product: _Product) -> float:
        """cuBLAS's time, and that of the kernel behind it."""
        reached = 0.76 * self.device.half_rate * product.inner / (product.inner + 180)
        return self._seconds(product, reached) + 2 * product.result_bytes / self._bandwidth

    def our_seconds(self, product: _Product) -> float:
        """The time of a kernel of ours with what follows in it."""
        reached = 0.73 * self.device.half_rate * product.inner / (product.inner + 350)
        return 1.1 * self._seconds(product, reached)

    def _seconds(self, product: _Product, reached: float) -> float:
        return max(product.operations / reached, product.bytes / self._bandwidth)

    @property
    def _bandwidth(self) -> float:
        return 0.88 * self.device.bandwidth

    def is_ours(self, context: LoweringContext, left: TensorValue, right: TensorValue) -> bool:
        """Whether a product is better off with us: where the library is slow, or what follows it saves a pass."""
        if left.dtype not in HALVES or right.dtype != left.dtype:
            return False
        rows, inner, columns = left.sizes[0], left.sizes[1], right.sizes[1]
        if not inner.is_constant or not columns.is_constant or int(inner) % _ALIGNED:
            return False
        if int(columns) % _ALIGNED:  # rows of the result start anywhere
            return min(int(inner), int(columns), int(rows) if rows.is_constant else _LEAST) >= _LEAST
        if int(inner) < 16 or int(columns) < 16 or not rows.is_constant or int(rows) < _LEAST:
            return False
        product = _Product(int(rows), int(inner), int(columns), left.dtype.itemsize)
        assert context.fx_node is not None
        return saves_a_pass(context.fx_node) and self.our_seconds(product) < 0.95 * self.library_seconds(product)

    def multiply(self, context: LoweringContext, left: TensorValue, right: TensorValue) -> TensorValue:
        """`mm`."""
        if not self.is_ours(context, left, right):
            raise LeftToLibrary("the library is as fast")
        return _multiply(context, left, right)

    def multiply_and_add(
        self,
        context: LoweringContext,
        bias: TensorValue,
        left: TensorValue,
        right: TensorValue,
        *,
        beta: Any = 1,
        alpha: Any = 1,
    ) -> TensorValue:
        """`addmm`, of a vector."""
        if beta != 1 or alpha != 1 or bias.rank != 1 or bias.dtype != left.dtype:
            raise LeftToLibrary("not the sum of a product and a vector")
        if not self.is_ours(context, left, right):
            raise LeftToLibrary("the library is as fast")
        return _multiply(context, left, right, bias)

    def lowerings(self) -> Mapping[Any, Callable[..., Any]]:
        """By operator."""
        if self.device.capability[0] not in _MEASURED:
            return {}
        return {
            aten.mm.default: self.multiply,
            aten.addmm.default: self.multiply_and_add,
            aten.convolution.default: convolve,
        }


@dataclass(frozen=True, slots=True)
class _Product:
    """`[rows, inner] @ [inner, columns]`, of elements of so many bytes."""

    rows: int
    inner: int
    columns: int
    itemsize: int

    @property
    def operations(self) -> int:
        return 2 * self.rows * self.inner * self.columns

    @property
    def result_bytes(self) -> int:
        return self.rows * self.columns * self.itemsize

    @property
    def bytes(self) -> int:
        return (self.rows + self.columns) * self.inner * self.itemsize + self.result_bytes


def saves_a_pass(node: torch.fx.Node) -> bool:
    """Whether what follows a product is arithmetic on its elements up to values that are stored anyway, for library
    calls or as results; not for a reduction, whose kernel would do the arithmetic along."""
    pending, seen = [node], set[torch.fx.Node]()
    while pending and len(seen) <= _LONGEST:
        value = pending.pop()
        users = list(_users(value))
        if value is not node and any(_wants_memory(user) for user in users):
            continue
        for user in users:
            if not _is_arithmetic(user, node):
                return False
            if user not in seen:
                seen.add(user)
                pending.append(user)
    return bool(seen) and not pending


def _users(value: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """Who reads a value, itself or reshaped."""
    for user in value.users:
        if user.target in _RESHAPES:
            yield from _users(user)
        else:
            yield user


def _wants_memory(user: torch.fx.Node) -> bool:
    return user.op == "output" or is_library_call(user.target)


def _is_arithmetic(user: torch.fx.Node, node: torch.fx.Node) -> bool:
    if torch.Tag.pointwise not in getattr(user.target, "tags", ()) and user.target is not aten._to_copy.default:
        return False
    return same_numbers((user.meta["val"].numel(),), (node.meta["val"].numel(),))


# -------------------------------------------------------------------------------------------------------- convolutions


def convolve(
    context: LoweringContext,
    image: TensorValue,
    weight: TensorValue,
    bias: TensorValue | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> TensorValue:
    """A convolution of an image with few channels, which leave the library's accesses narrow."""
    stride, padding, dilation = (each_dimension(numbers, 2) for numbers in (stride, padding, dilation))
    steps = (*stride, *padding, *dilation)
    fixed = all(s.is_constant for s in (*image.sizes[1:], *weight.sizes)) and all(isinstance(n, int) for n in steps)
    if transposed or groups != 1 or image.rank != 4 or not fixed or not _has_few_channels(image, weight):
        raise LeftToLibrary("the library is as fast")
    batch, channels, height, width = image.sizes
    outputs, _, kernel_height, kernel_width = weight.sizes
    rows, columns = (
        integer((int(n) + 2 * padding[k] - dilation[k] * (int(window) - 1) - 1) // stride[k] + 1)
        for k, (n, window) in enumerate(((height, kernel_height), (width, kernel_width)))
    )
    stored = context.realise(weight)
    if _repeats(stored) or _repeats(context.realise(image)):
        raise LeftToLibrary("an operand that repeats")

    def product(variables: tuple[IntExpr, ...], contracted: tuple[IntExpr, ...]) -> Node:
        n, i, j, output = variables
        down, across, channel = contracted  # as an image in channels-last lies in memory
        y = i * stride[0] + down * dilation[0] - padding[0]
        x = j * stride[1] + across * dilation[1] - padding[1]
        element = image.load((n, channel, y, x))
        if any(padding):
            inside = [condition for index, size in ((y, height), (x, width)) for condition in _inside(index, size)]
            element = ops.masked(functools.reduce(ops.logical_and, inside), element, 0.0)
        factor = stored.load((output, channel, down, across))
        return ops.mul(ops.to_dtype(element, torch.float32), ops.to_dtype(factor, torch.float32))

    sizes, contracted = (batch, rows, columns, outputs), (kernel_height, kernel_width, channels)
    result = image.dtype if bias is None else torch.float32
    total = permute_value(context.contract(image.device, sizes, contracted, product, result), (0, 3, 1, 2))
    if bias is None:
        return total
    vector = unsqueeze_value(unsqueeze_value(bias, 1), 2)
    return context.pointwise(
        [total, vector], total.sizes,
        lambda x, b: ops.to_dtype(ops.add(x, ops.to_dtype(b, torch.float32)), image.dtype),
    )  # fmt: skip


def _inside(index: IntExpr, size: IntExpr) -> tuple[Node, Node]:
    place, first, end = (ops.index_value(e, torch.int32) for e in (index, integer(0), size))
    return ops.ge(place, first), ops.lt(place, end)


def _has_few_channels(image: TensorValue, weight: TensorValue) -> bool:
    if image.dtype not in HALVES or weight.dtype != image.dtype:
        return False
    return are_few([0, *map(int, image.sizes[1:])], [int(n) for n in weight.sizes])
