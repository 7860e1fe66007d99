"""Reductions and scans in Triton's words: what starts one, what combines two values, and what reduces a block.

The kernel writer asks here while it writes a stage that accumulates. Invariant: the start of a kind changes no result
of its combination, so that lanes outside the space may hold it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lampwork_inductor_core.codegen.scheduled_kernel import Accumulate
from lampwork_inductor_core.ir.loops import ReductionKind, ScanKind

from .ops import TRITON_TYPES

COMBINE: Mapping[ReductionKind, str] = {
    ReductionKind.SUM: "add",
    ReductionKind.PROD: "multiply",
    ReductionKind.MAX: "maximum",
    ReductionKind.MIN: "minimum",
    ReductionKind.ANY: "maximum",
    ReductionKind.ALL: "minimum",
}
SCAN_COMBINE: Mapping[ScanKind, str] = {
    ScanKind.SUM: "add",
    ScanKind.PROD: "multiply",
    ScanKind.MAX: "maximum",
    ScanKind.MIN: "minimum",
}
SCAN_AS_REDUCTION: Mapping[ScanKind, ReductionKind] = {
    ScanKind.SUM: ReductionKind.SUM,
    ScanKind.PROD: ReductionKind.PROD,
    ScanKind.MAX: ReductionKind.MAX,
    ScanKind.MIN: ReductionKind.MIN,
}


def identity(kind: ReductionKind, dtype: torch.dtype) -> float | int | bool:
    """What a lane outside the row holds, which changes no result."""
    if kind in (ReductionKind.SUM, ReductionKind.XOR_SUM):
        return 0
    if kind is ReductionKind.ANY:
        return False
    if kind is ReductionKind.ALL:
        return True
    if kind is ReductionKind.PROD:
        return 1
    lowest = kind in (ReductionKind.MAX, ReductionKind.ARGMAX)
    if dtype.is_floating_point:
        return float("-inf") if lowest else float("inf")
    if dtype == torch.bool:
        return not lowest
    limits = torch.iinfo(dtype)
    return limits.min if lowest else limits.max


def carrier(dtype: torch.dtype) -> torch.dtype:
    """Booleans are combined as small integers."""
    return torch.int32 if dtype == torch.bool else dtype


def block_reduction(kind: ReductionKind, value: str, positions: str) -> str:
    """The text that reduces the rows of a block; `positions` are those of the values, for an arg-reduction."""
    if kind is ReductionKind.SUM:
        return f"tl.sum({value}, 1)[:, None]"
    if kind is ReductionKind.XOR_SUM:
        return f"tl.xor_sum({value}, 1)[:, None]"
    if kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN):
        combine = "greater_or_first" if kind is ReductionKind.ARGMAX else "less_or_first"
        return f"tl.reduce(({value}, {positions}), 1, {combine})[1][:, None]"
    return f"tl.reduce({value}, 1, {COMBINE[kind]})[:, None]"


def converted(text: str, accumulate: Accumulate) -> str:
    """A reduced value in the type of the result."""
    if accumulate.kind in (ReductionKind.ARGMAX, ReductionKind.ARGMIN):
        return text
    if accumulate.result == torch.bool:
        return f"{text} != 0"
    if accumulate.result == accumulate.accumulate:
        return text
    return f"{text}.to({TRITON_TYPES[accumulate.result]})"
