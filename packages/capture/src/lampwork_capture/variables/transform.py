"""torch.func's transforms in a frame: the function that is transformed becomes a subgraph, the transform a graph node.

The transform runs for real while tracing, over fake tensors, and calls back into the tracer with its wrapped tensors:
so the body sees the shapes and flags that it sees in eager. Invariant: the transforms' own rules (which arguments are
mapped, what is differentiated) are torch's; nothing of them is repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.func
from torch._higher_order_ops.associative_scan import associative_scan

from ..graph.transforms import TRANSFORMS, call_transform, map_structure
from ..graph_break import BreakId, GraphBreak
from ..polyfills.associative_scan import associative_scan as traced_associative_scan
from .base import ObservedException, Tracer, Value
from .constant import snapshot
from .registry import handles
from .tensor import TensorValue
from .traced_body import TracedBody, example_of, node_of_argument, structure_of, value_of

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

# What `torch.vmap(f)` and `torch.func.grad(f)` run when they are called; torch.func itself makes these functions known
_vmap_impl: Any = torch.vmap.__globals__["vmap_impl"]
_eager: Any = torch.func.vjp.__globals__
_check_randomness: Any = torch.vmap.__globals__["_check_randomness_arg"]


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
    body = TracedBody(tracer, lambda values, named: tracer.call(function, values, named))
    examples = [structure_of(tracer, arg, example_of) for arg in args]
    named = {key: structure_of(tracer, arg, example_of) for key, arg in kwargs.items()}
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
        tuple(structure_of(tracer, arg, node_of_argument) for arg in args),
        {key: structure_of(tracer, arg, node_of_argument) for key, arg in kwargs.items()},
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
    @handles(implementation, like=lambda func, argnums, has_aux, args, kwargs: None)
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
        given = {**dict(zip(("argnums", "has_aux"), args[1:])), **kwargs}
        options = {key: snapshot(value.realize()) for key, value in given.items()}
        return TransformedValue(name, args[0].realize(), options)


for _name in ("jacrev", "jacfwd", "hessian"):
    _transform_handler(_name)


@handles(associative_scan)
def scan(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """The generic mode, by a function that is traced; the other mode is for code generators of accelerators."""
    named = dict(zip(("combine_fn", "xs", "dim", "reverse", "combine_mode"), args)) | dict(kwargs)
    mode = named.pop("combine_mode", None)
    if mode is None or snapshot(mode.realize()) != "generic":
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, '`associative_scan` in the mode "pointwise"')
    shapes = [value.fake.shape for value in _tensors_of(tracer, named["xs"])]
    dim = snapshot(named["dim"].realize())
    if not shapes or not (0 <= dim < len(shapes[0]) and shapes[0][dim]) or any(s != shapes[0] for s in shapes):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`associative_scan` of tensors whose shapes do not fit")
    named.setdefault("reverse", tracer.constant(False))
    return tracer.call(tracer.constant(traced_associative_scan), [], named)


def _tensors_of(tracer: Tracer, value: Value) -> list[TensorValue]:
    found: list[Value] = []
    structure_of(tracer, value, found.append)
    if not all(isinstance(item, TensorValue) for item in found):
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, "`associative_scan` of what is no tensor")
    return [item for item in found if isinstance(item, TensorValue)]
