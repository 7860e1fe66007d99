"""Pooling by the largest or the mean of a window, as reductions over windows.

Lowerings of this device: torch's kernel for the largest in channels-last takes 200 us for 64 images of 64 channels and
112 x 112 points, kernel 3, stride 2, on an H200, where memory needs 30. Invariants: nan wins, as in eager; where the
places of the largest are asked for, the call is the library's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lampwork_inductor_core.ir.loop_body import Node, ops
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_inductor_core.ir.views import canonical_indices, to_exprs
from lampwork_inductor_core.lowering.context import LoweringContext
from lampwork_inductor_core.lowering.table import LeftToLibrary
from lampwork_inductor_core.lowering.values import TensorValue
from lampwork_inductor_core.lowering.view import permute_value
from lampwork_inductor_core.passes.rewriting import is_channels_last, is_row_major
from lampwork_symshape import IntExpr, integer, maximum, minimum

from .library_epilogues import HALVES, each_dimension
from .window import inside

aten = torch.ops.aten
_DTYPES = HALVES | {torch.float32}
_WIDEST = 11  # of a window: rows of it are written out
_LAST = (0, 2, 3, 1)  # the order of loops over an image in channels-last


@dataclass(frozen=True, slots=True)
class Pooling:
    """A window that moves over an image: of each dimension."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @staticmethod
    def of(kernel: Sequence[int], stride: Sequence[int], padding: Any) -> Pooling:
        """From an operator's arguments. Raises LeftToLibrary."""
        padding = [padding] if isinstance(padding, int) else padding
        of_kernel, of_stride, of_padding = (each_dimension(n, 2) for n in (kernel, stride or kernel, padding))
        if any(not isinstance(n, int) for n in (*of_kernel, *of_stride, *of_padding)):
            raise LeftToLibrary("a window of unknown size")
        if not all(2 <= n <= _WIDEST for n in of_kernel):
            raise LeftToLibrary("a window that is too wide to be written out")
        return Pooling((of_kernel[0], of_kernel[1]), (of_stride[0], of_stride[1]), (of_padding[0], of_padding[1]))

    def reduce(
        self, context: LoweringContext, image: TensorValue, like: Any, kind: ReductionKind, outside: float
    ) -> TensorValue:
        """What is in each window, combined; `like` is eager's result. Raises LeftToLibrary."""
        if image.rank != 4 or image.dtype not in _DTYPES or not all(_is_known(n) for n in image.sizes[1:]):
            raise LeftToLibrary("not an image of known size")
        if is_channels_last(like) and not is_row_major(like):
            order = _LAST
        elif is_row_major(like):
            order = (0, 1, 2, 3)
        else:
            raise LeftToLibrary("a result with strides of its own")
        pixels, sizes = context.realise(image), to_exprs(like.shape)

        def element(variables: tuple[IntExpr, ...], window: tuple[IntExpr, ...]) -> Node:
            n, channel, i, j = (variables[order.index(k)] for k in range(4))
            y, x = (at * self.stride[k] + window[k] - self.padding[k] for k, at in enumerate((i, j)))
            is_there = ops.logical_and(inside(y, image.sizes[2]), inside(x, image.sizes[3]))
            return ops.to_dtype(ops.masked(is_there, pixels.load((n, channel, y, x)), outside), torch.float32)

        total = context.slide(
            image.device, tuple(sizes[k] for k in order), to_exprs(self.kernel), kind, element,
            image.dtype if kind is ReductionKind.MAX else torch.float32,
        )  # fmt: skip
        return permute_value(total, tuple(order.index(k) for k in range(4)))

    def covered(self, dim: int, place: IntExpr, size: IntExpr, *, with_padding: bool) -> IntExpr:
        """How many places of a dimension the window covers."""
        first = place * self.stride[dim] - self.padding[dim]
        end = minimum(first + self.kernel[dim], size + self.padding[dim])
        return end - first if with_padding else minimum(end, size) - maximum(first, integer(0))


def _is_known(size: IntExpr) -> bool:
    return size.is_constant and int(size) > 0


def max_pool(
    context: LoweringContext,
    image: TensorValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> list[TensorValue]:
    """`max_pool2d_with_indices`, if nobody reads the indices."""
    assert context.fx_node is not None
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in context.fx_node.users):
        raise LeftToLibrary("the places are asked for")
    if any(n != 1 for n in each_dimension(dilation, 2)):
        raise LeftToLibrary("a window with gaps")
    values, places = context.meta
    pooling = Pooling.of(kernel_size, stride, padding)
    largest = pooling.reduce(context, image, values, ReductionKind.MAX, float("-inf"))
    unread = context.expression([], [], largest.sizes, ops.constant(0, places.dtype), device=image.device)
    return [largest, unread]


def average_pool(
    context: LoweringContext,
    image: TensorValue,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> TensorValue:
    """`avg_pool2d`."""
    pooling = Pooling.of(kernel_size, stride, padding)
    total = pooling.reduce(context, image, context.meta, ReductionKind.SUM, 0.0)
    _, _, i, j = canonical_indices(total.sizes)
    covered = [
        pooling.covered(dim, place, image.sizes[2 + dim], with_padding=count_include_pad)
        for dim, place in enumerate((i, j))
    ]
    count = int(divisor_override) if divisor_override is not None else pooling.kernel[0] * pooling.kernel[1]
    divisor: Node = ops.constant(count, torch.float32)
    if divisor_override is None and (ceil_mode or not count_include_pad):  # windows reach beyond what is counted
        lengths = (ops.to_dtype(ops.index_value(n, torch.int32), torch.float32) for n in covered)
        divisor = ops.mul(*lengths)

    def divided(x: Node) -> Node:
        return ops.to_dtype(ops.truediv(x, divisor), image.dtype)

    return context.pointwise([total], total.sizes, divided)


def lowerings() -> Mapping[Any, Callable[..., Any]]:
    """By operator."""
    return {aten.max_pool2d_with_indices.default: max_pool, aten.avg_pool2d.default: average_pool}
