"""Triton as a compiler: one job to machine code, with no GPU and no driver.

At the end of the path, in the processes that compile (or here, where there are none). What differs between versions of
Triton in what a compilation gives is known here only. Invariant: never imports torch, neither directly nor through
what kernels import.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import triton
import triton.compiler
import triton.language as tl
import triton.runtime.cache
from triton.backends.compiler import GPUTarget

from .compile_job import CompileJob, Constant, MachineCode, TritonType
from .kernel_file import import_kernel

_DIVISOR = 16
_WARP_SIZE = 32
_ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)")
_PARAMETER = re.compile(r"\.param\s+\.(?:[busf]|pred)(?P<bits>\d+)\s")

_SMALL = """import triton
import triton.language as tl
from lampwork_inductor_gpu.device_functions import maximum, tanh


@triton.jit
def warm_up(x, y, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tanh(tl.load(x + i))
    tl.store(y + i, maximum(value, tl.sum(tl.exp(value), 0)))
"""


def compiled_kernel(job: CompileJob, folder: Path) -> Any:
    """Triton's result: `asm` has the text of every stage. The kernel's text is kept in `folder`."""
    function = getattr(import_kernel(job.name, job.text, folder), job.name)
    names = list(function.arg_names)
    passed = len(job.types)
    signature = {name: job.types[i] if i < passed else "constexpr" for i, name in enumerate(names)}
    constants = {(names.index(name),): _value(value) for name, value in job.constants.items()}
    attributes = {(i,): [["tt.divisibility", _DIVISOR]] for i in job.divisible}
    source = triton.compiler.ASTSource(function, signature, constants, attributes)
    target = GPUTarget("cuda", job.architecture, _WARP_SIZE)
    return triton.compile(source, target=target, options=dict(job.options))


def machine_code(job: CompileJob, folder: Path) -> MachineCode:
    """The cubin and what its launch needs."""
    compiled = compiled_kernel(job, folder)
    about = compiled.metadata
    return MachineCode(
        symbol=about.name,
        shared=about.shared,
        warps=about.num_warps,
        blocks=about.num_ctas,
        cooperative=bool(about.launch_cooperative_grid),
        overlapped=bool(about.launch_pdl),
        global_scratch=int(getattr(about, "global_scratch_size", 0) or 0),
        profile_scratch=int(getattr(about, "profile_scratch_size", 0) or 0),
        parameters=parameter_sizes(compiled.asm["ptx"], about.name),
        cubin=compiled.asm["cubin"],
    )


def parameter_sizes(ptx: str, symbol: str) -> tuple[int, ...]:
    """The bytes of each parameter of a function, as the assembler's text declares them. Raises ValueError."""
    for entry in _ENTRY.finditer(ptx):
        if entry["name"] == symbol:
            declared = [part for part in entry["parameters"].split(",") if part.strip()]
            found = [_PARAMETER.search(part) for part in declared]
            if any(match is None for match in found):
                raise ValueError(f"{symbol} has a parameter that is no number: {entry['parameters'].strip()}")
            return tuple(max(1, int(match["bits"]) // 8) for match in found if match is not None)
    raise ValueError(f"no entry {symbol} in the assembler's text")


def warm_up(architecture: int, folder: Path) -> None:
    """Compile something small, so that forks of this process have all that a first compilation sets up.

    Of that, one thing is left out: Triton hashes its own library of hundreds of megabytes, for a cache that only forks
    with a folder of their own use.
    """
    if hasattr(triton.runtime.cache, "triton_key"):
        triton.runtime.cache.triton_key = lambda: ""
    pointers = ("*fp32", "*fp32")
    job = CompileJob("warm_up", _SMALL, pointers, {"BLOCK": 128}, (0, 1), {"num_warps": 4}, architecture)
    compiled_kernel(job, folder)


def _value(constant: Constant) -> Any:
    return getattr(tl, constant.name) if isinstance(constant, TritonType) else constant
