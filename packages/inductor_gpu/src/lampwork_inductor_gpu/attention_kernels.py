"""Attention: which library kernel computes it.

A pass over the functional ATen graph. torch chooses among its kernels by a fixed order (flash, memory-efficient), with
cuDNN's last; on Hopper cuDNN's takes two thirds of the time of flash and less than half of the memory-efficient one's.
Invariants: only calls in inference that name no kernel, without dropout. The kernels agree (tried on an H200) in that a
row of which everything is masked out is 0, and in that a nan stays one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    is_row_major,
    may_be_empty,
    owners_of_results,
    same_numbers,
    same_strides,
    same_tensor_type,
    traced_value,
)

from .device import DeviceProperties
from .library_epilogues import HALVES

aten = torch.ops.aten
FLASH = aten._scaled_dot_product_flash_attention.default
EFFICIENT = aten._scaled_dot_product_efficient_attention.default
CUDNN = aten._scaled_dot_product_cudnn_attention.default
_WHOLE = aten.scaled_dot_product_attention.default
_LEAST_CUDNN = 90100  # cuDNN 9.1: attention with a bias for Hopper
_WIDEST_HEAD = 128


@dataclass(frozen=True, slots=True)
class Attention:
    """A call of one of torch's fused kernels, by the names of its arguments."""

    query: torch.fx.Node
    key: torch.fx.Node
    value: torch.fx.Node
    mask: torch.fx.Node | None
    dropout: float
    causal: bool
    scale: float | None

    @staticmethod
    def of(node: torch.fx.Node) -> Attention:
        schema = node.target._schema  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
        given: dict[str, Any] = {a.name: a.default_value for a in schema.arguments}
        given.update(zip(given, node.args))
        given.update(node.kwargs)
        return Attention(
            given["query"], given["key"], given["value"], given.get("attn_bias", given.get("attn_mask")),
            given["dropout_p"], given["is_causal"], given["scale"],
        )  # fmt: skip


def attention_pass(device: DeviceProperties) -> Callable[[torch.fx.GraphModule, PassContext], torch.fx.GraphModule]:
    """The pass for a device."""

    def choose_attention(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
        if device.capability[0] not in (9, 10) or device.cudnn < _LEAST_CUDNN:
            return graph
        mode, owners, changed = fake_mode_of(graph), owners_of_results(graph), False
        masks: dict[torch.fx.Node, torch.fx.Node] = {}  # that many layers share
        for node in calls(graph, (_WHOLE,)):
            changed |= _replace_whole(graph, mode, node, masks, owners)
        return remove_dead_code(graph, context) if changed else graph

    return choose_attention


def _replace_whole(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    node: torch.fx.Node,
    masks: dict[torch.fx.Node, torch.fx.Node],
    owners: set[torch.fx.Node],
) -> bool:
    """A call that says nothing of its kernel: cuDNN's, with the mask in the form that it takes; whether it could be."""
    attention, value = Attention.of(node), node.meta["val"]
    with graph.graph.inserting_before(node):
        mask = attention.mask
        if mask is not None and mask not in masks:
            masks[mask] = _prepared_mask(graph, mode, node, mask)
        mask = mask and masks[mask]
        if mask is not None and attention.causal:
            return False  # which torch refuses
        attention = replace(attention, mask=mask)
        if not fits_cudnn(attention):
            return False
        arguments = (attention.query, attention.key, attention.value, mask, False, 0.0, attention.causal, False)
        chosen = add_call(graph, mode, node, CUDNN, *arguments, scale=attention.scale)
        result = add_call(graph, mode, node, operator.getitem, chosen, 0, known=chosen.meta["val"][0])
        if not same_strides(result.meta["val"], value):
            if not is_row_major(value):
                graph.graph.erase_node(result)
                graph.graph.erase_node(chosen)
                return False
            _use_as_it_lies(graph, mode, node, result, owners)
            result = add_call(graph, mode, node, aten.clone.default, result, memory_format=torch.contiguous_format)
    node.replace_all_uses_with(result)
    graph.graph.erase_node(node)
    return True


def _use_as_it_lies(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    node: torch.fx.Node,
    result: torch.fx.Node,
    owners: set[torch.fx.Node],
) -> None:
    """Where a program puts heads beside each other in memory, a result that lies so already is not copied; but for a
    copy that the caller gets, which is memory of its own."""
    for turned in list(node.users):
        if turned.target is not aten.permute.default:
            continue
        as_it_lies = add_call(graph, mode, turned, aten.permute.default, result, *turned.args[1:])
        for copied in list(turned.users):
            if copied in owners or copied.target is not aten.clone.default:
                continue
            if same_tensor_type(copied.meta["val"], as_it_lies.meta["val"]):
                copied.replace_all_uses_with(as_it_lies)


def _prepared_mask(
    graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], node: torch.fx.Node, mask: torch.fx.Node
) -> torch.fx.Node:
    """A mask as numbers to add, of four dimensions, the last one contiguous."""
    value, query = mask.meta["val"], node.args[0].meta["val"]  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    if value.dtype == torch.bool:
        options = {"dtype": query.dtype, "device": query.device}
        kept = add_call(graph, mode, node, aten.full.default, [], 0.0, **options)
        ruled_out = add_call(graph, mode, node, aten.full.default, [], -math.inf, **options)
        mask = add_call(graph, mode, node, aten.where.self, mask, kept, ruled_out)
    for _ in range(4 - mask.meta["val"].dim()):
        mask = add_call(graph, mode, node, aten.unsqueeze.default, mask, 0)
    wanted = (*mask.meta["val"].shape[:2], *(node.args[k].meta["val"].shape[2] for k in (0, 1)))  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    if not same_numbers(mask.meta["val"].shape, wanted):  # batch and heads may broadcast
        mask = add_call(graph, mode, node, aten.expand.default, mask, list(wanted))
    if not is_row_major(mask.meta["val"]):
        mask = add_call(graph, mode, node, aten.clone.default, mask, memory_format=torch.contiguous_format)
    return mask


def fits_cudnn(attention: Attention) -> bool:
    """Whether cuDNN computes such a call, and as the other kernels do."""
    query, key, value = (n.meta["val"] for n in (attention.query, attention.key, attention.value))
    if query.dtype not in HALVES or attention.dropout != 0.0:
        return False
    if any(may_be_empty(t) or not _starts_aligned(t) for t in (query, key, value)):
        return False
    if not same_numbers(query.shape[:2], key.shape[:2]) or not same_numbers(key.shape[:3], value.shape[:3]):
        return False  # groups of heads share keys
    if attention.causal and not same_numbers(query.shape[2:3], key.shape[2:3]):
        return False  # where kernels put the last query at different keys
    widths = (query.shape[-1], value.shape[-1])
    if any(isinstance(w, torch.SymInt) or w % 8 or w > _WIDEST_HEAD for w in widths):
        return False
    if traced_value(query.shape[2]) < 2 or traced_value(key.shape[2]) < 2:
        return False
    return attention.mask is None or attention.mask.meta["val"].dtype == query.dtype


def _starts_aligned(value: torch.Tensor) -> bool:
    """Whether each vector of a head starts at a multiple of 16 bytes, from the first one on."""
    steps = (*value.stride()[:-1], value.storage_offset())
    return value.stride(-1) == 1 and all(isinstance(n, int) and n % 8 == 0 for n in steps)
