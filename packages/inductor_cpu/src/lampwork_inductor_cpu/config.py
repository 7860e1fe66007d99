"""CpuConfig: every switch of the CPU backend, as one frozen value.

Environment variables are read here and nowhere else. Invariant: a config changes how a kernel runs, never its result
beyond the order of a reduction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lampwork_inductor_core.runtime.kernel_cache import cache_directory


@dataclass(frozen=True, slots=True)
class CpuConfig:
    """Switches of code generation and of the build."""

    isa: str | None = None
    """Generate for this instruction set instead of the machine's (`LAMPWORK_CPU_ISA`: avx512, avx2, neon, baseline)."""
    parallel: bool = True
    """Use OpenMP where the work pays for it (`LAMPWORK_CPU_PARALLEL=0` turns it off)."""
    grain: int = 16384
    """Elements (weighted by the cost of their operations) that a parallel region must have at least."""
    release_gil: int = 65536
    """Kernels of at least this much weighted work run without the interpreter lock."""
    compiler: str | None = None
    """The C++ compiler (`CXX`); None searches for g++ and clang++."""
    cache_dir: Path = field(default_factory=lambda: cache_directory() / "cpu")
    """Where built kernels are kept: `cpu` in the core's cache folder (`LAMPWORK_CACHE_DIR`)."""
    mkldnn: bool = True
    """Call oneDNN with prepacked weights for linears and convolutions (`LAMPWORK_CPU_MKLDNN=0` turns it off)."""
    huge_pages: bool = True
    """Request huge pages for large buffers where the system has them (`LAMPWORK_CPU_HUGE_PAGES=0` turns it off)."""
    local_bytes: int = 262144
    """Bytes of local rows that a kernel may hold on the stack of each thread; beyond, values are computed again."""

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> CpuConfig:
        """The defaults, with what the environment variables say."""
        values = os.environ if environment is None else environment
        return CpuConfig(
            isa=values.get("LAMPWORK_CPU_ISA") or None,
            parallel=values.get("LAMPWORK_CPU_PARALLEL", "1") != "0",
            compiler=values.get("CXX") or None,
            mkldnn=values.get("LAMPWORK_CPU_MKLDNN", "1") != "0",
            huge_pages=values.get("LAMPWORK_CPU_HUGE_PAGES", "1") != "0",
        )
