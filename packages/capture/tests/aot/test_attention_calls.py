"""Attention in graphs for accelerators: whole in inference, torch's own choice elsewhere. No device need be there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lampwork_capture.aot import aot_backend
from torch._subclasses.fake_tensor import FakeTensorMode

WHOLE = torch.ops.aten.scaled_dot_product_attention.default


def operators(device: str, dropout: float = 0.0) -> list[object]:
    """What the functional graph of an attention calls."""
    graph = torch.fx.Graph()
    q, k, v, m = (graph.placeholder(name) for name in "qkvm")
    options = {"attn_mask": m, "dropout_p": dropout, "scale": 0.5}
    graph.output((graph.call_function(F.scaled_dot_product_attention, (q, k, v), options),))
    seen: list[object] = []

    def compiler(functional, inputs):
        seen.extend(n for n in functional.graph.nodes if n.op == "call_function")
        return functional.forward

    with FakeTensorMode():
        inputs = [torch.empty(2, 8, 3, 4, device=device).transpose(1, 2) for _ in range(3)]
        inputs.append(torch.empty(8, 8, 3, device=device).permute(2, 0, 1))  # which the fused kernels refuse
    aot_backend(compiler)(torch.fx.GraphModule({}, graph), inputs)
    return seen


def test_whole_on_an_accelerator():
    (call,) = operators("cuda")
    assert call.target is WHOLE and call.kwargs == {"scale": 0.5} and call.args[4:] == (0.0, False)
    assert call.meta["val"].shape == (2, 3, 8, 4)


def test_taken_apart_elsewhere():
    assert all(call.target is not WHOLE for call in operators("cpu"))
    assert all(call.target is not WHOLE for call in operators("cuda", dropout=0.5))


def test_it_runs_as_torchs_own():
    q, k, v = (torch.randn(2, 3, 8, 4) for _ in range(3))
    mask = torch.ones(8, 8, dtype=torch.bool).tril()
    got = torch.ops.lampwork.attention(q, k, v, mask, False, None, False)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v, mask))
