"""Warnings of operations that run on fake tensors: nobody hears them, since the real operation warns as well.

`graph/builder.py` runs each operation under `unheard_warnings`. Invariant: what is shown, or counted as shown, later is
the same as if the operation had never run on fake tensors: neither the registries of the `warnings` module (which
`catch_warnings` would empty) nor torch's own of what it warns of once are touched.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch

_IGNORE = ("ignore", None, Warning, None, 0)


@contextmanager
def unheard_warnings() -> Generator[None]:
    """Ignore every warning inside."""
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    always = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else what torch warns of once would be over with
    filters.insert(0, _IGNORE)
    try:
        yield
    finally:
        torch.set_warn_always(always)
        if _IGNORE in filters:  # unless the operation reset them
            filters.remove(_IGNORE)
