"""Attention of a training step: cuDNN's kernels in both passes, chosen while they are one graph.

A rewrite of the joint graph. The forward kernel leaves a log-sum-exp that the same library's backward kernel reads, so
the two change together or not at all. On Hopper cuDNN's take about half of the time of flash's and a third of the
memory-efficient ones'. Invariants: without dropout only, as libraries draw differently; whether a forward call changes
is decided by that call and by whether the gradient of its mask is asked for; results keep their strides.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.rewriting import add_call, fake_mode_of, fake_value, same_strides

from .attention_kernels import CUDNN, EFFICIENT, FLASH, Attention, fits_cudnn
from .device import DeviceProperties

aten = torch.ops.aten
_FLASH_BACKWARD = aten._scaled_dot_product_flash_attention_backward.default
_EFFICIENT_BACKWARD = aten._scaled_dot_product_efficient_attention_backward.default
_CUDNN_BACKWARD = aten._scaled_dot_product_cudnn_attention_backward.default
_LEAST_CUDNN = 90300  # gradients with a mask
_LEAST_LENGTH = 64
_SEED, _OFFSET = 6, 7  # of cuDNN's results; flash has its two at the same places
_EFFICIENT_RESULTS = {0: 0, 1: 1, 2: _SEED, 3: _OFFSET}
_MASK_GRADIENT = 3


def use_cudnn_in_training(
    graph: torch.fx.GraphModule, forward: frozenset[torch.fx.Node], device: DeviceProperties
) -> None:
    """Changes a joint graph in place."""
    if device.capability[0] not in (9, 10) or device.cudnn < _LEAST_CUDNN:
        return
    mode = fake_mode_of(graph)
    for node in list(graph.graph.nodes):
        if node.target not in (FLASH, EFFICIENT) or node not in forward:
            continue
        found = Attention.of(node)
        backward = _backward_calls(node)
        if backward is None or not fits_cudnn(found) or not _has_gradients(found):
            continue
        _replace(graph, mode, node, found, backward)


def _has_gradients(found: Attention) -> bool:
    """Whether cuDNN has gradients of a call that it has the result of."""
    lengths = [node.meta["val"].shape[2] for node in (found.query, found.key)]
    if any(isinstance(n, torch.SymInt) or n < _LEAST_LENGTH for n in lengths):
        return False
    shapes = [node.meta["val"].shape[:2] for node in (found.query, found.key, found.value)]
    if not all(shape == shapes[0] for shape in shapes):  # heads in groups
        return False
    return found.mask is None or not any(n % _LEAST_LENGTH for n in lengths)


def _backward_calls(node: torch.fx.Node) -> list[torch.fx.Node] | None:
    """The backward kernels that read what a forward kernel leaves; None if something else does, or if they give what
    cuDNN's does not."""
    wanted = _FLASH_BACKWARD if node.target is FLASH else _EFFICIENT_BACKWARD
    found: dict[torch.fx.Node, None] = {}
    for item in node.users:
        if item.target is not operator.getitem:
            return None
        for user in item.users:
            if user.target is wanted:
                found[user] = None
            elif item.args[1] != 0 and user.op != "output":
                return None
    for call in found:
        wanted_gradients = call.args[10]
        if isinstance(wanted_gradients, list | tuple) and wanted_gradients[_MASK_GRADIENT]:
            return None
    return list(found)


def _replace(
    graph: torch.fx.GraphModule, mode: Any, node: torch.fx.Node, found: Attention, backward: list[torch.fx.Node]
) -> None:
    before = node.target, node.args, node.kwargs, node.meta["val"]
    node.target = CUDNN
    node.args = (found.query, found.key, found.value, found.mask, True, 0.0, found.causal, False)
    node.kwargs = {"scale": found.scale}
    value = list(fake_value(node, mode))
    if not same_strides(value[0], before[3][0]):
        node.target, node.args, node.kwargs = before[:3]
        return
    with mode:  # which their fake kernel describes as of no device
        for place in (_SEED, _OFFSET):
            value[place] = torch.empty((), dtype=torch.int64, device=value[0].device)
    node.meta["val"] = tuple(value)
    places = _EFFICIENT_RESULTS if before[0] is EFFICIENT else {}
    for item in list(node.users):
        place = places.get(item.args[1], item.args[1])  # pyright: ignore[reportArgumentType, reportCallIssue]
        item.args = (node, place)
        item.meta["val"] = value[place]  # pyright: ignore[reportArgumentType, reportCallIssue]
    for call in backward:
        _replace_backward(graph, mode, call, found)


def _replace_backward(graph: torch.fx.GraphModule, mode: Any, call: torch.fx.Node, found: Attention) -> None:
    if call.target is _FLASH_BACKWARD:
        gradient, query, key, value, out, sums, *_, seed, offset = call.args
    else:
        gradient, query, key, value, _, out, sums, seed, offset, *_ = call.args
    lengths = (found.query.meta["val"].shape[2], found.key.meta["val"].shape[2])
    before = call.meta["val"]
    call.target = _CUDNN_BACKWARD
    call.args = (
        gradient, query, key, value, out, sums, seed, offset, found.mask, None, None, *lengths, 0.0, found.causal,
    )  # fmt: skip
    call.kwargs = {"scale": found.scale}
    call.meta["val"] = fake_value(call, mode)
    for item in list(call.users):
        place = item.args[1]
        assert item.target is operator.getitem and isinstance(place, int)
        if place >= _MASK_GRADIENT:
            graph.graph.erase_node(item)  # the gradient of the mask, which is None
            continue
        item.meta["val"] = call.meta["val"][place]
        if not same_strides(item.meta["val"], before[place]):
            _restride(graph, mode, item, before[place])


def _restride(graph: torch.fx.GraphModule, mode: Any, node: torch.fx.Node, wanted: torch.Tensor) -> None:
    """Have a node's readers read a copy that is as dense as the value and in the order of `wanted`'s dimensions."""
    order = sorted(range(wanted.dim()), key=lambda d: -wanted.stride(d))
    back = sorted(range(wanted.dim()), key=lambda d: order[d])
    users = list(node.users)
    with graph.graph.inserting_after(node):
        anchor = graph.graph.call_function(aten.alias.default, (node,))
    with graph.graph.inserting_before(anchor):
        turned = add_call(graph, mode, node, aten.permute.default, node, order)
        dense = add_call(graph, mode, node, aten.clone.default, turned, memory_format=torch.contiguous_format)
        copied = add_call(graph, mode, node, aten.permute.default, dense, back)
    graph.graph.erase_node(anchor)
    for user in users:
        user.replace_input_with(node, copied)
