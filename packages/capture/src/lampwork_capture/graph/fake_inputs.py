"""Fake inputs: what stands for the tensors that a frame is given, without describing each of them in full.

A model has hundreds of parameters, nearly all of them plain: leaves that own their memory. For those a fake tensor is
made directly; every other kind goes through torch's converter. Invariant: fakes share memory exactly where their
tensors do, whichever of both ways each of them took.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

_C: Any = torch._C


def fake_input(mode: FakeTensorMode, tensor: torch.Tensor) -> Any:
    """The fake of a tensor of a kind that graphs take; its sizes are numbers. Ask once for each tensor."""
    if not _is_plain_leaf(tensor):
        return mode.from_tensor(tensor, static_shapes=True)
    converter: Any = mode.fake_tensor_converter.meta_converter
    storage = tensor.untyped_storage()
    number = converter.describer.get_storage_id(storage)
    if converter.storage_memo.get(number) is not None:
        return mode.from_tensor(tensor, static_shapes=True)
    meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if meta.untyped_storage().nbytes() != storage.nbytes():
        return mode.from_tensor(tensor, static_shapes=True)
    if tensor.requires_grad:
        meta.requires_grad_()
    fake = FakeTensor(mode, meta, tensor.device)
    converter.storage_memo[number] = fake.untyped_storage()
    if type(tensor) is torch.nn.Parameter:
        fake._is_param = True  # pyright: ignore[reportAttributeAccessIssue]
    return fake


def _is_plain_leaf(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.grad_fn is None
        and tensor.storage_offset() == 0
        and not tensor._is_view()
        and not (tensor.is_conj() or tensor.is_neg() or tensor.is_inference())
        and tensor.grad is None
        and getattr(tensor, "grad_dtype", tensor.dtype) == tensor.dtype
        and tensor.dim() > 0  # torch keeps the values of some scalars
        and tensor.device.type != "meta"
        and _C._functorch.peek_interpreter_stack() is None  # inside a transform only torch knows what belongs to it
    )
