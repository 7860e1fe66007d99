"""Depthwise convolutions: each channel with a window of its own, as reductions over windows.

A pass over the functional ATen graph, which lays weights out with the channel innermost (static ones once), and the
lowering. cuDNN takes three to eight times as long as memory for halves in channels-last (7 x 7, 96 channels, 64 images
of 56 x 56, bf16, on an H200: 141 us, 18 by the traffic). Invariant: pass and lowering ask one predicate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.ir.loop_body import Node, ops
from lampwork_inductor_core.ir.loops import ReductionKind
from lampwork_inductor_core.ir.views import to_exprs
from lampwork_inductor_core.lowering.context import LoweringContext
from lampwork_inductor_core.lowering.values import TensorValue
from lampwork_inductor_core.lowering.view import permute_value, unsqueeze_value
from lampwork_inductor_core.passes.rewriting import PassContext, add_call, calls, fake_mode_of, is_channels_last
from lampwork_symshape import IntExpr

from .contraction_choice import convolve
from .library_epilogues import HALVES, each_dimension
from .window import inside

aten = torch.ops.aten
_DTYPES = HALVES | {torch.float32}
_WIDEST = 11  # of a window: rows of it are written out
_INNERMOST = [2, 3, 0, 1]  # of a weight, the channel; its own inverse


@dataclass(frozen=True, slots=True)
class DepthwiseConvolution:
    """What a call of `aten.convolution` does to each channel."""

    stride: tuple[int, int]
    padding: tuple[int, int]

    @staticmethod
    def of(node: torch.fx.Node) -> DepthwiseConvolution | None:
        """None for calls that are the library's."""
        image, weight, _, *steps, transposed, _, groups = node.args
        assert isinstance(image, torch.fx.Node) and isinstance(weight, torch.fx.Node)
        source, window, value = image.meta["val"], weight.meta["val"], node.meta["val"]
        if value.dim() != 4 or source.dtype not in _DTYPES or window.dtype != source.dtype or transposed:
            return None
        sizes = (*source.shape[1:], *window.shape)
        stride, padding, dilation = (each_dimension(numbers, 2) for numbers in steps)
        if any(not isinstance(n, int) for n in (*sizes, *stride, *padding, *dilation)):
            return None
        channels = source.shape[1]
        if not (groups == channels == window.shape[0] and channels > 1) or dilation != [1, 1]:
            return None
        if not all(2 <= n <= _WIDEST for n in window.shape[2:]) or min(stride) < 1 or min(padding) < 0:
            return None
        if not is_channels_last(source) or not is_channels_last(value):
            return None
        return DepthwiseConvolution((stride[0], stride[1]), (padding[0], padding[1]))


def lay_out_weights(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The weights of depthwise convolutions with the channel innermost."""
    mode = fake_mode_of(graph)
    for node in calls(graph, (aten.convolution.default,)):
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or value.device.type != "cuda" or DepthwiseConvolution.of(node) is None:
            continue
        weight: Any = node.args[1]
        if weight.meta["val"].stride(0) == 1:
            continue
        with graph.graph.inserting_before(node):
            turned = add_call(graph, mode, node, aten.permute.default, weight, _INNERMOST)
            packed = add_call(graph, mode, node, aten.clone.default, turned, memory_format=torch.contiguous_format)
            node.update_arg(1, add_call(graph, mode, node, aten.permute.default, packed, _INNERMOST))
    return graph


def convolve_channels(
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
    """A depthwise convolution; other ones as products of matrices. Raises LeftToLibrary."""
    assert context.fx_node is not None
    found = DepthwiseConvolution.of(context.fx_node)
    if found is None:
        return convolve(context, image, weight, bias, stride, padding, dilation, transposed, output_padding, groups)
    _, _, height, width = image.sizes
    batch, channels, rows, columns = to_exprs(context.meta.shape)
    pixels, factors = context.realise(image), context.realise(weight)

    def product(variables: tuple[IntExpr, ...], window: tuple[IntExpr, ...]) -> Node:
        n, i, j, channel = variables
        down, across = window
        y = i * found.stride[0] + down - found.padding[0]
        x = j * found.stride[1] + across - found.padding[1]
        is_there = ops.logical_and(inside(y, height), inside(x, width))
        pixel = ops.masked(is_there, pixels.load((n, channel, y, x)), 0.0)
        factor = factors.load((channel, _ZERO, down, across))
        return ops.mul(ops.to_dtype(pixel, torch.float32), ops.to_dtype(factor, torch.float32))

    result = image.dtype if bias is None else torch.float32
    total = permute_value(
        context.slide(
            image.device, (batch, rows, columns, channels), weight.sizes[2:], ReductionKind.SUM, product, result
        ),
        (0, 3, 1, 2),
    )
    if bias is None:
        return total

    def biased(x: Node, b: Node) -> Node:
        return ops.to_dtype(ops.add(x, ops.to_dtype(b, torch.float32)), image.dtype)

    return context.pointwise([total, unsqueeze_value(unsqueeze_value(bias, 1), 2)], total.sizes, biased)


_ZERO = to_exprs((0,))[0]
