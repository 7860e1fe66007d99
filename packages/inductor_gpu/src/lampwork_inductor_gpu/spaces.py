"""The two flat spaces of a kernel: `x`, and what its blocks span beside it.

Between the launch configuration and the text. In reductions the second space (`r`) is the inner one; in tiled kernels
(`y`) it is one of the outer loops, the one that some access is contiguous along while others are along the last.
A contraction has rows and columns, and the inner space for what it sums over; a window has strips and lanes, and the
rows that programs number. Invariant: every loop symbol belongs to exactly one space.
"""

from __future__ import annotations

from dataclasses import dataclass

from lampwork_inductor_core.codegen.scheduled_kernel import ScheduledKernel
from lampwork_symshape import IntExpr, integer

from .contraction import Contraction, column_space, inner_space, row_space
from .heuristics import KernelShape, LaunchConfig, WindowConfig
from .indexing import FlatSpace, flatten
from .window import Window


@dataclass(frozen=True, slots=True)
class KernelSpaces:
    """How a kernel's loops are flattened, and how many programs cover them."""

    x: FlatSpace
    second: FlatSpace
    programs: IntExpr
    second_programs: IntExpr | None  # of the second space, where programs share it out (tiled kernels)
    inner: FlatSpace | None = None  # what a contraction sums over, or the rows of a window, one a program


def spaces_of(kernel: ScheduledKernel, config: LaunchConfig) -> KernelSpaces:
    """The spaces of a kernel in a configuration."""
    if config.shape is KernelShape.CONTRACTION:
        contraction = Contraction.of(kernel)
        assert contraction is not None
        x, y = row_space(contraction), column_space(contraction)
        return KernelSpaces(x, y, integer(config.programs), None, inner_space(contraction))
    if isinstance(config, WindowConfig):
        window = Window.of(kernel)
        assert window is not None
        rows = flatten("row", window.rows)
        x = _strip_space(window, config.strip)
        return KernelSpaces(x, flatten("r", kernel.inner), rows.size * _blocks(x.size, config.x_block), None, rows)
    if config.shape is KernelShape.TILED:
        across = kernel.outer[config.across]
        x = flatten("x", [d for d in kernel.outer if d is not across])
        y = flatten("y", [across])
        second = _blocks(y.size, config.r_block)
        return KernelSpaces(x, y, _blocks(x.size, config.x_block) * second, second)
    x = flatten("x", kernel.outer)
    return KernelSpaces(x, flatten("r", kernel.inner), _blocks(x.size, config.x_block), None)


def _strip_space(window: Window, length: int) -> FlatSpace:
    """Strips and lanes, flat; of the loop that strips divide, the last of each."""
    strips = window.strips(length)
    flat = flatten("x", (strips, window.lanes))
    last = flat.dimensions[strips.symbol] * length + (length - 1)
    return FlatSpace(flat.name, flat.size, {**flat.dimensions, window.strip.symbol: last}, flat.sizes)


def _blocks(size: IntExpr, block: int) -> IntExpr:
    return size if block == 1 else (size + (block - 1)) // block
