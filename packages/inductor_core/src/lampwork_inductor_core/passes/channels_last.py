"""channels_last: graphs that convolutions dominate compute with the channel innermost.

The input of the first convolution is converted once, weights are converted (and hoisted, being static), and every
stride downstream follows from the operators' own rules. Invariants: results keep eager's strides, and so do operands
of random calls, which draw in the order of memory; where the rules lead to something that cannot be expressed, or a
call reads memory by its strides, the graph stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.fx

from .rewriting import (
    PassContext,
    add_call,
    calls,
    fake_mode_of,
    fake_value,
    is_channels_last,
    is_row_major,
    output_node,
    same_numbers,
)

aten = torch.ops.aten
_MATRIX_PRODUCTS = frozenset({aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default})
_VIEWS: dict[Any, Any] = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
_MEMORY_ORDER = frozenset(
    {
        aten.as_strided, aten.as_strided_copy, aten.as_strided_scatter, aten._reshape_alias, aten._reshape_alias_copy,
        aten.view_as_real, aten.view_as_complex,
    }
)  # fmt: skip
_LEAST = 3  # convolutions in a graph before the conversions pay


class CannotPropagate(Exception):
    """An operator does not run with the new strides."""


def choose_channels_last(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph in channels-last, or as it was."""
    if not context.config.channels_last:
        return graph
    convolutions = [n for n in calls(graph, (aten.convolution.default,)) if _is_candidate(n)]
    others = sum(1 for _ in calls(graph, _MATRIX_PRODUCTS))
    if any(reads_memory_order(n) for n in calls(graph)):
        return graph
    if len(convolutions) < _LEAST or len(convolutions) < others:
        return graph
    if all(_is_channels_last(n.meta["val"]) for n in convolutions):
        return graph
    change = Change(graph)
    try:
        change.convert()
    except CannotPropagate:
        change.undo()
    return graph


def reads_memory_order(node: torch.fx.Node) -> bool:
    """Whether the elements of a call's result depend on how its operand lies in memory."""
    return getattr(node.target, "overloadpacket", None) in _MEMORY_ORDER or node.target is aten.view.dtype


def is_random(node: torch.fx.Node) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def _is_candidate(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dim() == 4 and not node.args[6]


def _is_channels_last(value: torch.Tensor) -> bool:
    return is_channels_last(value)


class Change:
    """The conversion of one graph, which can be undone."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        self.graph = graph
        self.mode = fake_mode_of(graph)
        self.added: list[torch.fx.Node] = []
        self.before: list[tuple[torch.fx.Node, Any, Any, Any]] = []  # node, target, arguments, fake value
        self.converted: dict[torch.fx.Node, torch.fx.Node] = {}

    def convert(self) -> None:
        """Raises CannotPropagate half-way; then `undo`."""
        output = output_node(self.graph)
        original: dict[torch.fx.Node, Any] = {n: n.meta.get("val") for n in self.graph.graph.nodes}
        changed: set[torch.fx.Node] = set()
        for node in list(self.graph.graph.nodes):
            if node.op != "call_function":
                continue
            is_convolution = node.target is aten.convolution.default and _is_candidate(node)
            if not is_convolution and not any(n in changed for n in node.all_input_nodes):
                continue
            old = node.meta.get("val")
            if is_random(node):
                self.restore(node, original)
                continue
            self.before.append((node, node.target, node.args, old))
            if is_convolution:
                self.convert_operands(node, (0, 1))
            self._propagate(node)
            if not same_layout(old, node.meta["val"]):
                changed.add(node)
        self.restore(output, original)

    def undo(self) -> None:
        """Put everything back."""
        for node, target, arguments, value in reversed(self.before):
            node.target, node.args, node.meta["val"] = target, arguments, value
        for node in reversed(self.added):
            self.graph.graph.erase_node(node)

    def convert_operands(self, node: torch.fx.Node, positions: Iterable[int]) -> None:
        """Have a call's operands in channels-last."""
        with self.graph.graph.inserting_before(node):
            for position in positions:
                argument = node.args[position]
                assert isinstance(argument, torch.fx.Node)
                if not _is_channels_last(argument.meta["val"]):
                    if argument not in self.converted:
                        self.converted[argument] = self._add_copy(argument, torch.channels_last)
                    node.update_arg(position, self.converted[argument])

    def _add_copy(self, node: torch.fx.Node, memory_format: torch.memory_format) -> torch.fx.Node:
        value = node.meta["val"]
        with self.mode:  # whose sizes may be symbols
            strides = torch.empty(value.shape, device="meta", memory_format=memory_format).stride()
        known = self._strided(value, strides)
        copied = add_call(
            self.graph, self.mode, node, aten.clone.default, node, known=known, memory_format=memory_format
        )
        self.added.append(copied)
        return copied

    def innermost(self, value: torch.Tensor) -> torch.Tensor:
        """A fake value with four dimensions in channels-last."""
        _, c, h, w = value.shape
        return self._strided(value, (h * w * c, 1, w * c, c))

    def run(self, node: torch.fx.Node) -> Any:
        """A call's fake value. Raises what the operator raises."""
        return fake_value(node, self.mode)

    def _strided(self, value: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
        with self.mode:
            return torch.empty_strided(value.shape, strides, dtype=value.dtype, device=value.device)

    def _propagate(self, node: torch.fx.Node) -> None:
        known = self._known_value(node)
        if known is not None:
            node.meta["val"] = known
            return
        try:
            node.meta["val"] = fake_value(node, self.mode)
        except (RuntimeError, ValueError) as error:
            if node.target not in _VIEWS:
                raise CannotPropagate(str(error)) from error
            node.target = _VIEWS[node.target]
            try:
                node.meta["val"] = fake_value(node, self.mode)
            except (RuntimeError, ValueError) as again:
                raise CannotPropagate(str(again)) from again

    def _known_value(self, node: torch.fx.Node) -> torch.Tensor | None:
        """The result of the two commonest cases without a run on fake tensors: convolutions, and pointwise operators
        whose operands all lie in channels-last."""
        old = node.meta["val"]
        if not isinstance(old, torch.Tensor) or old.dim() != 4 or any(same_numbers((s,), (1,)) for s in old.shape[1:]):
            return None
        if node.target is aten.convolution.default:
            return self.innermost(old)
        if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            return None
        values = [n.meta.get("val") for n in node.all_input_nodes]
        first = values[0]
        if not isinstance(first, torch.Tensor) or first.dtype != old.dtype:
            return None
        if all(
            isinstance(v, torch.Tensor) and same_numbers(v.shape, old.shape) and _is_channels_last(v) for v in values
        ):
            return first
        return None

    def restore(self, reader: torch.fx.Node, original: Mapping[torch.fx.Node, Any], first: int | None = None) -> None:
        """Give each operand of a call (or result of the graph; of the `first` ones only) the strides that eager gives
        it. Raises CannotPropagate."""
        self.before.append((reader, reader.target, reader.args, reader.meta.get("val")))
        operands = list(reader.all_input_nodes)
        if first is not None:
            returned = reader.args[0]
            assert isinstance(returned, list | tuple)
            operands = list(dict.fromkeys(n for n in returned[:first] if isinstance(n, torch.fx.Node)))
        for node in operands:
            before = original.get(node)
            after = node.meta.get("val")
            if not isinstance(before, torch.Tensor) or same_layout(before, after):
                continue
            if not is_row_major(before):
                raise CannotPropagate("a result with strides of its own")
            with self.graph.graph.inserting_before(reader):
                copied = self._add_copy(node, torch.contiguous_format)
            if first is None:
                reader.replace_input_with(node, copied)
                continue
            returned = [copied if k < first and n is node else n for k, n in enumerate(reader.args[0])]  # pyright: ignore[reportArgumentType]
            reader.args = (returned,)


def same_layout(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return same_numbers(left.stride(), right.stride())
    return False
