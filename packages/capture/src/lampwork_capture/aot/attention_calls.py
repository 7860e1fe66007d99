"""Attention on GPUs: in inference one operator of the functional graph, whose kernel the device's backend chooses.

torch chooses among its kernels while a call runs, by sizes, strides and the card, and what it chooses is what a trace
would see: with a mask of awkward strides that is a dozen operators on matrices of scores. So on GPUs a call that
draws nothing and needs no gradients is recorded whole, and one that needs gradients by a fused kernel wherever torch
has one for real tensors. Invariant: results have the strides that torch's kernels for these tensors give.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.nn.attention import SDPBackend

from . import torch_layer

aten = torch.ops.aten
_HALVES = (torch.float16, torch.bfloat16)
_WIDEST_HEAD = 128
_LEAST_CAPABILITY = (8, 0)
_KERNELS_ALLOWED = (
    torch.backends.cuda.flash_sdp_enabled,
    torch.backends.cuda.mem_efficient_sdp_enabled,
    torch.backends.cuda.cudnn_sdp_enabled,
    torch.backends.cuda.math_sdp_enabled,
)
_ATTENTION = F.scaled_dot_product_attention

_library = torch.library.Library("lampwork", "FRAGMENT")
_library.define(
    "attention(Tensor query, Tensor key, Tensor value, Tensor? mask, bool is_causal, float? scale) -> Tensor"
)


def _run(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    return _ATTENTION(query, key, value, mask, 0.0, is_causal, scale=scale)


_library.impl("attention", _run, "CompositeExplicitAutograd")


@torch.library.register_fake("lampwork::attention", lib=_library)
def _like(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float | None,
) -> Tensor:
    sizes = (*query.shape[:-1], value.shape[-1])
    choice = SDPBackend.MATH.value
    if torch.backends.cuda.is_built():  # others have no kernels to choose from, and crash
        choice = torch_layer.attention_choice(query, key, value, mask, 0.0, is_causal, scale=scale)
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
    is_number = scale is None or type(scale) in (int, float)
    if is_number and dropout_p == 0.0 and not enable_gqa and _is_usual(query, key, value, attn_mask):
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors)):
            return torch.ops.lampwork.attention(query, key, value, attn_mask, is_causal, scale)
        if attn_mask is None and _fits_flash(query, key, value, is_causal):
            return aten._scaled_dot_product_flash_attention(query, key, value, 0.0, is_causal, False, scale=scale)[0]
    return _ATTENTION(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)


def _is_usual(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether nothing but sizes and the card would decide on the kernel: on a GPU, of one type (also under autocast),
    with as many heads for keys as for queries, outside of torch's transforms, and with no kernel ruled out."""
    tensors = (query, key, value)
    if any(t.device.type != "cuda" or t.dim() != 4 or t.dtype != query.dtype for t in tensors):
        return False
    if torch.is_autocast_enabled("cuda") and query.dtype != torch.get_autocast_dtype("cuda"):
        return False
    if mask is not None and mask.dtype not in (torch.bool, query.dtype):
        return False
    alike = query.shape[:2] == key.shape[:2] and key.shape[:3] == value.shape[:3] and query.shape[3] == key.shape[3]
    return alike and not torch_layer.is_transformed() and all(allowed() for allowed in _KERNELS_ALLOWED)


def _fits_flash(query: Tensor, key: Tensor, value: Tensor, is_causal: bool) -> bool:
    """Whether torch has a fused kernel for such tensors, whichever: of fake ones it may say that it has none."""
    sizes = [t.shape for t in (query, key, value)]
    if not all(isinstance(n, int) and n > 0 for size in sizes for n in size):
        return False
    if query.dtype not in _HALVES or torch.are_deterministic_algorithms_enabled():
        return False
    if is_causal and sizes[0][2] != sizes[1][2]:  # where kernels put the last query at different keys
        return False
    if any(t.stride(-1) != 1 for t in (query, key, value)) or sizes[1] != sizes[2]:
        return False
    if torch.cuda.is_available() and torch.cuda.get_device_capability(query.device) < _LEAST_CAPABILITY:
        return False
    return sizes[0][-1] % 8 == 0 and sizes[0][-1] <= _WIDEST_HEAD


def in_torchs_words(graph: fx.Graph) -> None:
    """Name the operator as torch does, for whoever gets the graph."""
    for node in graph.find_nodes(op="call_function", target=torch.ops.lampwork.attention.default):
        query, key, value, mask, is_causal, scale = node.args
        node.target = aten.scaled_dot_product_attention.default
        node.args = (query, key, value, mask, 0.0, is_causal)
        node.kwargs = {} if scale is None else {"scale": scale}


REPLACEMENTS = {_ATTENTION: attention}
