"""In-place updates whose scale is a tensor without dimensions: traced in place of operators that take numbers there.

Invariant: every element is computed by the same operations in the same order as torch's kernels do for a number, but
for `add_`, whose kernels round once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_TORCH: Any = torch  # for its parts that have no stubs


def add_(target: Tensor, other: Tensor, scale: Tensor) -> Tensor:
    """`target.add_(other, alpha=scale)`."""
    return target.add_(other.mul(scale))


def addcdiv_(target: Tensor, numerator: Tensor, denominator: Tensor, scale: Tensor) -> Tensor:
    """`target.addcdiv_(numerator, denominator, value=scale)`."""
    return target.add_(numerator.mul(scale).div_(denominator))


def addcmul_(target: Tensor, first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """`target.addcmul_(first, second, value=scale)`."""
    return target.add_(first.mul(scale).mul_(second))


def foreach_addcdiv_(
    targets: Sequence[Tensor], numerators: Sequence[Tensor], denominators: Sequence[Tensor], scales: Sequence[Tensor]
) -> None:
    """`torch._foreach_addcdiv_`, a scale for each."""
    updates = _TORCH._foreach_mul(numerators, scales)
    _TORCH._foreach_div_(updates, denominators)
    _TORCH._foreach_add_(targets, updates)


def foreach_addcmul_(
    targets: Sequence[Tensor], firsts: Sequence[Tensor], seconds: Sequence[Tensor], scales: Sequence[Tensor]
) -> None:
    """`torch._foreach_addcmul_`, a scale for each."""
    updates = _TORCH._foreach_mul(firsts, scales)
    _TORCH._foreach_mul_(updates, seconds)
    _TORCH._foreach_add_(targets, updates)
