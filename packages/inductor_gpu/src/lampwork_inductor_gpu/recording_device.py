"""What recordings ask of a card: an order of turns, a capture, and the settings that a capture bakes in.

Below `cuda_graphs`, which keeps the books and knows no card; `cuda_capture` is the real one, tests bring their own.
Invariant: between `begin` and `end` nobody else copies into, replays or records anything of this device.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch


class RecordingFailed(RuntimeError):
    """The work could not be recorded; the device is as it was before."""


class Tape(Protocol):
    """Recorded work. It goes when nobody refers to it any more."""

    def take_results(self) -> Sequence[Any]:
        """What the recorded function returned, once: the tape keeps none of it. Who plays the tape keeps those that
        lie in memory that recordings share. They hold their values from a replay to the end of that turn, no longer."""
        ...

    def replay(self) -> None:
        """Do the work again, on the current stream."""
        ...


class RecordingDevice(Protocol):
    """One card, as recordings see it."""

    def is_open(self) -> bool:
        """Whether calls may be replayed now: nothing else records or watches what operators do."""
        ...

    def begin(self) -> bool:
        """Take the turn, behind all work of earlier turns. False if somebody else has it, this very thread included."""
        ...

    def end(self) -> None:
        """Give the turn back."""
        ...

    def settings(self) -> Hashable:
        """The settings of the process by which library operators choose what they do."""
        ...

    def used_on_this_stream(self, tensors: Sequence[torch.Tensor]) -> None:
        """Their memory is used by the current stream too: keep it until that work is done."""
        ...

    def stream(self) -> Hashable:
        """Which stream is the current one. Called within a turn."""
        ...

    @property
    def counts_holders(self) -> bool:
        """Whether `holders` can be told."""
        ...

    def holders(self, storage: torch.UntypedStorage) -> int:
        """How many hold a storage: tensors, the object itself, and who holds that object. Compared with
        what it was when nobody else held it, asked in the same way."""
        ...

    def lying_at(self, positions: Sequence[int], addresses: Sequence[int]) -> Callable[[Sequence[Any]], bool]:
        """What tells of inputs whether those at these positions lie at these addresses. Asked at each call, so it is
        to be quick: there is a position for each parameter."""
        ...

    def record(self, run: Callable[[], Sequence[Any]]) -> Tape:
        """Record what `run` sends to the device, which does not happen yet. Called within a turn, after `run` ran once
        for real on the same arguments. Raises RecordingFailed."""
        ...

    def reserve(self, owner: object, count: int) -> bool:
        """Count so many bytes as held until `owner` dies; False, and nothing done, if that is more than fits."""
        ...
