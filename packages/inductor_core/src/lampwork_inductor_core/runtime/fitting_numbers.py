"""Floats that eager puts into a tensor only if they fit: `full`, `fill` and `masked_fill` refuse others.

The wrapper computes these checks of numbers that are known when it is called. Imports nothing of the compiler.
Invariant: the number itself, or the error that eager raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch


def _fitting(dtype: torch.dtype) -> Callable[[float], float]:
    largest = torch.finfo(dtype).max

    def fitting(number: float) -> float:
        if abs(number) > largest and not math.isinf(number):
            torch.empty(1, dtype=dtype).masked_fill(torch.tensor(True), number)  # raises
        return number

    fitting.__name__ = f"fitting_{str(dtype).removeprefix('torch.')}"
    return fitting


FITTING: Mapping[torch.dtype, Callable[[float], float]] = {
    dtype: _fitting(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)
}
"""The checks, by dtype; all floats fit into float64."""
