"""Device properties: what code generation asks of a GPU, as plain data.

Beside the path: heuristics read them, the text never depends on a GPU being present. Invariant: equal properties and
equal kernels give equal text, so tests generate for a card that the machine does not have.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class DeviceProperties:
    """One GPU model. `capability` is (major, minor); memory sizes in bytes."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_memory_per_block: int
    l2_cache: int
    cudnn: int = 0  # the version of the library, 90100 for 9.1.0; 0 for none
    bandwidth: float = 3.35e12  # of memory, bytes a second
    clock: float = 1.83e9  # of a multiprocessor, Hz

    @property
    def architecture(self) -> int:
        """The compute capability as Triton names it (90 for 9.0)."""
        return 10 * self.capability[0] + self.capability[1]

    @property
    def half_rate(self) -> float:
        """Operations a second of the matrix units on halves, dense, by the vendor's numbers."""
        a_cycle = {7: 1024, 8: 2048, 9: 4096, 10: 8192}.get(self.capability[0], 1024)
        return self.multiprocessors * self.clock * a_cycle


H100 = DeviceProperties("NVIDIA H100", (9, 0), 132, 232_448, 52_428_800, 91_000)


def properties_of(device: torch.device) -> DeviceProperties:
    """The properties of a CUDA device of this machine; those of an H100 where there is none (text and tests)."""
    if not torch.cuda.is_available():
        return H100
    p = torch.cuda.get_device_properties(device)
    shared = int(getattr(p, "shared_memory_per_block_optin", 0)) or H100.shared_memory_per_block
    cudnn = (torch.backends.cudnn.version() or 0) if torch.backends.cudnn.is_available() else 0
    kilohertz, bits = getattr(p, "memory_clock_rate", 0), getattr(p, "memory_bus_width", 0)
    return DeviceProperties(
        p.name, (p.major, p.minor), p.multi_processor_count, shared, int(p.L2_cache_size), cudnn,
        bandwidth=2e3 * kilohertz * bits / 8 or H100.bandwidth,
        clock=1e3 * getattr(p, "clock_rate", 0) or H100.clock,
    )  # fmt: skip
