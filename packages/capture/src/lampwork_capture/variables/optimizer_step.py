"""`torch.optim` in a frame: the steps of optimizers, which torch wrote with its own capture in mind.

Where a step of torch's asks whether it is being compiled, it keeps its counters in tensors, and then passes those where
eager passes numbers: here such calls become operations on tensors that compute the same. Invariant: what eager computes
in Python's floats is computed in 64 bits, so that a captured step gives what eager gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.optimizer import _default_to_fused_or_foreach, _get_value, _stack_if_compiling

from ..graph_break import BreakId, GraphBreak
from ..polyfills import scaled_updates
from .base import Tracer, Value
from .registry import handles
from .sequence import SequenceValue
from .tensor import TensorValue
from .tensor_number import TensorNumberValue, as_number_for, tensors_of
from .torch_function import TorchFunctionValue

_TORCH: Any = torch  # for its parts that have no stubs
_SAME_IN_LISTS = frozenset({"torch.optim.adam", "torch.optim.sgd"})


@handles(_get_value)
def number_of_tensor(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`_get_value(x)`, which is `x.item()` in eager."""
    value = args[0].realize()
    if not isinstance(value, TensorValue):
        return value
    fake = value.fake
    is_plain = fake.is_floating_point() and fake.dim() == 0 and not fake.is_inference() and not fake.requires_grad
    return TensorNumberValue(tracer, None, (value,)) if is_plain else value


@handles(_stack_if_compiling)
def list_of_numbers(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`_stack_if_compiling(numbers)`: a list, as in eager."""
    return args[0]


@handles(_default_to_fused_or_foreach)
def default_form(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """Which form a step takes where the program does not say: that on lists, where it computes the very same.

    Eager takes it on some devices only, by what it costs to run there. To trace it costs a fraction of the other."""
    tensors = [_tensor(item) for item in args[0].realize().unpack(tracer) if not tracer.is_none(item)]
    differentiable, use_fused = args[1].truth(tracer), len(args) > 2 and args[2].truth(tracer)
    if not all(tensor.python_type() in (torch.Tensor, torch.nn.Parameter) for tensor in tensors):
        found = False, False
    elif tracer.module_name in _SAME_IN_LISTS and not differentiable and all(_is_real(t.fake) for t in tensors):
        found = False, True
    else:
        stand_ins = [torch.empty(0, dtype=tensor.fake.dtype, device=tensor.fake.device) for tensor in tensors]
        found = _default_to_fused_or_foreach(stand_ins, differentiable, use_fused)
    return tracer.make_tuple([tracer.constant(answer) for answer in found])


def _is_real(fake: torch.Tensor) -> bool:
    return fake.is_floating_point() and fake.layout is torch.strided


@handles(_TORCH._C._group_tensors_by_device_and_dtype, like=lambda tensorlistlist, with_indices=False: None)
def group_tensors(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """Lists of tensors, sorted by device and dtype of those in the first list: by torch itself, to keep its order."""
    lists = [column.realize().unpack(tracer) for column in args[0].realize().unpack(tracer)]
    firsts = [_tensor(item).fake for item in lists[0]]
    stand_ins: Any = [[torch.empty(0, dtype=fake.dtype, device=fake.device) for fake in firsts]]
    pairs: list[tuple[Value, Value]] = []
    for key, (_, indices) in _TORCH._C._group_tensors_by_device_and_dtype(stand_ins, True).items():
        parts = [tracer.make_list([column[i] for i in indices] if column else []) for column in lists]
        asked = len(args) > 1 and args[1].truth(tracer)
        places = tracer.make_list([tracer.constant(i) for i in indices] if asked else [])
        pairs.append((tracer.constant(key), tracer.make_tuple([tracer.make_list(parts), places])))
    return tracer.make_dict(pairs)


def _tensor(value: Value) -> TensorValue:
    found = value.realize()
    if not isinstance(found, TensorValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{found.describe()} in a list of tensors to sort")
    return found


@handles(_TORCH._C._get_privateuse1_backend_name)
def name_of_other_backend(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """It can be given once in a process, before the backend is used."""
    return tracer.constant(_TORCH._C._get_privateuse1_backend_name())


_PLACE_OF_NUMBERS = {
    _TORCH._foreach_add: 1,
    _TORCH._foreach_add_: 1,
    _TORCH._foreach_sub: 1,
    _TORCH._foreach_sub_: 1,
    _TORCH._foreach_mul: 1,
    _TORCH._foreach_mul_: 1,
    _TORCH._foreach_div: 1,
    _TORCH._foreach_div_: 1,
    _TORCH._foreach_addcdiv_: 3,
    _TORCH._foreach_addcmul_: 3,
}
_TRACED = {
    _TORCH._foreach_addcdiv_: scaled_updates.foreach_addcdiv_,
    _TORCH._foreach_addcmul_: scaled_updates.foreach_addcmul_,
}


def _register(function: Any, place: int) -> None:
    """Calls of an operator on lists with tensors where an optimizer of torch's passes numbers in eager."""

    @handles(function, like=lambda *args, **kwargs: None)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        numbers = None
        if len(args) == place + 1:
            numbers = _numbers(tracer, args[0].realize(), args[place].realize())
        if numbers is None:
            return TorchFunctionValue(function).call(tracer, args, kwargs)
        args = [*args[:place], numbers]
        if function in _TRACED:
            return tracer.constant(_TRACED[function]).call(tracer, args, kwargs)
        return TorchFunctionValue(function).call(tracer, args, kwargs)


def _numbers(tracer: Tracer, targets: Value, numbers: Value) -> Value | None:
    """The numbers of tensors in a list, as a list of tensors; None if it is no such call."""
    if not (isinstance(numbers, SequenceValue) and isinstance(targets, SequenceValue)):
        return None
    items = [item.realize() for item in numbers.unpack(tracer)]
    found = [item for item in items if isinstance(item, TensorNumberValue)]
    if not found or len(found) != len(items):
        return None
    tensors = zip(tensors_of(tracer, found), targets.unpack(tracer), strict=True)
    return tracer.make_list([as_number_for(tracer, tensor, _tensor(target)) for tensor, target in tensors])


for _function, _place in _PLACE_OF_NUMBERS.items():
    _register(_function, _place)
