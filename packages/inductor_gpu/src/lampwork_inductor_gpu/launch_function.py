"""The function that a call of the wrapper runs: a known launch, written out for a kernel's arguments.

In front of `launcher`, which it hands everything to that is not known yet. It is a text made for each list of
arguments, since loops over them cost more than all the rest. Invariant: it decides nothing; what it launches was made
for exactly these sizes, this device and this alignment, and each set of cells is in one thread's hands at a time.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from .driver import LAUNCH_BYTES, LAUNCH_FORMAT, STREAM_FORMAT, STREAM_OFFSET, LoadedKernel
from .launch_spec import ALIGNMENT, LaunchSpec

_MISALIGNED = ALIGNMENT - 1  # the bits of an address that are not zero then

_TEXT = """
def bind(known, launch, stream_of, current_device, unknown, refused, pack, new_scratch):
    def call({parameters}):
        {addresses}
        device = t0.get_device()
        sized = known.get({sizes})
        ready = None if sized is None else sized.get({alignment})
        if ready is None or current_device() != device:
            return unknown({parameters})
        {scratch}try:
            cells = ready.free.pop()
        except IndexError:
            cells = ready.new_cells()
        pack(
            cells.memory, {offset}, stream_of(device), ready.attributes, ready.attribute_count,
            {arguments},
        )
        status = launch(cells.configuration, ready.function, cells.parameters, None)
        ready.free.append(cells)
        if status:
            refused(status, ready, device, {arguments})
    return call
"""


@dataclass(frozen=True, slots=True)
class Cells:
    """Memory that the driver reads a launch from: its configuration, the arguments, and pointers to these."""

    memory: Any
    pointers: Any
    configuration: ctypes.c_void_p
    parameters: ctypes.c_void_p


@dataclass(frozen=True, slots=True)
class ReadyLaunch:
    """A kernel on a device with the grid of certain sizes: all but the stream and the arguments.

    `free` are cells that no launch is using; a launch takes one out and puts it back, so threads never share one.
    """

    function: Any
    attributes: int
    attribute_count: int
    template: bytes
    kernel: LoadedKernel  # which keeps the attributes
    scratch_bytes: int = 0  # of memory that the launch needs beside its arguments
    free: list[Cells] = field(default_factory=list)

    def new_cells(self) -> Cells:
        memory = ctypes.create_string_buffer(self.template, len(self.template))
        start = ctypes.addressof(memory)
        places = range(start + LAUNCH_BYTES, start + len(self.template), 8)
        pointers = (ctypes.c_void_p * len(places))(*places)
        return Cells(memory, pointers, ctypes.c_void_p(start), ctypes.c_void_p(ctypes.addressof(pointers)))


def ready_launch(kernel: LoadedKernel, programs: int, spec: LaunchSpec) -> ReadyLaunch:
    """Launches of a loaded kernel with so many programs."""
    configuration = struct.pack(
        LAUNCH_FORMAT, programs * kernel.blocks, *kernel.shape, 0, kernel.attributes, kernel.attribute_count
    )
    template = configuration + bytes(spec.argument_bytes)
    scratch = programs * spec.scratch_bytes
    return ReadyLaunch(kernel.function, kernel.attributes, kernel.attribute_count, template, kernel, scratch)


@dataclass(frozen=True, slots=True)
class LaunchFunction:
    """What calls are for a list of arguments; `bind` gives the function for one kernel.

    `pack` puts the stream, the attributes and the arguments into cells.
    """

    bind: Callable[..., Callable[..., None]]
    pack: Callable[..., None]


@functools.cache
def launch_function(
    pointers: int, sizes: int, floats: int, argument_format: str, has_scratch: bool = False
) -> LaunchFunction:
    """For so many arguments of each kind. `has_scratch`: the launch gets memory beside, and aligned arguments only."""
    tensors = [f"t{i}" for i in range(pointers)]
    addresses = [f"p{i}" for i in range(pointers)]
    size_names = [f"s{i}" for i in range(sizes)]
    others = [*size_names, *(f"f{i}" for i in range(floats))]
    text = _TEXT.format(
        parameters=", ".join([*tensors, *others]),
        addresses="\n        ".join(f"{a} = {t}.data_ptr()" for a, t in zip(addresses, tensors, strict=True)),
        sizes=f"({', '.join(size_names)}{',' if sizes == 1 else ''})",
        # Aligned launches stand at the device's number, others at its complement (or are never known).
        alignment=f"{'None' if has_scratch else '~device'} if ({' | '.join(addresses)}) & {_MISALIGNED} else device",
        scratch="scratch = new_scratch(ready.scratch_bytes, device)\n        " if has_scratch else "",
        offset=STREAM_OFFSET,
        arguments=", ".join([*addresses, *others, *(["scratch.data_ptr()"] if has_scratch else [])]),
    )
    names: dict[str, Any] = {}
    exec(compile(text, "<launch>", "exec"), names)
    bind = cast("Callable[..., Callable[..., None]]", names["bind"])
    return LaunchFunction(bind, struct.Struct(STREAM_FORMAT + argument_format).pack_into)
