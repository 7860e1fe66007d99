"""`torch.autograd.Function.apply`: one graph operation with two subgraphs where autograd records it.

Where no gradient can flow, `apply` is its forward with a context object that nobody reads afterwards. Else `forward`
and, right behind it, `backward` are traced. Invariant: a call that autograd would record is never traced as a plain
call; a `backward` with side effects is not traced at all, because it has not run yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch.autograd.function import FunctionCtx

from ..graph.autograd_call import call_autograd_function
from ..graph.subgraph import FinishedSubgraph
from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .class_lookup import find_in_class
from .class_value import ClassValue
from .iterator import make_tuple
from .registry import handles
from .tensor import TensorValue
from .traced_body import changes_outside
from .tuple import TupleValue
from .user_object import ObjectValue

_APPLY: Any = torch.autograd.Function.__dict__["apply"]
_NON_DIFFERENTIABLE = "non_differentiable"
_MATERIALIZES = "materialize_grads"


@handles(_APPLY.__func__)
def apply(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    function = args[0].realize()
    inputs = [arg.realize() for arg in args[1:]]
    if not isinstance(function, ClassValue) or kwargs:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`apply` of an autograd function so is not modelled")
    tensors = [value for value in inputs if isinstance(value, TensorValue)]
    context_class: Any = tracer.constant(FunctionCtx)
    context = ObjectValue(context_class)
    if torch.is_grad_enabled() and any(value.fake.requires_grad for value in tensors):
        return _Recorded(tracer, function, context).call(inputs)
    flags = make_tuple(tracer, [tracer.constant(False) for _ in inputs])
    tracer.side_effects.store_attribute(context, "needs_input_grad", flags)
    return _checked(_call_forward(tracer, function, context, inputs), tensors)


def _call_forward(tracer: Tracer, function: ClassValue, context: ObjectValue, inputs: Sequence[Value]) -> Value:
    """`forward`, and `setup_context` where the function has one."""
    forward = function.get_attribute(tracer, "forward")
    function.guard_method(tracer, "setup_context")
    if isinstance(getattr(find_in_class(function.obj, "setup_context")[0], "__func__", None), FunctionType):
        if find_in_class(function.obj, "setup_context")[1].__module__.startswith("torch.autograd"):
            return forward.call(tracer, [context, *inputs], {}).realize()
        output = forward.call(tracer, inputs, {}).realize()
        setup = function.get_attribute(tracer, "setup_context")
        setup.call(tracer, [context, make_tuple(tracer, inputs), output], {})
        return output
    return forward.call(tracer, [context, *inputs], {}).realize()


def _checked(output: Value, tensors: Sequence[Value]) -> Value:
    """An input that is returned as it is would become a new tensor object in eager."""
    parts = [output, *output.children()]
    if any(part is tensor for part in parts for tensor in tensors):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "an autograd function that returns its input")
    return output


class _Recorded:
    """One call that autograd records."""

    def __init__(self, tracer: Tracer, function: ClassValue, context: ObjectValue) -> None:
        self._tracer = tracer
        self._function = function
        self._context = context

    def call(self, inputs: Sequence[Value]) -> Value:
        tracer = self._tracer
        tensors = [value for value in inputs if isinstance(value, TensorValue)]
        flags = [isinstance(value, TensorValue) and value.fake.requires_grad for value in inputs]
        tuple_of_flags = make_tuple(tracer, [tracer.constant(flag) for flag in flags])
        tracer.side_effects.store_attribute(self._context, "needs_input_grad", tuple_of_flags)
        graph = tracer.graph
        opened = 0
        torch._C._set_grad_enabled(False)
        try:
            graph.begin_subgraph()
            opened += 1
            inner = [self._argument(value.fake) if isinstance(value, TensorValue) else value for value in inputs]
            output = _call_forward(tracer, self._function, self._context, inner)
            self._refuse_missing_gradients()
            parts = [part.realize() for part in (output.unpack(tracer) if _is_tuple(output) else [output])]
            results = [part for part in parts if isinstance(part, TensorValue)]
            if not results:
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, "an autograd function that returns no tensor")
            graph.begin_subgraph()
            opened += 1
            backward, positions = self._trace_backward(parts, flags)
            opened -= 1
            kept = backward.captured
            forward = graph.end_subgraph([*(result.node for result in results), *kept])
            opened -= 1
        finally:
            for _ in range(opened):
                graph.abandon_subgraph()
            torch._C._set_grad_enabled(True)
        saved = {value.node for value in self._saved() if isinstance(value, TensorValue)}
        fixed = self._fixed()
        name = self._function.obj.__name__
        flat = tracer.add_node(
            "call_function",
            call_autograd_function,
            (
                name,
                graph.add_module(f"{name}_forward", forward.module),
                graph.add_module(f"{name}_backward", backward.module),
                tuple(forward.captured),
                len(results),
                tuple(node in saved for node in kept),
                tuple(index for index, result in enumerate(results) if any(result is value for value in fixed)),
                tuple(position for position, value in zip(positions, inputs) if isinstance(value, TensorValue)),
                tuple(value.node for value in tensors),
            ),
            {},
        ).unpack(tracer)
        following = iter(flat)
        outer = [next(following) if isinstance(part, TensorValue) else part for part in parts]
        return make_tuple(tracer, outer) if _is_tuple(output) else outer[0]

    def _argument(self, example: torch.Tensor) -> TensorValue:
        """A tensor of the subgraph's own: writing to it must not be taken for writing to a tensor outside."""
        with self._tracer.graph.fake_mode:
            alias = example.detach().requires_grad_(example.requires_grad)
        return TensorValue(self._tracer.graph.add_argument(alias), alias)

    def _trace_backward(
        self, results: Sequence[Value], flags: Sequence[bool]
    ) -> tuple[FinishedSubgraph, list[int | None]]:
        """The subgraph of `backward`, and for each input of the function which of its outputs is the gradient."""
        tracer = self._tracer
        tracer.side_effects.store_attribute(self._context, "saved_tensors", make_tuple(tracer, self._saved()))
        changes, elsewhere = len(tracer.side_effects.changed_values), tracer.side_effects.changes_elsewhere
        gradients = [self._gradient(result) for result in results]
        backward = self._function.get_attribute(tracer, "backward")
        outer, tracer.graph.runs_later = tracer.graph.runs_later, True
        try:
            found = backward.call(tracer, [self._context, *gradients], {}).realize()
        finally:
            tracer.graph.runs_later = outer
        changed = tracer.side_effects.changed_values[changes:]
        held = [*tracer.held_values(), self._context]
        if tracer.side_effects.changes_elsewhere != elsewhere or changes_outside(tracer, changed, held):
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, "a `backward` that changes objects: it runs later")
        parts = [part.realize() for part in (found.unpack(tracer) if _is_tuple(found) else [found])]
        extra = parts[len(flags) :]
        if len(parts) < len(flags) or not all(_is_none(part) for part in extra):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "`backward` gives another number of gradients")
        outputs: list[TensorValue] = []
        positions: list[int | None] = []
        for part, needed in zip(parts, flags):
            if isinstance(part, TensorValue) and needed:
                positions.append(len(outputs))
                outputs.append(part)
            elif isinstance(part, TensorValue) or _is_none(part):
                positions.append(None)
            else:
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, f"`backward` returns {part.describe()}")
        return tracer.graph.end_subgraph([value.node for value in outputs]), positions

    def _gradient(self, result: Value) -> Value:
        """What `backward` gets for one of the results."""
        if not isinstance(result, TensorValue):
            return self._tracer.constant(None)
        with self._tracer.graph.fake_mode:
            example = torch.empty_like(result.fake, requires_grad=False)
        return TensorValue(self._tracer.graph.add_argument(example), example)

    def _refuse_missing_gradients(self) -> None:
        """Which gradients `backward` gets as None, where none are made up of zeros, is known when it runs."""
        pending = self._tracer.side_effects.pending_attribute(self._context, _MATERIALIZES)
        if isinstance(pending, Value) and not pending.realize().truth(self._tracer):
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, "an autograd function whose gradients may be None")

    def _saved(self) -> list[Value]:
        pending = self._tracer.side_effects.pending_attribute(self._context, "to_save")
        return [value.realize() for value in pending.unpack(self._tracer)] if isinstance(pending, Value) else []

    def _fixed(self) -> list[Value]:
        pending = self._tracer.side_effects.pending_attribute(self._context, _NON_DIFFERENTIABLE)
        return [value.realize() for value in pending.unpack(self._tracer)] if isinstance(pending, Value) else []


def _is_tuple(value: Value) -> bool:
    return isinstance(value, TupleValue)


def _is_none(value: Value) -> bool:
    return value.is_constant() and value.as_constant() is None


@handles(FunctionCtx.save_for_backward, FunctionCtx.save_for_forward)
def save(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    args[0].realize().set_attribute(tracer, "to_save", make_tuple(tracer, [arg.realize() for arg in args[1:]]))
    return tracer.constant(None)


@handles(FunctionCtx.mark_non_differentiable)
def mark_non_differentiable(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    marked = make_tuple(tracer, [arg.realize() for arg in args[1:]])
    args[0].realize().set_attribute(tracer, _NON_DIFFERENTIABLE, marked)
    return tracer.constant(None)


@handles(FunctionCtx.set_materialize_grads)
def set_materialize_grads(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    args[0].realize().set_attribute(tracer, _MATERIALIZES, args[1].realize())
    return tracer.constant(None)


@handles(FunctionCtx.mark_dirty)
def mark_dirty(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    raise GraphBreak(BreakId.CALL_NOT_MODELLED, "an autograd function that writes to its inputs")
