"""Convolutions of images with few channels: with four of them, a point of the image is one access.

A pass over the functional ATen graph, before the lowering makes contractions of such convolutions. An image of up to
three channels gets channels of zeros, in the kernel that lays it out in channels-last, and the weight likewise (once:
it is static). Invariant: what the zeros are multiplied with is zero, so results are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import PassContext, add_call, calls, fake_mode_of, may_be_empty
from lampwork_inductor_core.passes.static_nodes import static_nodes

from .library_epilogues import HALVES

aten = torch.ops.aten
CHANNELS = 4
_LEAST_OUTPUTS = 16  # for the matrix units
_LEAST_POINTS = 4096  # of an image


def are_few(image: Sequence[Any], weight: Sequence[Any]) -> bool:
    """Whether a convolution of these sizes has too few channels for the library and enough work for a kernel."""
    if any(isinstance(n, torch.SymInt) for n in (*image[1:], *weight)):
        return False
    return image[1] <= CHANNELS and weight[0] >= _LEAST_OUTPUTS and image[2] * image[3] >= _LEAST_POINTS


def pad_channels(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph with images of few channels padded."""
    mode, static, changed = fake_mode_of(graph), static_nodes(graph), False
    for node in calls(graph, (aten.convolution.default,)):
        image, weight = node.args[:2]
        assert isinstance(image, torch.fx.Node) and isinstance(weight, torch.fx.Node)
        value = node.meta["val"]
        if value.device.type != "cuda" or value.dtype not in HALVES or value.dim() != 4 or may_be_empty(value):
            continue
        if not are_few(image.meta["val"].shape, weight.meta["val"].shape):
            continue
        missing = CHANNELS - image.meta["val"].shape[1]
        if node.args[6] or node.args[8] != 1 or isinstance(missing, torch.SymInt) or not 0 < missing < CHANNELS:
            continue
        if weight not in static:
            continue
        with graph.graph.inserting_before(node):
            padded: list[torch.fx.Node] = []
            for operand in (image, weight):
                wide = add_call(graph, mode, node, aten.constant_pad_nd.default, operand, [0, 0, 0, 0, 0, missing])
                options = {"memory_format": torch.channels_last}
                padded.append(add_call(graph, mode, node, aten.clone.default, wide, **options))
        for position, operand in enumerate(padded):
            node.update_arg(position, operand)
        changed = True
    return remove_dead_code(graph, context) if changed else graph
