"""Functions of libdevice under Triton's interpreter, where they have no bodies: torch's, on the block's array.

Beside `device_functions`, which imports it under the interpreter only: what compiles kernels must not import torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import triton.language as tl

_NAMES = {"nearbyint": "round"}  # where torch has another name


def interpreted_function(name: str) -> Callable[..., Any]:
    """What stands for a function of libdevice."""
    reference = getattr(torch, _NAMES.get(name, name))

    def run(*blocks: Any) -> Any:
        arrays = [torch.from_numpy(np.ascontiguousarray(np.broadcast_to(b.handle.data, b.shape))) for b in blocks]
        result = reference(*arrays).numpy()
        first = blocks[0]
        handle = type(first.handle)(result.reshape(np.shape(first.handle.data)), first.handle.dtype)
        return tl.core.tensor(handle, first.type)

    return run
