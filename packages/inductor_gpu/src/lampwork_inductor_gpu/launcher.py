"""Launching compiled Triton kernels from the wrapper.

At the end of the path, on every call: tensors and numbers in, one launch. A launch goes straight to the compiled
kernel's own `run`, never through `JITFunction`, which costs three times as much. Invariant: imports nothing of the
compiler; what a launch needs was decided when the text was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import triton
import triton.compiler
import triton.language as tl
from triton.backends.compiler import GPUTarget

_ALIGNMENT = 16  # bytes: what a 128-bit access needs
_DIVISOR = 16  # of a size: rows of so many elements start aligned, and a mask that ends there is one for whole accesses
_MOST_PLANS = 1024  # sizes that a launcher remembers
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
class Variant:
    """What machine code is made for, beside the kernel.

    `aligned`: all pointers are multiples of 16 bytes; `divided`: of each size argument, whether it is a multiple of 16
    (and that matters). Without either an access is one element wide, at a fraction of the card's bandwidth. `narrow`:
    indices have 32 bits where the text leaves that open.
    """

    aligned: bool
    divided: tuple[bool, ...] = ()
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """How to compile and launch one kernel.

    `pointer_types`, `size_names` and `float_names` describe the arguments in order; `constants` are the constexpr
    parameters (block sizes). The values of the size arguments give the grid (`program_count`) and whether indices fit
    in 32 bits (`fits_narrow`; None: the text says how wide they are). For the sizes at `dividing` it matters that they
    are divided.
    """

    pointer_types: tuple[str, ...]
    size_names: tuple[str, ...]
    float_names: tuple[str, ...]
    constants: Mapping[str, int]
    warps: int
    stages: int
    checked: bool  # the kernel asserts that indices are in bounds
    program_count: Callable[[Sequence[int]], int]
    fits_narrow: Callable[[Sequence[int]], bool] | None
    dividing: tuple[int, ...] = ()

    def sizes(self, arguments: Sequence[Any]) -> tuple[int, ...]:
        """The sizes among the arguments of a launch."""
        first = len(self.pointer_types)
        return tuple(arguments[first : first + len(self.size_names)])

    def divided_at(self, sizes: Sequence[int]) -> tuple[bool, ...]:
        """Of each size, whether it is divided and that matters."""
        divided = [False] * len(sizes)
        for position in self.dividing:
            divided[position] = sizes[position] % _DIVISOR == 0
        return tuple(divided)

    def narrow_at(self, sizes: Sequence[int]) -> bool:
        """Whether indices are left open by the text, and fit in 32 bits."""
        return self.fits_narrow is not None and self.fits_narrow(sizes)

    def constants_of(self, *, narrow: bool) -> dict[str, Any]:
        """The constexpr parameters of a variant."""
        if self.fits_narrow is None:
            return dict(self.constants)
        return {**self.constants, "INDEX": tl.int32 if narrow else tl.int64}


def compile_kernel(function: Any, spec: LaunchSpec, target: GPUTarget | None, variant: Variant) -> Any:
    """Compile a `@triton.jit` function for a target (None: the current device). Needs no GPU when a target is given."""
    names = list(function.arg_names)
    size_type = "i32" if variant.narrow else "i64"
    types = [*spec.pointer_types, *(size_type for _ in spec.size_names), *("fp64" for _ in spec.float_names)]
    signature = {name: types[i] if i < len(types) else "constexpr" for i, name in enumerate(names)}
    constants = {(names.index(name),): value for name, value in spec.constants_of(narrow=variant.narrow).items()}
    pointers = len(spec.pointer_types)
    attributes = {(i,): [["tt.divisibility", _ALIGNMENT]] for i in range(pointers) if variant.aligned}
    divided = (pointers + i for i, is_so in enumerate(variant.divided) if is_so)
    attributes |= {(i,): [["tt.divisibility", _DIVISOR]] for i in divided}
    # Triton leaves assertions out unless it is asked for debug code.
    options = {"num_warps": spec.warps, "num_stages": spec.stages, "debug": spec.checked, "sanitize_overflow": False}
    source = triton.compiler.ASTSource(function, signature, constants, attributes)
    return triton.compile(source, target=target, options=options)


@dataclass(frozen=True, slots=True)
class _SizePlan:
    """What certain sizes of a call mean for a launch."""

    programs: int
    divided: tuple[bool, ...]
    narrow: bool
    constants: tuple[Any, ...]
    kernels: dict[int, Any]  # by device and alignment: 2 * device + aligned


@dataclass(slots=True)
class Launcher:
    """A kernel as the wrapper calls it: `launcher(*tensors, *sizes, *floats)`, on the tensors' current stream."""

    function: Any
    spec: LaunchSpec
    _compiled: dict[tuple[int, Variant], Any] = field(default_factory=dict)
    _plans: dict[tuple[int, ...], _SizePlan] = field(default_factory=dict)
    _pointers: int = field(init=False)
    _sizes_end: int = field(init=False)

    def __post_init__(self) -> None:
        self._pointers = len(self.spec.pointer_types)
        self._sizes_end = self._pointers + len(self.spec.size_names)

    def __call__(self, *arguments: Any) -> None:
        tensors = arguments[: self._pointers]
        sizes = arguments[self._pointers : self._sizes_end]
        plan = self._plans.get(sizes)
        if plan is None:
            plan = self._plan(sizes)
        if plan.programs == 0:
            return
        aligned = True
        for tensor in tensors:
            if tensor.data_ptr() % _ALIGNMENT:
                aligned = False
        device = tensors[0].device.index
        kernel = plan.kernels.get(2 * device + aligned)
        with torch.cuda.device(device):
            if kernel is None:
                kernel = self._compile(device, aligned, plan)
            stream = torch.cuda.current_stream(device).cuda_stream
            kernel.run(
                plan.programs, 1, 1, stream, kernel.function, kernel.packed_metadata, None, None, None,
                *arguments, *plan.constants,
            )  # fmt: skip

    def _plan(self, sizes: tuple[int, ...]) -> _SizePlan:
        narrow = self.spec.narrow_at(sizes)
        constants = tuple(self.spec.constants_of(narrow=narrow).values())
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        made = _SizePlan(self.spec.program_count(sizes), self.spec.divided_at(sizes), narrow, constants, {})
        self._plans[sizes] = made
        return made

    def _compile(self, device: int, aligned: bool, plan: _SizePlan) -> Any:
        """The machine code for a plan, on the current device; that for any sizes once there are many."""
        variant = Variant(aligned, plan.divided, plan.narrow)
        key = (device, variant)
        if key not in self._compiled and sum(known == device for known, _ in self._compiled) >= _MOST_VARIANTS:
            key = (device, replace(variant, divided=(False,) * len(variant.divided)))
        made = self._compiled.get(key)
        if made is None:
            made = self._compiled[key] = compile_kernel(self.function, self.spec, None, key[1])
        plan.kernels[2 * device + aligned] = made
        return made


@dataclass(slots=True)
class InterpretedLauncher:
    """The same call under Triton's interpreter (`TRITON_INTERPRET=1`), on CPU tensors."""

    function: Any
    spec: LaunchSpec

    def __call__(self, *arguments: Any) -> None:
        sizes = self.spec.sizes(arguments)
        programs = self.spec.program_count(sizes)
        if programs:
            constants = self.spec.constants_of(narrow=self.spec.narrow_at(sizes))
            self.function[(programs,)](*arguments, **constants)
