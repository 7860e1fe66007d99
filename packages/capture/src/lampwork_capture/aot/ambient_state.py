"""What of torch's state a trace depends on beside its arguments: read when a graph is captured, entered to trace again.

Derivatives are traced when they are first asked for, often outside of the `autocast` that the forward pass ran under.
Invariant: whatever is traced of one graph is traced under one state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class AmbientState:
    """Autocast for each type of device, the allowed kernels of attention, determinism, the default dtype."""

    autocast: tuple[tuple[str, bool, torch.dtype], ...]
    attention: tuple[bool, bool, bool]
    deterministic: tuple[bool, bool]
    default_dtype: torch.dtype

    @staticmethod
    def read(device_types: Iterable[str]) -> AmbientState:
        """The state now, for these types of devices and the host."""
        kinds = sorted({"cpu", *device_types} - {"meta"})
        cuda = torch.backends.cuda
        return AmbientState(
            tuple((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds),
            (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
            (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            torch.get_default_dtype(),
        )

    def _enter(self) -> None:
        for kind, enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)
        flash, efficient, plain = self.attention
        torch.backends.cuda.enable_flash_sdp(flash)
        torch.backends.cuda.enable_mem_efficient_sdp(efficient)
        torch.backends.cuda.enable_math_sdp(plain)
        torch.use_deterministic_algorithms(self.deterministic[0], warn_only=self.deterministic[1])
        torch.set_default_dtype(self.default_dtype)

    @contextlib.contextmanager
    def entered(self) -> Generator[None, None, None]:
        """Within this context torch is in this state."""
        before = AmbientState.read(kind for kind, _, _ in self.autocast)
        if before == self:
            yield
            return
        self._enter()
        try:
            yield
        finally:
            before._enter()
