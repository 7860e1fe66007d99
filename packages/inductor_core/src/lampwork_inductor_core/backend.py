"""DeviceBackend: all that a device must bring to reuse the lowering core.

Backends are found through the entry-point group `lampwork.device_backends` (name: the torch device type; value: a class
or factory without arguments). Invariant: the core names no device; whatever depends on one is asked of this protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

import torch

from .codegen.scheduled_kernel import KernelSource, ScheduledKernel

ENTRY_POINTS = "lampwork.device_backends"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether two nodes may fuse on this device, and why not (for `explain`)."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LargeMemory:
    """What wrappers do with a new buffer of at least so many bytes: `buffer = prepare(buffer)`."""

    least_bytes: int
    prepare: Callable[[torch.Tensor], torch.Tensor]


@runtime_checkable
class DeviceBackend(Protocol):
    """What a device brings. Kernel callables take tensors (buffers, in argument order), integers (sizes), floats.

    A backend may have more attributes beside: `large_memory` (LargeMemory or None); `tune_schedule`, from the
    configuration of the schedule to the one that suits its device; `split_reduction`, from a
    `schedule.split_reductions.ReductionShape` to the number of parts that are reduced on their own (1: as it is);
    `replays` (Replays, of `runtime.replay`, or None) if its device can record the work of a whole graph and replay it;
    `rewrite_joint`, which changes the graph of a whole training step in place before it is cut in two (the graph, the
    nodes of its forward pass, how many of its first results keep their strides); `recompute_cost`, from a node to what
    computing it again in the backward pass costs, in bytes kept.
    """

    device_type: str

    def graph_passes(self) -> Sequence[Any]:
        """Passes over the functional ATen graph, after the core's own: `(name, (graph, context) -> graph)` pairs."""
        ...

    def lowerings(self) -> Mapping[Any, Callable[..., Any]]:
        """Lowerings that add to or replace the core's, by operator overload."""
        ...

    def can_fuse(self, first: Any, second: Any) -> Verdict:
        """Whether this device can run two schedule nodes in one kernel; legality is already established."""
        ...

    def generate(self, kernel: ScheduledKernel) -> KernelSource:
        """The text of one kernel. Pure: equal kernels give equal text."""
        ...

    def compile(self, sources: Sequence[KernelSource]) -> Mapping[str, Callable[..., None]]:
        """Build all kernels of a graph (in one compiler process where it can be one); callables by kernel name."""
        ...


class BackendNotFound(RuntimeError):
    """No installed package brings a backend for this device."""


class CompilerNotFound(RuntimeError):
    """The machine lacks what a backend builds kernels with; the message names what to install."""


def find_backend(device: torch.device) -> DeviceBackend:
    """The backend for a device type; where several packages bring one, the first on `sys.path` wins.

    Raises BackendNotFound, with what is installed and what to install.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        found.setdefault(point.name, point)
    if device.type not in found:
        raise BackendNotFound(
            f"no Lampwork backend for device type {device.type!r} (installed: {sorted(found) or 'none'}); "
            "install lampwork-inductor-cpu or lampwork-inductor-gpu, or a package that brings one"
        )
    return found[device.type].load()()
