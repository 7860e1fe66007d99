"""TracedBody: a function of the traced program, callable over fake tensors, that becomes a subgraph when it is called.

What torch runs around a user's function (a transform, a checkpoint) is given a TracedBody while tracing. Invariant: it
is called once; its arguments and result are plain containers of tensors, anything else passes through as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..graph.subgraph import FinishedSubgraph
from ..graph.transforms import map_structure
from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .dict import DictValue, dict_contents
from .list import ListValue
from .tensor import TensorValue
from .tuple import TupleValue


class Carried:
    """An argument that is neither a tensor, a literal nor a plain container, on its way through a transform."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.value = value


def structure_of(tracer: Tracer, value: Value, leaf: Callable[[Value], Any]) -> Any:
    """The plain tuples, lists and dicts that a value is, with `leaf` of everything else."""
    value = value.realize()
    if isinstance(value, TupleValue) and value.cls is tuple:
        return tuple(structure_of(tracer, item, leaf) for item in value.unpack(tracer))
    if isinstance(value, ListValue):
        return [structure_of(tracer, item, leaf) for item in value.unpack(tracer)]
    if isinstance(value, DictValue) and value.cls is dict and dict_contents(value) is not None:
        return {key: structure_of(tracer, item, leaf) for key, item in tracer.items_of_mapping(value)}
    return leaf(value)


def value_of(tracer: Tracer, structure: Any, leaf: Callable[[Any], Value]) -> Value:
    """The value of plain containers, with the values that `leaf` makes of everything else."""
    if isinstance(structure, tuple):
        return tracer.make_tuple([value_of(tracer, item, leaf) for item in structure])
    if isinstance(structure, list):
        return ListValue([value_of(tracer, item, leaf) for item in structure])
    if isinstance(structure, dict):
        return tracer.make_dict([(tracer.constant(k), value_of(tracer, item, leaf)) for k, item in structure.items()])
    return leaf(structure)


def example_of(value: Value) -> Any:
    """What stands for an argument when the transform is run while tracing."""
    if isinstance(value, TensorValue):
        return value.fake
    return value.as_constant() if value.is_constant() else Carried(value)


def node_of_argument(value: Value) -> Any:
    """What stands for an argument in the graph: what is no tensor is part of the body already."""
    return value.node if isinstance(value, TensorValue) else None


class TracedBody:
    """A traced function as a callable over examples: records what it does on the tensors that it is given.

    `finished` is its subgraph after the call, `result` the structure that it returned, with positions for tensors.
    """

    def __init__(self, tracer: Tracer, function: Callable[[list[Value], dict[str, Value]], Value]) -> None:
        self._tracer = tracer
        self._function = function
        self.finished: FinishedSubgraph | None = None
        self.result: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tracer = self._tracer
        if self.finished is not None:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, "a transform that calls its function more than once")
        tracer.graph.begin_subgraph()
        try:
            values = [value_of(tracer, arg, self._argument) for arg in args]
            named = {name: value_of(tracer, arg, self._argument) for name, arg in kwargs.items()}
            returned = self._function(values, named)
            outputs: list[TensorValue] = []

            def position(value: Value) -> int | None:
                if isinstance(value, TensorValue):
                    if value not in outputs:
                        outputs.append(value)
                    return outputs.index(value)
                if value.is_constant() and value.as_constant() is None:
                    return None
                raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"a transformed function returns {value.describe()}")

            self.result = structure_of(tracer, returned, position)
            self.finished = tracer.graph.end_subgraph([value.node for value in outputs])
        finally:
            if self.finished is None:
                tracer.graph.abandon_subgraph()
        return map_structure(self.result, lambda index: None if index is None else outputs[index].fake)

    def _argument(self, leaf: Any) -> Value:
        if isinstance(leaf, torch.Tensor):
            return TensorValue(self._tracer.graph.add_argument(leaf), leaf)
        return leaf.value if isinstance(leaf, Carried) else self._tracer.constant(leaf)


def changes_outside(tracer: Tracer, changed: Sequence[Value], held: Sequence[Value]) -> bool:
    """Whether one of the changed objects was there before: it has a source, or can be reached from what is `held`."""
    if any(value.source is not None for value in changed):
        return True
    found = {id(value) for value in changed}
    seen: set[int] = set()
    pending = list(held)
    while pending:
        value = pending.pop()
        if id(value) in found:
            return True
        if id(value) not in seen:
            seen.add(id(value))
            pending += value.children()
            pending += (
                w.value for w in tracer.side_effects.attribute_writes(value).values() if isinstance(w.value, Value)
            )
    return False
