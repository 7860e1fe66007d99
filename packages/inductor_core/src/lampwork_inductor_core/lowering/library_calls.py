"""Operators that the library does better than generated loops: matrix products, convolutions, attention.

They become extern calls without a note; a device's passes may replace them beforehand by its own (packed weights).
Invariant: an `out=` variant is listed only where it writes into the given memory without a copy.
"""

from __future__ import annotations

from typing import Any

import torch

aten = torch.ops.aten

OUT_VARIANTS: dict[Any, Any] = {
    aten.mm.default: aten.mm.out,
    aten.mm.dtype: aten.mm.dtype_out,
    aten.addmm.default: aten.addmm.out,
    aten.bmm.default: aten.bmm.out,
    aten.baddbmm.default: aten.baddbmm.out,
}

_PACKETS: tuple[Any, ...] = (
    aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.addbmm, aten.mv, aten.addmv, aten.dot, aten.linear, aten.matmul,
    aten.convolution, aten.convolution_backward, aten._convolution, aten.conv1d, aten.conv2d, aten.conv3d,
    aten.scaled_dot_product_attention, aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention, aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_cudnn_attention, aten._scaled_dot_product_attention_math,
    aten._scaled_dot_product_flash_attention_for_cpu_backward, aten._scaled_dot_product_flash_attention_backward,
    aten._scaled_dot_product_efficient_attention_backward, aten._scaled_dot_product_cudnn_attention_backward,
    aten.max_pool2d_with_indices, aten.avg_pool2d, aten._adaptive_avg_pool2d,
    aten.max_pool2d_with_indices_backward, aten.avg_pool2d_backward, aten._adaptive_avg_pool2d_backward,
)  # fmt: skip


def is_library_call(target: Any) -> bool:
    """Whether calling the operator is the plan, not a gap in the lowerings."""
    packet = getattr(target, "overloadpacket", None)
    return packet in _PACKETS or getattr(target, "namespace", "aten") not in ("aten", "prims")
