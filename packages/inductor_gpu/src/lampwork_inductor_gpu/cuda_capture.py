"""The real recording device: torch.cuda's graphs, streams, events and memory pools.

Implements `recording_device` for one card; the one place where differences between versions of torch about graphs live.
All recordings of a process on a card share one memory pool and are captured on one side stream. Invariant: a capture
that fails leaves the current stream, the allocator and the random generators as they were.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from typing import Any, cast

import torch

from .recording_device import RecordingFailed

_SHARE = 16  # of a card's memory, one part in so many may be held by inputs and results of recordings
_failed: list[torch.cuda.CUDAGraph] = []  # torch's allocator keeps pointers to graphs whose capture broke: never freed


def _getters(*names: str) -> tuple[Callable[[], Any], ...]:
    return tuple(found for name in names if (found := getattr(torch._C, name, None)) is not None)


_SETTINGS = _getters(
    "_get_cublas_allow_bf16_reduced_precision_reduction", "_get_cublas_allow_fp16_accumulation",
    "_get_cublas_allow_fp16_reduced_precision_reduction", "_get_blas_preferred_backend",
    "_get_linalg_preferred_backend", "_get_cudnn_benchmark", "_get_cudnn_deterministic", "_get_cudnn_enabled",
    "_get_cudnn_sdp_enabled", "_get_flash_sdp_enabled", "_get_mem_efficient_sdp_enabled", "_get_math_sdp_enabled",
    "_get_math_sdp_allow_fp16_bf16_reduction", "_get_overrideable_sdp_enabled", "_get_sm_carveout_experimental",
    "_get_deterministic_algorithms", "_get_deterministic_fill_uninitialized_memory",
)  # fmt: skip
# The older switches of float32 precision raise where a program has used the newer ones, so only one kind is read.
_PRECISION: Callable[[str, str], Any] | None = getattr(torch._C, "_get_fp32_precision_getter", None)
_OLD_PRECISION = _getters("_get_cublas_allow_tf32", "_get_cudnn_allow_tf32")
_STREAM: Callable[[int], Hashable] | None = getattr(torch._C, "_cuda_getCurrentStream", None)
_HOLDERS: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)
_LIE_AT: Callable[[list[Any], list[int], list[int]], bool] | None = getattr(
    torch._C, "_tensors_data_ptrs_at_indices_equal", None
)
_PRECISION_OF = (("cuda", "matmul"), ("cuda", "conv"), ("cuda", "rnn"))


class _Pool:
    """The name of a memory pool. It lives as long as a tape that lies in it: torch takes no name again whose graphs are
    all gone."""

    def __init__(self) -> None:
        self.handle: Any = torch.cuda.graph_pool_handle()


class CapturedTape:
    """A CUDA graph and, until they are taken, the results of its capture. The graph goes before its pool's name."""

    def __init__(self, graph: torch.cuda.CUDAGraph, results: Sequence[Any], pool: _Pool) -> None:
        self._graph = graph
        self._results = results
        self._pool = pool

    def take_results(self) -> Sequence[Any]:
        """The results, which are not kept."""
        results, self._results = self._results, ()
        return results

    def replay(self) -> None:
        """Launch the graph on the current stream of its device."""
        self._graph.replay()


class CudaRecordingDevice:
    """One card. `of(device)` gives the process's one: tapes of different graphs share memory, so they share turns."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._turn = threading.Lock()
        self._last: torch.cuda.Stream | None = None  # of the last turn
        self._name: Hashable = None  # by which it is known again
        self._done: Any = None  # its end, if that stream might be gone when it is asked for
        self._side: torch.cuda.Stream | None = None
        self._pool: weakref.ref[_Pool] | None = None
        self._held = 0
        self._counting = threading.Lock()

    def is_open(self) -> bool:
        """No capture of the user's on this stream, no dispatch mode that would miss the operators."""
        return torch._C._len_torch_dispatch_stack() == 0 and not torch.cuda.is_current_stream_capturing()

    def begin(self) -> bool:
        """Take the turn, ordered behind the last one where that was on another stream."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            name = _stream_name(self._device)
            if name != self._name:
                current, last = torch.cuda.current_stream(self._device), self._last
                if self._done is not None:
                    current.wait_event(self._done)
                elif last is not None:
                    current.wait_stream(last)
                self._last, self._name = current, name
        except BaseException:
            self._turn.release()
            raise
        return True

    def end(self) -> None:
        """Give the turn back. The default stream lives for ever and is asked only if another stream comes next; one
        that a user made may be gone by then, so its event is recorded now."""
        try:
            self._done = None
            if self._last is not None and self._last.cuda_stream != 0:
                self._done = self._last.record_event()
        finally:
            self._turn.release()

    def settings(self) -> Hashable:
        """What matrix products, convolutions and attention read when they are called."""
        if _PRECISION is not None:
            precision = tuple(_PRECISION(backend, operation) for backend, operation in _PRECISION_OF)
        else:
            precision = tuple(getter() for getter in _OLD_PRECISION)
        return (*(getter() for getter in _SETTINGS), precision)

    def stream(self) -> Hashable:
        """The current stream's handle, as `begin` found it."""
        return None if self._last is None else self._last.cuda_stream

    @property
    def counts_holders(self) -> bool:
        """If this version of torch counts."""
        return _HOLDERS is not None

    def holders(self, storage: torch.UntypedStorage) -> int:
        """Both reference counts, of C++ and of Python: a program may hold just the object, one and the same for all."""
        assert _HOLDERS is not None
        return _HOLDERS(storage._cdata) + sys.getrefcount(storage)

    def lying_at(self, positions: Sequence[int], addresses: Sequence[int]) -> Callable[[Sequence[Any]], bool]:
        """By one call of torch's where it has that."""
        if _LIE_AT is None:
            wanted = list(addresses)
            return lambda inputs: [inputs[k].data_ptr() for k in positions] == wanted
        lie_at, asked = _LIE_AT, list(positions)
        by_position = [0] * (1 + max(asked, default=-1))
        for position, address in zip(positions, addresses):
            by_position[position] = address
        return lambda inputs: lie_at(list(inputs), by_position, asked)

    def used_on_this_stream(self, tensors: Sequence[torch.Tensor]) -> None:
        """Told to the allocator."""
        stream = torch.cuda.current_stream(self._device)
        for tensor in tensors:
            tensor.record_stream(stream)

    def reserve(self, owner: object, count: int) -> bool:
        """Against a sixteenth of the card's memory."""
        limit = torch.cuda.get_device_properties(self._device).total_memory // _SHARE
        with self._counting:
            if self._held + count > limit:
                return False
            self._held += count
        weakref.finalize(owner, self._release, count).atexit = False
        return True

    def _release(self, count: int) -> None:
        # no lock: a finalizer may run anywhere, inside `reserve` too; a lost update only makes the bound less sharp
        self._held = max(self._held - count, 0)

    def record(self, run: Callable[[], Sequence[Any]]) -> CapturedTape:
        """Capture `run` on the side stream. Errors are those of this thread only: others go on with their work."""
        with torch.cuda.device(self._device):
            if self._side is None:
                self._side = torch.cuda.Stream(self._device)
            pool = self._pool() if self._pool is not None else None
            if pool is None:
                pool = _Pool()
                self._pool = weakref.ref(pool)
            current = torch.cuda.current_stream(self._device)
            self._side.wait_stream(current)
            collects = gc.isenabled()
            gc.disable()  # what a collection frees may call what no capture allows
            try:
                tape = self._capture(run, self._side, pool)
            finally:
                if collects:
                    gc.enable()
            current.wait_stream(self._side)
            return tape

    def _capture(self, run: Callable[[], Sequence[Any]], side: torch.cuda.Stream, pool: _Pool) -> CapturedTape:
        graph = torch.cuda.CUDAGraph()
        results: Sequence[Any] = ()
        failure: BaseException | None = None
        ran = False
        try:
            with torch.cuda.stream(side):
                try:
                    graph.capture_begin(pool=pool.handle, capture_error_mode="thread_local")
                    ran = True
                    results = run()
                except BaseException as error:
                    failure = error
                try:
                    if ran:
                        graph.capture_end()
                except Exception as error:
                    failure, ran = failure or error, False
            if failure is None:
                return CapturedTape(graph, results, pool)
            self._pool = None  # what lies in it is not known any more
            if not ran:
                self._mend(graph, pool)
            if not isinstance(failure, Exception):
                raise failure
            problem = f"{type(failure).__name__}: {_first_line(failure)}"
        finally:
            del failure  # its traceback holds this frame, which holds what was recorded
        raise RecordingFailed(problem)

    def _mend(self, graph: torch.cuda.CUDAGraph, pool: _Pool) -> None:
        """After a capture that could not end: torch gave up before it told its allocator and its random generators.

        The allocator is told here. The generators believe that they are recorded until a capture ends well, so an
        empty one is made.
        """
        _failed.append(graph)
        end_allocation = getattr(torch._C, "_cuda_endAllocateToPool", None)
        if end_allocation is not None:
            with contextlib.suppress(RuntimeError):  # this version of torch had told it
                end_allocation(self._device.index, pool.handle)
        self._side = torch.cuda.Stream(self._device)  # the old one may still be in the broken capture
        with contextlib.suppress(RuntimeError), torch.cuda.stream(self._side):
            scratch = torch.zeros(1, device=self._device)
            healing = torch.cuda.CUDAGraph()
            healing.capture_begin(capture_error_mode="thread_local")
            try:
                scratch.zero_()  # torch warns of graphs without work
            finally:
                healing.capture_end()


def _stream_name(device: torch.device) -> Hashable:
    """What tells the current stream from others, at less cost than the object where torch has that."""
    return torch.cuda.current_stream(device) if _STREAM is None else _STREAM(device.index)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


_devices: dict[int, CudaRecordingDevice] = {}  # of the process: all of its recordings on a card take turns
_making = threading.Lock()


def recording_device(device: torch.device) -> CudaRecordingDevice:
    """The process's recording device for a card."""
    named = cast("int | None", device.index)
    index = torch.cuda.current_device() if named is None else named
    with _making:
        found = _devices.get(index)
        if found is None:
            found = _devices[index] = CudaRecordingDevice(torch.device(device.type, index))
        return found
