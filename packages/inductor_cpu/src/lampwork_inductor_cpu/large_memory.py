"""Large memory: buffers of many pages are asked of the kernel in huge ones.

Fresh memory costs a page fault every 4 KiB: of a gradient of 94 MB more time than the product that fills it. Where the
system gives huge pages on request (`madvise`), wrappers request them for their large buffers. Invariant: a request
only; what a buffer holds never depends on it.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from lampwork_inductor_core.backend import LargeMemory

_PAGE = 1 << 21
_LEAST_BYTES = 2 * _PAGE  # of which at least one page is whole, wherever the buffer starts
_ADVICE = 14  # MADV_HUGEPAGE
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def large_memory(setting: Path = _SETTING) -> LargeMemory | None:
    """What to do with large buffers; None where the system gives huge pages to all memory, or to none."""
    if sys.platform != "linux":
        return None
    try:
        on_request = "[madvise]" in setting.read_text()
    except OSError:
        return None
    return LargeMemory(_LEAST_BYTES, huge_pages) if on_request else None


def _madvise() -> Callable[[int, int, int], int] | None:
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError, TypeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    function.restype = ctypes.c_int
    return function


_advise = _madvise()


def huge_pages(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor`, after huge pages were requested for those that lie inside of its memory."""
    start = tensor.data_ptr()
    first = -(-start // _PAGE) * _PAGE
    size = (start + tensor.untyped_storage().nbytes()) // _PAGE * _PAGE - first
    if size > 0 and _advise is not None:
        _advise(first, size, _ADVICE)
    return tensor
