"""Fake inputs: what stands for the tensors that a frame is given, without describing each of them in full.

A model has hundreds of parameters, nearly all of them plain: leaves that own their memory. For those a fake tensor is
made directly; every other kind goes through torch's converter. Invariant: fakes share memory exactly where their
tensors do, whichever of both ways each of them took.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ..graph_break import BreakId, GraphBreak
from ..source import Source

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


def has_plain_layout(tensor: torch.Tensor) -> bool:
    """Whether the sizes of a tensor of a kind that graphs take may be symbolic: it is memory and a way through it."""
    return (
        not (tensor.is_conj() or tensor.is_neg())
        and tensor.device.type != "meta"
        and (not tensor.is_leaf or tensor.grad is None)  # of others torch warns who asks
        and _C._functorch.peek_interpreter_stack() is None
    )


def symbolic_fake_input(
    mode: FakeTensorMode, tensor: torch.Tensor, sizes: Sequence[Any], strides: Sequence[Any]
) -> Any:
    """The fake of a tensor with these sizes and strides, some of them symbolic. Ask once for each tensor."""
    converter: Any = mode.fake_tensor_converter.meta_converter
    storage = tensor.untyped_storage()
    number = converter.describer.get_storage_id(storage)
    with torch.no_grad():
        is_alone = storage.nbytes() == tensor.numel() * tensor.itemsize and not tensor._is_view()
        if is_alone and converter.storage_memo.get(number) is None:
            meta = torch.empty_strided(sizes, strides, dtype=tensor.dtype, device="meta")
            converter.storage_memo[number] = meta.untyped_storage()
        else:  # other tensors may lie in the same memory
            known = converter.storage_memo.get(number)
            if known is None:
                known = torch.UntypedStorage(storage.nbytes(), device="meta")
                converter.storage_memo[number] = known
            meta = torch.empty((), dtype=tensor.dtype, device="meta")
            meta.set_(known, tensor.storage_offset(), sizes, strides)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if tensor.requires_grad:
        meta.requires_grad_()
    fake: Any = FakeTensor(mode, meta, tensor.device)
    if tensor.requires_grad and not tensor.is_leaf:
        with torch.enable_grad(), mode:
            made = fake.clone()
            made.data = fake.detach()  # not a view, which autograd lets nobody write to
        return made
    return fake


def check_tensor_kind(tensor: torch.Tensor, source: Source) -> None:
    """Raise GraphBreak(TENSOR_KIND) unless the tensor is a plain strided one that graphs can take."""
    kind = type(tensor)
    reason = None
    if kind not in (torch.Tensor, torch.nn.Parameter):
        reason = f"of class {kind.__name__}"
    elif tensor.layout is not torch.strided:
        reason = f"of layout {tensor.layout}"
    elif tensor.is_quantized:
        reason = "quantized"
    elif _C._functorch.is_functorch_wrapped_tensor(tensor):
        reason = "wrapped by a torch.func transform"
    elif tensor.is_nested:
        reason = "nested"
    elif any(name is not None for name in getattr(tensor, "names", ())):  # torch 2.13 has no named tensors any more
        reason = "a named tensor"
    if reason is not None:
        raise GraphBreak(BreakId.TENSOR_KIND, f"`{source}` is {reason}")


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


def name_of_input(source: Source, taken: set[str]) -> str:
    """A name for the placeholder of what a source denotes, short and not taken; it is from then on."""
    name = re.sub(r"\W+", "_", str(source).replace("._modules['", ".").replace("._parameters['", ".")).strip("_")
    short = name.lower()
    while len(short) > 60 and "_" in short:
        short = short.partition("_")[2]
    short = short.lstrip("_0123456789")[-60:] or "arg"
    unique, count = short, 0
    while unique in taken:
        count += 1
        unique = f"{short}_{count}"
    taken.add(unique)
    return unique
