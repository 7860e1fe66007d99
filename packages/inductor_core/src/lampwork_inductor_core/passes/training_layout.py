"""training_layout: convolutions of a training step compute with the channel innermost, forward and backward.

A rewrite of the joint graph, before it is cut in two, so that what is kept lies in the new format on both sides. The
format spreads from convolutions by the operators' own rules; a call that cannot take it gets its operands as they were.
Invariants: the first results (of the forward pass, and gradients) keep their strides, and so do operands of calls that
act in the order of memory; whether convolutions change is decided by the forward pass alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.fx

from .channels_last import CannotPropagate, Change, is_random, reads_memory_order, same_layout
from .rewriting import is_channels_last, output_node, same_numbers

aten = torch.ops.aten
_CONVERSIONS = frozenset({aten._to_copy.default, aten.clone.default})
_OPERANDS = {aten.convolution.default: 2, aten.convolution_backward.default: 3}
_RANK = 4


def choose_training_layout(
    graph: torch.fx.GraphModule,
    forward: frozenset[torch.fx.Node],
    results: int,
    is_wanted: Callable[[list[torch.fx.Node]], bool],
) -> None:
    """Changes a joint graph in place. `results`: how many of its first results keep their strides; `is_wanted`: whether
    the convolutions of the forward pass should change. Where something cannot be expressed the graph stays as it was.

    Convolutions of groups keep graphs as they are: libraries have no one format for their gradients.
    """
    found = [n for n in graph.graph.nodes if n.target is aten.convolution.default and n in forward]
    plain = [n for n in found if _is_plain(n, 8)]
    if len(plain) < len(found) or any(n.meta["val"].dim() != _RANK for n in plain):
        return
    chosen = bool(plain) and is_wanted(plain)
    if not chosen and not any(is_channels_last(n.args[0].meta["val"]) for n in plain):
        return
    change = _TrainingChange(graph, results, chosen)
    try:
        change.convert()
    except CannotPropagate:
        change.undo()


def _is_plain(node: torch.fx.Node, groups: int) -> bool:
    value = node.args[0].meta.get("val")  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    count = node.args[groups]
    return isinstance(value, torch.Tensor) and value.dim() == _RANK and isinstance(count, int) and count == 1


class _TrainingChange(Change):
    """The conversion of one joint graph, which can be undone."""

    def __init__(self, graph: torch.fx.GraphModule, results: int, chosen: bool) -> None:
        super().__init__(graph)
        self._results = results
        self._chosen = chosen

    def convert(self) -> None:
        """Raises CannotPropagate half-way; then `undo`."""
        output = output_node(self.graph)
        original: dict[torch.fx.Node, Any] = {n: n.meta.get("val") for n in self.graph.graph.nodes}
        changed = set[torch.fx.Node]()
        for node in list(self.graph.graph.nodes):
            if node.op != "call_function":
                continue
            is_convolution = self._is_convolution(node)
            if not is_convolution and not any(n in changed for n in node.all_input_nodes):
                continue
            if is_random(node) or reads_memory_order(node):
                self.restore(node, original)
                continue
            old = node.meta.get("val")
            self.before.append((node, node.target, node.args, old))
            if is_convolution:
                self.convert_operands(node, range(_OPERANDS[node.target]))
            try:
                node.meta["val"] = self._value_of(node)
            except (RuntimeError, ValueError):
                self.restore(node, original)
            if not same_layout(old, node.meta["val"]):
                changed.add(node)
        self.restore(output, original, self._results)

    def _is_convolution(self, node: torch.fx.Node) -> bool:
        """Whether a call becomes one in channels-last: all are chosen, or its image or weight lies so."""
        if node.target not in _OPERANDS:
            return False
        backward = node.target is aten.convolution_backward.default
        if not _is_plain(node, 9 if backward else 8):
            return False
        image, weight = node.args[1:3] if backward else node.args[:2]
        values = (image.meta["val"], weight.meta["val"])  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        return self._chosen or any(is_channels_last(v) and not v.is_contiguous() for v in values)

    def _value_of(self, node: torch.fx.Node) -> Any:
        """The fake value of a call on operands in new strides. What libraries give is known; fake kernels of a build
        without them would describe it as contiguous."""
        old = node.meta["val"]
        if node.target is aten.convolution.default:
            return self.innermost(old)
        if node.target is aten.convolution_backward.default:
            *images, bias = old
            return (*(v if v is None else self.innermost(v) for v in images), bias)
        if self._is_elementwise(node):
            return self.innermost(old)
        return self.run(node)

    def _is_elementwise(self, node: torch.fx.Node) -> bool:
        """Arithmetic on tensors in channels-last, and on what broadcasts along one dimension: the commonest case."""
        old = node.meta["val"]
        pointwise = torch.Tag.pointwise in getattr(node.target, "tags", ())
        if not pointwise and (node.target not in _CONVERSIONS or "memory_format" in node.kwargs):
            return False
        if not isinstance(old, torch.Tensor) or old.dim() != _RANK or any(_is_one(s) for s in old.shape[1:]):
            return False
        values = [n.meta.get("val") for n in node.all_input_nodes]
        whole = [v for v in values if isinstance(v, torch.Tensor) and same_numbers(v.shape, old.shape)]
        rest = [v for v in values if not isinstance(v, torch.Tensor) or not same_numbers(v.shape, old.shape)]
        narrow = all(isinstance(v, torch.Tensor) and sum(not _is_one(s) for s in v.shape) <= 1 for v in rest)
        return bool(whole) and narrow and all(is_channels_last(v) for v in whole)


def _is_one(size: Any) -> bool:
    return same_numbers((size,), (1,))
