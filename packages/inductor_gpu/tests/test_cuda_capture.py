"""How captures begin, end and break, with torch.cuda replaced by classes that note what they are asked for."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lampwork_inductor_gpu import cuda_capture
from lampwork_inductor_gpu.cuda_capture import CudaRecordingDevice
from lampwork_inductor_gpu.recording_device import RecordingFailed


class Stream:
    def __init__(self, cuda: Cuda, handle: int) -> None:
        self.cuda, self.cuda_stream = cuda, handle

    def wait_stream(self, other: Stream) -> None:
        self.cuda.log.append(f"{self.cuda_stream} waits for {other.cuda_stream}")

    def wait_event(self, event: str) -> None:
        self.cuda.log.append(f"{self.cuda_stream} waits for {event}")

    def record_event(self) -> str:
        return f"the end on {self.cuda_stream}"


class Graph:
    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        assert capture_error_mode == "thread_local" and self.cuda.current.cuda_stream >= 100
        if self.cuda.breaks_at == "begin":
            self.cuda.breaks_at = ""
            raise RuntimeError("cannot begin")
        self.cuda.log.append(f"begin in {pool}")

    def capture_end(self) -> None:
        if self.cuda.breaks_at == "end":
            self.cuda.breaks_at = ""
            raise RuntimeError("capture was invalidated")
        self.cuda.log.append("end")


class Cuda:
    """What of torch.cuda is asked for."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.breaks_at = ""
        self.current = self.default = Stream(self, 0)
        self.made = 99
        self.pools = 0

    def stream_made(self, _device: Any = None) -> Stream:
        self.made += 1
        return Stream(self, self.made)

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def pool(self) -> str:
        self.pools += 1
        return f"pool {self.pools}"


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: Graph(made))
    monkeypatch.setattr(torch.cuda, "Stream", made.stream_made)
    monkeypatch.setattr(torch.cuda, "stream", made.stream)
    monkeypatch.setattr(torch.cuda, "device", lambda _device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device=None: made.current)
    monkeypatch.setattr(cuda_capture, "_STREAM", None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", made.pool)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: torch.empty(1))
    ended = made.log.append
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda _, pool: ended(f"told of {pool}"), raising=False)
    monkeypatch.setattr(cuda_capture, "_failed", [])
    return made


@pytest.fixture
def device() -> CudaRecordingDevice:
    return CudaRecordingDevice(torch.device("cuda", 0))


def test_a_capture_on_the_side_stream(cuda: Cuda, device: CudaRecordingDevice) -> None:
    def run() -> list[int]:
        assert cuda.current.cuda_stream == 100 and not gc.isenabled()
        return [1]

    tape = device.record(run)
    assert list(tape.take_results()) == [1] and gc.isenabled() and cuda.current is cuda.default
    assert cuda.log == ["100 waits for 0", "begin in pool 1", "end", "0 waits for 100"]


def test_a_pool_is_shared_while_a_tape_lies_in_it(cuda: Cuda, device: CudaRecordingDevice) -> None:
    first, second = device.record(list), device.record(list)
    assert cuda.pools == 1
    del first
    third = device.record(list)
    assert cuda.pools == 1
    del second, third
    device.record(list)
    assert cuda.pools == 2  # torch takes no pool again that its last graph has left


def test_an_error_of_what_is_recorded_ends_the_capture(cuda: Cuda, device: CudaRecordingDevice) -> None:
    def run() -> list[int]:
        raise ValueError("not under capture\nsecond line")

    with pytest.raises(RecordingFailed, match="^ValueError: not under capture$"):
        device.record(run)
    assert cuda.log[-2:] == ["begin in pool 1", "end"] and cuda.current is cuda.default and gc.isenabled()
    assert cuda_capture._failed == []


@pytest.mark.parametrize("breaks_at", ["begin", "end"])
def test_a_capture_that_breaks_is_mended(cuda: Cuda, device: CudaRecordingDevice, breaks_at: str) -> None:
    cuda.breaks_at = breaks_at
    with pytest.raises(RecordingFailed, match="cannot begin|invalidated"):
        device.record(list)
    assert cuda.log[-3:] == ["told of pool 1", "begin in None", "end"]  # the last two free the random generators
    assert len(cuda_capture._failed) == 1 and cuda.current is cuda.default
    tape = device.record(list)
    assert cuda.log[-4:] == ["101 waits for 0", "begin in pool 2", "end", "0 waits for 101"]
    assert list(tape.take_results()) == []


def test_an_interrupt_passes_and_nothing_of_a_failure_stays(cuda: Cuda, device: CudaRecordingDevice) -> None:
    class Made:
        pass

    found: list[weakref.ref[Made]] = []

    def run(error: type[BaseException]) -> list[Any]:
        made = Made()
        found.append(weakref.ref(made))
        raise error

    gc.disable()
    try:
        with pytest.raises(KeyboardInterrupt):
            device.record(lambda: run(KeyboardInterrupt))
        with pytest.raises(RecordingFailed):
            device.record(lambda: run(RuntimeError))
        assert [reference() for reference in found] == [None, None]
    finally:
        gc.enable()
    assert cuda.current is cuda.default


@pytest.mark.parametrize("by_name", [False, True])
def test_turns_are_ordered_where_the_stream_changes(
    cuda: Cuda, device: CudaRecordingDevice, by_name: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_name:
        monkeypatch.setattr(cuda_capture, "_STREAM", lambda index: (cuda.current.cuda_stream, index, 1))

    def turn(stream: Stream) -> list[str]:
        with cuda.stream(stream):
            assert device.begin() and not device.begin()
            assert device.stream() == stream.cuda_stream
            device.end()
        found, cuda.log[:] = list(cuda.log), []
        return found

    one, other = Stream(cuda, 1), Stream(cuda, 2)
    assert [turn(s) for s in (cuda.default, cuda.default, one, one, other, cuda.default)] == [
        [], [], ["1 waits for 0"], [], ["2 waits for the end on 1"], ["0 waits for the end on 2"],
    ]  # fmt: skip


def test_bytes_are_counted_until_their_owner_dies(monkeypatch: pytest.MonkeyPatch, device: CudaRecordingDevice) -> None:
    class Card:
        total_memory = 1600

    class Owner:
        pass

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: Card)
    first, second = Owner(), Owner()
    assert device.reserve(first, 60) and not device.reserve(second, 50) and device.reserve(second, 40)
    del first
    assert device.reserve(second, 60) and not device.reserve(second, 1)


def equal_at(tensors: list[torch.Tensor], addresses: list[int], indices: list[int]) -> bool:
    return all(tensors[k].data_ptr() == addresses[k] for k in indices)


@pytest.mark.parametrize("of_torch", [None, equal_at])
def test_addresses(monkeypatch: pytest.MonkeyPatch, device: CudaRecordingDevice, of_torch: Any) -> None:
    monkeypatch.setattr(cuda_capture, "_LIE_AT", of_torch)
    tensors = (torch.randn(2), torch.nn.Parameter(torch.randn(3)), torch.randn(0))
    inputs = ("anything", tensors[0], 3, tensors[2], tensors[1], torch.randn(2))
    positions = (4, 1, 3)
    lie_alike = device.lying_at(positions, [inputs[k].data_ptr() for k in positions])
    assert lie_alike(inputs) and device.lying_at((), ())(("anything",))
    tensors[1].data = torch.randn(3)
    assert not lie_alike(inputs)


def test_holders_of_a_storage(device: CudaRecordingDevice) -> None:
    tensor = torch.randn(4)
    storage = tensor.untyped_storage()
    alone = device.holders(storage)
    for hold in (lambda: tensor.detach(), lambda: tensor[1:], lambda: tensor.numpy(), lambda: tensor.untyped_storage()):
        held = hold()
        assert device.holders(storage) > alone
        del held
        assert device.holders(storage) == alone


def test_settings_show_what_libraries_read(device: CudaRecordingDevice) -> None:
    before = device.settings()
    assert device.settings() == before and hash(before) == hash(device.settings())
    precision = torch.get_float32_matmul_precision()
    enabled = torch.backends.cuda.flash_sdp_enabled()
    try:
        torch.set_float32_matmul_precision("medium" if precision != "medium" else "highest")
        assert device.settings() != before
        torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.enable_flash_sdp(not enabled)
        assert device.settings() != before
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.enable_flash_sdp(enabled)
