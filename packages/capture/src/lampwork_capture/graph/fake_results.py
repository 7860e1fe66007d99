"""Fake results: an operation that ran on fake tensors of the same kind before is not run again.

The layers of a model repeat operations. What one gave, new tensors, arguments or views of the first, is remembered for
a trace by target, constants and kinds of tensors, sizes as expressions of symbols: by the graph builder for operations
as programs write them, by the fake tensor mode for operators. Invariant: whatever else an operation may depend on, or
do, keeps it from being remembered: gradients, writes, random numbers, known values, what only the run time knows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, NoneType
from typing import Any

import torch
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ..guards.exact import exact_key

_C: Any = torch._C
_CONSTANTS = frozenset({int, float, bool, str, NoneType, torch.dtype, torch.device, torch.layout, torch.memory_format})
_SEQUENCES = frozenset({tuple, list, torch.Size})
_SEVERAL = frozenset({tuple, list})
_LONGEST = 64  # list: one of all the parameters of a model comes once, and describing it takes as long as running
_NATIVE = (str, BuiltinFunctionType, MethodDescriptorType, torch._ops.OpOverload, torch._ops.OpOverloadPacket)


@dataclass(frozen=True, slots=True)
class NewTensor:
    """A tensor in new memory of so many bytes; that torch may call it a view of that makes no difference."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    nbytes: int
    is_inference: bool

    @classmethod
    def like(cls, tensor: FakeTensor) -> NewTensor:
        """One with the layout of a tensor that lies in memory without gaps."""
        nbytes = tensor.numel() * tensor.itemsize
        device, inference = tensor.fake_device, torch.is_inference_mode_enabled()
        return cls(tensor.shape, tensor.stride(), tensor.dtype, device, nbytes, inference)

    def made(self, mode: FakeTensorMode, tensors: Sequence[FakeTensor]) -> FakeTensor:
        with torch.inference_mode(self.is_inference):
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
    """Another look at the memory of the first tensor."""

    offset: int | torch.SymInt
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    def made(self, mode: FakeTensorMode, tensors: Sequence[FakeTensor]) -> FakeTensor:
        viewed = tensors[0]
        memory = viewed.untyped_storage()
        with torch.inference_mode(viewed.is_inference()):  # a view of another kind cannot share the version
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
    """The results of one trace. `views`: views are remembered too, for an asker below autograd, which makes them views
    in its sense."""

    def __init__(self, *, views: bool = False) -> None:
        self._views = views
        # By the call and the way in which questions about sizes were answered, with descriptions as result. What was
        # found in no context relies on recorded facts alone, so it is right in any; all else in the same one.
        self._known: dict[tuple[Hashable, Hashable], Ran] = {}

    def forget(self) -> None:
        """torch's state changed: the same operation may give something else."""
        self._known.clear()

    def call_of(self, mode: FakeTensorMode, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call | None:
        """The operation, if its result can be remembered."""
        if not _depends_on_arguments_only(target) or _C._functorch.peek_interpreter_stack() is not None:
            return None
        if any(type(argument) in _SEQUENCES and len(argument) > _LONGEST for argument in args):
            return None
        grad = torch.is_grad_enabled()
        tensors: list[FakeTensor] = []
        parts: list[Hashable] = [
            target,
            grad,
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),  # by which some refuse to run
        ]
        env = env_of(mode)
        if not (self._describe(args, env, parts, tensors) and self._describe(kwargs.values(), env, parts, tensors)):
            return None
        if not tensors or (grad and any(tensor.requires_grad for tensor in tensors)):
            return None
        parts += kwargs
        return Call(tuple(parts), tuple(tensors))

    def recall(self, mode: FakeTensorMode, call: Call) -> Ran | None:
        """What an equal call gave, as tensors of `mode`."""
        env = env_of(mode)
        known = self._known.get((call.key, None))
        if known is None and env is not None:
            known = self._known.get((call.key, env.way_of_answering))
        if known is None:
            return None
        found = known.result
        with nullcontext() if env is None else env.suppress_facts():  # those of the run are recorded
            if type(found) in _SEVERAL:
                parts = [None if part is None else part.made(mode, call.tensors) for part in found]
                return replace(known, result=type(found)(parts))
            return replace(known, result=found.made(mode, call.tensors))

    def remember(self, mode: FakeTensorMode, call: Call, ran: Ran) -> None:
        """What a call gave that wrote nothing and drew no random numbers."""
        env = env_of(mode)
        key = call.key, None if env is None else env.way_of_answering
        result = ran.result
        if type(result) not in _SEVERAL:
            found = self._description(call, env, result)
            if found is not None:
                self._known[key] = replace(ran, result=found)
            return
        descriptions = [None if part is None else self._description(call, env, part) for part in result]
        new = [part.untyped_storage()._cdata for part, d in zip(result, descriptions) if isinstance(d, NewTensor)]
        if all((d is None) == (part is None) for d, part in zip(descriptions, result)) and len(set(new)) == len(new):
            self._known[key] = replace(ran, result=type(result)(descriptions))

    def _describe(
        self, values: Iterable[Any], env: TorchShapeEnv | None, parts: list[Hashable], tensors: list[FakeTensor]
    ) -> bool:
        """Append what each value is known by; False if one of them is known by nothing."""
        for value in values:
            kind = type(value)
            if kind is FakeTensor:
                if value.constant is not None or value.layout is not torch.strided:
                    return False
                again = next((i for i, tensor in enumerate(tensors) if tensor is value), len(tensors))
                tensors.append(value)
                shape, stride = _numbers(value.shape, env), _numbers(value.stride(), env)
                # A view fits into the memory, or the operator raises
                memory = (value.untyped_storage().nbytes(),) if self._views else ()
                place = _numbers((value.storage_offset(), *memory), env)
                if shape is None or stride is None or place is None:
                    return False
                parts.append(
                    (
                        again,
                        shape,
                        stride,
                        place,
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
                if not self._describe(value, env, parts, tensors):
                    return False
            elif kind is torch.SymInt:
                number = _numbers((value,), env)
                if number is None:
                    return False
                parts.append((kind, number))
            else:
                return False
        return True

    def _description(self, call: Call, env: TorchShapeEnv | None, result: Any) -> _Description:
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
        ):
            return None
        storage, offset = result.untyped_storage(), result.storage_offset()
        nbytes, inference = storage.nbytes(), result.is_inference()
        if _numbers((*result.shape, *result.stride(), offset, nbytes), env) is None:
            return None
        sharing = [tensor.untyped_storage()._cdata == storage._cdata for tensor in call.tensors]
        if not any(sharing):
            is_new = type(offset) is int and offset == 0
            device = result.fake_device
            return NewTensor(result.shape, result.stride(), result.dtype, device, nbytes, inference) if is_new else None
        viewed = call.tensors[0]
        same = (viewed.is_conj(), viewed.is_neg(), viewed.fake_device) == (False, False, result.fake_device)
        if not (self._views and sharing[0] and same and inference == viewed.is_inference()):
            return None
        return _View(offset, result.shape, result.stride(), result.dtype)


def env_of(mode: Any) -> TorchShapeEnv | None:
    """What made the symbols of a mode's tensors; None while there are none."""
    return mode.shape_env


def _numbers(numbers: Iterable[int | torch.SymInt], env: TorchShapeEnv | None) -> tuple[Hashable, ...] | None:
    """Numbers as parts of a key: an expression equals itself alone. None if only the run time knows one of them."""
    found = tuple(number if isinstance(number, int) else expr_of(number) for number in numbers)
    for expr in found:
        if not isinstance(expr, int) and (env is None or not env.has_hint(expr)):
            return None
    return found


def _of_memory(
    mode: FakeTensorMode,
    memory: torch.UntypedStorage,
    dtype: torch.dtype,
    device: torch.device,
    offset: int | torch.SymInt,
    shape: Sequence[int],
    stride: Sequence[int],
) -> FakeTensor:
    """A fake tensor that looks at `memory`."""
    meta = torch.empty(0, dtype=dtype, device="meta")
    meta.set_(memory, offset, shape, stride)  # pyright: ignore[reportCallIssue, reportArgumentType]
    if not meta.is_inference():
        _C._autograd._unsafe_set_version_counter((meta,), (0,))  # that was no write of the program's
    return FakeTensor(mode, meta, device)


def _depends_on_arguments_only(target: Any) -> bool:
    if isinstance(target, FunctionType):
        return target.__module__ == "torch.nn.functional"
    return isinstance(target, _NATIVE)
