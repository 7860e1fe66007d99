"""What a GPU chooses for a training step before it is cut into a forward and a backward graph.

`rewrite_joint` chooses what both passes share; `recompute_cost` says what computing a value again in the backward pass
costs there. Invariant: functions of the graph and of the device's properties alone.
"""

from __future__ import annotations

import math

import torch
import torch.fx
from lampwork_inductor_core.lowering.library_calls import is_library_call
from lampwork_inductor_core.passes.rewriting import is_view, traced_value
from lampwork_inductor_core.passes.training_layout import choose_training_layout

from .device import DeviceProperties
from .library_epilogues import HALVES
from .training_attention import use_cudnn_in_training

aten = torch.ops.aten
_LEAST_CONVOLUTIONS = 3  # before the conversions pay
_FREE = frozenset(
    {
        aten.full.default,
        aten.arange.start_step,
        aten.scalar_tensor.default,
        aten.empty.memory_format,
        aten.expand.default,
    }
)
_ELEMENTWISE = frozenset({aten._to_copy.default, aten.clone.default, aten.where.self})
_REDUCTIONS = frozenset({aten.var_mean.correction, aten.mean.dim, aten.sum.dim_IntList})
_SQUARES = frozenset({aten.pow.Tensor_Scalar, aten.mul.Tensor, aten._to_copy.default})
_IN_A_KERNEL = 0.02  # of a value's bytes: arithmetic in a kernel that runs anyway
_FOR_A_LIBRARY = 1.0  # the value is stored once more
_READ_BY_SUMS = 1.25  # a sum that a normalisation reads is in memory; computing it again unrolls all the ones before


def rewrite_joint(
    graph: torch.fx.GraphModule, forward: frozenset[torch.fx.Node], results: int, device: DeviceProperties
) -> None:
    """Memory format of convolutions and kernels of attention, in place; `results`: see `choose_training_layout`."""
    products = sum(1 for n in graph.graph.nodes if n.target in (aten.mm.default, aten.addmm.default) and n in forward)

    def is_wanted(convolutions: list[torch.fx.Node]) -> bool:
        halves = all(n.meta["val"].dtype in HALVES for n in convolutions)
        return halves and len(convolutions) >= max(_LEAST_CONVOLUTIONS, products)

    choose_training_layout(graph, forward, results, is_wanted)
    use_cudnn_in_training(graph, forward, device)


def recompute_cost(node: torch.fx.Node) -> float:
    """What it costs to compute a value again, in bytes kept: `math.inf` for never.

    Arithmetic is nearly free where it joins a kernel of the backward pass; what a library reads is stored again. The
    sums of a residual stream are each computed from the one before: one that a normalisation reads is cheaper to keep.
    """
    target, value = node.target, node.meta.get("val")
    if target in _FREE or is_view(node):
        return 0.0
    if not isinstance(value, torch.Tensor) or not isinstance(target, torch._ops.OpOverload):
        return math.inf
    if torch.Tag.nondeterministic_seeded in target.tags:
        return math.inf
    if torch.Tag.pointwise not in target.tags and target not in _ELEMENTWISE:
        return math.inf
    size = math.prod(traced_value(s) for s in value.shape) * value.itemsize
    if target is aten.add.Tensor and all(isinstance(a, torch.fx.Node) for a in node.args) and _is_summed(node):
        return _READ_BY_SUMS * size
    return (_FOR_A_LIBRARY if any(_is_for_library(u) for u in node.users) else _IN_A_KERNEL) * size


def _is_summed(node: torch.fx.Node) -> bool:
    """Whether a reduction reads a value: itself, its squares, or either in another type."""
    seen, readers = {node}, list(node.users)
    for _ in range(3):
        if any(user.target in _REDUCTIONS for user in readers):
            return True
        seen.update(user for user in readers if user.target in _SQUARES)
        readers = [user for value in seen for user in value.users if user not in seen]
    return False


def _is_for_library(user: torch.fx.Node) -> bool:
    if is_library_call(user.target):
        return True
    return is_view(user) and any(_is_for_library(u) for u in user.users)
