"""Contexts of torch that a graph enters and leaves by itself: a default device, a choice of attention kernels, a
profiler's record.

The tracer records a call of an `enter_...` function and, at the end of the context, `leave_context` of what that gave.
Invariants: leaving restores exactly what entering found; what an exception leaves open in a graph is left too.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.autograd.profiler import record_function
from torch.nn.attention import SDPBackend, sdpa_kernel


class EnteredContext:
    """A context manager that is entered as long as `is_open`."""

    __slots__ = ("is_open", "manager")

    def __init__(self, manager: AbstractContextManager[Any]) -> None:
        self.manager = manager
        manager.__enter__()
        self.is_open = True

    def leave(self) -> None:
        """Leave it, once."""
        if self.is_open:
            self.is_open = False
            self.manager.__exit__(None, None, None)


def enter_device(device: str) -> EnteredContext:
    """`with torch.device(device)`."""
    manager: Any = torch.device(device)
    return EnteredContext(manager)


def enter_attention(backends: tuple[int, ...], set_priority: bool) -> EnteredContext:
    """`with sdpa_kernel(backends, set_priority)`; the backends by their numbers."""
    make: Any = SDPBackend
    return EnteredContext(sdpa_kernel([make(number) for number in backends], set_priority))


def enter_record(name: str, argument: str | None) -> EnteredContext:
    """`with record_function(name, argument)`; nothing while a backend traces the graph, which profiles nothing then."""
    if torch._C._len_torch_dispatch_stack():
        return EnteredContext(nullcontext())
    return EnteredContext(record_function(name, argument))


def leave_context(entered: EnteredContext) -> None:
    """The end of a context that one of the functions above entered."""
    entered.leave()


ENTERING = frozenset({enter_device, enter_attention, enter_record})
