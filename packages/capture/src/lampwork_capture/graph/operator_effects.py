"""What operators do besides computing: write, draw random numbers, run other operators, raise for some data.

`graph/builder.py` asks for each operator that a node dispatched. Invariant: where it is not known, the answer is the
careful one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_C: Any = torch._C

# Operators of ATen that raise for some data of their inputs: indices out of range, singular matrices, bad distributions
_RAISING = frozenset(
    {"index", "index_put", "index_put_", "_index_put_impl_", "gather", "take",
     "take_along_dim", "put", "put_", "scatter", "scatter_", "scatter_add", "scatter_add_", "scatter_reduce",
     "scatter_reduce_", "index_select", "index_add", "index_add_", "index_copy", "index_copy_", "index_fill",
     "index_fill_", "index_reduce", "index_reduce_", "masked_scatter", "masked_scatter_", "embedding",
     "embedding_renorm_", "_embedding_bag", "_embedding_bag_forward_only", "embedding_bag", "one_hot",
     "nll_loss_forward", "nll_loss2d_forward", "nll_loss", "nll_loss2d", "nll_loss_nd", "cross_entropy_loss",
     "multi_margin_loss", "multilabel_margin_loss_forward", "_ctc_loss", "binary_cross_entropy", "multinomial",
     "repeat_interleave", "bincount", "histc", "histogram", "inverse", "cholesky", "cholesky_inverse",
     "cholesky_solve", "lu_unpack", "lu_solve", "triangular_solve", "geqrf", "ormqr", "logdet", "slogdet", "det",
     "pinverse", "svd", "qr", "bernoulli", "bernoulli_", "binomial", "poisson", "normal", "quantile",
     "nanquantile", "max_unpool2d", "max_unpool3d", "segment_reduce", "searchsorted", "tensor_split",
     "_standard_gamma", "_sample_dirichlet", "local_scalar_dense", "is_nonzero", "combinations"}
)  # fmt: skip
# Used where the indices were computed to be in range, as by interpolation; a program that asks for it itself may err
_UNSAFE = frozenset({"_unsafe_index", "_unsafe_index_put"})
# They write to running statistics, of which their schemas say nothing: some in training only
_WRITING_STATISTICS = frozenset(
    {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm_update_stats",
     "batch_norm_gather_stats", "batch_norm_gather_stats_with_counts"}
)  # fmt: skip
_STATISTICS = ("running_mean", "running_var")
_PUTS = frozenset({"index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put"})
_LINALG_OF_ANY_DATA = frozenset(
    {"linalg_vector_norm", "linalg_cross", "linalg_vecdot", "linalg_diagonal", "linalg_multi_dot", "linalg_vander"}
)
_OWN_NAMESPACES = frozenset({"aten", "prim", "prims", "profiler", "quantized", "mkldnn", "higher_order"})
_GIVEN_NUMBERS = frozenset({"float", "p", "float_float"})  # overloads of distributions that check numbers, not data
_INTEGER_DIVISION = frozenset(
    {"div", "div_", "floor_divide", "floor_divide_", "remainder", "remainder_", "fmod", "fmod_"}
)


def may_mutate(operator: Any) -> bool:
    schema = getattr(operator, "_schema", None)
    return schema is None or schema.is_mutable


def written_tensors(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The arguments that a call writes to: those of which the schema says so, and the statistics of a batch norm."""
    name = operator.overloadpacket.__name__
    if not operator._schema.is_mutable and name not in _WRITING_STATISTICS:
        return []
    found: list[Any] = []
    given: dict[str, Any] = {
        argument.name: args[position] if position < len(args) else kwargs.get(argument.name)
        for position, argument in enumerate(operator._schema.arguments)
    }
    trains = given.get("training", True)
    for argument in operator._schema.arguments:
        if argument.name in _STATISTICS and not trains:
            continue
        if argument.alias_info is not None and argument.alias_info.is_write:
            tensors = given[argument.name]
            found += tensors if isinstance(tensors, (list, tuple)) else (tensors,)
    if name in _WRITING_STATISTICS and trains:
        found += (given[statistic] for statistic in _STATISTICS)
    return [tensor for tensor in found if isinstance(tensor, torch.Tensor)]


def is_composite(operator: Any) -> bool:
    """Whether an operator runs others, on real tensors too."""
    return operator.has_kernel_for_dispatch_key(_C.DispatchKey.CompositeImplicitAutograd)


def is_random(operator: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(operator, "tags", ())


def draws_random(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call draws random numbers: attention with a dropout of 0 does not, although its operator may."""
    if not is_random(operator):
        return False
    for index, argument in enumerate(operator._schema.arguments):
        if argument.name == "dropout_p":
            given = args[index] if index < len(args) else kwargs.get("dropout_p", argument.default_value)
            return type(given) is not float or given != 0.0
    return True


def is_users(operator: Any) -> bool:
    """Whether an operator was registered by the user: it may run any code."""
    return getattr(operator, "namespace", "aten") not in _OWN_NAMESPACES


def target_is_users(op: str, target: Any) -> bool:
    """Whether what a node calls is code of the user's."""
    if op == "call_method":
        return False
    if isinstance(target, torch._ops.OpOverloadPacket):
        return target._qualified_op_name.partition("::")[0] not in _OWN_NAMESPACES
    if isinstance(target, torch._ops.OperatorBase):
        return is_users(target)
    module = getattr(target, "__module__", None) or ""
    return bool(module) and module.partition(".")[0] not in ("torch", "_operator", "builtins", "lampwork_capture")


def target_may_raise(op: str, target: Any) -> bool:
    """Whether what a node calls is known to raise for some data, whatever operators its fake run dispatched."""
    if op == "call_method":
        return target in _RAISING
    if isinstance(target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        packet = target.overloadpacket if isinstance(target, torch._ops.OpOverload) else target
        return packet.__name__ in _UNSAFE  # others are judged by what is dispatched
    return target_is_users(op, target) or getattr(target, "__name__", "") in _RAISING


def may_raise(operator: Any, args: Sequence[Any], result: Any) -> bool:
    """Whether an operator can raise depending on the data of its inputs."""
    name = getattr(getattr(operator, "overloadpacket", operator), "__name__", "")
    if is_users(operator):
        return True
    if getattr(operator, "_overloadname", "") in _GIVEN_NUMBERS:
        return False
    if name in _INTEGER_DIVISION:
        return isinstance(result, torch.Tensor) and not (result.is_floating_point() or result.is_complex())
    if name.startswith(("linalg_", "_linalg_")):
        return name not in _LINALG_OF_ANY_DATA
    if name in _PUTS and _puts_at_mask(*args[:3]):
        return False
    return name in _RAISING or name.startswith(("_assert", "_functional_assert"))


def _puts_at_mask(written: torch.Tensor, indices: Sequence[torch.Tensor | None], values: torch.Tensor) -> bool:
    """Whether something is written wherever one mask is true, and fits however many these places are."""
    given = [(position, index) for position, index in enumerate(indices) if index is not None]
    if len(given) != 1 or given[0][1].dtype is not torch.bool:
        return False
    position, mask = given[0]
    return values.dim() <= written.dim() - position - mask.dim()
