"""Memory bounds: a view by strides must lie within its memory, for all sizes that a graph is for.

Eager checks that; on fake tensors torch does not, and a compiled graph would read past the end. Asked by the fake
tensor mode of a trace where the program itself calls `as_strided`.
Invariant: that it fits is proven, a fact about the inputs, or a check of the graph where it depends on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from lampwork_symshape.condition import Boolean, le
from lampwork_symshape.expr import integer
from lampwork_symshape.sym_node import TorchShapeEnv, expr_of


def check_bounds(
    env: TorchShapeEnv | None,
    tensor: torch.Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> None:
    """Raise RuntimeError, as eager does, if the view does not fit now; else see to it that it fits in other calls."""
    last = expr_of(tensor.storage_offset() if storage_offset is None else storage_offset)
    for count, step in zip(size, stride):
        if isinstance(count, int) and count == 0:
            return  # no element, no check
        last = last + (expr_of(count) - integer(1)) * expr_of(step)
    have = expr_of(tensor.untyped_storage().nbytes())
    fits = le((last + 1) * tensor.itemsize, have)
    if env is not None and not env.has_hint(have - last):
        env.require(fits)
    elif not (fits.value if isinstance(fits, Boolean) else cast(TorchShapeEnv, env).evaluate(fits)):
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)} and itemsize {tensor.itemsize} are out of bounds "
            f"for storage of size {have}"
        )
