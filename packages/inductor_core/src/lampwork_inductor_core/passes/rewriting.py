"""What every pass is made of: its type, its context, and how it adds nodes that carry right fake values.

Invariant: a node that a pass adds or changes has `meta["val"]` computed by the operator's own fake implementation, and
the user's line of the node that it replaces.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.fx
from lampwork_symshape import ShapeEnv
from lampwork_symshape.sym_node import with_traced_numbers
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ..config import Config
from ..ir.views import to_expr


@dataclass(frozen=True, slots=True)
class PassContext:
    """What a pass may read beside the graph."""

    config: Config = field(default_factory=Config)


Pass = tuple[str, Callable[[torch.fx.GraphModule, PassContext], torch.fx.GraphModule]]
"""A name and a rewrite. The rewrite may change the graph it is given and returns the one to go on with."""


def fake_mode_of(graph: torch.fx.GraphModule) -> AbstractContextManager[Any]:
    """The mode of the graph's fake tensors; no mode for a graph of real ones."""
    for node in graph.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, FakeTensor):
            return value.fake_mode
    return nullcontext()


def fake_value(node: torch.fx.Node, mode: AbstractContextManager[Any]) -> Any:
    """Run a call on the fake values of its arguments."""

    def value_of(argument: torch.fx.Node) -> Any:
        if "val" not in argument.meta and argument.op == "get_attr":
            held = operator.attrgetter(str(argument.target))(argument.graph.owning_module)
            if isinstance(mode, FakeTensorMode) and isinstance(held, torch.Tensor):
                held = mode.from_tensor(held)
            argument.meta["val"] = held
        return argument.meta.get("val")

    arguments = torch.fx.map_arg(node.args, value_of)
    keywords = torch.fx.map_arg(node.kwargs, value_of)
    assert callable(node.target)
    if isinstance(node.target, torch._ops.OpOverload) and node.target not in _SIZED_BY_NUMBERS:
        arguments, keywords = with_traced_numbers(node.target, arguments, keywords)
    elif isinstance(node.meta.get("val"), torch.SymFloat):
        return node.meta["val"]  # a function of Python would ask numbers for their values
    env = getattr(mode, "shape_env", None)
    if env is None:
        with mode, torch.no_grad():
            return node.target(*arguments, **keywords)
    with mode, torch.no_grad(), enable_python_dispatcher(), _questions(env, node.target):
        return node.target(*arguments, **keywords)


def _questions(env: object, target: Any) -> AbstractContextManager[None]:
    """Which questions of a fake kernel about sizes become facts: a pass only asks again what the trace has asked.

    So not that no size is 1, and not by how large a batch a convolution chooses its library.
    """
    if not isinstance(env, ShapeEnv):
        return nullcontext()
    if target is torch.ops.aten.convolution.default:
        return env.only_equalities()
    return env.as_larger_sizes()


_RESHAPES = frozenset(
    {torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default, torch.ops.aten.reshape.default}
)
_SIZED_BY_NUMBERS = frozenset(
    {
        torch.ops.aten.arange.default, torch.ops.aten.arange.start, torch.ops.aten.arange.start_step,
        torch.ops.aten.range.default, torch.ops.aten.range.step,
    }
)  # fmt: skip


def add_call(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    origin: torch.fx.Node,
    target: Any,
    *arguments: Any,
    known: Any = None,
    **keywords: Any,
) -> torch.fx.Node:
    """Add a call at the graph's insertion point, with its fake value and the user's line of `origin`.

    `known` is the fake value where the caller has one with the right sizes, strides and dtype already: a run of the
    operator on fake tensors costs a tenth of a millisecond and more.
    """
    node = graph.graph.call_function(target, arguments, keywords)
    node.meta["val"] = fake_value(node, mode) if known is None else known
    for key in ("user_line", "stack_trace"):
        if key in origin.meta:
            node.meta[key] = origin.meta[key]
    return node


def output_node(graph: torch.fx.GraphModule) -> torch.fx.Node:
    """The node that returns."""
    return next(n for n in reversed(graph.graph.nodes) if n.op == "output")


def result_nodes(graph: torch.fx.GraphModule) -> list[torch.fx.Node]:
    """The nodes whose values the graph returns."""
    return list(output_node(graph).all_input_nodes)


def is_view(node: torch.fx.Node) -> bool:
    """Whether the call's result may share its first argument's memory."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    if node.target is torch.ops.aten._unsafe_view.default:
        return True
    return any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)


def through_views(node: torch.fx.Node) -> torch.fx.Node:
    """The last of the views that alone use a value: what acts on each element commutes with them."""
    while len(node.users) == 1:
        user = next(iter(node.users))
        if user.target not in _RESHAPES or user.args[0] is not node:
            break
        node = user
    return node


def owners_of_results(graph: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """The nodes whose memory a caller gets: results, and whatever a result is a view or member of."""
    owners: set[torch.fx.Node] = set()
    for node in result_nodes(graph):
        current: Any = node
        while isinstance(current, torch.fx.Node) and current not in owners:
            owners.add(current)
            steps_down = is_view(current) or current.target is operator.getitem
            current = current.args[0] if steps_down and current.args else None
    return owners


def is_pure(node: torch.fx.Node) -> bool:
    """Whether the call gives the same result each time and does nothing else."""
    if node.op != "call_function":
        return False
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    if schema.is_mutable or not schema.returns:  # a call without results is made for its effect
        return False
    return torch.Tag.nondeterministic_seeded not in node.target.tags


def same_tensor_type(left: Any, right: Any) -> bool:
    """Whether two fake tensors agree in sizes, strides, dtype and device."""
    return (
        isinstance(left, torch.Tensor)
        and isinstance(right, torch.Tensor)
        and same_numbers(left.shape, right.shape)
        and left.dtype == right.dtype
        and left.device == right.device
        and same_strides(left, right)
    )


def same_strides(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Whether the strides agree, those of dimensions of size one included: a caller may look at them."""
    return same_numbers(left.stride(), right.stride())


def same_numbers(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether sizes or strides are certainly equal: asking torch would make it a fact that others are not."""
    if len(left) != len(right):
        return False
    return all(a is b or (to_expr(a) is to_expr(b) if _is_symbolic(a, b) else a == b) for a, b in zip(left, right))


def is_row_major(value: torch.Tensor) -> bool:
    """Whether a tensor is certainly contiguous."""
    expected: Any = 1
    for size, stride in zip(reversed(value.shape), reversed(value.stride())):
        if not same_numbers((size,), (1,)) and not same_numbers((stride,), (expected,)):
            return not any(_is_symbolic(n) for n in (*value.shape, *value.stride())) and value.is_contiguous()
        expected = expected * size
    return True


def is_channels_last(value: torch.Tensor) -> bool:
    """Whether a tensor is certainly dense with the channel innermost."""
    if not any(_is_symbolic(n) for n in (*value.shape, *value.stride())):
        return value.is_contiguous(memory_format=torch.channels_last)
    if value.dim() != 4:
        return False
    expected: Any = 1
    for dim in (1, 3, 2, 0):
        size, stride = value.shape[dim], value.stride(dim)
        if not same_numbers((size,), (1,)) and not same_numbers((stride,), (expected,)):
            return False
        expected = expected * size
    return True


def may_be_empty(value: torch.Tensor) -> bool:
    """Whether a tensor is not certain to have elements."""
    return any(to_expr(size).lower in (None, 0) for size in value.shape)


_OF_DATA = 64


def traced_value(number: Any) -> int:
    """A size in the traced call; a middling one where only the run time knows."""
    return number.node.require_hint(_OF_DATA) if isinstance(number, torch.SymInt) else number


def _is_symbolic(*numbers: Any) -> bool:
    return any(isinstance(number, torch.SymInt) for number in numbers)


def calls(graph: torch.fx.GraphModule, targets: Iterable[Any] | None = None) -> Iterator[torch.fx.Node]:
    """The call nodes, of these targets only where given. Safe against erasing the node at hand."""
    wanted = None if targets is None else set(targets)
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and (wanted is None or node.target in wanted):
            yield node
