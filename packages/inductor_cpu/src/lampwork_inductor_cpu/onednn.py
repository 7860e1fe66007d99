"""oneDNN and MKL: linears and convolutions with static weights become calls with prepacked weights.

Passes over the functional ATen graph, after the core's own and before static parts are hoisted: a packed weight
depends on static inputs only, so it is computed once and kept while the parameter is unchanged. Linears whose weight
may change at any call, as in training, are oneDNN's too where it is the faster library for a weight as it lies. Which
library serves was measured with `benchmarks/cpu_matmul.py`. Invariant: results keep the sizes, strides and dtype of
the nodes that they replace.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.activation_match import Activation, ActivationKind, match_activation
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import (
    Pass,
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    is_channels_last,
    is_row_major,
    may_be_empty,
    same_numbers,
    same_tensor_type,
    through_views,
    traced_value,
)
from lampwork_inductor_core.passes.static_nodes import static_nodes

from .isa import is_intel

aten = torch.ops.aten

_LEAST_ROWS = 2  # one row is bound by reading the weight: packing gains nothing
_LEAST_PRODUCTS = 1 << 21  # multiplications from which on oneDNN is worth the 12 us more that a call of it takes
_TRANSPOSES: dict[Any, Callable[[torch.fx.Node], bool]] = {
    aten.t.default: lambda n: True,
    aten.permute.default: lambda n: list(n.args[1]) == [1, 0],  # pyright: ignore[reportArgumentType]
    aten.transpose.int: lambda n: sorted(d % 2 for d in n.args[1:3]) == [0, 1],  # pyright: ignore[reportOperatorIssue]
}
_ONEDNN_WORDS: dict[ActivationKind, tuple[str, str]] = {
    ActivationKind.GELU: ("gelu", "none"),
    ActivationKind.GELU_TANH: ("gelu", "tanh"),
    ActivationKind.SILU: ("swish", ""),
    ActivationKind.SIGMOID: ("sigmoid", ""),
    ActivationKind.TANH: ("tanh", ""),
}  # a relu stays in a kernel of ours, which costs ResNet-50 about 1 %


def available() -> bool:
    """Whether this build of torch has oneDNN and the fused operators."""
    return bool(torch._C._has_mkldnn) and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class LinearLibrary(enum.Enum):
    """Who multiplies matrices."""

    ONEDNN = "onednn"  # fuses an activation
    MKL = "mkl"  # on Intel's processors 10-15 % faster than oneDNN for 2 to 200 rows; activations stay in our kernels


def best_linear_library() -> LinearLibrary:
    """The faster library for this processor, of those that torch was built with."""
    has_mkl = torch.backends.mkl.is_available() and hasattr(torch.ops.mkl, "_mkl_linear")
    return LinearLibrary.MKL if has_mkl and is_intel() else LinearLibrary.ONEDNN


def passes(library: LinearLibrary | None = None) -> tuple[Pass, ...]:
    """The passes, in order; none where torch was built without oneDNN. `library` overrides the choice for linears."""
    if not available():
        return ()
    library = library or best_linear_library()
    linears = functools.partial(pack_linears, library=library)
    found: tuple[Pass, ...] = (("pack_linears", linears), ("pack_convolutions", pack_convolutions))
    return found if library is LinearLibrary.MKL else (*found, ("unpacked_linears", call_onednn_unpacked))


@dataclass(frozen=True, slots=True)
class _Linear:
    """`rows @ weight.T + bias`: the nodes of one matrix product."""

    rows: torch.fx.Node
    weight: torch.fx.Node  # [outputs, inputs], or [inputs, outputs] where `transposed`
    transposed: bool
    bias: torch.fx.Node | None


def _is_float(node: torch.fx.Node, dimensions: int) -> bool:
    value = node.meta.get("val")
    return (
        isinstance(value, torch.Tensor)
        and value.dtype == torch.float32
        and value.device.type == "cpu"
        and value.dim() == dimensions
        and not may_be_empty(value)
    )


def _linear_of(node: torch.fx.Node) -> _Linear | None:
    if node.target is aten.addmm.default:
        bias, rows, weight = node.args[:3]
        if node.kwargs or not isinstance(bias, torch.fx.Node) or not _is_float(bias, 1):
            return None
        if not same_numbers(bias.meta["val"].shape, node.meta["val"].shape[1:]):
            return None
    else:
        rows, weight = node.args[:2]
        bias = None
    if not isinstance(rows, torch.fx.Node) or not isinstance(weight, torch.fx.Node):
        return None
    if not _is_float(rows, 2) or not _is_float(weight, 2):
        return None
    is_transpose = _TRANSPOSES.get(weight.target)
    if is_transpose is not None and is_transpose(weight) and isinstance(weight.args[0], torch.fx.Node):
        return _Linear(rows, weight.args[0], False, bias)
    return _Linear(rows, weight, True, bias)


def _can_pack_linear(linear: _Linear, static: set[torch.fx.Node]) -> bool:
    rows, weight = linear.rows.meta["val"], linear.weight.meta["val"]
    if linear.weight not in static or linear.rows in static or traced_value(rows.shape[0]) < _LEAST_ROWS:
        return False
    return not any(isinstance(n, torch.SymInt) for n in (*weight.shape, rows.shape[1]))  # where a weight has a number


def pack_linears(
    graph: torch.fx.GraphModule, context: PassContext, library: LinearLibrary = LinearLibrary.ONEDNN
) -> torch.fx.GraphModule:
    """`mm` and `addmm` with a static float32 weight as one call; oneDNN's takes in the activation that follows."""
    static = static_nodes(graph)
    mode = fake_mode_of(graph)
    packed: dict[tuple[torch.fx.Node, bool, int, LinearLibrary], torch.fx.Node] = {}
    changed = False
    for node in calls(graph, (aten.mm.default, aten.addmm.default)):
        linear = _linear_of(node)
        if linear is None or not _can_pack_linear(linear, static):
            continue
        changed = True
        count = linear.rows.meta["val"].shape[0]
        # MKL's packing serves the one number of rows that it was made for; oneDNN's is best at it, and right for all
        chosen = LinearLibrary.ONEDNN if isinstance(count, torch.SymInt) else library
        key = (linear.weight, linear.transposed, traced_value(count), chosen)
        with graph.graph.inserting_before(node):
            if key not in packed:
                packed[key] = _packed_weight(graph, mode, node, linear, key[2], chosen)
        if chosen is LinearLibrary.MKL:
            _replace_by_mkl(graph, mode, node, linear, packed[key], key[2])
        else:
            activation = match_activation(through_views(node))
            _replace_linear(graph, mode, node, linear, packed[key], activation)
    return remove_dead_code(graph, context) if changed else graph


def call_onednn_unpacked(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """Large `mm` and `addmm` of float32 values, whatever the weight is.

    The gradient of a weight (of which both operands lie by columns, seen as rows times weight) is oneDNN's where the
    operand that it copies is the narrower one; else MKL is as fast, and copies nothing.
    """
    mode = fake_mode_of(graph)
    changed = False
    for node in calls(graph, (aten.mm.default, aten.addmm.default)):
        linear = _linear_of(node)
        if linear is None or not _pays_unpacked(linear):
            continue
        changed = True
        weight = linear.weight
        if linear.transposed:
            with graph.graph.inserting_before(node):
                weight = add_call(graph, mode, node, aten.permute.default, weight, [1, 0])
        _replace_linear(graph, mode, node, linear, weight, match_activation(through_views(node)))
    return remove_dead_code(graph, context) if changed else graph


def _pays_unpacked(linear: _Linear) -> bool:
    rows, weight = linear.rows.meta["val"], linear.weight.meta["val"]
    products = math.prod(traced_value(n) for n in (*weight.shape, rows.shape[0]))
    if products < _LEAST_PRODUCTS:
        return False
    if not is_row_major(rows):
        by_column = same_numbers(rows.stride(), (1, rows.shape[0]))
        outputs = traced_value(weight.shape[1 if linear.transposed else 0])
        return by_column and linear.transposed and is_row_major(weight) and traced_value(rows.shape[0]) < outputs
    return is_row_major(weight) or same_numbers(weight.stride(), (1, weight.shape[0]))


def _packed_weight(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    origin: torch.fx.Node,
    linear: _Linear,
    rows: int,
    library: LinearLibrary,
) -> torch.fx.Node:
    weight = linear.weight
    if linear.transposed:
        weight = add_call(graph, mode, origin, aten.permute.default, weight, [1, 0])
        weight = add_call(graph, mode, origin, aten.clone.default, weight, memory_format=torch.contiguous_format)
    mkl = library is LinearLibrary.MKL
    target = torch.ops.mkl._mkl_reorder_linear_weight if mkl else torch.ops.mkldnn._reorder_linear_weight
    node = add_call(graph, mode, origin, target.default, weight, rows, known=weight.meta["val"])
    node.meta["opaque"] = True
    return node


def _replace_by_mkl(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    node: torch.fx.Node,
    linear: _Linear,
    packed: torch.fx.Node,
    rows: int,
) -> None:
    with graph.graph.inserting_before(node):
        weight = linear.weight  # what the operator would use for another number of rows
        if linear.transposed:
            weight = add_call(graph, mode, node, aten.permute.default, weight, [1, 0])
        arguments = (linear.rows, packed, weight, linear.bias, rows)
        call = add_call(graph, mode, node, torch.ops.mkl._mkl_linear.default, *arguments, known=node.meta["val"])
    node.replace_all_uses_with(call)


def _replace_linear(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    node: torch.fx.Node,
    linear: _Linear,
    weight: torch.fx.Node,
    activation: Activation | None,
) -> None:
    attribute, algorithm = ("none", "") if activation is None else _ONEDNN_WORDS[activation.kind]
    with graph.graph.inserting_before(node):
        target = torch.ops.mkldnn._linear_pointwise.default
        arguments = (linear.rows, weight, linear.bias, attribute, [], algorithm)
        fused = add_call(graph, mode, node, target, *arguments, known=node.meta["val"])
    node.replace_all_uses_with(fused)
    if activation is not None:
        activation.result.replace_all_uses_with(activation.value if activation.value is not node else fused)


# -------------------------------------------------------------------------------------------------------- convolutions


def _is_channels_last(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and is_channels_last(value)


def _can_pack(node: torch.fx.Node, static: set[torch.fx.Node]) -> bool:
    image, weight, bias = node.args[:3]
    if not isinstance(image, torch.fx.Node) or not isinstance(weight, torch.fx.Node) or node.args[6]:
        return False
    if weight not in static or image in static or (bias is not None and not isinstance(bias, torch.fx.Node)):
        return False
    if any(isinstance(s, torch.SymInt) for s in weight.meta["val"].shape):
        return False
    return _is_float(image, 4) and _is_float(weight, 4) and _is_channels_last(node)


def pack_convolutions(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """Channels-last float32 convolutions with a static weight; a following sum and activation join the call."""
    static = static_nodes(graph)
    mode = fake_mode_of(graph)
    order = {node: position for position, node in enumerate(graph.graph.nodes)}
    changed = False
    for node in calls(graph, (aten.convolution.default,)):
        if not _can_pack(node, static):
            continue
        changed = True
        image, weight, _, stride, padding, dilation, _, _, groups = node.args[:9]
        assert isinstance(image, torch.fx.Node) and isinstance(weight, torch.fx.Node)
        with graph.graph.inserting_before(node):
            target = torch.ops.mkldnn._reorder_convolution_weight.default
            shape = [traced_value(s) for s in image.meta["val"].shape]
            known = weight.meta["val"]
            packed = add_call(graph, mode, node, target, weight, padding, stride, dilation, groups, shape, known=known)
            packed.meta["opaque"] = True
        _replace_convolution(graph, mode, node, packed, order)
    return remove_dead_code(graph, context) if changed else graph


def _residual(node: torch.fx.Node, order: dict[torch.fx.Node, int]) -> tuple[torch.fx.Node, torch.fx.Node] | None:
    """The sum that alone uses a convolution's result, and its other operand, where oneDNN can add it."""
    if len(node.users) != 1:
        return None
    total = next(iter(node.users))
    if total.target is not aten.add.Tensor or total.kwargs or not all(isinstance(a, torch.fx.Node) for a in total.args):
        return None
    first, second = total.args
    other = second if first is node else first
    if other is node or not isinstance(other, torch.fx.Node) or other not in order:
        return None
    mine, theirs = node.meta["val"], other.meta.get("val")
    return (total, other) if same_tensor_type(mine, theirs) else None


def _replace_convolution(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    node: torch.fx.Node,
    packed: torch.fx.Node,
    order: dict[torch.fx.Node, int],
) -> None:
    image, _, bias, stride, padding, dilation, _, _, groups = node.args[:9]
    geometry = (packed, bias, padding, stride, dilation, groups)
    residual = _residual(node, order)
    last = node if residual is None else residual[0]
    # after a sum, oneDNN's fused operator takes relu only, which is not fused (see `activation_match`)
    activation = match_activation(last) if residual is None else None
    attribute, algorithm = ("none", "") if activation is None else _ONEDNN_WORDS[activation.kind]
    with graph.graph.inserting_before(last):
        if residual is None:
            target = torch.ops.mkldnn._convolution_pointwise.default
            arguments = (image, *geometry, attribute, [], algorithm)
        else:
            target = torch.ops.mkldnn._convolution_pointwise.binary
            arguments = (image, residual[1], *geometry, "add", 1.0, None, [], None)
        fused = add_call(graph, mode, node, target, *arguments, known=last.meta["val"])
    last.replace_all_uses_with(fused)
    order[fused] = order[last]
    if activation is not None:
        activation.result.replace_all_uses_with(fused)
