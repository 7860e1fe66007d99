"""Driver: the few calls of the CUDA driver that load and launch machine code.

Below the launcher, on every call. The driver's library is called by ctypes, with cells that a launcher fills, so no C
is compiled for a launch. Invariant: what the driver refuses raises `DriverError` with its text; loading happens in the
device's primary context, which torch uses too, and never unloads, since CUDA graphs keep pointing into modules.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch

from .compile_job import MachineCode

LAUNCH_FORMAT = "=7I4xQQI4x"  # CUlaunchConfig: grid, block, shared memory, stream, attributes and their number
LAUNCH_BYTES = struct.calcsize(LAUNCH_FORMAT)
STREAM_FORMAT = "=QQI4x"  # its end, from the stream on
STREAM_OFFSET = LAUNCH_BYTES - struct.calcsize(STREAM_FORMAT)

_LIBRARY = "libcuda.so.1"
_WARP_SIZE = 32
_DEFAULT_SHARED = 48 << 10  # bytes that a kernel may use without asking
_PORTABLE_CLUSTER = 8  # blocks
_ATTRIBUTE = struct.Struct("=I4x64s")  # CUlaunchAttribute: which, its value

# Of the driver's enumerations, by their names in cuda.h.
_INVALID_CONTEXT = 201
_CAPTURE_ERRORS = range(900, 908)
_FUNCTION_MAX_THREADS = 0
_FUNCTION_STATIC_SHARED = 1
_FUNCTION_MAX_DYNAMIC_SHARED = 8
_FUNCTION_NON_PORTABLE_CLUSTER = 14
_DEVICE_SHARED_OPTIN = 97
_CACHE_PREFER_SHARED = 1
_LAUNCH_COOPERATIVE = 2
_LAUNCH_CLUSTER_DIMENSION = 4
_LAUNCH_CLUSTER_SCHEDULING = 5
_LAUNCH_OVERLAPPED = 6
_SPREAD = 1


class DriverError(RuntimeError):
    """The CUDA driver refused a call. `status` is its error number."""

    def __init__(self, what: str, status: int, text: str) -> None:
        super().__init__(f"{what}: {text} (CUDA error {status})")
        self.status = status


@dataclass(frozen=True, slots=True)
class LoadedKernel:
    """Machine code on a device.

    `blocks` of the card for one program of the grid; `shape` is what a launch packs after the number of blocks (grid y
    and z, block x, y and z, bytes of shared memory); `attributes` the address of launch attributes, `attribute_count`
    their number, `attribute_memory` what keeps them.
    """

    function: Any
    blocks: int
    shape: tuple[int, int, int, int, int, int]
    attributes: int = 0
    attribute_count: int = 0
    attribute_memory: Any = None


class Driver(Protocol):
    """What launchers need. The attributes are functions that cost a launch as little as can be."""

    current_device: Callable[[], int]
    current_stream: Callable[[int], int]
    """The handle of torch's current stream on a device."""
    launch: Callable[[Any, Any, Any, Any], int]
    """Address of a CUlaunchConfig, function, address of pointers to the arguments, None; returns an error number."""

    new_scratch: Callable[[int, int], Any]
    """So many bytes on a device, for the current stream."""

    def on_device(self, device: int) -> AbstractContextManager[Any]:
        """Make a device the current one for a while."""
        ...

    def architecture(self, device: int) -> int:
        """The compute capability, 90 for 9.0."""
        ...

    def load(self, code: MachineCode) -> LoadedKernel:
        """Put machine code on the current device. Not while a stream records a graph. Raises DriverError."""
        ...

    def attach(self, status: int, device: int) -> bool:
        """After a refused launch: whether the thread had no context and has it now, so that it can be tried again."""
        ...

    def error(self, what: str, status: int) -> DriverError:
        """The error for an error number."""
        ...


def launch_attributes(code: MachineCode) -> list[bytes]:
    """The attributes of a launch, in the driver's layout."""
    made: list[bytes] = []
    if code.overlapped:
        made.append(_ATTRIBUTE.pack(_LAUNCH_OVERLAPPED, struct.pack("=i", 1)))
    if code.cooperative:
        made.append(_ATTRIBUTE.pack(_LAUNCH_COOPERATIVE, struct.pack("=i", 1)))
    if code.blocks > 1:
        made.append(_ATTRIBUTE.pack(_LAUNCH_CLUSTER_DIMENSION, struct.pack("=3I", code.blocks, 1, 1)))
        made.append(_ATTRIBUTE.pack(_LAUNCH_CLUSTER_SCHEDULING, struct.pack("=i", _SPREAD)))
    return made


def loaded_kernel(function: Any, code: MachineCode) -> LoadedKernel:
    """What launches of a function need."""
    packed = b"".join(launch_attributes(code))
    memory = ctypes.create_string_buffer(packed, len(packed)) if packed else None
    return LoadedKernel(
        function=function,
        blocks=code.blocks,
        shape=(1, 1, code.warps * _WARP_SIZE, 1, 1, code.shared),
        attributes=ctypes.addressof(memory) if memory is not None else 0,
        attribute_count=len(packed) // _ATTRIBUTE.size,
        attribute_memory=memory,
    )


class CudaDriver:
    """The driver of this machine. Raises OSError where there is none.

    `library` has the driver's functions, as ctypes gives them.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = ctypes.CDLL(_LIBRARY) if library is None else library
        torch_functions = cast("Any", torch._C)
        self.current_device: Callable[[], int] = torch_functions._cuda_getDevice
        self.current_stream: Callable[[int], int] = torch_functions._cuda_getCurrentRawStream
        self.launch: Callable[[Any, Any, Any, Any], int] = self._library.cuLaunchKernelEx
        self.new_scratch: Callable[[int, int], Any] = new_bytes
        self._context_lock = threading.Lock()
        self._contexts: dict[int, Any] = {}

    def on_device(self, device: int) -> AbstractContextManager[Any]:
        return torch.cuda.device(device)

    def architecture(self, device: int) -> int:
        major, minor = torch.cuda.get_device_capability(device)
        return 10 * major + minor

    def attach(self, status: int, device: int) -> bool:
        return status == _INVALID_CONTEXT and self._make_context_current(device)

    def error(self, what: str, status: int) -> DriverError:
        text = ctypes.c_char_p()
        known = self._library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text)) == 0
        message = (text.value or b"").decode() if known else "unknown error"
        if status in _CAPTURE_ERRORS:
            message += ". Hint: a stream is recording a CUDA graph; call Launcher.prepare before"
        return DriverError(what, status, message)

    def load(self, code: MachineCode) -> LoadedKernel:
        device = self.current_device()
        self._make_context_current(device)
        what = f"loading kernel {code.symbol}"
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(what, self._library.cuModuleLoadData(ctypes.byref(module), ctypes.c_char_p(code.cubin)))
        symbol = ctypes.c_char_p(code.symbol.encode())
        self._check(what, self._library.cuModuleGetFunction(ctypes.byref(function), module, symbol))
        # Asking for an attribute also makes a driver that loads lazily load the function now.
        threads = self._function_attribute(what, function, _FUNCTION_MAX_THREADS)
        if code.warps * _WARP_SIZE > threads:
            raise DriverError(what, 0, f"it needs {code.warps * _WARP_SIZE} threads a block, the device runs {threads}")
        if code.shared > _DEFAULT_SHARED:
            self._allow_shared_memory(what, function, code.shared, device)
        if code.blocks > _PORTABLE_CLUSTER:
            self._set_function_attribute(what, function, _FUNCTION_NON_PORTABLE_CLUSTER, 1)
        return loaded_kernel(function, code)

    def _allow_shared_memory(self, what: str, function: Any, needed: int, device: int) -> None:
        limit = ctypes.c_int()
        status = self._library.cuDeviceGetAttribute(
            ctypes.byref(limit), ctypes.c_int(_DEVICE_SHARED_OPTIN), self._device_handle(what, device)
        )
        self._check(what, status)
        left = limit.value - self._function_attribute(what, function, _FUNCTION_STATIC_SHARED)
        if needed > left:
            raise DriverError(what, 0, f"it needs {needed} bytes of shared memory a block, the device has {left}")
        self._check(what, self._library.cuFuncSetCacheConfig(function, ctypes.c_int(_CACHE_PREFER_SHARED)))
        self._set_function_attribute(what, function, _FUNCTION_MAX_DYNAMIC_SHARED, needed)

    def _function_attribute(self, what: str, function: Any, attribute: int) -> int:
        value = ctypes.c_int()
        self._check(what, self._library.cuFuncGetAttribute(ctypes.byref(value), ctypes.c_int(attribute), function))
        return value.value

    def _set_function_attribute(self, what: str, function: Any, attribute: int, value: int) -> None:
        self._check(what, self._library.cuFuncSetAttribute(function, ctypes.c_int(attribute), ctypes.c_int(value)))

    def _make_context_current(self, device: int) -> bool:
        """Give this thread the device's primary context if it has none; whether it had none.

        A thread gets one with its first call of the runtime that needs it, and a kernel of ours may come before that.
        """
        what = f"using device {device}"
        current = ctypes.c_void_p()
        self._check(what, self._library.cuCtxGetCurrent(ctypes.byref(current)))
        if current.value:
            return False
        with self._context_lock:
            context = self._contexts.get(device)
            if context is None:  # retained once, and kept
                context = ctypes.c_void_p()
                handle = self._device_handle(what, device)
                self._check(what, self._library.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle))
                self._contexts[device] = context
        self._check(what, self._library.cuCtxSetCurrent(context))
        return True

    def _device_handle(self, what: str, device: int) -> ctypes.c_int:
        handle = ctypes.c_int()
        self._check(what, self._library.cuDeviceGet(ctypes.byref(handle), ctypes.c_int(device)))
        return handle

    def _check(self, what: str, status: int) -> None:
        if status:
            raise self.error(what, status)


def new_bytes(count: int, device: int) -> torch.Tensor:
    """Memory on a device, from torch's allocator: of the current stream, and of a graph that it records."""
    return torch.empty(count, dtype=torch.uint8, device=device)


def aligned_copy(tensor: torch.Tensor) -> torch.Tensor:
    """The same elements with the same strides, in memory of its own."""
    copied = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copied.copy_(tensor)


@functools.cache
def cuda_driver() -> CudaDriver:
    """The driver of this process, opened when it is first needed."""
    return CudaDriver()
