"""Global state of torch that changes what operations do: how it is read, in Python and by the native tree.

One table, `STATE`. Each row has a Python reader and, where torch exports it, the C++ function that the native tree
calls instead (2 ns rather than 30). Invariant: both readers agree; tests compare them in many states.
"""

from __future__ import annotations

import abc
import ctypes
import enum
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._device import DeviceContext

from .tensor_access import dtype_code


class Call(enum.IntEnum):
    """How a native reader is called; the numbers are those of csrc/guard_state.c."""

    PYTHON = 0
    BOOL = 1
    INT8 = 2
    INT32 = 3
    INT64 = 4
    BOOL_OF_DEVICE = 5
    INT8_OF_DEVICE = 6
    BOOL_OF_CONTEXT = 7


@dataclass(frozen=True, slots=True)
class StateReader:
    """One piece of state. `encode` gives the integer that the native reader returns for a Python value."""

    name: str
    read: Callable[[], Any]
    call: Call = Call.PYTHON
    library: str = ""
    symbol: str = ""
    argument: int = 0
    encode: Callable[[Any], int] = int


_AUTOGRAD: Any = vars(torch._C)["_autograd"]
_CPU, _CUDA = 0, 1  # c10::DeviceType
_CPP = "torch_cpu"
_C10 = "c10"


def _function_modes() -> tuple[str, ...]:
    """The active function modes; a default device is one, and is told apart by its device. Frames under a mode of the
    user's own are never captured, so its class is all that counts."""
    names: list[str] = []
    for index in range(torch._C._len_torch_function_stack()):
        mode = torch._C._get_function_stack_at(index)
        device = f":{mode.device}" if type(mode) is DeviceContext else ""
        names.append(f"{type(mode).__module__}.{type(mode).__qualname__}{device}")
    return tuple(names)


def _dispatch_modes() -> tuple[str, ...]:
    names: list[str] = []
    for index in range(torch._C._len_torch_dispatch_stack()):
        mode = torch._C._get_dispatch_stack_at(index)
        names.append(f"{type(mode).__module__}.{type(mode).__qualname__}")
    return tuple(names)


def observed_by_modes() -> bool:
    """Whether a mode sees each operation of torch: then a graph would hide them, and tracing would show it others."""
    if torch._C._len_torch_dispatch_stack():
        return True
    depth: int = torch._C._len_torch_function_stack()
    return any(type(torch._C._get_function_stack_at(index)) is not DeviceContext for index in range(depth))


def modes_now() -> tuple[tuple[str, Any], ...]:
    """The part of the state that says which modes are active."""
    return tuple((name, _BY_NAME[name].read()) for name in ("function modes", "dispatch modes"))


def _function_override() -> int:
    """0: enabled, 1: off for subclasses, 2: all off, as torch counts it."""
    if torch._C._is_torch_function_all_disabled():
        return 2
    return 0 if torch._C._is_torch_function_enabled() else 1


_CONTEXT = "_ZNK2at7Context"

STATE: tuple[StateReader, ...] = (
    StateReader("grad mode", torch.is_grad_enabled, Call.BOOL, _C10, "_ZN3c108GradMode10is_enabledEv"),
    StateReader(
        "inference mode", torch.is_inference_mode_enabled, Call.BOOL, _C10, "_ZN3c1013InferenceMode10is_enabledEv"
    ),
    StateReader(
        "default dtype",
        torch.get_default_dtype,
        Call.INT8,
        _C10,
        "_ZN3c1031get_default_dtype_as_scalartypeEv",
        encode=dtype_code,
    ),
    StateReader(
        "autocast on cpu",
        partial(torch.is_autocast_enabled, "cpu"),
        Call.BOOL_OF_DEVICE,
        _CPP,
        "_ZN2at8autocast19is_autocast_enabledEN3c1010DeviceTypeE",
        _CPU,
    ),
    StateReader(
        "autocast on cuda",
        partial(torch.is_autocast_enabled, "cuda"),
        Call.BOOL_OF_DEVICE,
        _CPP,
        "_ZN2at8autocast19is_autocast_enabledEN3c1010DeviceTypeE",
        _CUDA,
    ),
    StateReader(
        "autocast dtype on cpu",
        partial(torch.get_autocast_dtype, "cpu"),
        Call.INT8_OF_DEVICE,
        _CPP,
        "_ZN2at8autocast18get_autocast_dtypeEN3c1010DeviceTypeE",
        _CPU,
        dtype_code,
    ),
    StateReader(
        "autocast dtype on cuda",
        partial(torch.get_autocast_dtype, "cuda"),
        Call.INT8_OF_DEVICE,
        _CPP,
        "_ZN2at8autocast18get_autocast_dtypeEN3c1010DeviceTypeE",
        _CUDA,
        dtype_code,
    ),
    StateReader(
        "autocast cache",
        torch.is_autocast_cache_enabled,
        Call.BOOL,
        _CPP,
        "_ZN2at8autocast25is_autocast_cache_enabledEv",
    ),
    StateReader(
        "deterministic algorithms",
        torch.are_deterministic_algorithms_enabled,
        Call.BOOL_OF_CONTEXT,
        _CPP,
        f"{_CONTEXT}23deterministicAlgorithmsEv",
    ),
    StateReader(
        "deterministic algorithms only warn",
        torch.is_deterministic_algorithms_warn_only_enabled,
        Call.BOOL_OF_CONTEXT,
        _CPP,
        f"{_CONTEXT}31deterministicAlgorithmsWarnOnlyEv",
    ),
    StateReader("threads", torch.get_num_threads, Call.INT32, _CPP, "_ZN2at15get_num_threadsEv"),
    StateReader(
        "torch function overrides",
        _function_override,
        Call.INT8,
        _CPP,
        "_ZN2at4impl22PythonTorchFunctionTLS18get_disabled_stateEv",
    ),
    StateReader("function modes", _function_modes),
    StateReader("dispatch modes", _dispatch_modes),
)

HANDLED_BY_CALLER = "exception handled by a caller"
WARNINGS_RAISE = "warnings raise"
SAVED_TENSOR_HOOKS = "hooks on saved tensors"

# State that few programs ask for: guarded only where one does
ON_DEMAND: tuple[StateReader, ...] = (
    StateReader(
        "flash attention allowed",
        torch.backends.cuda.flash_sdp_enabled,
        Call.BOOL_OF_CONTEXT,
        _CPP,
        f"{_CONTEXT}19userEnabledFlashSDPEv",
    ),
    StateReader(
        "memory-efficient attention allowed",
        torch.backends.cuda.mem_efficient_sdp_enabled,
        Call.BOOL_OF_CONTEXT,
        _CPP,
        f"{_CONTEXT}26userEnabledMemEfficientSDPEv",
    ),
    StateReader(
        "plain attention allowed",
        torch.backends.cuda.math_sdp_enabled,
        Call.BOOL_OF_CONTEXT,
        _CPP,
        f"{_CONTEXT}18userEnabledMathSDPEv",
    ),
    StateReader("cudnn attention allowed", torch.backends.cuda.cudnn_sdp_enabled),
    StateReader("attention priority", lambda: tuple(torch._C._get_sdp_priority_order())),
    StateReader("cudnn allowed", torch._C._get_cudnn_enabled),
    StateReader("cudnn benchmark", torch._C._get_cudnn_benchmark),
    StateReader("cudnn deterministic", torch._C._get_cudnn_deterministic),
    StateReader("cudnn tf32", torch._C._get_cudnn_allow_tf32),
    StateReader("cublas tf32", torch._C._get_cublas_allow_tf32),
    StateReader("mkldnn allowed", torch._C._get_mkldnn_enabled),
    StateReader("matmul precision", torch.get_float32_matmul_precision),
    StateReader("anomaly detection", torch.is_anomaly_enabled),
    StateReader("distributed initialized", lambda: torch.distributed.is_initialized()),
    StateReader("deterministic fill", torch._C._get_deterministic_fill_uninitialized_memory),
    StateReader("warn always", torch.is_warn_always_enabled),
    StateReader("cuda initialized", torch.cuda.is_initialized),
    StateReader("cuda stream capturing", torch.cuda.is_current_stream_capturing),
    StateReader("registrations of abstract classes", abc.get_cache_token),
    StateReader(HANDLED_BY_CALLER, sys.exc_info),
    StateReader(WARNINGS_RAISE, lambda: any(action == "error" for action, *_ in warnings.filters)),
    StateReader(SAVED_TENSOR_HOOKS, lambda: _AUTOGRAD._top_saved_tensors_default_hooks(True) is not None),
)

_BY_NAME = {reader.name: reader for reader in (*STATE, *ON_DEMAND)}

# An empty mode stack is recognised by its length alone.
_STACK_LENGTH = {
    "function modes": StateReader(
        "function modes", tuple, Call.INT64, _CPP, "_ZN2at4impl22PythonTorchFunctionTLS9stack_lenEv", encode=len
    ),
    "dispatch modes": StateReader(
        "dispatch modes", tuple, Call.INT64, _C10, "_ZN3c104impl20TorchDispatchModeTLS9stack_lenEv", encode=len
    ),
}


def read_global_state() -> tuple[tuple[str, Any], ...]:
    """The state now, as `GlobalStateIs` holds it."""
    return tuple((reader.name, reader.read()) for reader in STATE)


def reader_of(name: str) -> StateReader:
    """The row of the table with this name. Raises KeyError."""
    return _BY_NAME[name]


@cache
def _library(name: str) -> ctypes.CDLL | None:
    folder = Path(torch.__file__).parent / "lib"
    for candidate in (f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll"):
        if (folder / candidate).exists():
            return ctypes.CDLL(str(folder / candidate))
    return None


@cache
def symbol_address(library: str, symbol: str) -> int:
    """Address of an exported function of torch's libraries; 0 where it is not exported."""
    loaded = _library(library)
    if loaded is None:
        return 0
    try:
        function = getattr(loaded, symbol)
    except AttributeError:
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _context_address() -> int:
    address = symbol_address(_CPP, "_ZN2at13globalContextEv")
    if not address:
        return 0
    return ctypes.CFUNCTYPE(ctypes.c_void_p)(address)() or 0


def native_item(name: str, value: Any) -> tuple[int, int, int, Any, Any]:
    """What csrc/guard_state.c checks for one piece of state: (how, address, argument, callable, expected)."""
    reader = _BY_NAME[name]
    if value == () and name in _STACK_LENGTH:
        reader = _STACK_LENGTH[name]
    address = symbol_address(reader.library, reader.symbol) if reader.call is not Call.PYTHON else 0
    argument = _context_address() if reader.call is Call.BOOL_OF_CONTEXT else reader.argument
    encoded = reader.encode(value) if address else -1
    if not address or encoded < 0 or (reader.call is Call.BOOL_OF_CONTEXT and not argument):
        return (int(Call.PYTHON), 0, 0, _BY_NAME[name].read, value)
    return (int(reader.call), address, argument, None, encoded)
