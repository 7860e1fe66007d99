"""Convolutions whose windows neither overlap nor leave gaps: a product of matrices over patches, or over points.

A pass over the functional ATen graph. Embeddings of image patches and down-sampling layers are such convolutions;
cuDNN takes ten times as long for them as cuBLAS for the product (ViT's, of 64 images, on an H200: 442 us against
about 35 with the copy into patches, which joins the kernel that made the image). Invariant: results keep the sizes,
strides and dtype of the nodes that they replace.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    is_channels_last,
    is_row_major,
    may_be_empty,
    same_strides,
)

from .library_epilogues import HALVES, each_dimension

aten = torch.ops.aten


def multiply_patches(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph with convolutions over patches as products."""
    mode, changed = fake_mode_of(graph), False
    for node in calls(graph, (aten.convolution.default,)):
        if _is_over_patches(node):
            _replace(graph, mode, node)
            changed = True
    return remove_dead_code(graph, context) if changed else graph


def _is_over_patches(node: torch.fx.Node) -> bool:
    image, weight, _, *steps, transposed, _, groups = node.args
    stride, padding, dilation = (each_dimension(numbers, 2) for numbers in steps)
    assert isinstance(image, torch.fx.Node) and isinstance(weight, torch.fx.Node)
    value, source, window = node.meta["val"], image.meta["val"], weight.meta["val"]
    if value.device.type != "cuda" or value.dtype not in HALVES or value.dim() != 4 or may_be_empty(value):
        return False
    sizes = (*source.shape[1:], *window.shape)
    if transposed or groups != 1 or any(isinstance(n, torch.SymInt) for n in sizes):
        return False
    kernel = [int(n) for n in window.shape[2:]]
    if math.prod(kernel) == 1 and not is_channels_last(source):
        return False  # points whose channels are not neighbours would be copied
    if stride != kernel or any(padding) or dilation != [1, 1]:  # pyright: ignore[reportArgumentType]
        return False
    if any(int(n) % k for n, k in zip(source.shape[2:], kernel)):
        return False
    laid_out = is_channels_last(source) or is_row_major(source)
    return laid_out and (is_channels_last(value) or is_row_major(value))


def _replace(graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], node: torch.fx.Node) -> None:
    image, weight, bias = node.args[:3]
    assert isinstance(image, torch.fx.Node) and isinstance(weight, torch.fx.Node)
    value, source, window = node.meta["val"], image.meta["val"], weight.meta["val"]
    batch, (channels, height, width) = source.shape[0], (int(n) for n in source.shape[1:])
    outputs, (kernel_height, kernel_width) = int(window.shape[0]), (int(n) for n in window.shape[2:])
    rows, columns = height // kernel_height, width // kernel_width
    points = channels * kernel_height * kernel_width
    # a patch in the order of memory: each of its pieces is one run
    order, of_weight = ([0, 2, 4, 3, 5, 1], [0, 2, 3, 1]) if is_channels_last(source) else ([0, 2, 4, 1, 3, 5], None)

    def call(target: Any, *arguments: Any, **keywords: Any) -> torch.fx.Node:
        return add_call(graph, mode, node, target, *arguments, **keywords)

    with graph.graph.inserting_before(node):
        if kernel_height * kernel_width == 1:
            patches = call(aten.permute.default, image, [0, 2, 3, 1])
        else:
            shape = [batch, channels, rows, kernel_height, columns, kernel_width]
            patches = call(aten.permute.default, call(aten.view.default, image, shape), order)
            patches = call(aten.clone.default, patches, memory_format=torch.contiguous_format)
        patches = call(aten.view.default, patches, [batch * rows * columns, points])
        if of_weight is not None:
            weight = call(aten.permute.default, weight, of_weight)
        if not is_row_major(weight.meta["val"]):
            weight = call(aten.clone.default, weight, memory_format=torch.contiguous_format)
        matrix = call(aten.permute.default, call(aten.view.default, weight, [outputs, points]), [1, 0])
        product = call(aten.mm.default, patches, matrix) if bias is None else call(
            aten.addmm.default, bias, patches, matrix
        )  # fmt: skip
        result = call(aten.view.default, product, [batch, rows, columns, outputs])
        result = call(aten.permute.default, result, [0, 3, 1, 2])
        if not same_strides(result.meta["val"], value):
            result = call(aten.clone.default, result, memory_format=torch.contiguous_format)
    node.replace_all_uses_with(result)
