"""Launching compiled Triton kernels from the wrapper.

At the end of the path, on every call: tensors and numbers in, one launch, by the CUDA driver. Neither Triton's
dispatcher nor its launcher is used: the one costs 17 us a launch, the other compiles C for each signature. Invariant:
imports nothing of the compiler; what a launch needs was decided when the text was written; a known launch allocates
nothing on the device and loads nothing, so it may be recorded in a CUDA graph.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .compile_job import MachineCode
from .driver import STREAM_OFFSET, Driver, LoadedKernel, aligned_copy, cuda_driver
from .kernel_codes import KernelCodes, KernelGroup
from .launch_function import LaunchFunction, ReadyLaunch, launch_function, ready_launch
from .launch_spec import ALIGNMENT, POINTER_TYPES, LaunchSpec, Variant

__all__ = ["POINTER_TYPES", "LaunchSpec", "LaunchTooLarge", "Launcher", "UnfitMachineCode", "Variant"]

_MOST_SIZES = 1024  # that a launcher remembers
_MOST_VARIANTS = 16  # of one kernel on one device: which of its sizes are divided
_MOST_BLOCKS = 2**31 - 1  # of a launch


class UnfitMachineCode(RuntimeError):
    """What the compiler made cannot be launched with the arguments at hand; the message says what differs."""


class LaunchTooLarge(RuntimeError):
    """The sizes of a call ask for more programs than a launch can have."""


@dataclass(slots=True)
class Launcher:
    """A kernel as the wrapper calls it: `launcher(*tensors, *sizes, *floats)`, on the tensors' current stream.

    `group` are the kernels of its graph; `open_driver` gives the driver when it is first needed.
    """

    codes: KernelCodes
    group: KernelGroup
    open_driver: Callable[[], Driver] = cuda_driver
    spec: LaunchSpec = field(init=False)
    _driver: Driver | None = None
    _function: LaunchFunction = field(init=False)
    _call: Callable[..., None] = field(init=False)
    _loaded: dict[tuple[int, Variant], LoadedKernel] = field(default_factory=dict)
    _known: dict[tuple[int, ...], dict[int, ReadyLaunch]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.spec = spec = self.codes.spec
        self._function = launch_function(
            len(spec.pointer_types),
            len(spec.size_names),
            len(spec.float_names),
            spec.argument_format(),
            bool(spec.block_reads),
        )
        self._call = self.unknown

    def __call__(self, *arguments: Any) -> None:
        self._call(*arguments)

    def prepare(self, device: int, sizes: Sequence[int] = (), *, aligned: bool = True) -> None:
        """Have the machine code for these sizes on a device: a stream that records a CUDA graph cannot load it."""
        with self._opened().on_device(device):
            self._ready(tuple(sizes), device, aligned)

    def _opened(self) -> Driver:
        """The driver; calls go to it directly from the first one on."""
        if self._driver is None:
            driver = self._driver = self.open_driver()
            self._call = self._function.bind(
                self._known,
                driver.launch,
                driver.current_stream,
                driver.current_device,
                self.unknown,
                self.refused,
                self._function.pack,
                driver.new_scratch,
            )
        return self._driver

    # -- what is not known yet

    def unknown(self, *arguments: Any) -> None:
        """A launch of any kind: it is known afterwards."""
        sizes = self.spec.sizes(arguments)
        pointers = len(self.spec.pointer_types)
        arguments = self._with_aligned_blocks(arguments)
        addresses = [tensor.data_ptr() for tensor in arguments[:pointers]]
        aligned = all(address % ALIGNMENT == 0 for address in addresses)
        device = arguments[0].get_device()
        driver = self._opened()
        with driver.on_device(device):
            ready = self._ready(sizes, device, aligned)
            if ready is not None:
                scratch = driver.new_scratch(ready.scratch_bytes, device) if self.spec.block_reads else None
                rest = (*addresses, *arguments[pointers:], *([] if scratch is None else [scratch.data_ptr()]))
                status = self._try(ready, device, rest)
                if status:
                    self.refused(status, ready, device, *rest)

    def _with_aligned_blocks(self, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """The copy engine wants what it reads aligned: other tensors are copied first."""
        replaced = list(arguments)
        for position in self.spec.block_reads:
            if arguments[position].data_ptr() % ALIGNMENT:
                replaced[position] = aligned_copy(arguments[position])
        return tuple(replaced)

    def refused(self, status: int, ready: ReadyLaunch, device: int, *arguments: Any) -> None:
        """Try again where only the thread's context was missing."""
        driver = self._opened()
        if driver.attach(status, device):
            status = self._try(ready, device, arguments)
        if status:
            raise driver.error(f"launching kernel {self.codes.name}", status)

    def _try(self, ready: ReadyLaunch, device: int, arguments: Sequence[Any]) -> int:
        driver = self._opened()
        cells = ready.new_cells()
        self._function.pack(
            cells.memory,
            STREAM_OFFSET,
            driver.current_stream(device),
            ready.attributes,
            ready.attribute_count,
            *arguments,
        )
        status = driver.launch(cells.configuration, ready.function, cells.parameters, None)
        ready.free.append(cells)
        return status

    def _ready(self, sizes: tuple[int, ...], device: int, aligned: bool) -> ReadyLaunch | None:
        """On the current device; None where the sizes leave nothing to do."""
        place = device if aligned else ~device
        found = self._known.get(sizes, {}).get(place)
        if found is not None:  # another device was the current one
            return found
        programs = self.spec.program_count(sizes)
        if programs == 0:
            return None
        if programs > _MOST_BLOCKS:
            raise LaunchTooLarge(
                f"kernel {self.codes.name} needs {programs} programs; a launch has {_MOST_BLOCKS} at most"
            )
        with self._lock:
            kernel = self._kernel(sizes, device, aligned)
            if len(self._known) >= _MOST_SIZES and sizes not in self._known:
                self._known.clear()
            made = ready_launch(kernel, programs, self.spec)
            self._known.setdefault(sizes, {})[place] = made
            return made

    def _kernel(self, sizes: tuple[int, ...], device: int, aligned: bool) -> LoadedKernel:
        """The machine code for certain sizes; that for any sizes once there are many."""
        variant = self.spec.variant_at(sizes, aligned=aligned)
        key = (device, variant)
        if key not in self._loaded and sum(known == device for known, _ in self._loaded) >= _MOST_VARIANTS:
            key = (device, replace(variant, divided=(False,) * len(variant.divided)))
        made = self._loaded.get(key)
        if made is None:
            made = self._loaded[key] = self._load(key[1], sizes, device)
        return made

    def _load(self, variant: Variant, sizes: tuple[int, ...], device: int) -> LoadedKernel:
        driver = self._opened()
        architecture = driver.architecture(device)
        pending = self.codes.request(variant, architecture)
        # Others are compiled meanwhile.
        self.group.sizes_are(dict(zip(self.spec.size_names, sizes, strict=True)), architecture)
        code = pending.result()
        self._verify(code, variant)
        made = driver.load(code)
        self.codes.forget(variant, architecture)
        return made

    def _verify(self, code: MachineCode, variant: Variant) -> None:
        """That the code reads its arguments where launches put them."""
        name = self.codes.name
        expected = self.spec.parameter_sizes(narrow=variant.narrow)
        if code.parameters != expected:
            raise UnfitMachineCode(
                f"kernel {name} has parameters of {code.parameters} bytes, a launch gives {expected}. "
                "Hint: this version of Triton passes arguments in another way; please report it"
            )
        if code.global_scratch > self.spec.scratch_bytes or code.profile_scratch:
            raise UnfitMachineCode(
                f"kernel {name} needs scratch memory ({code.global_scratch} bytes a program, {code.profile_scratch} "
                f"to profile) of which launches give {self.spec.scratch_bytes} bytes"
            )
