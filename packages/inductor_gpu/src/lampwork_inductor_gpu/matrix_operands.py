"""What products of matrices read and write, in the forms that their library is fast at.

Passes over the functional ATen graph. cuBLAS reads an operand whose rows start at multiples of 16 bytes several times
as fast as one of 50,257 columns; and it stores the sums of halves in float32 as well as in halves, so that a gradient
in float32 needs no pass of its own. Invariants: an operand that changes is one that a kernel of ours computes; a
product in float32 rounds its sums less than the one that it replaces, never more.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.fx
from lampwork_inductor_core.passes.channels_last import reads_memory_order
from lampwork_inductor_core.passes.dead_code import remove_dead_code
from lampwork_inductor_core.passes.rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    fake_value,
    is_row_major,
    is_view,
    owners_of_results,
    same_numbers,
    same_strides,
)

from .library_epilogues import HALVES

aten = torch.ops.aten
_ALIGNED = 8  # halves that 16 bytes hold
_LEAST_BYTES = 1 << 20  # of an operand
_ELEMENTWISE = frozenset({aten._to_copy.default, aten.clone.default})
_TRANSPOSED = [1, 0]


# ---------------------------------------------------------------------------------------------------------------- rows


def align_rows(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """Operands of products that our kernels compute, in rows that start at multiples of 16 bytes."""
    mode, owners, changed = fake_mode_of(graph), owners_of_results(graph), False
    for node in calls(graph, (aten.mm.default,)):
        for position in (0, 1):
            operand = node.args[position]
            assert isinstance(operand, torch.fx.Node)
            transposed = operand.target is aten.permute.default and list(operand.args[1]) == _TRANSPOSED  # pyright: ignore[reportArgumentType]
            matrix = operand.args[0] if transposed else operand
            assert isinstance(matrix, torch.fx.Node)
            if _starts_anywhere(matrix, owners) and not _shows_its_memory(matrix):
                _align(graph, mode, matrix)
                changed = True
    return remove_dead_code(graph, context) if changed else graph


def _starts_anywhere(matrix: torch.fx.Node, owners: set[torch.fx.Node]) -> bool:
    value = matrix.meta["val"]
    if value.device.type != "cuda" or value.dtype not in HALVES or value.dim() != 2 or not is_row_major(value):
        return False
    rows, columns = value.shape
    if isinstance(rows, torch.SymInt) or isinstance(columns, torch.SymInt) or columns % _ALIGNED == 0:
        return False
    root = matrix
    while is_view(root):
        source = root.args[0]
        assert isinstance(source, torch.fx.Node)
        root = source
    computed = torch.Tag.pointwise in getattr(root.target, "tags", ()) or root.target in _ELEMENTWISE
    return computed and root not in owners and rows * columns * value.itemsize >= _LEAST_BYTES


def _shows_its_memory(value: torch.fx.Node) -> bool:
    """Whether what a reader gives, of a value or of a view of it, depends on how that lies in memory."""
    return any(reads_memory_order(user) or (is_view(user) and _shows_its_memory(user)) for user in value.users)


def _align(graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], matrix: torch.fx.Node) -> None:
    columns = int(matrix.meta["val"].shape[1])
    with graph.graph.inserting_after(matrix):
        anchor = graph.graph.call_function(aten.alias.default, (matrix,))
    with graph.graph.inserting_before(anchor):
        padded = add_call(graph, mode, matrix, aten.constant_pad_nd.default, matrix, [0, -columns % _ALIGNED])
        part = add_call(graph, mode, matrix, aten.slice.Tensor, padded, 1, 0, columns)
    graph.graph.erase_node(anchor)
    for user in list(matrix.users):  # so that the value is computed into its rows once, not stored and copied
        if user is padded:
            continue
        user.replace_input_with(matrix, part)
        if is_view(user):
            _refresh(user, mode)


def _refresh(view: torch.fx.Node, mode: AbstractContextManager[Any]) -> None:
    """The fake values of a view in new strides, and of views of it."""
    try:
        view.meta["val"] = fake_value(view, mode)
    except (RuntimeError, ValueError):
        view.target = aten.reshape.default
        view.meta["val"] = fake_value(view, mode)
    for user in view.users:
        if is_view(user):
            _refresh(user, mode)


# ----------------------------------------------------------------------------------------------------------- gradients


def multiply_into_float(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """Products of halves of which nothing but a result in float32 is wanted, stored as that."""
    mode, changed = fake_mode_of(graph), False
    for node in calls(graph, (aten.mm.default,)):
        value = node.meta["val"]
        if value.device.type != "cuda" or value.dtype not in HALVES:
            continue
        chain = _up_to_conversion(node)
        if chain is not None and all(user.op == "output" for user in _readers(chain[-1])):
            changed |= _store_wide(graph, mode, node, chain)
    return remove_dead_code(graph, context) if changed else graph


def _up_to_conversion(node: torch.fx.Node) -> list[torch.fx.Node] | None:
    """The views that alone read a product, and the conversion into float32 behind them."""
    chain: list[torch.fx.Node] = []
    product = node
    while len(node.users) == 1:
        node = next(iter(node.users))
        chain.append(node)
        if node.target is aten._to_copy.default:
            given = {key for key, setting in node.kwargs.items() if setting is not None}
            wide = node.meta["val"].dtype == torch.float32 and given <= {"dtype", "device"}
            return chain if wide and node.meta["val"].device == product.meta["val"].device else None
        if not is_view(node):
            return None
    return None


def _readers(node: torch.fx.Node) -> list[torch.fx.Node]:
    """Who reads a value, itself or a view of it."""
    found: list[torch.fx.Node] = []
    for user in node.users:
        found += _readers(user) if is_view(user) else [user]
    return found


def _store_wide(
    graph: torch.fx.GraphModule, mode: AbstractContextManager[Any], node: torch.fx.Node, chain: list[torch.fx.Node]
) -> bool:
    *views, conversion = chain
    with graph.graph.inserting_before(node), mode:
        known = torch.empty_like(node.meta["val"], dtype=torch.float32)
    with graph.graph.inserting_before(node):
        wide = add_call(graph, mode, node, aten.mm.dtype, *node.args, torch.float32, known=known)
    before = [view.meta["val"] for view in views]
    last = wide
    for view in views:
        view.replace_input_with(view.args[0], last)  # pyright: ignore[reportArgumentType]
        view.meta["val"] = fake_value(view, mode)
        last = view
    if not same_strides(last.meta["val"], conversion.meta["val"]) or not same_numbers(
        last.meta["val"].shape, conversion.meta["val"].shape
    ):
        for view, source, value in zip(views, [node, *views], before):
            view.replace_input_with(view.args[0], source)  # pyright: ignore[reportArgumentType]
            view.meta["val"] = value
        graph.graph.erase_node(wide)
        return False
    conversion.replace_all_uses_with(last)
    return True
