"""verify_graph: the invariants of the functional ATen graph between passes.

Runs under test and `LAMPWORK_VERIFY=1`. Invariant checked: nodes in order of use, one output, and on every call a fake
value that agrees with what the operator's fake implementation gives now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.fx

from .rewriting import fake_mode_of, fake_value, is_pure, same_numbers


class InvalidRewrite(AssertionError):
    """A pass left a graph that breaks an invariant."""

    def __init__(self, name: str, node: torch.fx.Node, problem: str) -> None:
        super().__init__(f"after pass {name}: node {node.name} ({node.target}): {problem}")


def verify_graph(graph: torch.fx.GraphModule, name: str) -> None:
    """Raise InvalidRewrite (or fx's own lint error) for the first broken invariant."""
    graph.graph.lint()
    mode = fake_mode_of(graph)
    for node in graph.graph.nodes:
        if node.op != "call_function" or node.meta.get("opaque"):
            continue
        if "val" not in node.meta:
            if isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.returns:
                continue  # a check of values, say: it gives nothing
            raise InvalidRewrite(name, node, "has no fake value")
        if any(n.meta.get("opaque") for n in node.all_input_nodes) or not is_pure(node):
            continue
        if _depends_on_data(node.meta["val"]):  # each run makes numbers of its own
            continue
        try:
            right = fake_value(node, mode)
        except NotImplementedError:  # the operator runs on a device only, so the pass has said what it gives
            continue
        _compare(name, node, node.meta["val"], right)


def _compare(name: str, node: torch.fx.Node, recorded: Any, actual: Any) -> None:
    if isinstance(recorded, (list, tuple)) and isinstance(actual, (list, tuple)):
        for left, right in zip(recorded, actual):
            _compare(name, node, left, right)
    elif isinstance(recorded, torch.Tensor) and isinstance(actual, torch.Tensor):
        for what in ("shape", "dtype", "device"):
            left, right = getattr(recorded, what), getattr(actual, what)
            if not (_agree(left, right) if what == "shape" else left == right):
                problem = f"{what} {getattr(recorded, what)} is recorded, {getattr(actual, what)} is right"
                raise InvalidRewrite(name, node, problem)
        steps = zip(recorded.stride(), actual.stride(), actual.shape)
        if any(not _agree((a,), (b,)) and _value(s) > 1 for a, b, s in steps):
            raise InvalidRewrite(name, node, f"strides {recorded.stride()} are recorded, {actual.stride()} are right")


def _depends_on_data(value: Any) -> bool:
    """Whether a result has sizes that only the run time knows."""
    if isinstance(value, (list, tuple)):
        return any(map(_depends_on_data, value))
    numbers = value.shape if isinstance(value, torch.Tensor) else (value,)
    return any(isinstance(number, torch.SymInt) and number.node.hint is None for number in numbers)


def _agree(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Whether sizes are equal: certainly, or in the traced call (facts may say so in ways that are not looked for)."""
    return same_numbers(left, right) or list(map(_value, left)) == list(map(_value, right))


def _value(number: Any) -> int:
    return number.node.hint if isinstance(number, torch.SymInt) else number
