"""CpuBackend: this package as the core's DeviceBackend for CPUs.

Found through the entry-point group `lampwork.device_backends`. `generate` is pure and needs no compiler; `compile`
does. Invariant: one backend object has one config, one instruction set and one table of loaded kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lampwork_inductor_core.backend import Verdict
from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource, ScheduledKernel
from lampwork_inductor_core.lowering.scatter import GENERATED

from . import onednn
from .build import Builder
from .config import CpuConfig
from .isa import BY_NAME, Isa, detect
from .kernel import generate_kernel
from .large_memory import large_memory
from .scatter_into_sums import scatter_into_sums
from .toolchain import find_toolchain

_LOADED: dict[
    str, dict[str, Callable[..., None]]
] = {}  # by identity of the builder: a library is loaded once a process


class CpuBackend:
    """Generates, builds and binds C++ kernels; brings the oneDNN passes and scatters."""

    device_type = "cpu"

    def __init__(self, config: CpuConfig | None = None) -> None:
        self.config = CpuConfig.from_environment() if config is None else config
        self.large_memory = large_memory() if self.config.huge_pages else None
        self.isa: Isa = BY_NAME[self.config.isa] if self.config.isa else detect()

    def graph_passes(self) -> Sequence[Any]:
        """Passes over the functional ATen graph: scatters into what they are added to; oneDNN calls in place of
        linears and convolutions."""
        libraries = onednn.passes() if self.config.mkldnn else ()
        return (("scatter_into_sums", scatter_into_sums), *libraries)

    def lowerings(self) -> Mapping[Any, Callable[..., Any]]:
        """Scatters, in which the library's kernels take 2 to 20 times as long; else the core's lowerings serve."""
        return GENERATED

    def can_fuse(self, first: Any, second: Any) -> Verdict:
        """Everything legal may fuse."""
        return Verdict(True)

    def generate(self, kernel: ScheduledKernel) -> KernelSource:
        """The C++ text of one kernel."""
        return generate_kernel(kernel, self.isa, self.config)

    def compile(self, sources: Sequence[KernelSource]) -> Mapping[str, Callable[..., None]]:
        """All kernels of a graph in one compiler process. Raises CompilerNotFound, CompileError."""
        builder = Builder(find_toolchain(self.config.compiler), self.isa, self.config.cache_dir, {})
        loaded = _LOADED.setdefault(f"{self.config.cache_dir}|{builder.identity}", {})
        return Builder(builder.toolchain, self.isa, self.config.cache_dir, loaded).compile(sources)
