"""torch.func's transforms in a frame: the function that is transformed becomes a subgraph, the transform a graph node.

The transform runs for real while tracing, over fake tensors, and calls back into the tracer with its wrapped tensors:
so the body sees the shapes and flags that it sees in eager. Invariant: the transforms' own rules (which arguments are
mapped, what is differentiated) are torch's; nothing of them is repeated here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.func

from ..graph.subgraph import FinishedSubgraph
from ..graph.transforms import TRANSFORMS, call_transform, map_structure
from ..graph_break import BreakId, GraphBreak
from .base import ObservedException, Tracer, Value
from .constant import snapshot
from .dict import DictValue, dict_contents
from .list import ListValue
from .registry import handles
from .tensor import TensorValue
from .tuple import TupleValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

# What `torch.vmap(f)` and `torch.func.grad(f)` run when they are called; torch.func itself makes these functions known
_vmap_impl: Any = torch.vmap.__globals__["vmap_impl"]
_eager: Any = torch.func.vjp.__globals__
_check_randomness: Any = torch.vmap.__globals__["_check_randomness_arg"]


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


def _example(value: Value) -> Any:
    """What stands for an argument when the transform is run while tracing."""
    if isinstance(value, TensorValue):
        return value.fake
    return value.as_constant() if value.is_constant() else Carried(value)


def _node(value: Value) -> Any:
    """What stands for an argument in the graph: what is no tensor is part of the body already."""
    return value.node if isinstance(value, TensorValue) else None


class _Body:
    """The function given to a transform while tracing: records what it does on the wrapped tensors in a subgraph."""

    def __init__(self, tracer: Tracer, function: Value) -> None:
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
            returned = tracer.call(self._function, values, named)
            outputs: list[TensorValue] = []

            def position(value: Value) -> int | None:
                if isinstance(value, TensorValue):
                    outputs.append(value)
                    return len(outputs) - 1
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


def apply_transform(
    tracer: Tracer,
    name: str,
    options: Mapping[str, Any],
    function: Value,
    args: Sequence[Value],
    kwargs: Mapping[str, Value],
) -> Value:
    """`transform(function, **options)(*args, **kwargs)` as one node of the graph."""
    function = function.realize()
    body = _Body(tracer, function)
    examples = [structure_of(tracer, arg, _example) for arg in args]
    named = {key: structure_of(tracer, arg, _example) for key, arg in kwargs.items()}
    try:
        with tracer.graph.fake_mode:
            found = TRANSFORMS[name](body, **options)(*examples, **named)
    except (GraphBreak, ObservedException):
        raise
    except Exception as error:
        raise GraphBreak(BreakId.FAKE_TENSOR_FAILED, f"`torch.func.{name}` raises: {error}") from error
    if body.finished is None or any(not isinstance(leaf, torch.Tensor) for leaf in _leaves(found)):
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"`torch.func.{name}` returns what is no tensor")
    node_args = (
        name,
        dict(options),
        tracer.graph.add_module(f"{name}_body", body.finished.module),
        body.result,
        tuple(body.finished.captured),
        tuple(structure_of(tracer, arg, _node) for arg in args),
        {key: structure_of(tracer, arg, _node) for key, arg in kwargs.items()},
    )
    flat = iter(tracer.add_node("call_function", call_transform, node_args, {}).unpack(tracer))
    return value_of(tracer, found, lambda _: next(flat))


def _leaves(structure: Any) -> list[Any]:
    leaves: list[Any] = []
    map_structure(structure, leaves.append)
    return leaves


@handles(_check_randomness)
def check_randomness(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if snapshot(args[0]) not in ("error", "different", "same"):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "`torch.vmap` with an unknown `randomness`: eager raises")
    return tracer.constant(None)


@handles(_vmap_impl)
def call_vmapped(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    function, *options = args[:5]
    names = ("in_dims", "out_dims", "randomness", "chunk_size")
    known = {name: snapshot(option.realize()) for name, option in zip(names, options)}
    return apply_transform(tracer, "vmap", known, function, args[5:], kwargs)


def _call_gradient(name: str, implementation: Any) -> None:
    @handles(implementation)
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        function, argnums, has_aux, inner_args, inner_kwargs = args
        options = {"argnums": snapshot(argnums.realize()), "has_aux": snapshot(has_aux.realize())}
        named = {str(key): value for key, value in tracer.items_of_mapping(inner_kwargs.realize())}
        return apply_transform(tracer, name, options, function, inner_args.realize().unpack(tracer), named)


_call_gradient("grad", _eager["grad_impl"])
_call_gradient("grad_and_value", _eager["grad_and_value_impl"])


class TransformedValue(Value):
    """`torch.func.jacrev(f)` and its like, made in the frame."""

    kind = "a function that torch.func transforms"
    __slots__ = ("function", "name", "options")

    def __init__(self, name: str, function: Value, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.function = function
        self.options = dict(options)

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return apply_transform(tracer, self.name, self.options, self.function, args, kwargs)

    def children(self) -> Sequence[Value]:
        return (self.function,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(TRANSFORMS[self.name])
        emitter.load_value(self.function)
        for option in self.options.values():
            emitter.load_constant(option)
        emitter.call(1 + len(self.options), tuple(self.options))


def _transform_handler(name: str) -> None:
    @handles(TRANSFORMS[name])
    def handler(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if len(args) > 2:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`torch.func.{name}` with its options by position")
        options = {key: snapshot(value.realize()) for key, value in kwargs.items()}
        if len(args) == 2:
            options["argnums"] = snapshot(args[1].realize())
        return TransformedValue(name, args[0].realize(), options)


for _name in ("jacrev", "jacfwd", "hessian"):
    _transform_handler(_name)
