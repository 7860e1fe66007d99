"""LaunchSpec and Variant: how one kernel is compiled and launched, as data.

Between code generation, which decides, and the launchers. Invariant: imports nothing of the compiler, and no triton;
what a variant takes for granted (alignment, divided sizes, narrow indices) is checked at each launch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .compile_job import CompileJob, Constant, TritonType

ALIGNMENT = 16  # bytes: what a 128-bit access needs
_DIVISOR = 16  # of a size: rows of so many elements start aligned, and a mask that ends there is one for whole accesses
_DESCRIPTOR_BYTES = 128  # of memory that a kernel reads in blocks
_SCRATCH_POINTERS = 2  # that Triton passes after all arguments: global and profile scratch
_NARROW, _WIDE = TritonType("int32"), TritonType("int64")

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
    are divided. The pointers at `block_reads` are read in blocks by the card's copy engine, which wants them aligned,
    and descriptions of them in memory. `options` are Triton's own, beyond warps and stages (`num_ctas`, `maxnreg`,
    ...): plain data.
    """

    pointer_types: tuple[str, ...]
    size_names: tuple[str, ...]
    float_names: tuple[str, ...]
    constants: Mapping[str, Constant]
    warps: int
    stages: int
    checked: bool  # the kernel asserts that indices are in bounds
    program_count: Callable[[Sequence[int]], int]
    fits_narrow: Callable[[Sequence[int]], bool] | None
    dividing: tuple[int, ...] = ()
    block_reads: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

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

    def variant_at(self, sizes: Sequence[int], *, aligned: bool) -> Variant:
        """What machine code for these sizes is made for."""
        return Variant(aligned, self.divided_at(sizes), self.narrow_at(sizes))

    def constants_of(self, *, narrow: bool) -> dict[str, Constant]:
        """The constexpr parameters of a variant."""
        if self.fits_narrow is None:
            return dict(self.constants)
        return {**self.constants, "INDEX": _NARROW if narrow else _WIDE}

    def parameter_sizes(self, *, narrow: bool) -> tuple[int, ...]:
        """The bytes of each parameter of the machine code of a variant."""
        pointers, sizes, floats = len(self.pointer_types), len(self.size_names), len(self.float_names)
        return (8,) * pointers + (4 if narrow else 8,) * sizes + (8,) * (floats + _SCRATCH_POINTERS)

    def argument_format(self) -> str:
        """The arguments of a launch in memory, in the terms of `struct`, each in 8 bytes.

        One format for all variants: of a narrow size the lower half is read, which holds it (little-endian).
        """
        scratch = "Q" if self.block_reads else ""
        return "Q" * len(self.pointer_types) + "q" * len(self.size_names) + "d" * len(self.float_names) + scratch

    @property
    def scratch_bytes(self) -> int:
        """What a program writes the descriptions of its blocks into."""
        return _DESCRIPTOR_BYTES * len(self.block_reads)

    @property
    def argument_bytes(self) -> int:
        """Of all arguments and what Triton passes after them; each has 8."""
        given = len(self.pointer_types) + len(self.size_names) + len(self.float_names)
        return 8 * (given + _SCRATCH_POINTERS)

    def job(self, name: str, text: str, variant: Variant, architecture: int) -> CompileJob:
        """The compilation of a variant of the kernel `name` in `text`."""
        size_type = "i32" if variant.narrow else "i64"
        pointers = len(self.pointer_types)
        divided = (pointers + i for i, is_so in enumerate(variant.divided) if is_so)
        # Triton leaves assertions out unless it is asked for debug code.
        options = {
            "num_warps": self.warps,
            "num_stages": self.stages,
            "debug": self.checked,
            "sanitize_overflow": False,
        }
        return CompileJob(
            name=name,
            text=text,
            types=(*self.pointer_types, *(size_type for _ in self.size_names), *("fp64" for _ in self.float_names)),
            constants=self.constants_of(narrow=variant.narrow),
            divisible=(*(range(pointers) if variant.aligned else ()), *divided),
            options={**options, **self.options},
            architecture=architecture,
        )
