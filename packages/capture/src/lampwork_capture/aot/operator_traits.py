"""What the recorder knows of single operators, worked out once per operator and process.

Read by `trace` for every operator that runs, and by whatever must know which operators draw random numbers. Invariant:
facts about operators alone; nothing here depends on a graph.
"""

from __future__ import annotations

import functools

import torch
from torch._ops import OpOverload

aten = torch.ops.aten

# Operators (beside pointwise ones) to which sizes of 1 are sizes like others: no dimension goes, nothing is refused.
_RIGHT_FOR_ONE = frozenset(
    {
        aten.view, aten._unsafe_view, aten.reshape, aten._reshape_alias, aten.expand, aten.permute, aten.transpose,
        aten.t, aten.unsqueeze, aten.clone, aten._to_copy, aten.copy, aten.detach, aten.alias, aten.slice, aten.flip,
        aten.cat,
        aten.stack, aten.full, aten.full_like, aten.zeros_like, aten.ones_like, aten.fill, aten.arange, aten.tril,
        aten.triu, aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.sum, aten.mean, aten.prod, aten.any, aten.all,
        aten.amax,
        aten.amin, aten.argmax, aten.argmin, aten.max, aten.min, aten.var, aten.std, aten.var_mean, aten.std_mean,
        aten.logsumexp, aten.cumsum, aten._softmax, aten._log_softmax, aten.native_layer_norm, aten._fused_rms_norm,
        aten.native_group_norm, aten._native_batch_norm_legit_no_training, aten.embedding, aten.index, aten.where,
        aten.masked_fill, aten.constant_pad_nd, aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_attention_math, aten.mse_loss, aten.linalg_vector_norm, aten._adaptive_avg_pool2d,
        aten.repeat, aten.gelu, aten.silu,
    }
)  # fmt: skip
_LIFTS = frozenset({aten.lift_fresh.default, aten.lift.default, aten.lift_fresh_copy.default})
# Operators that write statistics their schema does not mention. `functionalize` replaces their callers.
_HIDDEN_WRITES = frozenset(
    {aten.native_batch_norm.default, aten.cudnn_batch_norm.default, aten.miopen_batch_norm.default}
)
# Operators whose kernels ask for the grad mode, in which a compiled forward graph does not run.
ASKS_GRAD_MODE = frozenset({aten.mkldnn_rnn_layer.default})
# Operators that eager has no kernel of for integers: what they decompose into would compute where eager raises.
FLOATING_ONLY = frozenset(
    {
        aten.gelu.default,
        aten.silu.default,
        aten.mish.default,
        aten.softplus.default,
        aten.hardsigmoid.default,
        aten.hardswish.default,
        aten.leaky_relu.default,
        aten.elu.default,
        aten.celu.default,
        aten.selu.default,
        aten.hardshrink.default,
        aten.softshrink.default,
        aten.log_sigmoid_forward.default,
        aten.glu.default,
        aten.frac.default,
    }
)
_QUANTISING = (
    "quantized::",
    "aten::quantize",
    "aten::dequantize",
    "aten::int_repr",
    "aten::q_",
    "aten::_make_per_",
    "aten::_empty_affine_quantized",
    "aten::_empty_per_channel_affine_quantized",
)


class OperatorTraits:
    """What the recorder needs to know of an operator, worked out once per operator and process."""

    __slots__ = ("composite", "data_dependent_size", "hidden_write", "is_lift", "mutable", "random", "writes_inside")

    def __init__(self, op: OpOverload) -> None:
        self.mutable: bool = op._schema.is_mutable
        self.random: bool = torch.Tag.nondeterministic_seeded in op.tags
        self.data_dependent_size: bool = torch.Tag.dynamic_output_shape in op.tags
        self.composite: bool = op._can_decompose()
        self.is_lift: bool = op in _LIFTS
        self.hidden_write: bool = op in _HIDDEN_WRITES
        self.writes_inside: bool = False  # found out by decomposing it


@functools.cache
def traits_of(op: OpOverload) -> OperatorTraits:
    """The traits of `op`."""
    return OperatorTraits(op)


def is_random(op: object) -> bool:
    """Whether `op` draws from a random generator; such nodes may be neither removed, merged nor reordered."""
    return isinstance(op, OpOverload) and torch.Tag.nondeterministic_seeded in op.tags


def is_right_for_one(op: OpOverload) -> bool:
    """Whether what an operator does with sizes of 2 and more is right for 1, too, and 1 is never an error."""
    return torch.Tag.pointwise in op.tags or op.overloadpacket in _RIGHT_FOR_ONE


def is_quantising(op: OpOverload) -> bool:
    """Whether `op` makes or takes quantized tensors, which some fake kernels describe as plain ones."""
    name = op._schema.name
    return name.startswith(_QUANTISING)
