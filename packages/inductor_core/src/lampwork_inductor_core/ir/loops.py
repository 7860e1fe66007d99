"""Loops: the four shapes of computation that a code generator turns into kernels.

A computed buffer owns exactly one of these. Sizes give the loop nest; the body gives the value at one point of it; the
buffer's layout says where the value is stored. Invariant: a body reads buffers defined earlier in the graph and never
the buffer it defines.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import torch
from lampwork_symshape import IntExpr, Symbol

from .loop_body import LoopBody, Node


class ReductionKind(enum.Enum):
    """How a reduction combines values. The accumulation dtype is on the reduction."""

    SUM = "sum"
    PROD = "prod"
    MAX = "max"  # nan wins
    MIN = "min"  # nan wins
    ARGMAX = "argmax"  # int64 position in the flattened reduction space; first on ties, nan wins
    ARGMIN = "argmin"
    ANY = "any"
    ALL = "all"
    XOR_SUM = "xor_sum"


class ScanKind(enum.Enum):
    """How a scan combines values along its one scanned dimension."""

    SUM = "sum"
    PROD = "prod"
    MAX = "max"
    MIN = "min"


class ScatterMode(enum.Enum):
    """What a scatter does where several points hit one element."""

    ASSIGN = "assign"
    ADD = "add"


@dataclass(frozen=True, slots=True)
class Pointwise:
    """`out[i...] = body(i...)` for every point of `sizes`."""

    sizes: tuple[IntExpr, ...]
    body: LoopBody


@dataclass(frozen=True, slots=True)
class Reduction:
    """`out[i...] = combine over r... of body(i..., r...)`. `sizes` are the kept dimensions of the loop (the layout may
    have further dimensions of size one).

    `dtype` is the result's; accumulation is in `accumulate` (float32 for half types, int64 for integers).
    An empty reduction space gives the identity. `contraction`: the body is a product of two values in `accumulate`, and
    a device is to sum it on its matrix units: such a reduction stays whole, and only what follows it joins its kernel.
    `window`: the two reduced loops run over a window that slides along the kept ones, so neighbours read the same
    elements; it stays whole as well. Where a mask in the body does not hold, the value changes no result.
    """

    sizes: tuple[IntExpr, ...]
    reduction_sizes: tuple[IntExpr, ...]
    kind: ReductionKind
    body: LoopBody
    dtype: torch.dtype
    accumulate: torch.dtype
    contraction: bool = False
    window: bool = False


@dataclass(frozen=True, slots=True)
class Scan:
    """`out[i..., k] = combine of body(i..., 0..k)` along the last of `sizes`."""

    sizes: tuple[IntExpr, ...]
    kind: ScanKind
    body: LoopBody
    accumulate: torch.dtype


@dataclass(frozen=True, slots=True)
class Scatter:
    """`out[target(i...)] = body(i...)`, into a copy of the buffer `initial` (of the same layout).

    `target` is a flat element offset over the body's variables and the symbols of `indirect`.
    """

    sizes: tuple[IntExpr, ...]
    body: LoopBody
    target: IntExpr
    indirect: tuple[tuple[Symbol, Node], ...]
    mode: ScatterMode
    initial: str


Loops = Pointwise | Reduction | Scan | Scatter
