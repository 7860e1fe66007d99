"""`Module.to` and its kin in a frame, where they change nothing: every tensor has the dtype and device already.

A conversion that does change something replaces the data of parameters, which is not traced. Invariant: that nothing
changes is known from the tensors' own guards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .class_lookup import find_in_class
from .constant import snapshot
from .module import ModuleValue
from .registry import handles
from .tensor import TensorValue

_MODULE: Any = torch.nn.Module
_PARSE_TO: Any = vars(torch._C)["_nn"]._parse_to
_OWN_APPLY = (torch.nn.Module._apply, torch.nn.RNNBase._apply)


def _tensors(tracer: Tracer, module: ModuleValue) -> Iterator[torch.Tensor]:
    """The fakes of all parameters and buffers of a module tree."""
    if find_in_class(module.cls, "_apply")[0] not in _OWN_APPLY:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{module.describe()} has an `_apply` of its own")
    module.class_value.guard_method(tracer, "_apply")
    for name in ("_parameters", "_buffers", "_modules"):
        contents = module.store(tracer, name)
        for _, value in tracer.items_of_mapping(contents) if contents is not None else ():
            item = value.realize()
            if isinstance(item, ModuleValue):
                yield from _tensors(tracer, item)
            elif isinstance(item, TensorValue):
                yield item.fake
            elif not (item.is_constant() and item.as_constant() is None):
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"converting {item.describe()}")


def _unchanged(tracer: Tracer, module: Value, dtype: torch.dtype | None, device: torch.device | None) -> Value:
    if not isinstance(module, ModuleValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"converting {module.describe()}")
    for tensor in _tensors(tracer, module):
        converts = dtype is not None and (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype != dtype
        if converts or (device is not None and tensor.device != device):
            raise GraphBreak(
                BreakId.MUTATION_NOT_MODELLED, f"{module.describe()} is converted to {dtype or device}",
                hint="Convert the module before it is called.",
            )  # fmt: skip
    return module


@handles(_MODULE.to)
def to(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    plain = [arg.fake if isinstance(arg, TensorValue) else snapshot(arg) for arg in (a.realize() for a in args[1:])]
    named = {name: snapshot(value.realize()) for name, value in kwargs.items()}
    try:
        device, dtype, _, memory_format = _PARSE_TO(*plain, **named)
    except (TypeError, RuntimeError) as error:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"`Module.to` raises: {error}") from error
    if memory_format is not None or (dtype is not None and not (dtype.is_floating_point or dtype.is_complex)):
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, "`Module.to` with a memory format or an integer dtype")
    return _unchanged(tracer, args[0].realize(), dtype, device)


def _dtype_method(method: Any, dtype: torch.dtype) -> None:
    @handles(method)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return _unchanged(tracer, args[0].realize(), dtype, None)


_dtype_method(_MODULE.float, torch.float32)
_dtype_method(_MODULE.double, torch.float64)
_dtype_method(_MODULE.half, torch.float16)
_dtype_method(_MODULE.bfloat16, torch.bfloat16)


@handles(_MODULE.cpu)
def cpu(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return _unchanged(tracer, args[0].realize(), None, torch.device("cpu"))
