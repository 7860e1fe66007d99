"""What devices choose for training steps, joined to the stage that cuts a step in two.

Capture knows no devices and device backends know no capture; both speak of nodes of a graph. Invariant: a graph on a
device whose backend has no choice of its own is cut by the defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lampwork_capture.aot import PartitionPolicy, default_recompute_cost
from lampwork_inductor_core import CompileOptions
from lampwork_inductor_core.backend import BackendNotFound, DeviceBackend, find_backend


def partition_policy(core: CompileOptions, memory_budget: float) -> PartitionPolicy:
    """The policy by which joint graphs are rewritten and cut."""
    devices = _Devices(core)
    return PartitionPolicy(devices.recompute_cost, memory_budget, devices.rewrite)


class _Devices:
    """The devices' own choices, looked up when first needed."""

    def __init__(self, core: CompileOptions) -> None:
        self._found: dict[str, DeviceBackend | None] = dict(core.backends)

    def recompute_cost(self, node: torch.fx.Node) -> float:
        """That of the device on which a node is computed."""
        value = node.meta.get("val")
        first = value[0] if isinstance(value, list | tuple) and value else value
        own: Callable[[torch.fx.Node], float] | None = None
        if isinstance(first, torch.Tensor):
            own = getattr(self._of(first.device), "recompute_cost", None)
        return default_recompute_cost(node) if own is None else own(node)

    def rewrite(self, graph: torch.fx.GraphModule, forward: frozenset[torch.fx.Node], results: int) -> None:
        """By the device of all tensors with sizes, if that is one."""
        devices: dict[str, torch.device] = {}
        for node in graph.graph.nodes:
            value: Any = node.meta.get("val")
            if isinstance(value, torch.Tensor) and value.dim():
                devices.setdefault(value.device.type, value.device)
        if len(devices) != 1:
            return
        own = getattr(self._of(next(iter(devices.values()))), "rewrite_joint", None)
        if own is not None:
            own(graph, forward, results)

    def _of(self, device: torch.device) -> DeviceBackend | None:
        if device.type not in self._found:
            try:
                self._found[device.type] = find_backend(device)
            except BackendNotFound:
                self._found[device.type] = None
        return self._found[device.type]
