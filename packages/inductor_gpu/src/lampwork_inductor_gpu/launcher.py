"""Launching compiled Triton kernels from the wrapper.

At the end of the path, on every call: tensors and numbers in, one launch. A launch goes straight to the compiled
kernel's own `run`, never through `JITFunction`, which costs three times as much. Invariant: imports nothing of the
compiler; what a launch needs was decided when the text was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
import triton.compiler
from triton.backends.compiler import GPUTarget

_ALIGNMENT = 16  # bytes: what a 128-bit access needs
_DIVISOR = 16  # of a size: rows of so many elements start aligned, and a mask that ends there is one for whole accesses
_MOST_VARIANTS = 16  # of one kernel on one device: which of its sizes are divided

POINTER_TYPES: dict[torch.dtype, str] = {
    torch.bool: "*i1",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
}


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How to compile and launch one kernel.

    `pointer_types`, `size_names` and `float_names` describe the arguments in order; `constants` are the constexpr
    parameters (block sizes); `program_count` gives the grid from the size arguments' values.
    """

    pointer_types: tuple[str, ...]
    size_names: tuple[str, ...]
    constants: Mapping[str, int]
    warps: int
    stages: int
    checked: bool  # the kernel asserts that indices are in bounds
    program_count: Callable[[Sequence[int]], int]
    float_names: tuple[str, ...] = ()

    def sizes(self, arguments: Sequence[Any]) -> Sequence[int]:
        """The sizes among the arguments of a launch."""
        first = len(self.pointer_types)
        return arguments[first : first + len(self.size_names)]


@dataclass(frozen=True, slots=True)
class Variant:
    """What machine code is made for, beside the kernel: whether all pointers are aligned to 16 bytes, and which sizes
    are multiples of 16. Without either an access is one element wide, at a fraction of the card's bandwidth."""

    aligned: bool
    divided: tuple[bool, ...]  # for each size argument


def compile_kernel(function: Any, spec: LaunchSpec, target: GPUTarget | None, variant: Variant) -> Any:
    """Compile a `@triton.jit` function for a target (None: the current device). Needs no GPU when a target is given."""
    names = list(function.arg_names)
    types = [*spec.pointer_types, *("i64" for _ in spec.size_names), *("fp64" for _ in spec.float_names)]
    signature = {name: types[i] if i < len(types) else "constexpr" for i, name in enumerate(names)}
    constants = {(names.index(name),): value for name, value in spec.constants.items()}
    pointers = len(spec.pointer_types)
    attributes = {(i,): [["tt.divisibility", _ALIGNMENT]] for i in range(pointers) if variant.aligned}
    divided = (pointers + i for i, is_so in enumerate(variant.divided) if is_so)
    attributes |= {(i,): [["tt.divisibility", _DIVISOR]] for i in divided}
    # Triton leaves assertions out unless it is asked for debug code.
    options = {"num_warps": spec.warps, "num_stages": spec.stages, "debug": spec.checked, "sanitize_overflow": False}
    source = triton.compiler.ASTSource(function, signature, constants, attributes)
    return triton.compile(source, target=target, options=options)


@dataclass(slots=True)
class Launcher:
    """A kernel as the wrapper calls it: `launcher(*tensors, *sizes, *floats)`, on the tensors' current stream."""

    function: Any
    spec: LaunchSpec
    _compiled: dict[tuple[int, bool, tuple[bool, ...]], Any] = field(default_factory=dict)

    def __call__(self, *arguments: Any) -> None:
        tensors = arguments[: len(self.spec.pointer_types)]
        sizes = self.spec.sizes(arguments)
        programs = self.spec.program_count(sizes)
        if programs == 0:
            return
        aligned = all(t.data_ptr() % _ALIGNMENT == 0 for t in tensors)
        divided = tuple(size % _DIVISOR == 0 for size in sizes)
        device = tensors[0].device.index
        kernel = self._compiled.get((device, aligned, divided))
        with torch.cuda.device(device):
            if kernel is None:
                kernel = self._compile(device, Variant(aligned, divided))
            stream = torch.cuda.current_stream(device).cuda_stream
            constants = self.spec.constants.values()
            kernel.run(
                programs, 1, 1, stream, kernel.function, kernel.packed_metadata, None, None, None,
                *arguments, *constants,
            )  # fmt: skip

    def _compile(self, device: int, variant: Variant) -> Any:
        """The machine code for a variant, on the current device; that for any sizes once there are many."""
        asked = (device, variant.aligned, variant.divided)
        if sum(known == device for known, _, _ in self._compiled) >= _MOST_VARIANTS:
            variant = Variant(variant.aligned, (False,) * len(variant.divided))
        key = (device, variant.aligned, variant.divided)
        if key not in self._compiled:
            self._compiled[key] = compile_kernel(self.function, self.spec, None, variant)
        self._compiled[asked] = self._compiled[key]
        return self._compiled[asked]


@dataclass(slots=True)
class InterpretedLauncher:
    """The same call under Triton's interpreter (`TRITON_INTERPRET=1`), on CPU tensors."""

    function: Any
    spec: LaunchSpec

    def __call__(self, *arguments: Any) -> None:
        programs = self.spec.program_count(self.spec.sizes(arguments))
        if programs:
            self.function[(programs,)](*arguments, **self.spec.constants)
