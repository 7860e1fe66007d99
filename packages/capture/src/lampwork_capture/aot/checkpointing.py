"""Activation checkpointing in a trace: the body is recorded again in the backward pass, with the same random numbers.

The captured operation runs torch's own `checkpoint` while tracing, so that autograd reads nothing of the body but its
inputs, and the recomputation becomes part of the backward graph. Where the body draws random numbers, the forward graph
keeps the generator's state, a few kilobytes, and the backward graph draws from that state again. Invariant: outside of
the recomputation the generators are as if it had not happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils.checkpoint import checkpoint

from ..graph.checkpoint_call import call_checkpoint
from ..graph.transforms import plain_call
from .trace import AtenRecorder

_SEEDED = (torch.Tag.nondeterministic_seeded,)  # kept, and in the order of the random operators

_library = torch.library.Library("lampwork", "FRAGMENT")
_library.define("random_state(Device device) -> Tensor", tags=_SEEDED)
_library.define("swap_random_state(Tensor state, Device device) -> Tensor", tags=_SEEDED)


def _read(device: torch.device) -> Tensor:
    """The state of a device's default generator, as bytes in host memory."""
    return torch.get_rng_state() if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)


def _write(state: Tensor, device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_rng_state(state)
    else:
        torch.get_device_module(device).set_rng_state(state, device)


def _swap(state: Tensor, device: torch.device) -> Tensor:
    """Sets a generator to `state` and returns the state that it had."""
    previous = _read(device)
    _write(state, device)
    return previous


_library.impl("random_state", _read, "CompositeExplicitAutograd")
_library.impl("swap_random_state", _swap, "CompositeExplicitAutograd")


@torch.library.register_fake("lampwork::random_state", lib=_library)
def _state_like(device: torch.device) -> Tensor:
    return torch.empty(_read(device).numel(), dtype=torch.uint8)


@torch.library.register_fake("lampwork::swap_random_state", lib=_library)
def _swapped_like(state: Tensor, device: torch.device) -> Tensor:
    return torch.empty_like(state)


def swaps_generators(graph: fx.GraphModule) -> bool:
    """Whether a graph sets random generators back while it runs."""
    return any(node.target is torch.ops.lampwork.swap_random_state.default for node in graph.graph.nodes)


def restoring_generators(run: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """`run`, which leaves the generators as they were where it raises between two swaps."""

    def call(arguments: list[Any]) -> Any:
        devices = {torch.device("cpu"), *(a.device for a in arguments if isinstance(a, Tensor))}
        states = {device: _read(device) for device in devices}
        try:
            return run(arguments)
        except BaseException:
            for device, state in states.items():
                _write(state, device)
            raise

    return call


def replacements(recorder: AtenRecorder) -> Mapping[Any, Callable[..., Any]]:
    """What stands in for the captured operation while `recorder` records."""

    def traced_checkpoint(body: Any, captured: Sequence[Tensor], preserve_rng_state: bool) -> Any:
        run = plain_call(body)
        if preserve_rng_state:
            run = _Replayed(run, recorder, {torch.device("cpu"), *(t.device for t in captured)})
        return checkpoint(run, *captured, use_reentrant=False, preserve_rng_state=False)

    return {call_checkpoint: traced_checkpoint}


class _Replayed:
    """A body that draws the same random numbers every time it runs."""

    def __init__(self, body: Callable[..., Any], recorder: AtenRecorder, devices: set[torch.device]) -> None:
        self._body = body
        self._recorder = recorder
        self._devices = sorted(devices, key=str)
        self._states: dict[torch.device, Tensor] | None = None

    def __call__(self, *args: Any) -> Any:
        if self._states is None:
            return self._first(*args)
        previous = {
            device: torch.ops.lampwork.swap_random_state(state, device) for device, state in self._states.items()
        }
        try:
            return self._body(*args)
        finally:
            for device, state in previous.items():
                torch.ops.lampwork.swap_random_state(state, device)

    def _first(self, *args: Any) -> Any:
        states = {device: torch.ops.lampwork.random_state(device) for device in self._devices}
        drawn = self._recorder.draws
        try:
            return self._body(*args)
        finally:
            has_drawn = self._recorder.draws > drawn
            self._states = states if has_drawn else {}
            if not has_drawn:
                self._recorder.forget(states.values())
