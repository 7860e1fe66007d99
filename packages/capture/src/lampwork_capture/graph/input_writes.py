"""InputWrites: what a graph writes to memory that existed before the frame, and whether that can be taken back.

A frame whose graph raises may run again as plain Python (`graph/rerun.py`) if memory is as it was. Counters, running
statistics and the like are small: a copy of their memory, taken before the graph runs, brings them back. Told of each
operation by the graph builder. Invariant: a write that is not `for_good` is undone by bringing back the bytes of the
inputs at `positions`, from the first to the last element of each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Protocol

import torch

_LARGEST = 1 << 16  # bytes of a storage: copying so many takes a few microseconds


class _Input(Protocol):
    @property
    def fake(self) -> Any: ...


class InputWrites:
    """The writes of one graph."""

    def __init__(self) -> None:
        self._written: set[int] = set()
        self.for_good = False  # whether one of them cannot be taken back

    def __bool__(self) -> bool:
        return bool(self._written)

    def note(self, storages: Collection[int], operators: Iterable[Any], inputs: Iterable[_Input]) -> None:
        """Some operators wrote to these storages, which are those of the fakes of these inputs."""
        self._written.update(storages)
        if self.for_good:
            return
        # what is written beside bytes: sizes and strides, and how a gradient gets to what was there before
        if any(torch.Tag.inplace_view in getattr(operator, "tags", ()) for operator in operators):
            self.for_good = True
        for entry in inputs:
            size = entry.fake.untyped_storage().nbytes()
            self.for_good |= type(size) is not int or size > _LARGEST or entry.fake.requires_grad

    def positions(self, inputs: Sequence[_Input]) -> tuple[int, ...]:
        """Which inputs of the finished graph were written to."""
        return tuple(index for index, entry in enumerate(inputs) if _storage_of(entry) in self._written)


def _storage_of(entry: _Input) -> int | None:
    fake = entry.fake
    return fake.untyped_storage()._cdata if isinstance(fake, torch.Tensor) else None
