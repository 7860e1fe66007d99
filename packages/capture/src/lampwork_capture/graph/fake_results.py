"""Fake results: an operation that ran on fake tensors of the same kind before is not run again.

The layers of a model repeat the same operations on the same shapes. What an operation gave, a new tensor of its own or
one of its arguments, is remembered for the rest of the trace, by its target, its constants and the kinds of its
tensors. Invariant: whatever else an operation may depend on, or do, keeps it from being remembered: gradients, writes,
random numbers, memory of its arguments, known values; and a change of torch's state forgets everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, NoneType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ..guards.exact import exact_key

_C: Any = torch._C
_CONSTANTS = frozenset(
    {int, float, bool, str, NoneType, torch.dtype, torch.device, torch.layout, torch.memory_format, torch.Size}
)
_NATIVE = (str, BuiltinFunctionType, MethodDescriptorType, torch._ops.OpOverload, torch._ops.OpOverloadPacket)


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A tensor of all of a new piece of memory; whether torch calls it a view of that makes no difference."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True, slots=True)
class _Argument:
    """One of the tensors that the operation was given, counted as they come."""

    position: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What running an operation on fake tensors gave: its result, the operators that it dispatched, whether one of
    them is known to raise for some data, and whether all are known to raise for none."""

    result: Any
    operators: tuple[Any, ...]
    may_raise: bool
    is_total: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on fake tensors: what it is remembered by, and its tensors."""

    key: Hashable
    tensors: tuple[FakeTensor, ...]


class FakeResults:
    """The results of one trace."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Ran] = {}  # each with a description as its result

    def forget(self) -> None:
        """torch's state changed: the same operation may give something else."""
        self._known.clear()

    def call_of(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call | None:
        """The operation, if its result can be remembered."""
        if not _depends_on_arguments_only(target) or _C._functorch.peek_interpreter_stack() is not None:
            return None
        grad = torch.is_grad_enabled()
        tensors: list[FakeTensor] = []
        parts: list[Hashable] = [target, grad, torch.is_inference_mode_enabled()]
        if not (_describe(args, parts, tensors) and _describe(kwargs.values(), parts, tensors)):
            return None
        if not tensors or (grad and any(tensor.requires_grad for tensor in tensors)):
            return None
        parts += kwargs
        return Call(tuple(parts), tuple(tensors))

    def recall(self, mode: FakeTensorMode, call: Call) -> Ran | None:
        """What an equal call gave, as a tensor of `mode`."""
        known = self._known.get(call.key)
        if known is None:
            return None
        found = known.result
        if isinstance(found, _Argument):
            return replace(known, result=call.tensors[found.position])
        meta = torch.empty_strided(found.shape, found.stride, dtype=found.dtype, device="meta")
        return replace(known, result=FakeTensor(mode, meta, found.device))

    def remember(self, call: Call, ran: Ran) -> None:
        """What a call gave that wrote nothing and drew no random numbers."""
        found = _result_of(call, ran.result)
        if found is not None:
            self._known[call.key] = replace(ran, result=found)


def _depends_on_arguments_only(target: Any) -> bool:
    if isinstance(target, FunctionType):
        return target.__module__ == "torch.nn.functional"
    return isinstance(target, _NATIVE)


def _describe(values: Iterable[Any], parts: list[Hashable], tensors: list[FakeTensor]) -> bool:
    """Append what each value is known by; False if one of them is known by nothing."""
    for value in values:
        kind = type(value)
        if kind is FakeTensor:
            if value.constant is not None or value._has_symbolic_sizes_strides or value.layout is not torch.strided:
                return False
            again = next((i for i, tensor in enumerate(tensors) if tensor is value), len(tensors))
            tensors.append(value)
            parts.append(
                (
                    again,
                    value.shape,
                    value.stride(),
                    value.storage_offset(),
                    value.dtype,
                    value.fake_device,
                    value.requires_grad,
                    _C._dispatch_keys(value).raw_repr(),
                )
            )
        elif kind in _CONSTANTS:
            parts.append(exact_key(value))
        elif kind is tuple or kind is list:
            parts.append((kind, len(value)))
            if not _describe(value, parts, tensors):
                return False
        else:
            return False
    return True


def _result_of(call: Call, result: Any) -> _Fresh | _Argument | None:
    for position, tensor in enumerate(call.tensors):
        if result is tensor:
            return _Argument(position)
    if (
        type(result) is not FakeTensor
        or result.layout is not torch.strided
        or result.requires_grad
        or result.constant is not None
    ):
        return None
    if result.dim() == 0 or result._has_symbolic_sizes_strides:
        return None
    storage = result.untyped_storage()
    if any(tensor.untyped_storage()._cdata == storage._cdata for tensor in call.tensors):
        return None
    if result.is_conj() or result.is_neg() or result.is_inference() or result.storage_offset():
        return None
    fresh = _Fresh(result.shape, result.stride(), result.dtype, result.fake_device)
    meta = torch.empty_strided(fresh.shape, fresh.stride, dtype=fresh.dtype, device="meta")
    return fresh if meta.untyped_storage().nbytes() == storage.nbytes() else None
