"""Launch configurations: block sizes and warps from the iteration space, without measuring.

Between the scheduled kernel and its text. Invariant: a pure function of the kernel and the device's properties; block
sizes are powers of two.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lampwork_inductor_core.codegen.scheduled_kernel import BufferArgument, ScheduledKernel
from lampwork_symshape import IntExpr, integer, product

from .device import DeviceProperties

PERSISTENT_LIMIT = 8192  # inner points that one program holds at once
LARGEST_BLOCK = 1 << 16  # points of one program along a space: how far its indices may reach beyond the end
_POINTWISE_BLOCK = 1024
_LOOPED_BLOCK = 2048
_UNKNOWN_SIZE = 1 << 20  # what a symbolic size is taken for: small kernels cost a launch, whatever their blocks


class KernelShape(enum.Enum):
    """How a program walks the iteration space."""

    POINTWISE = "pointwise"  # one block of points
    PERSISTENT = "persistent reduction"  # whole rows at once
    LOOPED = "looped reduction"  # rows in blocks, in a loop


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """Block sizes (points), warps and pipeline stages of one kernel."""

    shape: KernelShape
    x_block: int
    r_block: int
    warps: int
    stages: int = 2

    def __post_init__(self) -> None:
        for block in (self.x_block, self.r_block):
            if not 1 <= block <= LARGEST_BLOCK or block & (block - 1):
                raise ValueError(f"a block of {block} points: not a power of two up to {LARGEST_BLOCK}")


def _power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()


def _size(sizes: list[IntExpr]) -> int:
    total = product(sizes) if sizes else integer(1)
    return int(total) if total.is_constant else _UNKNOWN_SIZE


def choose(kernel: ScheduledKernel, device: DeviceProperties) -> LaunchConfig:
    """The configuration for a kernel on a device."""
    outer = _size([d.size for d in kernel.outer])
    if not kernel.inner:
        # Enough programs to fill the card before blocks grow; 16 bytes a thread where the elements are small.
        block = min(_POINTWISE_BLOCK, max(64, _power_of_two(-(-outer // (4 * device.multiprocessors)))))
        return LaunchConfig(KernelShape.POINTWISE, block, 1, max(1, min(8, block // 128)))
    inner_sizes = [d.size for d in kernel.inner]
    inner = _size(inner_sizes)
    if all(s.is_constant for s in inner_sizes) and inner <= PERSISTENT_LIMIT:
        r_block = _power_of_two(max(inner, 1))
        rows = max(1, min(1024 // r_block, _power_of_two(outer)))
        return LaunchConfig(KernelShape.PERSISTENT, rows, r_block, max(1, min(16, rows * r_block // 256)))
    r_block = _LOOPED_BLOCK // max(1, widest_element(kernel) // 4)
    return LaunchConfig(KernelShape.LOOPED, 1, r_block, 8)


def widest_element(kernel: ScheduledKernel) -> int:
    """Bytes of the widest element that a kernel reads or writes."""
    return max((a.dtype.itemsize for a in kernel.arguments if isinstance(a, BufferArgument)), default=4)
