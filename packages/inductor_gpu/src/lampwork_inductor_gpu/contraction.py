"""Contractions: kernels that sum products of two values on the matrix units, read off a scheduled kernel.

Between the scheduled kernel and the contraction writer. The loops of the result belong to the rows (those that the left
value varies over) or to the columns (the right one's). Invariant: what comes behind the sum runs once an element of
the result.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Dimension, InnerLoop, ScheduledKernel, Stage
from lampwork_inductor_core.ir.loop_body import Compute, IndexValue, Load, Node, walk
from lampwork_symshape import IntExpr, Symbol, integer, stride_of

from .indexing import FlatSpace, flatten

_TMA_BYTES = 16  # what the addresses of rows are multiples of, where the card's copy engine reads blocks


class NotAContraction(RuntimeError):
    """A kernel that was lowered as a contraction has lost its form."""


@dataclass(frozen=True, slots=True)
class Block:
    """A load that is a matrix in memory: element (i, j) at `offset + i * pitch + j`.

    `across`: whether j is the contracted index; else i is.
    """

    argument: str
    offset: IntExpr
    pitch: IntExpr
    across: bool


@dataclass(frozen=True, slots=True)
class Contraction:
    """`stage` sums `left(rows, inner) * right(inner, columns)`."""

    stage: Stage
    left: Node
    right: Node
    rows: tuple[Dimension, ...]
    columns: tuple[Dimension, ...]
    inner: tuple[Dimension, ...]

    @staticmethod
    def of(kernel: ScheduledKernel) -> Contraction | None:
        """What a kernel contracts; None for any other kernel. Raises NotAContraction."""
        first = kernel.segments[0]
        stage = first.stages[0]
        if stage.accumulate is None or not stage.accumulate.contraction:
            return None
        if len(first.stages) != 1 or any(isinstance(s, InnerLoop) for s in kernel.segments[1:]):
            raise NotAContraction(f"{kernel.name}: other loops share the kernel of a contraction")
        value = stage.value
        if not isinstance(value, Compute) or value.op != "mul":
            raise NotAContraction(f"{kernel.name}: what is summed is no product")
        left, right = (_unwidened(n) for n in value.arguments)
        of_left, of_right = symbols_in(left), symbols_in(right)
        rows = tuple(d for d in kernel.outer if d.symbol not in of_right)
        columns = tuple(d for d in kernel.outer if d.symbol not in of_left)
        if len(rows) + len(columns) != len(kernel.outer):
            raise NotAContraction(f"{kernel.name}: a loop of both values, or of neither")
        return Contraction(stage, left, right, rows, columns, kernel.inner)

    @property
    def dtype(self) -> torch.dtype:
        """What the matrix units multiply."""
        return self.left.dtype


def _unwidened(node: Node) -> Node:
    return node.arguments[0] if isinstance(node, Compute) and node.op == "to_dtype" else node


def symbols_in(root: Node) -> set[Symbol]:
    """The loop variables that a value depends on."""
    found: set[Symbol] = set()
    for node in walk(root):
        if isinstance(node, Load):
            found |= node.index.free_symbols
        elif isinstance(node, IndexValue):
            found |= node.expression.free_symbols
    return found


def block_of(value: Node, kept: FlatSpace, contracted: FlatSpace) -> Block | None:
    """The matrix in memory that a value is, in two flat spaces, if the copy engine can read it in blocks."""
    if not isinstance(value, Load) or value.indirect:
        return None
    index = value.index.substitute({**kept.dimensions, **contracted.dimensions})
    zero = {kept.flat: integer(0), contracted.flat: integer(0)}
    offset = index.substitute(zero)
    if not offset.is_constant or int(offset) * value.dtype.itemsize % _TMA_BYTES:
        return None
    along = (stride_of(index, kept.flat), stride_of(index, contracted.flat))
    for across, (pitch, step) in ((True, along), (False, along[::-1])):
        if pitch is None or step != 1 or not pitch.is_constant:
            continue
        if int(pitch) * value.dtype.itemsize % _TMA_BYTES == 0 and int(pitch) > 0:
            return Block(value.buffer, offset, pitch, across)
    return None


def row_space(contraction: Contraction) -> FlatSpace:
    """The rows of the result, flat."""
    return flatten("x", contraction.rows)


def column_space(contraction: Contraction) -> FlatSpace:
    """The columns of the result, flat."""
    return flatten("y", contraction.columns)


def inner_space(contraction: Contraction) -> FlatSpace:
    """The contracted loops, flat."""
    return flatten("r", contraction.inner)
