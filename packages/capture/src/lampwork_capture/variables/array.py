"""Arrays of NumPy that become tensors: `torch.tensor(a)`, `torch.as_tensor(a)` and `torch.from_numpy(a)`.

The graph takes such an array as one more input, a tensor over its memory; in any other use an array is an object that
is not modelled. Invariants: dtype, shape and strides of the array are guarded; `torch.tensor` copies, the others give
the memory of the array itself, as in eager. Which arrays share memory is not known, so a graph with two writes to no
input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..graph.subgraph import EXAMPLE
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, ConstantIs, IdentityIs, TypeIs
from ..source import ArrayTensorSource, AttributeSource, Source
from .base import Tracer, Value
from .opaque import OpaqueValue
from .registry import handles, wraps_type
from .tensor import TensorValue

try:
    import numpy
except ImportError:  # torch works without it, and so does this
    numpy = None

_KEYWORDS = frozenset({"dtype", "device"})


class ArrayValue(OpaqueValue):
    """An array that came with the call."""

    kind = "an array"
    __slots__ = ("_tensor",)

    def __init__(self, obj: Any, source: Source) -> None:
        super().__init__(obj, source, GraphBreak(BreakId.GENERIC_OBJECT, f"`{source}` is an array of NumPy"))
        self._tensor: TensorValue | None = None

    def tensor(self, tracer: Tracer) -> TensorValue:
        """The tensor over its memory, an input of the graph."""
        if self._tensor is None:
            array, source = self.obj, self.source
            assert source is not None
            if not array.flags.writeable or not all(stride >= 0 for stride in array.strides):
                raise self._because()  # torch warns, or refuses it
            try:
                example = torch.from_numpy(array)
            except (TypeError, ValueError):
                raise self._because() from None
            tracer.guard(IdentityIs(AttributeSource(source, "dtype"), ByIdentity(array.dtype)))
            tracer.guard(ConstantIs(AttributeSource(source, "shape"), ByIdentity(array.shape)))
            tracer.guard(ConstantIs(AttributeSource(source, "strides"), ByIdentity(array.strides)))
            flag = AttributeSource(AttributeSource(source, "flags"), "writeable")
            tracer.guard(ConstantIs(flag, ByIdentity(True)))
            node = tracer.graph.add_input(example, ArrayTensorSource(source))
            tracer.graph.arrays += 1
            self._tensor = TensorValue(node, node.meta[EXAMPLE])
        return self._tensor

    def new_tensor(self, tracer: Tracer) -> Value:
        """Another tensor object over its memory: each call of torch gives one."""
        return tracer.add_node("call_method", "detach", (self.tensor(tracer).node,), {})


def tensor_from_array(tracer: Tracer, function: Any, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`torch.tensor(array, ...)` or `torch.as_tensor(array, ...)`."""
    array = args[0]
    if not isinstance(array, ArrayValue) or len(args) > 1 or not kwargs.keys() <= _KEYWORDS:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{function.__name__}` of {array.describe()} so is not modelled")
    known = {name: value.realize().as_constant() for name, value in kwargs.items()}
    named = {name: value for name, value in known.items() if value is not None}
    if "device" not in named:
        named["device"] = torch.get_default_device()
    if function is torch.tensor:
        return tracer.add_node("call_method", "to", (array.tensor(tracer).node,), {**named, "copy": True})
    tensor: Any = array.new_tensor(tracer)
    return tracer.add_node("call_method", "to", (tensor.node,), named)


if numpy is not None:

    @wraps_type(numpy.ndarray)
    def wrap_array(tracer: Tracer, obj: Any, source: Source) -> Value:
        """An array that came with the call."""
        tracer.guard(TypeIs(source, type(obj)))
        return ArrayValue(obj, source)


@handles(torch.from_numpy, like=lambda ndarray, /: None)
def from_numpy(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    array = args[0].realize()
    if not isinstance(array, ArrayValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`from_numpy` of {array.describe()} is not modelled")
    return array.new_tensor(tracer)
