"""Fallback: any operator as an extern call.

Whatever has no lowering ends here: several results, lists, views of arguments, opaque tensors, numbers computed at run
time. Invariant: arguments reach the operator with exactly eager's strides, and nothing but a mutating operator (which a
functional graph does not hold) is refused.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.fx

from ..ir.buffer import BufferView
from ..ir.layout import OpaqueLayout
from ..ir.views import UnknownSize
from .context import LoweringContext, layout_of
from .library_calls import OUT_VARIANTS
from .values import OpaqueValue, TensorValue, Value


class MutationInGraph(RuntimeError):
    """The graph is not functional: an operator writes into its argument."""

    def __init__(self, node: torch.fx.Node) -> None:
        where = node.meta.get("user_line") or "an unknown line"
        super().__init__(
            f"{node.target} (node {node.name}, from {where}) mutates an argument; "
            "hint: functionalise the graph first (lampwork_capture.aot does)"
        )


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether generated code can address the tensor: strided, no subclass semantics, no lazy bits, no packing."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_mkldnn
        and not tensor.is_quantized
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not tensor.is_nested
    )


def call_operator(context: LoweringContext, node: torch.fx.Node, value_of: Callable[[torch.fx.Node], Any]) -> Any:
    """Call the node's operator: its results as values, in the structure of its `meta["val"]`.

    `value_of` gives the lowered value of an argument node. Raises MutationInGraph.
    """
    schema = getattr(node.target, "_schema", None)
    if schema is not None and schema.is_mutable:
        raise MutationInGraph(node)
    arguments = tuple(_argument(context, a, value_of) for a in node.args)
    keywords = {k: _argument(context, a, value_of) for k, a in node.kwargs.items()}
    aliases = _aliased(node, schema, arguments)
    meta = node.meta.get("val")
    if isinstance(meta, (tuple, list)):
        return _several(context, node, meta, arguments, keywords, aliases)
    layout = _layout(meta, node)
    out = OUT_VARIANTS.get(node.target) if not isinstance(layout, OpaqueLayout) else None
    return context.add_extern(layout, node.target, arguments, keywords, out_variant=out, aliases=aliases)


def _several(
    context: LoweringContext,
    node: torch.fx.Node,
    metas: Sequence[Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
    aliases: str | None,
) -> list[Any]:
    call = context.fresh_name("call")
    results: list[Any] = []
    for index, meta in enumerate(metas):
        if meta is None:
            results.append(None)
            continue
        nested = isinstance(meta, (tuple, list))
        layout = OpaqueLayout(torch.device("cpu"), None) if nested else _layout(meta, node)
        value = context.add_extern(
            layout, node.target, arguments, keywords, call=call, result_index=index, aliases=aliases
        )
        results.append(_unpack(context, value, meta, node) if nested else value)
    return results


def _unpack(context: LoweringContext, carrier: Value, metas: Any, node: torch.fx.Node) -> list[Any]:
    """The members of a list that is one of several results."""
    assert isinstance(carrier, OpaqueValue)
    source = BufferView(carrier.name, carrier.layout)
    results: list[Any] = []
    for index, meta in enumerate(metas):
        value = context.add_extern(_layout(meta, node), operator.getitem, (source, index), {}, aliases=carrier.name)
        results.append(value)
    return results


def take_item(context: LoweringContext, carrier: OpaqueValue, index: Any, node: torch.fx.Node) -> Value:
    """`carrier[index]` for a value that only extern calls understand."""
    source = BufferView(carrier.name, carrier.layout)
    return context.add_extern(
        _layout(node.meta.get("val"), node), operator.getitem, (source, index), {}, aliases=carrier.name
    )


def _layout(meta: Any, node: torch.fx.Node) -> Any:
    if isinstance(meta, torch.Tensor):
        if is_plain(meta) and not node.meta.get("opaque"):
            try:
                return layout_of(meta)
            except UnknownSize:
                pass
        return OpaqueLayout(meta.device, meta.dtype)
    return OpaqueLayout(torch.device("cpu"), None)


def _argument(context: LoweringContext, argument: Any, value_of: Callable[[torch.fx.Node], Any]) -> Any:
    if isinstance(argument, torch.fx.Node):
        return _lowered(context, value_of(argument), argument.meta.get("val"))
    if isinstance(argument, (list, tuple)):
        return [_argument(context, a, value_of) for a in argument]
    if isinstance(argument, slice):
        return slice(*(_argument(context, a, value_of) for a in (argument.start, argument.stop, argument.step)))
    if isinstance(argument, dict):
        return {k: _argument(context, a, value_of) for k, a in argument.items()}
    return argument


def _lowered(context: LoweringContext, value: Any, meta: Any) -> Any:
    if isinstance(value, TensorValue):
        return view_of(context, value, meta)
    if isinstance(value, OpaqueValue):
        return BufferView(value.name, value.layout)
    if isinstance(value, (list, tuple)):
        metas = meta if isinstance(meta, (list, tuple)) else [None] * len(value)
        return [_lowered(context, v, m) for v, m in zip(value, metas)]
    return value


def view_of(context: LoweringContext, value: TensorValue, meta: Any) -> BufferView:
    """The value as an extern argument, with the strides of its fake tensor."""
    if isinstance(meta, torch.Tensor):
        stored = context.materialise(value, layout_of(meta).strides)
    else:
        stored = context.realise(value)
    return BufferView(stored.name, stored.layout)


def _aliased(node: torch.fx.Node, schema: Any, arguments: tuple[Any, ...]) -> str | None:
    """The buffer that a view operator's result shares memory with."""
    if schema is None:
        return None
    for result in schema.returns:
        info = result.alias_info
        if info is None or info.is_write:
            continue
        for parameter, argument in zip(schema.arguments, arguments):
            if parameter.alias_info is not None and isinstance(argument, BufferView):
                return argument.buffer
    return None
