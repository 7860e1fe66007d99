"""A recording device on the CPU that is as unkind as a card may be.

Its tapes run the recorded function again on the recorded inputs and store into the recorded results. All memory that
tapes share is spoilt between turns: results hold nan, or the largest number, until their tape is replayed.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from lampwork_inductor_gpu.recording_device import RecordingFailed


class FakeTape:
    """A function, and the memory of the results that it gave when it was recorded."""

    def __init__(self, device: FakeDevice, run: Callable[[], Sequence[Any]], given: set[int]) -> None:
        self.device, self.run, self.results = device, run, run()
        self.own: list[torch.Tensor | None] = [
            r if isinstance(r, torch.Tensor) and r.untyped_storage()._cdata not in given else None for r in self.results
        ]
        self.spoil()

    def take_results(self) -> Sequence[Any]:
        results, self.results = self.results, ()
        return results

    def replay(self) -> None:
        assert self.device.has_turn(), "a replay outside of a turn"
        self.device.replays += 1
        again = self.run()
        for mine, new in zip(self.own, again, strict=True):
            if mine is not None:
                whole(mine).copy_(whole(new))

    def spoil(self) -> None:
        for result in self.own:
            if result is None:
                continue
            flat = whole(result)
            if flat.numel():
                flat.fill_(float("nan") if flat.is_floating_point() else 77)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All memory of a tensor, flat."""
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((count,), (1,), 0)


class FakeDevice:
    """`RecordingDevice` for tests. `failure`: raised in the middle of recordings; `limit`: bytes that may be held."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.limit = 1 << 40
        self.held = 0
        self.recorded = self.replays = self.moved = 0
        self.opened, self.current, self.setting = True, 0, "ieee"
        self.counts_holders = True
        self._turn = threading.Lock()
        self._owner: int | None = None
        self._tapes: weakref.WeakSet[FakeTape] = weakref.WeakSet()
        self.order: list[str] = []

    def is_open(self) -> bool:
        return self.opened

    def begin(self) -> bool:
        if not self._turn.acquire(blocking=False):
            return False
        self._owner = threading.get_ident()
        self.order.append("begin")
        return True

    def end(self) -> None:
        assert self.has_turn()
        for tape in self._tapes:
            tape.spoil()
        self.order.append("end")
        self._owner = None
        self._turn.release()

    def has_turn(self) -> bool:
        return self._owner == threading.get_ident()

    def settings(self) -> Hashable:
        return self.setting

    def used_on_this_stream(self, tensors: Sequence[torch.Tensor]) -> None:
        self.moved += len(tensors)

    def stream(self) -> Hashable:
        return self.current

    def holders(self, storage: torch.UntypedStorage) -> int:
        return torch._C._storage_Use_Count(storage._cdata) + sys.getrefcount(storage)

    def lying_at(self, positions: Sequence[int], addresses: Sequence[int]) -> Callable[[Sequence[Any]], bool]:
        return lambda inputs: [inputs[k].data_ptr() for k in positions] == list(addresses)

    def record(self, run: Callable[[], Sequence[Any]]) -> FakeTape:
        assert self.has_turn() and not torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        self.recorded += 1
        if self.failure is not None:
            if not isinstance(self.failure, Exception):
                raise self.failure
            raise RecordingFailed(str(self.failure))
        first = {id(s): s for s in _storages(run())}  # tells apart what lies in new memory at each run
        second = _storages(run())
        tape = FakeTape(self, run, {s._cdata for s in first.values()} & {s._cdata for s in second})
        self._tapes.add(tape)
        return tape

    def reserve(self, owner: object, count: int) -> bool:
        if self.held + count > self.limit:
            return False
        self.held += count
        weakref.finalize(owner, self._release, count)
        return True

    def _release(self, count: int) -> None:
        self.held -= count


def _storages(results: Sequence[Any]) -> list[torch.UntypedStorage]:
    return [r.untyped_storage() for r in results if isinstance(r, torch.Tensor)]
