"""Attention: which library kernel computes it.

A pass over the functional ATen graph. torch chooses among its kernels by a fixed order (flash, memory-efficient), with
cuDNN's last; on Hopper cuDNN's takes two thirds of the time of flash and less than half of the memory-efficient one's.
Invariants: only calls of which nothing but the result is used (inference), without dropout. The kernels agree (tried on
an H200) in that a row of which everything is masked out is 0, and in that a nan stays one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    may_be_empty,
    same_strides,
    traced_value,
)

from .device import DeviceProperties
from .library_epilogues import HALVES

aten = torch.ops.aten
FLASH = aten._scaled_dot_product_flash_attention.default
EFFICIENT = aten._scaled_dot_product_efficient_attention.default
CUDNN = aten._scaled_dot_product_cudnn_attention.default
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
            given["query"], given["key"], given["value"], given.get("attn_bias"),
            given["dropout_p"], given["is_causal"], given["scale"],
        )  # fmt: skip


def attention_pass(device: DeviceProperties) -> Callable[[torch.fx.GraphModule, PassContext], torch.fx.GraphModule]:
    """The pass for a device."""

    def choose_attention(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
        if device.capability[0] not in (9, 10) or device.cudnn < _LEAST_CUDNN:
            return graph
        mode, changed = fake_mode_of(graph), False
        for node in calls(graph, (FLASH, EFFICIENT)):
            attention = Attention.of(node)
            if not _is_only_result_used(node) or not fits_cudnn(attention):
                continue
            arguments = (attention.query, attention.key, attention.value, attention.mask, False, 0.0, attention.causal)
            with graph.graph.inserting_before(node):
                chosen = add_call(graph, mode, node, CUDNN, *arguments, False, scale=attention.scale)
                if not same_strides(chosen.meta["val"][0], node.meta["val"][0]):
                    graph.graph.erase_node(chosen)
                    continue
            node.replace_all_uses_with(chosen)
            graph.graph.erase_node(node)  # which no pass may do, for its dropout
            changed = True
        return remove_dead_code(graph, context) if changed else graph

    return choose_attention


def _is_only_result_used(node: torch.fx.Node) -> bool:
    return all(u.target is operator.getitem and (u.args[1] == 0 or not u.users) for u in node.users)


def fits_cudnn(attention: Attention) -> bool:
    """Whether cuDNN computes such a call, and as the other kernels do."""
    query, key, value = (n.meta["val"] for n in (attention.query, attention.key, attention.value))
    if query.dtype not in HALVES or attention.dropout != 0.0:
        return False
    if any(may_be_empty(t) or t.stride(-1) != 1 for t in (query, key, value)):
        return False
    widths = (query.shape[-1], value.shape[-1])
    if any(isinstance(w, torch.SymInt) or w % 8 or w > _WIDEST_HEAD for w in widths):
        return False
    if traced_value(query.shape[2]) < 2 or traced_value(key.shape[2]) < 2:
        return False
    return attention.mask is None or attention.mask.meta["val"].dtype == query.dtype
