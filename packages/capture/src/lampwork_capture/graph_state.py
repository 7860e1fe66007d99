"""Restoring torch's state when a graph raises: a graph that enters `no_grad` leaves it only if it runs to its end.

`restoring_state` wraps what a backend made of a graph. Invariants: a graph without such nodes is not wrapped and costs
nothing; after an exception grad mode, inference mode and autocast are what they were before the call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch.amp.autocast_mode import _enter_autocast, _exit_autocast
from torch.autograd.grad_mode import _enter_inference_mode, _exit_inference_mode

from .graph_contexts import ENTERING, EnteredContext

_INFERENCE_MODE: Any = vars(torch._C)["_InferenceMode"]
_GRAD_MODE: Any = torch._C._set_grad_enabled
_CHANGES = frozenset(
    {_GRAD_MODE, _enter_autocast, _exit_autocast, _enter_inference_mode, _exit_inference_mode, torch.set_grad_enabled}
    | ENTERING
)


@dataclass(frozen=True, slots=True)
class _Autocast:
    """The autocast state of one kind of device."""

    device: str
    enabled: bool
    dtype: torch.dtype

    @classmethod
    def now(cls, device: str) -> _Autocast:
        return cls(device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))

    def restore(self) -> None:
        torch.set_autocast_enabled(self.device, self.enabled)
        torch.set_autocast_dtype(self.device, self.dtype)


def restoring_state(graph: torch.fx.GraphModule, compiled: Callable[..., Any]) -> Callable[..., Any]:
    """`compiled`, such that an exception leaves torch's state as it was before the call.

    `graph` is what `compiled` was made of; `compiled` itself is returned if it changes no state.
    """
    nodes = [node for node in graph.graph.nodes if node.op == "call_function" and node.target in _CHANGES]
    if not nodes:
        return compiled
    devices = sorted({str(node.args[0]) for node in nodes if node.target is _enter_autocast} | {"cpu", "cuda"})

    def call(*args: Any) -> Any:
        grad = torch.is_grad_enabled()
        inference = torch.is_inference_mode_enabled()
        cache = torch.is_autocast_cache_enabled()
        autocast = [_Autocast.now(device) for device in devices]
        nesting: int = torch.autocast_increment_nesting() - 1
        torch.autocast_decrement_nesting()
        try:
            return compiled(*args)
        except BaseException as error:
            for entered in reversed(_held(error, EnteredContext)):
                entered.leave()
            if torch.is_inference_mode_enabled() != inference:
                _leave_inference_modes(error)
            for state in autocast:
                state.restore()
            torch.set_autocast_cache_enabled(cache)
            _unnest(nesting)
            torch._C._set_grad_enabled(grad)
            raise

    return call


def _leave_inference_modes(error: BaseException) -> None:
    """Leave the inference modes that frames of the graph still hold; else they end whenever the traceback dies."""
    for mode in reversed(_held(error, _INFERENCE_MODE)):
        _exit_inference_mode(mode)


def _held(error: BaseException, cls: type) -> list[Any]:
    """The objects of a class that frames of the graph hold."""
    held: list[Any] = []
    step = error.__traceback__
    while step is not None:
        held += [value for value in step.tb_frame.f_locals.values() if isinstance(value, cls)]
        step = step.tb_next
    return held


def _unnest(nesting: int) -> None:
    """Bring the depth of open autocast contexts back; the cache of casts is emptied with the outermost."""
    depth: int = torch.autocast_increment_nesting()
    while depth > nesting:
        depth = torch.autocast_decrement_nesting()
    if nesting == 0:
        torch.clear_autocast_cache()
