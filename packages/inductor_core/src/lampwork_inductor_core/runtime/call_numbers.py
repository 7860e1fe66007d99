"""What the wrapper computes of floats that are known when it is called, beside the program's own arithmetic.

Checks of floats that eager puts into a tensor only if they fit (`full`, `fill` and `masked_fill` refuse others), and
what a kernel adds where a bound may be nan. Imports nothing of the compiler. Invariant: pure functions of one float.
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


def nan_or_nothing(number: float) -> float:
    """What makes a number nan if this one is, and leaves it as it is if not, where it is added."""
    return number if number != number else -0.0
