"""Attention in graphs for accelerators: whole in inference, torch's own choice elsewhere. No device need be there."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import aot_backend, attention_calls
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

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
    got = torch.ops.lampwork.attention(q, k, v, mask, False, None)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v, mask))


def _tensors(query: tuple[int, ...], key: tuple[int, ...], dtype: torch.dtype = torch.float16) -> list[torch.Tensor]:
    with FakeTensorMode():
        return [torch.empty(size, dtype=dtype, device="cuda") for size in (query, key, key)]


USUAL = (2, 4, 8, 64)


@pytest.mark.parametrize("key", [(3, 4, 8, 64), (2, 2, 8, 64), (2, 4, 8, 32)])
def test_operands_that_broadcast_or_share_heads_are_torchs(key):
    assert attention_calls._is_usual(*_tensors(USUAL, USUAL), None)
    assert not attention_calls._is_usual(*_tensors(USUAL, key), None)


def test_what_autocast_would_convert_is_torchs(monkeypatch):
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: True)
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: torch.bfloat16)
    assert not attention_calls._is_usual(*_tensors(USUAL, USUAL), None)
    assert attention_calls._is_usual(*_tensors(USUAL, USUAL, torch.bfloat16), None)


def test_kernels_that_are_ruled_out_are_not_chosen():
    with sdpa_kernel(SDPBackend.MATH):
        assert not attention_calls._is_usual(*_tensors(USUAL, USUAL), None)


def test_a_fused_kernel_in_training_only_where_torch_has_one():
    longer = (2, 4, 16, 64)
    assert attention_calls._fits_flash(*_tensors(USUAL, longer), is_causal=False)
    assert not attention_calls._fits_flash(*_tensors(USUAL, longer), is_causal=True)
    assert not attention_calls._fits_flash(*_tensors(USUAL, USUAL, torch.float32), is_causal=True)
    query, key, value = _tensors(USUAL, (2, 4, 64, 8))
    with query.fake_mode:
        assert not attention_calls._fits_flash(query, key.transpose(-1, -2), value.transpose(-1, -2), is_causal=True)
