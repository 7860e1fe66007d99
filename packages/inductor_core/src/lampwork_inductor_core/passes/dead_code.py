"""dead_code: remove calls whose values nobody uses.

First and last of the passes. Invariant: inputs stay, and so does whatever draws random numbers (eager would have drawn
them) or could raise on its values.
"""

from __future__ import annotations

import torch
import torch.fx

from .rewriting import PassContext, is_pure

_MAY_RAISE = frozenset(
    {
        "_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range",
        # indices out of bounds
        "index", "index_select", "gather", "embedding", "embedding_bag", "_embedding_bag", "take", "nll_loss_forward",
        "nll_loss2d_forward", "scatter", "scatter_add", "scatter_reduce", "index_put", "index_add", "index_copy",
        "index_fill", "index_reduce", "put", "repeat_interleave", "bincount", "_local_scalar_dense",
        # matrices that are singular, or do not converge
        "_linalg_check_errors", "_linalg_eigh", "_linalg_svd", "linalg_eig", "linalg_eigvals", "_linalg_eigvals",
        "linalg_lstsq", "cholesky", "cholesky_inverse", "linalg_matrix_exp",
    }
)  # fmt: skip
_CHECKED_DIVISIONS = frozenset({"div", "floor_divide", "remainder", "fmod"})  # of integers by zero


def remove_dead_code(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph without unused pure calls and attributes. Linear."""
    for node in reversed(list(graph.graph.nodes)):
        if node.users or node.op not in ("call_function", "get_attr"):
            continue
        if node.op == "get_attr" or (is_pure(node) and not may_raise(node)):
            graph.graph.erase_node(node)
    return graph


def may_raise(node: torch.fx.Node) -> bool:
    """Whether eager could raise on the values of the call's operands."""
    packet = getattr(node.target, "overloadpacket", None)
    name = getattr(packet, "__name__", "")
    if name in _MAY_RAISE or node.kwargs.get("check_errors"):
        return True
    if name in _CHECKED_DIVISIONS and len(node.args) > 1:
        value, divisor = node.meta.get("val"), node.args[1]
        integral = isinstance(value, torch.Tensor) and not value.dtype.is_floating_point and not value.is_complex()
        return integral and (isinstance(divisor, torch.fx.Node) or not divisor)
    return False
