"""Calls of the CUDA driver, with a library that only keeps what it was called with."""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from lampwork_inductor_gpu import driver as module
from lampwork_inductor_gpu.compile_job import MachineCode
from lampwork_inductor_gpu.driver import CudaDriver, DriverError, launch_attributes, loaded_kernel

CODE = MachineCode("kernel", 1024, 4, 1, False, False, 0, 0, (8, 8, 8), b"\x7fELF\x00code")
MODULE, FUNCTION, CONTEXT = 0x1000, 0x2000, 0x3000


def plain(value: Any) -> Any:
    """What a driver sees of an argument."""
    return getattr(value, "value", value)


@dataclass
class FakeLibrary:
    """Keeps calls by name and arguments; `fails` has the error number of a call."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    images: list[bytes] = field(default_factory=list)
    context: int | None = CONTEXT
    limit: int = 232448
    static: int = 0
    threads: int = 1024

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name in self.fails:
                return self.fails[name]
            result = getattr(self, f"answer_{name}", None)
            if result is not None:
                result(*arguments)
            given = [plain(a) for a in arguments if not type(a).__name__ == "CArgObject"]
            self.calls.append((name, *given))
            return 0

        return call

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]

    def answer_cuModuleLoadData(self, module: Any, code: Any) -> None:
        module._obj.value = MODULE
        self.images.append(ctypes.string_at(code, len(CODE.cubin)))

    def answer_cuModuleGetFunction(self, function: Any, module: Any, name: Any) -> None:
        function._obj.value = FUNCTION

    def answer_cuFuncGetAttribute(self, value: Any, which: Any, function: Any) -> None:
        value._obj.value = {0: self.threads, 1: self.static}[which.value]

    def answer_cuDeviceGetAttribute(self, value: Any, which: Any, device: Any) -> None:
        assert which.value == 97
        value._obj.value = self.limit

    def answer_cuDeviceGet(self, handle: Any, device: Any) -> None:
        handle._obj.value = device.value

    def answer_cuCtxGetCurrent(self, context: Any) -> None:
        context._obj.value = self.context

    def answer_cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:
        context._obj.value = CONTEXT

    def answer_cuCtxSetCurrent(self, context: Any) -> None:
        self.context = context.value

    def answer_cuGetErrorString(self, status: Any, text: Any) -> None:
        text._obj.value = b"out of luck"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    functions = SimpleNamespace(_cuda_getDevice=lambda: 1, _cuda_getCurrentRawStream=lambda device: 7)
    monkeypatch.setattr(module, "torch", SimpleNamespace(_C=functions))
    return FakeLibrary()


def test_loading_gives_the_function(library: FakeLibrary) -> None:
    kernel = CudaDriver(library).load(CODE)
    assert kernel.function.value == FUNCTION and kernel.blocks == 1
    assert kernel.shape == (1, 1, 128, 1, 1, 1024)
    assert (kernel.attributes, kernel.attribute_count) == (0, 0)
    assert library.images == [CODE.cubin]  # with what comes after a zero
    assert ("cuModuleGetFunction", MODULE, b"kernel") in library.calls
    assert not {"cuFuncSetAttribute", "cuCtxSetCurrent"} & set(library.names)


def test_much_shared_memory_is_asked_for(library: FakeLibrary) -> None:
    CudaDriver(library).load(replace(CODE, shared=48 << 10))
    assert "cuFuncSetAttribute" not in library.names
    kernel = CudaDriver(library).load(replace(CODE, shared=200_000))
    assert ("cuFuncSetAttribute", FUNCTION, 8, 200_000) in library.calls and kernel.shape[-1] == 200_000
    assert ("cuDeviceGet", 1) in library.calls


@pytest.mark.parametrize("static", [0, 1024])
def test_more_shared_memory_than_there_is(library: FakeLibrary, static: int) -> None:
    library.static = static
    needed = library.limit - static
    CudaDriver(library).load(replace(CODE, shared=needed))
    with pytest.raises(DriverError, match=f"kernel kernel: it needs {needed + 1} bytes of shared memory"):
        CudaDriver(library).load(replace(CODE, shared=needed + 1))


def test_more_threads_than_the_device_runs(library: FakeLibrary) -> None:
    library.threads = 96
    with pytest.raises(DriverError, match="needs 128 threads"):
        CudaDriver(library).load(CODE)


def test_large_clusters_are_allowed(library: FakeLibrary) -> None:
    CudaDriver(library).load(replace(CODE, blocks=8))
    assert "cuFuncSetAttribute" not in library.names
    CudaDriver(library).load(replace(CODE, blocks=16))
    assert ("cuFuncSetAttribute", FUNCTION, 14, 1) in library.calls


def test_a_thread_without_a_context_gets_the_primary_one(library: FakeLibrary) -> None:
    library.context = None
    cuda = CudaDriver(library)
    cuda.load(CODE)
    assert library.names[:4] == ["cuCtxGetCurrent", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent"]
    assert ("cuCtxSetCurrent", CONTEXT) in library.calls
    # another thread: retained once
    library.context = None
    assert cuda.attach(201, 1) and library.context == CONTEXT
    assert library.names.count("cuDevicePrimaryCtxRetain") == 1
    assert not cuda.attach(201, 1)  # it has one: the launch was refused for another reason
    library.context = None
    assert not cuda.attach(700, 1) and library.context is None


@pytest.mark.parametrize("call", ["cuModuleLoadData", "cuModuleGetFunction", "cuFuncGetAttribute", "cuCtxGetCurrent"])
def test_a_refused_call_says_what_and_why(library: FakeLibrary, call: str) -> None:
    library.fails[call] = 209
    with pytest.raises(DriverError, match=r"out of luck \(CUDA error 209\)") as caught:
        CudaDriver(library).load(CODE)
    assert caught.value.status == 209


def test_loading_while_a_graph_is_recorded_has_a_hint(library: FakeLibrary) -> None:
    library.fails["cuModuleLoadData"] = 900
    with pytest.raises(DriverError, match=r"kernel kernel: .*Launcher\.prepare"):
        CudaDriver(library).load(CODE)
    library.fails["cuGetErrorString"] = 1
    assert "unknown error (CUDA error 12345)" in str(CudaDriver(library).error("launching", 12345))


def test_attributes_have_the_drivers_layout() -> None:
    assert launch_attributes(CODE) == []
    code = replace(CODE, blocks=4, cooperative=True, overlapped=True)
    attributes = launch_attributes(code)
    assert [len(a) for a in attributes] == [72] * 4
    assert [struct.unpack_from("=I4x3I", a) for a in attributes] == [
        (6, 1, 0, 0), (2, 1, 0, 0), (4, 4, 1, 1), (5, 1, 0, 0),
    ]  # fmt: skip
    kernel = loaded_kernel("function", code)
    assert kernel.attribute_count == 4 and kernel.blocks == 4
    assert ctypes.string_at(kernel.attributes, 4 * 72) == b"".join(attributes)
    assert kernel.attributes % 8 == 0


def test_the_launch_configuration_has_the_drivers_layout() -> None:
    class Configuration(ctypes.Structure):
        """CUlaunchConfig of cuda.h."""

        _fields_ = (
            *[(name, ctypes.c_uint) for name in ("gx", "gy", "gz", "bx", "by", "bz", "shared")],
            ("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("count", ctypes.c_uint),
        )  # fmt: skip

    packed = struct.pack(module.LAUNCH_FORMAT, 1, 2, 3, 4, 5, 6, 7, 1 << 40, 1 << 41, 8)
    assert len(packed) == ctypes.sizeof(Configuration) == module.LAUNCH_BYTES
    found = Configuration.from_buffer_copy(packed)
    assert [getattr(found, name) for name, _ in Configuration._fields_] == [1, 2, 3, 4, 5, 6, 7, 1 << 40, 1 << 41, 8]
    assert Configuration.stream.offset == module.STREAM_OFFSET
    assert struct.calcsize(module.STREAM_FORMAT) == module.LAUNCH_BYTES - module.STREAM_OFFSET
