"""channels_last: graphs that convolutions dominate compute with the channel innermost.

The input of the first convolution is converted once, weights are converted (and hoisted, being static), and every
stride downstream follows from the operators' own rules. Invariant: results keep eager's strides; where the rules lead
to something that cannot be expressed, the graph stays as it was.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx

from .rewriting import PassContext, add_call, calls, fake_mode_of, fake_value, output_node

aten = torch.ops.aten
_MATRIX_PRODUCTS = frozenset({aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default})
_VIEWS: dict[Any, Any] = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}
_LEAST = 3  # convolutions in a graph before the conversions pay


class _CannotPropagate(Exception):
    """An operator does not run with the new strides."""


def choose_channels_last(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph in channels-last, or as it was."""
    if not context.config.channels_last:
        return graph
    convolutions = [n for n in calls(graph, (aten.convolution.default,)) if _is_candidate(n)]
    others = sum(1 for _ in calls(graph, _MATRIX_PRODUCTS))
    if len(convolutions) < _LEAST or len(convolutions) < others:
        return graph
    if all(_is_channels_last(n.meta["val"]) for n in convolutions):
        return graph
    change = _Change(graph)
    try:
        change.convert()
    except _CannotPropagate:
        change.undo()
    return graph


def _is_candidate(node: torch.fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dim() == 4 and not node.args[6]


def _is_channels_last(value: torch.Tensor) -> bool:
    return value.is_contiguous(memory_format=torch.channels_last)


class _Change:
    """The conversion of one graph, which can be undone."""

    def __init__(self, graph: torch.fx.GraphModule) -> None:
        self.graph = graph
        self.mode = fake_mode_of(graph)
        self.added: list[torch.fx.Node] = []
        self.before: list[tuple[torch.fx.Node, Any, Any, Any]] = []  # node, target, arguments, fake value
        self.converted: dict[torch.fx.Node, torch.fx.Node] = {}

    def convert(self) -> None:
        """Raises _CannotPropagate half-way; then `undo`."""
        output = output_node(self.graph)
        results: list[Any] = [n.meta.get("val") for n in output.all_input_nodes]
        changed: set[torch.fx.Node] = set()
        for node in list(self.graph.graph.nodes):
            if node.op != "call_function":
                continue
            is_convolution = node.target is aten.convolution.default and _is_candidate(node)
            if not is_convolution and not any(n in changed for n in node.all_input_nodes):
                continue
            old = node.meta.get("val")
            self.before.append((node, node.target, node.args, old))
            if is_convolution:
                self._convert_operands(node)
            self._propagate(node)
            if not _same(old, node.meta["val"]):
                changed.add(node)
        self._restore(output, results)

    def undo(self) -> None:
        """Put everything back."""
        for node, target, arguments, value in reversed(self.before):
            node.target, node.args, node.meta["val"] = target, arguments, value
        for node in reversed(self.added):
            self.graph.graph.erase_node(node)

    def _convert_operands(self, node: torch.fx.Node) -> None:
        with self.graph.graph.inserting_before(node):
            for position in (0, 1):
                argument = node.args[position]
                assert isinstance(argument, torch.fx.Node)
                if not _is_channels_last(argument.meta["val"]):
                    if argument not in self.converted:
                        self.converted[argument] = self._add_copy(argument, torch.channels_last)
                    node.update_arg(position, self.converted[argument])

    def _add_copy(self, node: torch.fx.Node, memory_format: torch.memory_format) -> torch.fx.Node:
        value = node.meta["val"]
        strides = torch.empty(value.shape, device="meta").contiguous(memory_format=memory_format).stride()
        known = self._strided(value, strides)
        copied = add_call(
            self.graph, self.mode, node, aten.clone.default, node, known=known, memory_format=memory_format
        )
        self.added.append(copied)
        return copied

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
                raise _CannotPropagate(str(error)) from error
            node.target = _VIEWS[node.target]
            try:
                node.meta["val"] = fake_value(node, self.mode)
            except (RuntimeError, ValueError) as again:
                raise _CannotPropagate(str(again)) from again

    def _known_value(self, node: torch.fx.Node) -> torch.Tensor | None:
        """The result of the two commonest cases without a run on fake tensors: convolutions, and pointwise operators
        whose operands all lie in channels-last."""
        old = node.meta["val"]
        if not isinstance(old, torch.Tensor) or old.dim() != 4 or any(s == 1 for s in old.shape[1:]):
            return None
        if node.target is aten.convolution.default:
            _, c, h, w = old.shape
            return self._strided(old, (h * w * c, 1, w * c, c))
        if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            return None
        values = [n.meta.get("val") for n in node.all_input_nodes]
        first = values[0]
        if not isinstance(first, torch.Tensor) or first.dtype != old.dtype:
            return None
        if all(isinstance(v, torch.Tensor) and v.shape == old.shape and _is_channels_last(v) for v in values):
            return first
        return None

    def _restore(self, output: torch.fx.Node, results: list[Any]) -> None:
        """Give each result the strides that eager gives it."""
        self.before.append((output, output.target, output.args, output.meta.get("val")))
        for node, before in zip(list(output.all_input_nodes), results):
            after = node.meta.get("val")
            if not isinstance(before, torch.Tensor) or _same(before, after):
                continue
            if not before.is_contiguous():
                raise _CannotPropagate("a result with strides of its own")
            with self.graph.graph.inserting_before(output):
                copied = self._add_copy(node, torch.contiguous_format)
            output.replace_input_with(node, copied)


def _same(left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return left.stride() == right.stride()
    return False
