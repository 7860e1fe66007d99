"""Instruction sets, as plain data: how wide a vector is and what the compiler is told.

The first decision of code generation: every text is written for one `Isa`. Text for another one than the machine's can
be generated anywhere, and run wherever the machine has it. Invariant: `lanes` counts 32-bit elements of one register,
and all element types use that many lanes.
"""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True, slots=True)
class Isa:
    """One instruction set. `flags` are for g++ and clang++."""

    name: str
    vector_bytes: int
    flags: tuple[str, ...]

    @property
    def lanes(self) -> int:
        """32-bit elements of a vector."""
        return self.vector_bytes // 4


AVX512 = Isa(
    "avx512",
    64,
    ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c", "-mprefer-vector-width=512"),
)
AVX2 = Isa("avx2", 32, ("-mavx2", "-mfma", "-mf16c"))
NEON = Isa("neon", 16, ())
BASELINE = Isa("baseline", 16, ())

BY_NAME: dict[str, Isa] = {isa.name: isa for isa in (AVX512, AVX2, NEON, BASELINE)}


def detect(machine: str | None = None, capability: str | None = None) -> Isa:
    """The best set of this machine, as torch found it (so `ATEN_CPU_CAPABILITY` holds for generated code as well)."""
    machine = platform.machine().lower() if machine is None else machine
    capability = torch.backends.cpu.get_cpu_capability() if capability is None else capability
    if machine in ("aarch64", "arm64"):
        return NEON
    if capability.startswith("AVX512"):
        return AVX512
    if capability == "AVX2":
        return AVX2
    return BASELINE


@functools.lru_cache(maxsize=1)
def is_intel() -> bool:
    """Whether the processor is Intel's, on which MKL's kernels are at their best."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "Intel" in platform.processor()
