"""`torch.autograd.Function.apply`: traced through its forward where no gradient can flow, else a break.

Where grad mode is off, or no argument requires a gradient, `apply` is its forward with a context object that nobody
reads afterwards. Invariant: a call that autograd would record is never traced as a plain call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch.autograd.function import FunctionCtx

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .class_value import ClassValue
from .iterator import make_tuple
from .registry import handles
from .tensor import TensorValue
from .user_object import ObjectValue, find_in_class

_APPLY: Any = torch.autograd.Function.__dict__["apply"]


@handles(_APPLY.__func__)
def apply(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    function = args[0].realize()
    inputs = [arg.realize() for arg in args[1:]]
    if not isinstance(function, ClassValue) or kwargs:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`apply` of an autograd function so is not modelled")
    tensors = [value for value in inputs if isinstance(value, TensorValue)]
    if torch.is_grad_enabled() and any(value.fake.requires_grad for value in tensors):
        raise GraphBreak(
            BreakId.CALL_NOT_MODELLED, f"the autograd function {function.obj.__name__} with inputs that require grad"
        )
    context_class: Any = tracer.constant(FunctionCtx)
    context = ObjectValue(context_class)
    flags = make_tuple(tracer, [tracer.constant(False) for _ in inputs])
    tracer.side_effects.store_attribute(context, "needs_input_grad", flags)
    forward = function.get_attribute(tracer, "forward")
    if isinstance(getattr(find_in_class(function.obj, "setup_context")[0], "__func__", None), FunctionType):
        if find_in_class(function.obj, "setup_context")[1].__module__.startswith("torch.autograd"):
            return _checked(forward.call(tracer, [context, *inputs], {}), tensors)
        output = _checked(forward.call(tracer, inputs, {}), tensors)
        setup = function.get_attribute(tracer, "setup_context")
        setup.call(tracer, [context, make_tuple(tracer, inputs), output], {})
        return output
    return _checked(forward.call(tracer, [context, *inputs], {}), tensors)


def _checked(output: Value, tensors: Sequence[Value]) -> Value:
    """An input that is returned as it is would become a new tensor object in eager."""
    parts = [output, *output.children()]
    if any(part is tensor for part in parts for tensor in tensors):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "an autograd function that returns its input")
    return output


@handles(FunctionCtx.save_for_backward, FunctionCtx.save_for_forward)
def save(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    args[0].realize().set_attribute(tracer, "to_save", make_tuple(tracer, [arg.realize() for arg in args[1:]]))
    return tracer.constant(None)


@handles(FunctionCtx.mark_non_differentiable, FunctionCtx.set_materialize_grads)
def for_backward_only(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    return tracer.constant(None)


@handles(FunctionCtx.mark_dirty)
def mark_dirty(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, "an autograd function that writes to its inputs")
