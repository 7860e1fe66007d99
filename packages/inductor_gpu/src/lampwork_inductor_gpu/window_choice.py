"""The strips and blocks of reductions over windows: a count of instructions, and how evenly they fill the card.

Between the scheduled kernel and the window writer. Longer strips read and widen fewer elements a result, and need more
registers; shorter ones leave more programs for small images. Invariant: a pure function of the window and the device.
"""

from __future__ import annotations

from itertools import product

from lampwork_inductor_core.ir.loop_body import Load, walk
from lampwork_inductor_core.ir.loops import Reduction
from lampwork_inductor_core.schedule.fusion import FusedNode
from lampwork_symshape import stride_of

from .device import DeviceProperties
from .heuristics import KernelShape, WindowConfig
from .traffic import size_of
from .window import Window

_STRIPS = (8, 7, 6, 5, 4, 3, 2, 1)
_WARPS = (4, 2, 1)
_SCHEDULERS = 4  # of a multiprocessor: each starts an instruction of one warp a cycle
_ACCESS_BYTES = 16
_WAIT = 500  # cycles for the first elements of a program
_OVERHEAD = 20  # instructions a round of the loop
_REGISTERS = 16  # elements that are at hand beside the totals, a lane, before strips are too long


def is_window(node: FusedNode) -> bool:
    """Whether a node of the schedule has a reduction over a window in it."""
    loops = (m.node.buffer.loops for m in node.members)
    return any(isinstance(item, Reduction) and item.window for item in loops)


def strips_for(window: Window, device: DeviceProperties) -> WindowConfig:
    """The strip, block and warps of a window, by the least time."""
    best: WindowConfig | None = None
    least = float("inf")
    for strip, warps in product(_STRIPS, _WARPS):
        time = _cycles(window, strip, warps, device)
        if time < least:
            least = time
            block = 32 * warps * lanes_a_thread(window)
            best = WindowConfig(KernelShape.WINDOW, block, 1, warps, strip=strip)
    assert best is not None
    return best


def lanes_a_thread(window: Window) -> int:
    """So many neighbours that an access of 16 bytes has."""
    sizes = [n.dtype.itemsize for n in walk(window.value) if isinstance(n, Load)]
    return _ACCESS_BYTES // max(min(sizes, default=2), 2)


def _cycles(window: Window, strip: int, warps: int, device: DeviceProperties) -> float:
    length, lanes, steps = int(window.strip.size), int(window.lanes.size), int(window.unrolled.size)
    if strip > max(length, 1):
        return float("inf")
    a_thread = lanes_a_thread(window)
    stride = _stride(window)
    elements = min(strip * stride + steps - stride, strip * steps)
    if strip + min(elements, steps + stride) > 2 * _REGISTERS:
        return float("inf")
    is_sum_of_products = sum(isinstance(n, Load) for n in walk(window.value)) > 1
    widened = a_thread if any(n.dtype.itemsize < 4 for n in walk(window.value) if isinstance(n, Load)) else 0
    reads = elements + (steps if is_sum_of_products else 0)
    a_round = strip * steps * a_thread + reads * (widened + 2) + _OVERHEAD
    blocks = -(-(-(-length // strip) * lanes) // (32 * warps * a_thread))
    total = size_of(window.rows) * blocks * warps
    waves = -(-total // (device.multiprocessors * _SCHEDULERS))
    return waves * int(window.rolled.size) * a_round + _WAIT


def _stride(window: Window) -> int:
    """By how much the window moves from one result of a strip to the next, in its own steps."""
    for node in walk(window.value):
        if isinstance(node, Load):
            along, down = (stride_of(node.index, d.symbol) for d in (window.strip, window.unrolled))
            if along is not None and down is not None and along.is_constant and down.is_constant and int(down):
                return max(1, int(along) // int(down))
    return 1


__all__ = ["is_window", "lanes_a_thread", "strips_for"]
