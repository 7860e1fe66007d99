"""ATen graphs to loop IR, schedules and host programs; device-neutral.

`compile_graph` is the whole pipeline; `DeviceBackend` is what a device brings; `graph_backend` plugs into anything that
takes a `torch.compile` backend. Invariant: no device is named here.
"""

from .backend import BackendNotFound, DeviceBackend, Verdict, find_backend
from .compile_graph import CompileOptions, GraphBackend, compile_graph, graph_backend
from .config import Config, ScheduleConfig
from .runtime.compiled_graph import Artifacts, CompiledGraph, InputMismatch
from .runtime.kernel_cache import KernelCache, cache_directory

__all__ = [
    "Artifacts",
    "BackendNotFound",
    "CompileOptions",
    "CompiledGraph",
    "Config",
    "DeviceBackend",
    "GraphBackend",
    "InputMismatch",
    "KernelCache",
    "ScheduleConfig",
    "Verdict",
    "cache_directory",
    "compile_graph",
    "find_backend",
    "graph_backend",
]
