"""`call_checkpoint`: the graph operation that runs a subgraph under activation checkpointing.

Its activations are not kept for backward: they are computed again, by torch's own `checkpoint`. Invariant: the random
state of the recomputation is what `preserve_rng_state` says, because it is torch that saves and restores it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from .transforms import plain_call


def call_checkpoint(
    body: Callable[..., Any], captured: Sequence[torch.Tensor], preserve_rng_state: bool
) -> tuple[torch.Tensor, ...]:
    """`body(*captured)`, checkpointed without re-entering autograd."""
    return checkpoint(plain_call(body), *captured, use_reentrant=False, preserve_rng_state=preserve_rng_state)
