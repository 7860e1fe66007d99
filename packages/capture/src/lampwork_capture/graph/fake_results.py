"""Fake results: an operation that ran on fake tensors of the same kind before is not run again.

The layers of a model repeat the same operations on the same shapes. What an operation gave, new tensors of its own,
its arguments or views of them, is remembered by its target, its constants and the kinds of its tensors, in which sizes
may be expressions of symbols: torch's own cache knows numbers only. The graph builder remembers operations as programs
write them, the fake tensor mode the operators that they dispatch. Invariant: whatever else an operation may depend on,
or do, keeps it from being remembered: gradients, writes, random numbers, known values, what only the run time knows;
and a change of torch's state forgets everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, NoneType
from typing import Any

import torch
from lampwork_symshape.expr import integer
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ..guards.exact import exact_key

_C: Any = torch._C
_ZERO = integer(0)
_CONSTANTS = frozenset({int, float, bool, str, NoneType, torch.dtype, torch.device, torch.layout, torch.memory_format})
_SEQUENCES = frozenset({tuple, list, torch.Size})
_SEVERAL = frozenset({tuple, list})
_NATIVE = (str, BuiltinFunctionType, MethodDescriptorType, torch._ops.OpOverload, torch._ops.OpOverloadPacket)


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor of all of a new piece of memory, of so many bytes; whether torch calls it a view of that makes no
    difference."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    nbytes: int

    @classmethod
    def like(cls, tensor: FakeTensor) -> NewTensor:
        """One with the layout of a tensor that lies in memory without gaps."""
        return cls(tensor.shape, tensor.stride(), tensor.dtype, tensor.fake_device, tensor.numel() * tensor.itemsize)

    def made(self, mode: FakeTensorMode, tensors: Sequence[FakeTensor]) -> FakeTensor:
        memory = torch.empty((self.nbytes,), dtype=torch.uint8, device="meta").untyped_storage()
        return _of_memory(mode, memory, self.dtype, self.device, 0, self.shape, self.stride)


@dataclass(frozen=True, slots=True)
class _Argument:
    """One of the tensors that the operation was given, counted as they come."""

    position: int

    def made(self, mode: FakeTensorMode, tensors: Sequence[FakeTensor]) -> FakeTensor:
        return tensors[self.position]


@dataclass(frozen=True, slots=True)
class _View:
    """Another look at the memory of an argument."""

    position: int
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def made(self, mode: FakeTensorMode, tensors: Sequence[FakeTensor]) -> FakeTensor:
        viewed = tensors[self.position]
        memory = viewed.untyped_storage()
        return _of_memory(mode, memory, self.dtype, viewed.fake_device, self.offset, self.shape, self.stride)


_Description = NewTensor | _Argument | _View | None


@dataclass(frozen=True, slots=True)
class Ran:
    """What running an operation on fake tensors gave: its result, the operators that it dispatched, whether one of
    them is known to raise for some data, and whether all are known to raise for none."""

    result: Any  # where it is remembered, descriptions in its place
    operators: tuple[Any, ...]
    may_raise: bool
    is_total: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One operation on fake tensors: what it is remembered by, and its tensors."""

    key: Hashable
    tensors: tuple[FakeTensor, ...]


class FakeResults:
    """The results of one trace. `views`: views of arguments are remembered too, for an asker below autograd, which
    makes them views in its sense; `env` gives the symbols of the sizes, if there are any."""

    def __init__(self, *, views: bool = False) -> None:
        self.env: TorchShapeEnv | None = None
        self._views = views
        # by the call and the way in which questions about sizes were answered; each with descriptions as its result
        self._known: dict[tuple[Hashable, Hashable], Ran] = {}

    def forget(self) -> None:
        """torch's state changed: the same operation may give something else."""
        self._known.clear()

    def call_of(self, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call | None:
        """The operation, if its result can be remembered."""
        if not _depends_on_arguments_only(target) or _C._functorch.peek_interpreter_stack() is not None:
            return None
        grad = torch.is_grad_enabled()
        tensors: list[FakeTensor] = []
        parts: list[Hashable] = [target, grad, torch.is_inference_mode_enabled(), torch.get_default_dtype()]
        if not (self._describe(args, parts, tensors) and self._describe(kwargs.values(), parts, tensors)):
            return None
        if not tensors or (grad and any(tensor.requires_grad for tensor in tensors)):
            return None
        parts += kwargs
        return Call(tuple(parts), tuple(tensors))

    def recall(self, mode: FakeTensorMode, call: Call) -> Ran | None:
        """What an equal call gave, as tensors of `mode`."""
        way = None if self.env is None else self.env.way_of_answering
        known = self._known.get((call.key, None)) or self._known.get((call.key, way))
        if known is None:
            return None
        found = known.result
        if type(found) in _SEVERAL:
            parts = [None if part is None else part.made(mode, call.tensors) for part in found]
            return replace(known, result=type(found)(parts))
        return replace(known, result=found.made(mode, call.tensors))

    def remember(self, call: Call, ran: Ran) -> None:
        """What a call gave that wrote nothing and drew no random numbers."""
        # What answers in no context rely on is recorded as facts, so it is right in any of them
        key = call.key, None if self.env is None else self.env.way_of_answering
        result = ran.result
        if type(result) not in _SEVERAL:
            found = self._description(call, result)
            if found is not None:
                self._known[key] = replace(ran, result=found)
            return
        descriptions = [None if part is None else self._description(call, part) for part in result]
        new = [part.untyped_storage()._cdata for part, d in zip(result, descriptions) if isinstance(d, NewTensor)]
        if all((d is None) == (part is None) for d, part in zip(descriptions, result)) and len(set(new)) == len(new):
            self._known[key] = replace(ran, result=type(result)(descriptions))

    def _describe(self, values: Iterable[Any], parts: list[Hashable], tensors: list[FakeTensor]) -> bool:
        """Append what each value is known by; False if one of them is known by nothing."""
        for value in values:
            kind = type(value)
            if kind is FakeTensor:
                if value.constant is not None or value.layout is not torch.strided:
                    return False
                again = next((i for i, tensor in enumerate(tensors) if tensor is value), len(tensors))
                tensors.append(value)
                shape: Hashable = value.shape
                stride: Hashable = value.stride()
                offset: Hashable = value.storage_offset()
                if value._has_symbolic_sizes_strides:
                    shape, stride = self._numbers(value.shape), self._numbers(value.stride())
                    offset = self._number(value.storage_offset())
                    if shape is None or stride is None or offset is None:
                        return False
                parts.append(
                    (
                        again,
                        shape,
                        stride,
                        offset,
                        value.dtype,
                        value.fake_device,
                        value.requires_grad,
                        _C._dispatch_keys(value).raw_repr(),
                    )
                )
            elif kind in _CONSTANTS:
                parts.append(exact_key(value))
            elif kind in _SEQUENCES:
                parts.append((kind, len(value)))
                if not self._describe(value, parts, tensors):
                    return False
            elif kind is torch.SymInt:
                number = self._number(value)
                if number is None:
                    return False
                parts.append((kind, number))
            else:
                return False
        return True

    def _number(self, number: int | torch.SymInt) -> Hashable | None:
        """A number as part of a key: an expression equals itself alone. None for what only the run time knows."""
        if isinstance(number, int):
            return number
        expr = expr_of(number)
        return expr if self.env is not None and self.env.has_hint(expr) else None

    def _numbers(self, numbers: Sequence[int | torch.SymInt]) -> tuple[Hashable, ...] | None:
        found = tuple(map(self._number, numbers))
        return None if None in found else found

    def _description(self, call: Call, result: Any) -> _Description:
        """How to make a result again; None where that is not known."""
        for position, tensor in enumerate(call.tensors):
            if result is tensor:
                return _Argument(position)
        if (
            type(result) is not FakeTensor
            or result.layout is not torch.strided
            or result.requires_grad
            or result.constant is not None
            or result.dim() == 0
            or result.is_conj()
            or result.is_neg()
            or result.is_inference()
        ):
            return None
        offset = result.storage_offset()
        if self._numbers((*result.shape, *result.stride(), offset)) is None:
            return None
        storage = result.untyped_storage()
        for position, tensor in enumerate(call.tensors):
            if tensor.untyped_storage()._cdata == storage._cdata:
                if not self._views or tensor.is_conj() or tensor.is_neg() or tensor.fake_device != result.fake_device:
                    return None
                return _View(position, offset, result.shape, result.stride(), result.dtype)
        meta = torch.empty_strided(result.shape, result.stride(), dtype=result.dtype, device="meta")
        nbytes = storage.nbytes()
        if expr_of(offset) is not _ZERO or expr_of(meta.untyped_storage().nbytes()) is not expr_of(nbytes):
            return None
        return NewTensor(result.shape, result.stride(), result.dtype, result.fake_device, nbytes)


def _of_memory(
    mode: FakeTensorMode,
    memory: torch.UntypedStorage,
    dtype: torch.dtype,
    device: torch.device,
    offset: int,
    shape: Sequence[int],
    stride: Sequence[int],
) -> FakeTensor:
    """A fake tensor that looks at `memory`."""
    meta = torch.empty(0, dtype=dtype, device="meta")
    meta.set_(memory, offset, shape, stride)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return FakeTensor(mode, meta, device)


def _depends_on_arguments_only(target: Any) -> bool:
    if isinstance(target, FunctionType):
        return target.__module__ == "torch.nn.functional"
    return isinstance(target, _NATIVE)
