"""Memory of results that a recording writes straight into, outside of the memory that recordings share.

`recording` brings it when the wrapper asks (`runtime.replay.ResultMemory`), and gives a caller tensors of its own that
lie in it. Invariant: it is written again only while nobody but us holds its storage, however a caller holds it: by the
result, a view, an alias, a saved tensor of autograd, an array that shares it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

import torch

from .recording_device import RecordingDevice


class State(enum.Enum):
    """Whether a memory may be written."""

    FREE = enum.auto()
    HELD = enum.auto()  # by somebody else
    LOST = enum.auto()  # a caller had its storage resized: what was recorded would write where it no longer is


class GivenMemory:
    """Memory of a result. Call outside of inference mode."""

    def __init__(self, device: RecordingDevice, tensor: torch.Tensor) -> None:
        self.tensor = tensor  # as the wrapper asked for it
        # Held from the start: asking a tensor for its storage makes an object that counts as a holder and may stay.
        self.storage = tensor.untyped_storage()
        self._shown = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        self.show(tensor.shape, tensor.stride(), 0)
        self._device = device
        self._address, self._bytes = self.storage.data_ptr(), self.storage.nbytes()
        self._holders = device.holders(self.storage)  # the three above

    @property
    def bytes(self) -> int:
        """What the storage had when it was made."""
        return self._bytes

    def state(self) -> State:
        """Looked at within a turn: where it is free, nobody is there who could pass it on."""
        if self._device.holders(self.storage) != self._holders:
            return State.HELD
        storage = self.storage
        moved = storage.data_ptr() != self._address or storage.nbytes() != self._bytes
        return State.LOST if moved else State.FREE

    def show(self, sizes: Sequence[int], strides: Sequence[int], offset: int) -> None:
        """From now on aliases have these sizes, strides and offset."""
        self._sizes, self._strides, self._offset = tuple(sizes), tuple(strides), offset
        self._shown.set_(self.storage, offset, self._sizes, self._strides)

    def alias(self, inference: bool) -> torch.Tensor:
        """A new tensor in this memory, with a version counter of its own. `inference`: in inference mode, where new
        tensors are inference tensors."""
        if not inference:
            return self._shown.data
        new = torch.empty(0, dtype=self.tensor.dtype, device=self.tensor.device)
        return new.set_(self.storage, self._offset, self._sizes, self._strides)


class GivenMemories:
    """What brings a wrapper its memory: new at first, in later runs the same again."""

    def __init__(self, device: RecordingDevice) -> None:
        self._device = device
        self._memories: dict[int, GivenMemory] = {}

    def __call__(
        self, number: int, sizes: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor:
        found = self._memories.get(number)
        if found is None:
            tensor = torch.empty_strided(sizes, strides, dtype=dtype, device=device)
            found = self._memories[number] = GivenMemory(self._device, tensor)
        return found.tensor

    @property
    def bytes(self) -> int:
        """Of all that was asked for."""
        return sum(memory.bytes for memory in self._memories.values())

    def by_storage(self) -> dict[int, GivenMemory]:
        """The memories by the address of their storage objects."""
        return {memory.storage._cdata: memory for memory in self._memories.values()}
