"""Attention on GPUs: in inference one operator of the functional graph, whose kernel the device's backend chooses.

torch chooses among its kernels while a call runs, by sizes, strides and the card, and what it chooses is what a trace
would see: with a mask of awkward strides that is a dozen operators on matrices of scores. So on GPUs a call that
draws nothing and needs no gradients is recorded whole, and one that needs gradients by a fused kernel wherever torch
has one for real tensors. Invariant: results have the strides that torch's kernels for these tensors give.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn.attention import SDPBackend

from . import torch_layer

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_WIDEST_HEAD = 128
_ATTENTION = F.scaled_dot_product_attention

_library = torch.library.Library("lampwork", "FRAGMENT")
_library.define(
    "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, bool is_causal, float? scale, bool enable_gqa)"
    " -> Tensor"
)


def _run(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    return _ATTENTION(query, key, value, mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)


_library.impl("attention", _run, "CompositeExplicitAutograd")


@torch.library.register_fake("lampwork::attention", lib=_library)
def _like(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    sizes = (*query.shape[:-1], value.shape[-1])
    choice = SDPBackend.MATH.value
    if torch.backends.cuda.is_built():  # others have no kernels to choose from, and crash
        choice = torch_layer.attention_choice(
            query, key, value, mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if choice == SDPBackend.MATH.value:
        return query.new_empty(sizes)
    if choice == SDPBackend.CUDNN_ATTENTION.value and sizes[-1] == query.shape[-1]:
        return torch.empty_like(query)
    batch, heads, length, width = sizes
    return query.new_empty((batch, length, heads, width)).transpose(1, 2)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, whole or by a kernel of our choice where that is possible."""
    tensors = [t for t in (query, key, value, attn_mask) if t is not None]
    needs_grad = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    is_number = scale is None or type(scale) in (int, float)
    if query.device.type == "cuda" and query.dim() == 4 and is_number and dropout_p == 0.0:
        if not needs_grad:
            return torch.ops.lampwork.attention(query, key, value, attn_mask, is_causal, scale, enable_gqa)
        if attn_mask is None and _fits_flash(query, key, value):
            return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, False, scale=scale)[0]
    return _ATTENTION(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


def _fits_flash(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether torch has a fused kernel for such tensors, whichever: of fake ones it may say that it has none."""
    if query.dtype not in _HALVES or not torch.backends.cuda.flash_sdp_enabled():
        return False
    if torch.are_deterministic_algorithms_enabled():
        return False
    sizes = [t.shape for t in (query, key, value)]
    widths = {size[-1] for size in sizes}
    known = all(isinstance(n, int) and n > 0 for size in sizes for n in size)
    alike = sizes[0][:2] == sizes[1][:2] and sizes[1] == sizes[2]
    return known and alike and len(widths) == 1 and sizes[0][-1] % 8 == 0 and sizes[0][-1] <= _WIDEST_HEAD


def in_torchs_words(graph: fx.GraphModule) -> None:
    """Name the operator as torch does, for whoever gets the graph."""
    for node in graph.graph.find_nodes(op="call_function", target=torch.ops.lampwork.attention.default):
        query, key, value, mask, is_causal, scale, enable_gqa = node.args
        node.target = aten.scaled_dot_product_attention.default
        node.args = (query, key, value, mask, 0.0, is_causal)
        options: dict[str, Any] = {} if scale is None else {"scale": scale}
        node.kwargs = {**options, "enable_gqa": True} if enable_gqa else options


REPLACEMENTS = {_ATTENTION: attention}
