"""fold_batch_norm: a convolution and the per-channel arithmetic after it become one convolution.

Matches a whole `_native_batch_norm_legit_no_training` and any chain of additions, subtractions, multiplications and
divisions by per-channel static tensors. The new weight and bias are computed in the graph from static inputs, so that
`hoist_static` takes them out of it. Invariant: everything folded depends on static inputs only; a value with another
user is not folded.
"""

from __future__ import annotations

import operator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.fx

from .dead_code import remove_dead_code
from .rewriting import PassContext, add_call, calls, fake_mode_of, owners_of_results, same_numbers
from .static_nodes import static_nodes

aten = torch.ops.aten
_ARITHMETIC: dict[Any, str] = {
    aten.add.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.div.Tensor: "div",
    aten.add.Scalar: "add",
    aten.sub.Scalar: "sub",
    aten.mul.Scalar: "mul",
    aten.div.Scalar: "div",
}
_SAME_ORDER_VIEWS = frozenset({aten.view.default, aten.reshape.default, aten.unsqueeze.default, aten.squeeze.dim})
_NORM = aten._native_batch_norm_legit_no_training.default


def fold_batch_norm(graph: torch.fx.GraphModule, context: PassContext) -> torch.fx.GraphModule:
    """The graph with normalisations folded into the convolutions before them."""
    static = static_nodes(graph)
    owners = owners_of_results(graph)
    mode = fake_mode_of(graph)
    for node in calls(graph, (aten.convolution.default,)):
        if _is_foldable(node, static):
            _Fold(graph, mode, static, owners, node).run()
    return remove_dead_code(graph, context)


def _is_foldable(node: torch.fx.Node, static: set[torch.fx.Node]) -> bool:
    weight, bias, transposed = node.args[1], node.args[2], node.args[6]
    return (
        weight in static
        and (bias is None or bias in static)
        and not transposed
        and isinstance(node.meta.get("val"), torch.Tensor)
        and node.meta["val"].dtype in (torch.float32, torch.float64)
    )


class _Fold:
    """One convolution: y = scale * conv(x) + shift, the two as steps to apply to weight and bias, in order."""

    def __init__(
        self,
        graph: torch.fx.GraphModule,
        mode: AbstractContextManager[Any],
        static: set[torch.fx.Node],
        owners: set[torch.fx.Node],
        node: torch.fx.Node,
    ) -> None:
        self.graph, self.mode, self.static, self.owners, self.node = graph, mode, static, owners, node
        self.channels = int(node.meta["val"].shape[1])
        self.rank = node.meta["val"].dim()
        self.steps: list[tuple[str, Any]] = []

    def run(self) -> None:
        last, end = self.node, self.node
        while len(last.users) == 1 and last not in self.owners:
            (user,) = last.users
            step = self._step(last, user)
            if step is None:
                break
            self.steps.extend(step)
            last = end = user
            if user.target is _NORM:
                getitem = self._only_result(user)
                if getitem is None:
                    return
                last = end = getitem
        if end is self.node or not any(isinstance(value, torch.fx.Node) for _, value in self.steps):
            return
        self._replace(end)

    def _only_result(self, norm: torch.fx.Node) -> torch.fx.Node | None:
        users = [u for u in norm.users if u.users]
        if len(users) == 1 and users[0].target is operator.getitem and users[0].args[1] == 0:
            return users[0]
        return None

    def _step(self, value: torch.fx.Node, user: torch.fx.Node) -> list[tuple[str, Any]] | None:
        if user.target is _NORM and user.args[0] is value:
            weight, bias, mean, spread, _, eps = user.args[1:]
            operands = [o for o in (weight, bias, mean, spread) if o is not None]
            if self._only_result(user) is None or any(o not in self.static for o in operands):
                return None
            steps: list[tuple[str, Any]] = [("sub", mean), ("normalise", (spread, eps))]
            if weight is not None:
                steps.append(("mul", weight))
            if bias is not None:
                steps.append(("add", bias))
            return steps
        name = _ARITHMETIC.get(user.target)
        if (
            name is None
            or len(user.args) != 2
            or user.kwargs
            or not same_numbers(user.meta["val"].shape, value.meta["val"].shape)
        ):
            return None
        if user.meta["val"].dtype != value.meta["val"].dtype:
            return None
        left, right = user.args
        if left is right:
            return None
        if right is value and name in ("add", "mul"):
            left, right = right, left
        if left is not value or isinstance(right, bool):
            return None
        if isinstance(right, (int, float)):
            return [(name, float(right))]
        return [(name, right)] if self._is_per_channel(right) else None

    def _is_per_channel(self, operand: Any) -> bool:
        if not isinstance(operand, torch.fx.Node) or operand not in self.static:
            return False
        value = operand.meta.get("val")
        if not isinstance(value, torch.Tensor) or value.dtype != self.node.meta["val"].dtype:
            return False
        shape = [1] * (self.rank - value.dim()) + list(value.shape)
        return len(shape) == self.rank and all(s == (self.channels if k == 1 else 1) for k, s in enumerate(shape))

    def _replace(self, end: torch.fx.Node) -> None:
        node = self.node
        weight, bias = node.args[1], node.args[2]
        assert isinstance(weight, torch.fx.Node)
        with self.graph.graph.inserting_after(end):
            anchor = self.graph.graph.call_function(operator.getitem, ())  # a place, erased below
        with self.graph.graph.inserting_before(anchor):
            scale: Any = None
            shift: Any = bias
            for name, operand in self.steps:
                scale, shift = self._apply(name, operand, scale, shift)
            if scale is not None:
                if isinstance(scale, torch.fx.Node):
                    shape = [self.channels] + [1] * (self.rank - 1)
                    scale = self._call(aten.view.default, scale, shape)
                weight = self._call(aten.mul.Tensor, weight, scale)
            if isinstance(shift, float):
                like = weight.meta["val"]
                options = {"dtype": like.dtype, "device": like.device}
                shift = self._call(aten.full.default, [self.channels], shift, **options)
            folded = self._call(node.target, node.args[0], weight, shift, *node.args[3:])
        self.graph.graph.erase_node(anchor)
        end.replace_all_uses_with(folded)
        for old in (end, *reversed(list(_chain(node, end)))):
            if not old.users:
                self.graph.graph.erase_node(old)

    def _apply(self, name: str, operand: Any, scale: Any, shift: Any) -> tuple[Any, Any]:
        if name == "normalise":
            spread, eps = operand
            inverse = self._call(aten.rsqrt.default, self._call(aten.add.Scalar, spread, eps))
            return self._combine("mul", scale, inverse), None if shift is None else self._combine("mul", shift, inverse)
        if isinstance(operand, torch.fx.Node) and operand.meta["val"].dim() != 1:
            vector = self._vector_under(operand)
            operand = self._call(aten.reshape.default, operand, [self.channels]) if vector is None else vector
        if name in ("mul", "div"):
            return self._combine(name, scale, operand), None if shift is None else self._combine(name, shift, operand)
        return scale, self._combine(name, 0.0 if shift is None else shift, operand)

    def _vector_under(self, operand: torch.fx.Node) -> torch.fx.Node | None:
        """The vector of one element a channel that a per-channel operand is a plain view of."""
        current = operand
        while current.target in _SAME_ORDER_VIEWS:
            source = current.args[0]
            assert isinstance(source, torch.fx.Node)
            current = source
            if current.meta["val"].numel() != self.channels:
                return None
        return current if current.meta["val"].dim() == 1 else None

    def _combine(self, name: str, left: Any, right: Any) -> Any:
        """`left name right` for numbers and per-channel nodes; None on the left is one."""
        if left is None:
            if name == "mul":
                return right
            left = 1.0
        if not isinstance(left, torch.fx.Node) and not isinstance(right, torch.fx.Node):
            return (
                {"add": left + right, "sub": left - right, "mul": left * right}.get(name)
                if name != "div"
                else (left / right if right else float("nan"))
            )
        if name == "add" and not isinstance(left, torch.fx.Node):
            return right if left == 0 else self._call(aten.add.Scalar, right, left)
        if name == "mul" and not isinstance(left, torch.fx.Node):
            return self._call(aten.mul.Scalar, right, left)
        if name == "sub" and not isinstance(left, torch.fx.Node):
            negative = self._call(aten.neg.default, right)
            return negative if left == 0 else self._call(aten.add.Scalar, negative, left)
        if name == "div" and not isinstance(left, torch.fx.Node):
            inverse = self._call(aten.reciprocal.default, right)
            return inverse if left == 1 else self._call(aten.mul.Scalar, inverse, left)
        suffix = "Tensor" if isinstance(right, torch.fx.Node) else "Scalar"
        return self._call(getattr(getattr(aten, name), suffix), left, right)

    def _call(self, target: Any, *arguments: Any, **keywords: Any) -> torch.fx.Node:
        known = self._known_value(target, arguments)
        created = add_call(self.graph, self.mode, self.node, target, *arguments, known=known, **keywords)
        if target is not self.node.target:
            self.static.add(created)
        return created

    def _known_value(self, target: Any, arguments: tuple[Any, ...]) -> Any:
        """The fake value of the folded convolution, its weight, and arithmetic on vectors of one element a channel."""
        if target is self.node.target:
            return self.node.meta["val"]
        values = [a.meta["val"] for a in arguments if isinstance(a, torch.fx.Node)]
        if target is aten.mul.Tensor and values[0].dim() == self.rank and values[0].is_contiguous():
            return values[0]
        if target is aten.view.default and values[0].is_contiguous():
            with self.mode:
                shape = arguments[1]
                return torch.empty(shape, dtype=values[0].dtype, device=values[0].device)
        if target in (aten.reshape.default, aten.view.default):
            return None
        dense = all(v.dim() == 1 and v.is_contiguous() and v.dtype == values[0].dtype for v in values)
        return values[0] if values and dense else None


def _chain(start: torch.fx.Node, end: torch.fx.Node) -> list[torch.fx.Node]:
    """The nodes from `start` up to, not including, `end`, each the only user of the one before."""
    nodes: list[torch.fx.Node] = []
    current = start
    while current is not end:
        nodes.append(current)
        following = [u for u in current.users if u is end or u.users or u.op == "call_function"]
        if not following:
            break
        current = following[0]
    return nodes
