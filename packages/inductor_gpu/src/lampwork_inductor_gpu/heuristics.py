"""Launch configurations: block sizes and warps from the iteration space and its traffic, without measuring.

Between the scheduled kernel and its text. What counts is bytes in flight: each thread asks for about `_THREAD_BYTES`
before it waits, in accesses of 16 bytes, and programs are small enough that several share a multiprocessor. Invariant:
a pure function of the kernel and the device's properties; block sizes are powers of two.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from lampwork_inductor_core.codegen.scheduled_kernel import ScheduledKernel
from lampwork_inductor_core.schedule.split_reductions import ReductionShape

from .device import DeviceProperties
from .traffic import Traffic, held_words, size_of

LARGEST_BLOCK = 1 << 16  # points of one program along a space: how far its indices may reach beyond the end
_THREAD_BYTES = 64  # that a thread of a reduction loads at once
_ACCESS_BYTES = 16  # of one access of a thread
_HELD_POINTS = 32_768  # values of 4 bytes that a program holds in registers: half of a multiprocessor's
_UNHELD_POINTS = 8192  # of rows that are read once
_UNKNOWN_BLOCK = 2048
_MOST_WARPS = 64  # of a multiprocessor
_THREAD_POINTS = 32  # that a thread holds, at most, before a program gets more warps
_POINTWISE_BLOCK = 1024
_COLUMN_BYTES = 256  # that a program reads of one row where results are neighbours in memory
_COLUMN_POINTS = 4096
_TILE = 64
_LEAST_TILE = 16  # a shorter side is read in whole lines anyway
_LEAST_PART = 8192  # elements of one result: shorter parts cost more in the second kernel than they gain
_LEAST_SPLIT = 1 << 18  # elements of a reduction


class KernelShape(enum.Enum):
    """How a program walks the iteration space."""

    POINTWISE = "pointwise"  # one block of points
    TILED = "tiled"  # a block of two loops, where accesses are contiguous along different ones
    PERSISTENT = "persistent reduction"  # whole rows at once
    LOOPED = "looped reduction"  # rows in blocks, in a loop
    CONTRACTION = "contraction"  # blocks of a product of matrices, on the matrix units
    WINDOW = "window"  # strips of results of a window that slides along an image


@dataclass(frozen=True, slots=True)
class LaunchConfig:
    """Block sizes (points), warps and pipeline stages of one kernel. `r_block` is along the inner loops, or in tiled
    kernels along the outer loop number `across`, in contractions along the columns. A contraction sums `k_block`
    products at a time, in so many `programs`."""

    shape: KernelShape
    x_block: int
    r_block: int
    warps: int
    stages: int = 2
    across: int = 0
    k_block: int = 1
    programs: int = 0

    def __post_init__(self) -> None:
        for block in (self.x_block, self.r_block):
            if not 1 <= block <= LARGEST_BLOCK or block & (block - 1):
                raise ValueError(f"a block of {block} points: not a power of two up to {LARGEST_BLOCK}")


@dataclass(frozen=True, slots=True)
class WindowConfig(LaunchConfig):
    """That of a reduction over a window: each lane computes a `strip` of results."""

    strip: int = 1


def choose(kernel: ScheduledKernel, device: DeviceProperties) -> LaunchConfig:
    """The configuration for a kernel on a device."""
    traffic = Traffic.of(kernel)
    if not kernel.inner:
        return _tile(kernel, traffic) or _pointwise(kernel, traffic, device)
    if _along_columns(kernel, traffic):
        return _columns(kernel, traffic, device)
    return _rows(kernel, traffic, device)


# ----------------------------------------------------------------------------------------------------------- pointwise


def _pointwise(kernel: ScheduledKernel, traffic: Traffic, device: DeviceProperties) -> LaunchConfig:
    """Enough programs to fill the card before blocks grow; 8 points a thread, 4 of wide elements."""
    outer = size_of(kernel.outer)
    a_thread = 8 if traffic.itemsize <= 4 else 4
    block = min(_POINTWISE_BLOCK, max(256, _power_of_two(_quotient(outer, 4 * device.multiprocessors))))
    return LaunchConfig(KernelShape.POINTWISE, block, 1, max(1, block // (32 * a_thread)))


def _tile(kernel: ScheduledKernel, traffic: Traffic) -> LaunchConfig | None:
    """A tile, if accesses are contiguous along two loops that are both long."""
    if len(kernel.outer) < 2 or any(a.fast is None for a in traffic.whole):
        return None
    sizes = [size_of([d]) for d in kernel.outer]
    last = len(sizes) - 1
    along = [traffic.bytes_along(d.symbol) for d in kernel.outer]
    across = max(range(last), key=lambda k: along[k])
    if not along[last] or not along[across] or min(sizes[last], sizes[across]) < _LEAST_TILE:
        return None
    x, y = (min(_TILE, _power_of_two(sizes[k])) for k in (last, across))
    if traffic.itemsize > 4:
        y = min(y, _TILE // 2)
    return LaunchConfig(KernelShape.TILED, x, y, max(1, min(8, x * y // 512)), across=across)


# ---------------------------------------------------------------------------------------------------------- reductions


def _along_columns(kernel: ScheduledKernel, traffic: Traffic) -> bool:
    """Whether neighbours in memory belong to neighbouring results, not to one result."""
    inner = frozenset(d.symbol for d in kernel.inner)
    rows = sum(a.bytes for a in traffic.whole if a.fast in inner)
    return traffic.bytes_along(kernel.outer[-1].symbol) > rows if kernel.outer else False


def _columns(kernel: ScheduledKernel, traffic: Traffic, device: DeviceProperties) -> LaunchConfig:
    """Blocks of rows of `_COLUMN_BYTES`; narrower ones where that leaves too few programs."""
    outer, inner = size_of(kernel.outer), size_of(kernel.inner)
    x_block = min(max(16, _COLUMN_BYTES // traffic.itemsize), _power_of_two(size_of(kernel.outer[-1:])))
    while x_block * traffic.itemsize > 2 * _ACCESS_BYTES and _quotient(outer, x_block) < 2 * device.multiprocessors:
        x_block //= 2
    known = all(d.size.is_constant for d in kernel.inner)
    points = x_block * _power_of_two(max(inner, 1))
    if known and points * max(1, held_words(kernel)) <= 2 * _COLUMN_POINTS:
        return LaunchConfig(KernelShape.PERSISTENT, x_block, points // x_block, max(1, min(8, points // 512)))
    warps = 4 if _quotient(outer, x_block) >= 2 * device.multiprocessors else 8
    return LaunchConfig(KernelShape.LOOPED, x_block, warps * _COLUMN_POINTS // 4 // x_block, warps)


def _rows(kernel: ScheduledKernel, traffic: Traffic, device: DeviceProperties) -> LaunchConfig:
    """Whole rows where they fit in registers, else rows in long blocks."""
    outer, inner = size_of(kernel.outer), size_of(kernel.inner)
    known = all(d.size.is_constant for d in kernel.inner)
    fitting = max(4, _THREAD_BYTES // max(1, traffic.loaded))
    wanted = min(_THREAD_POINTS, 1 << (fitting.bit_length() - 1))
    r_block = _power_of_two(max(inner, 1))
    held = held_words(kernel)
    if known and r_block * max(1, held) <= (_HELD_POINTS if held else _UNHELD_POINTS):
        rows = 1
        while rows * r_block < 1024 and _quotient(outer, 2 * rows) >= 4 * device.multiprocessors:
            rows *= 2
        points = rows * r_block
        warps = max(1, min(16, points // (32 * wanted)))
        if points * held > _THREAD_POINTS * 32 * warps:
            warps = min(32, 2 * warps)
        return LaunchConfig(KernelShape.PERSISTENT, rows, r_block, warps)
    if not known:  # any length will do, a few hundred elements too
        return LaunchConfig(KernelShape.LOOPED, 1, _UNKNOWN_BLOCK // max(1, traffic.itemsize // 4), 8)
    # Few rows: each gets as many threads as a program may have. Long rows that are read again: so few at a time that
    # the cache still has them.
    warps = 32 if outer < device.multiprocessors else 16 if outer < 4 * device.multiprocessors else 8
    at_once = device.multiprocessors * _MOST_WARPS * inner * traffic.loaded
    most = 32 if traffic.loaded <= 4 else 16  # threads of 32 warps have 64 registers
    warps = min(warps, most)
    while held and warps < most and 2 * at_once > warps * device.l2_cache:
        warps *= 2
    block = min(32 * warps * min(wanted, 16), LARGEST_BLOCK)
    return LaunchConfig(KernelShape.LOOPED, 1, min(block, r_block), warps)


def fewest_rows(device: DeviceProperties) -> int:
    """So many programs, as large as they may be, ask for enough bytes at once to keep the memory busy."""
    return max(2, device.multiprocessors // 4)


def parts_of(shape: ReductionShape, device: DeviceProperties) -> int:
    """In how many parts a reduction runs, so that all multiprocessors have work; 1: as it is."""
    if shape.results * shape.elements < _LEAST_SPLIT:
        return 1
    if shape.rows:
        # Splitting takes a row's later uses (a softmax, a normalisation) out of its kernel: only for very few rows.
        if shape.results >= fewest_rows(device):
            return 1
        wanted = _quotient(4 * device.multiprocessors, shape.results)
        return min(wanted, shape.elements // _LEAST_PART)
    # By points, not bytes: sums over the same rows of halves and of floats are cut alike, and share a kernel.
    programs = _quotient(shape.results * max(4, shape.itemsize), _COLUMN_BYTES)
    wanted = _quotient(6 * device.multiprocessors, programs)
    return min(wanted, shape.elements // 32) if wanted > 2 else 1


def _power_of_two(value: int) -> int:
    return 1 << max(value - 1, 0).bit_length()


def _quotient(value: int, divisor: int) -> int:
    """Rounded up."""
    return -(-value // divisor)
