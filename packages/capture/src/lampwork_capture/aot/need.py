"""Who needs autograd: the decision between inference and training, when a graph is compiled and again at each call.

A graph is compiled for inference or for training, with certain inputs that require gradients. Calls of the other kind
run the captured graph. Invariant: no call that could need a gradient reaches an inference graph, and none reaches a
training graph whose inputs require other gradients than those it was made for.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from . import torch_layer
from .functionalize import held_tensors


class Need(enum.Enum):
    """Whether a graph, called as it was captured, needs autograd."""

    NONE = "none"  # grad mode is off throughout, or nothing requires gradients
    CERTAIN = "certain"  # grad mode is on and something requires gradients
    UNKNOWN = "unknown"  # the graph changes grad mode itself: tracing with autograd on tells


def sets_grad_mode(graph: fx.GraphModule) -> bool:
    """Whether the graph turns grad mode on or off while it runs."""
    return any(node.target is torch_layer.set_grad_enabled for node in graph.graph.nodes)


def _requires_grad_inside(graph: fx.GraphModule) -> bool:
    return any(node.op == "call_method" and node.target == "requires_grad_" for node in graph.graph.nodes)


def need_of(graph: fx.GraphModule, example_inputs: Sequence[Any], grad_enabled: bool) -> Need:
    """The need for autograd under grad mode `grad_enabled`, without tracing."""
    switches = sets_grad_mode(graph)
    if not grad_enabled and not switches:
        return Need.NONE
    requires = any(isinstance(t, Tensor) and t.requires_grad for t in example_inputs) or any(
        t.requires_grad for _, t in held_tensors(graph)
    )
    if _requires_grad_inside(graph):
        return Need.CERTAIN
    if not requires:
        return Need.NONE
    return Need.UNKNOWN if switches else Need.CERTAIN


def training_gate(example_inputs: Sequence[Any], static_inputs: Sequence[int]) -> Callable[[Sequence[Any]], bool]:
    """A test for each call: whether a graph compiled for training is not for it.

    What parameters and buffers require is guarded, as for `grad_gate`.
    """
    static = frozenset(static_inputs)
    flags = tuple(
        (i, example.requires_grad)
        for i, example in enumerate(example_inputs)
        if isinstance(example, Tensor) and i not in static
    )
    is_grad_enabled = torch.is_grad_enabled

    def differs(args: Sequence[Any]) -> bool:
        if not is_grad_enabled():
            return True
        for i, flag in flags:  # noqa: SIM110 - any() costs twice as much
            if args[i].requires_grad is not flag:
                return True
        return False

    return differs


def grad_gate(
    example_inputs: Sequence[Any], static_inputs: Sequence[int], grad_enabled: bool, switches: bool
) -> Callable[[Sequence[Any]], bool]:
    """A test for each call: whether its arguments need autograd although the compiled graph was made for inference.

    Whether parameters and buffers require gradients is guarded (they are named by their sources), so the test reads it
    once, here; the other inputs are asked on every call, but only when grad mode is on.
    """
    static = frozenset(static_inputs)
    dynamic = tuple(i for i, t in enumerate(example_inputs) if isinstance(t, Tensor) and i not in static)
    static_requires = any(
        isinstance(t, Tensor) and t.requires_grad for i, t in enumerate(example_inputs) if i in static
    )
    is_grad_enabled = torch.is_grad_enabled

    def needs(args: Sequence[Any]) -> bool:
        if not is_grad_enabled():
            # Compiled with grad mode on around a no_grad region, called with it off: still an inference call.
            return False
        if static_requires and not grad_enabled:
            return True
        for i in dynamic:  # noqa: SIM110 - any() costs twice as much
            if args[i].requires_grad:
                return True
        return False

    def needs_inside(args: Sequence[Any]) -> bool:
        # The graph itself switches grad mode and the trace found that nothing then needs gradients. That holds for
        # the same flags only.
        if is_grad_enabled() != grad_enabled:
            return True
        return any(args[i].requires_grad != flag for i, flag in zip(dynamic, flags))

    if not switches:
        return needs
    flags = tuple(example_inputs[i].requires_grad for i in dynamic)
    return needs_inside
