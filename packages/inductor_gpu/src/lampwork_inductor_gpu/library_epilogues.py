"""Epilogues that libraries compute in the kernel of their product: cuDNN's of convolutions, cuBLAS's of linears.

Passes over the functional ATen graph, after the core's own. On the way out of a product the value is in registers
still: an activation there saves a pass over memory, and where no library has it, a bias joins the arithmetic of a
kernel of ours, as cuDNN's plain convolution adds it in a kernel of its own. Invariants: results keep the sizes, strides
and dtype of the nodes that they replace; a value with another user is not fused. A nan stays one (tried on an H200).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.activation_match import ActivationKind, match_activation
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    is_channels_last,
    may_be_empty,
    owners_of_results,
    same_numbers,
    same_tensor_type,
    through_views,
)

aten = torch.ops.aten
FUSED_CALLS = (
    aten.cudnn_convolution_relu.default, aten.cudnn_convolution_add_relu.default, aten._addmm_activation.default,
)  # fmt: skip
HALVES = frozenset({torch.float16, torch.bfloat16})


# -------------------------------------------------------------------------------------------------------- convolutions


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A call of `aten.convolution`, by the names of its arguments."""

    node: torch.fx.Node
    image: torch.fx.Node
    weight: torch.fx.Node
    bias: torch.fx.Node | None
    stride: Any
    padding: Any
    dilation: Any
    transposed: bool
    groups: int

    @staticmethod
    def of(node: torch.fx.Node) -> _Convolution:
        image, weight, bias, *steps, transposed, _, groups = node.args
        rank = len(node.meta["val"].shape) - 2
        stride, padding, dilation = (each_dimension(numbers, rank) for numbers in steps)
        return _Convolution(node, image, weight, bias, stride, padding, dilation, transposed, groups)  # pyright: ignore[reportArgumentType]

    @property
    def is_fusible(self) -> bool:
        """Whether cuDNN's fused convolution is for it: of halves, two-dimensional, channels last, one group, and of
        channels that make wide accesses (convolutions of few channels are kernels of ours)."""
        value, image = self.node.meta["val"], self.image.meta["val"]
        return (
            value.dtype in HALVES
            and value.dim() == 4
            and not self.transposed
            and self.groups == 1
            and image.shape[1] % 8 == 0
            and is_channels_last(value)
            and is_channels_last(image)
            and is_channels_last(self.weight.meta["val"])
            and not may_be_empty(value)
            and not may_be_empty(image)
        )


def each_dimension(numbers: Any, rank: int) -> list[Any]:
    """A stride, padding or dilation for each dimension: one number may stand for all."""
    return list(numbers) * rank if len(numbers) == 1 else list(numbers)


def fuse_convolutions(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """Convolutions with the sum and the relu behind them as one call."""
    mode, owners = fake_mode_of(graph), owners_of_results(graph)
    changed = False
    for node in calls(graph, (aten.convolution.default,)):
        value = node.meta.get("val")
        if not isinstance(value, torch.Tensor) or value.device.type != "cuda":
            continue
        found = _Convolution.of(node)
        changed |= found.is_fusible and node not in owners and _fuse_relu(graph, mode, found, owners)
    return remove_dead_code(graph, context) if changed else graph


def add_biases_behind(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The biases of the convolutions that are left as arithmetic, which joins the kernel that follows."""
    mode, changed = fake_mode_of(graph), False
    for node in calls(graph, (aten.convolution.default,)):
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.device.type == "cuda" and node.args[2] is not None:
            _add_bias_behind(graph, mode, _Convolution.of(node))
            changed = True
    return remove_dead_code(graph, context) if changed else graph


def _only_user(node: torch.fx.Node) -> torch.fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _fuse_relu(
    graph: torch.fx.GraphModule,
    mode: AbstractContextManager[Any],
    found: _Convolution,
    owners: set[torch.fx.Node],
) -> bool:
    node, value = found.node, found.node.meta["val"]
    user = _only_user(node)
    if user is None:
        return False
    geometry = (found.stride, found.padding, found.dilation, found.groups)
    if user.target is aten.relu.default:
        with graph.graph.inserting_before(user):
            bias = found.bias or _zeros(graph, mode, node)
            arguments = (found.image, found.weight, bias, *geometry)
            fused = add_call(graph, mode, user, aten.cudnn_convolution_relu.default, *arguments, known=value)
        user.replace_all_uses_with(fused)
        return True
    relu = _only_user(user)
    other = _other_term(user, node)
    if relu is None or relu.target is not aten.relu.default or user in owners or other is None:
        return False
    with graph.graph.inserting_before(relu):
        bias = found.bias
        if other.target is aten.convolution.default and other.args[2] is not None and _only_user(other) is user:
            plain = _Convolution.of(other)  # of two convolutions that are added one takes both biases
            assert plain.bias is not None
            bias = plain.bias if bias is None else add_call(graph, mode, node, aten.add.Tensor, bias, plain.bias)
            other.update_arg(2, None)
        bias = bias or _zeros(graph, mode, node)
        arguments = (found.image, found.weight, other, 1.0, bias, *geometry)
        fused = add_call(graph, mode, relu, aten.cudnn_convolution_add_relu.default, *arguments, known=value)
    relu.replace_all_uses_with(fused)
    return True


def _other_term(total: torch.fx.Node, node: torch.fx.Node) -> torch.fx.Node | None:
    """What a sum adds to `node`, if that is a tensor of the same type."""
    if total.target is not aten.add.Tensor or total.kwargs:
        return None
    left, right = total.args
    other = right if left is node else left
    if not isinstance(other, torch.fx.Node) or other is node:
        return None
    same = same_tensor_type(other.meta.get("val"), node.meta["val"])
    return other if same and same_tensor_type(total.meta["val"], node.meta["val"]) else None


def _zeros(graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], node: torch.fx.Node) -> torch.fx.Node:
    value = node.meta["val"]
    options = {"dtype": value.dtype, "device": value.device}
    return add_call(graph, mode, node, aten.full.default, [value.shape[1]], 0.0, **options)


def _add_bias_behind(graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], found: _Convolution) -> None:
    node, value = found.node, found.node.meta["val"]
    with graph.graph.inserting_after(node):
        anchor = graph.graph.call_function(aten.alias.default, (node,))
    with graph.graph.inserting_before(anchor):
        plain = add_call(
            graph, mode, node, aten.convolution.default, found.image, found.weight, None, *node.args[3:], known=value
        )
        shape = [-1] + [1] * (value.dim() - 2)
        bias = add_call(graph, mode, node, aten.view.default, found.bias, shape)
        total = add_call(graph, mode, node, aten.add.Tensor, plain, bias, known=value)
    graph.graph.erase_node(anchor)
    node.replace_all_uses_with(total)


# ------------------------------------------------------------------------------------------------------------- linears


def fuse_linears(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """`addmm` with the gelu (by tanh) behind it as one call of cuBLASLt."""
    mode, owners = fake_mode_of(graph), owners_of_results(graph)
    changed = False
    for node in calls(graph, (aten.addmm.default,)):
        if node in owners or not _has_vector_bias(node):
            continue
        activation = match_activation(through_views(node))
        if activation is None or activation.kind is not ActivationKind.GELU_TANH:
            continue
        changed = True
        with graph.graph.inserting_before(node):
            fused = add_call(
                graph, mode, node, aten._addmm_activation.default, *node.args, use_gelu=True, known=node.meta["val"]
            )
        node.replace_all_uses_with(fused)
        activation.result.replace_all_uses_with(activation.value if activation.value is not node else fused)
    return remove_dead_code(graph, context) if changed else graph


def _has_vector_bias(node: torch.fx.Node) -> bool:
    value, bias = node.meta["val"], node.args[0]
    return (
        value.device.type == "cuda"
        and value.dtype in HALVES
        and not node.kwargs
        and isinstance(bias, torch.fx.Node)
        and same_numbers(bias.meta["val"].shape, value.shape[1:])
        and not may_be_empty(value)
    )
