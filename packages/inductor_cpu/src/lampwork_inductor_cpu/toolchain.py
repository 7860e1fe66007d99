"""Toolchain: the C++ compiler that is there, and what it is told.

Found once per process and choice of compiler. OpenMP is torch's own runtime (the library in `torch/lib`), so that a
process has one pool of threads. Invariant: no flag lets the compiler change nan, infinities, -0.0 or the order of
operations.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from lampwork_inductor_core.backend import CompilerNotFound

from .isa import Isa

_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-shared",
    "-pipe",
    "-w",
    "-Wno-psabi",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=off",
    "-fwrapv",
    "-fno-exceptions",
    "-fno-rtti",
    "-fvisibility=hidden",
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler and everything its command line depends on."""

    compiler: str
    version: str
    openmp: bool
    openmp_library: str | None

    def command(self, source: Path, output: Path, isa: Isa, include: Path) -> list[str]:
        """The command line that builds a shared library from one source file."""
        compile_openmp = ("-fopenmp",) if self.openmp else ()
        link: list[str] = []
        if self.openmp_library is not None:
            link = [self.openmp_library]
        elif self.openmp:
            link = ["-fopenmp"]
        if sys.platform == "darwin":
            link += ["-undefined", "dynamic_lookup"]
        return [
            self.compiler, *_FLAGS, *isa.flags, *compile_openmp, f"-DLAMPWORK_VECTOR_BYTES={isa.vector_bytes}",
            f"-I{include}", str(source), "-o", str(output), *self._no_second_runtime(), *link,
        ]  # fmt: skip

    def _no_second_runtime(self) -> tuple[str, ...]:
        # -fopenmp at link time would add the compiler's own libgomp beside torch's: pass it to the compile phase only
        return ("-Wl,--as-needed",) if self.openmp_library is not None and sys.platform != "darwin" else ()

    def identity(self, isa: Isa) -> str:
        """What a built library depends on besides its source."""
        return "|".join((self.compiler, self.version, str(self.openmp), self.openmp_library or "", *_FLAGS, *isa.flags))


def _install_hint() -> str:
    if sys.platform == "darwin":
        return "run `xcode-select --install`"
    return "install one: `apt install g++`, `dnf install gcc-c++` or `conda install gxx`"


@functools.lru_cache(maxsize=8)
def find_toolchain(compiler: str | None = None) -> Toolchain:
    """The compiler named (or found on PATH: g++, clang++, c++). Raises CompilerNotFound, naming the fix."""
    candidates = [compiler] if compiler else ["g++", "clang++", "c++"]
    for candidate in candidates:
        path = shutil.which(candidate.split()[0]) if candidate else None
        if path is None:
            continue
        try:
            answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=False)
        except OSError:
            continue
        if answer.returncode == 0:
            return _describe(path, answer.stdout)
    looked = f"CXX={compiler}" if compiler else "g++, clang++ and c++ on PATH"
    raise CompilerNotFound(
        f"no C++ compiler found (looked for {looked}), so kernels for the CPU cannot be built. "
        f"Hint: {_install_hint()}, or set CXX to the compiler's path"
    )


def _describe(path: str, version_text: str) -> Toolchain:
    version = version_text.splitlines()[0] if version_text else "unknown"
    is_clang = "clang" in version_text.lower()
    libraries = Path(torch.__file__).parent / "lib"
    names = ("libomp*", "libiomp5*") if is_clang else ("libgomp*",)
    shipped = sorted(str(p) for name in names for p in libraries.glob(name))
    if shipped:
        return Toolchain(path, version, True, shipped[0])
    # clang's OpenMP code needs LLVM's runtime; without torch's own, a second one would fight over the threads
    return Toolchain(path, version, not is_clang, None)


def include_directory() -> Path:
    """Where `lampwork_cpu.h` is."""
    return Path(__file__).parent / "include"


@functools.lru_cache(maxsize=1)
def header_text() -> str:
    """All headers, for cache keys."""
    return "".join(p.read_text() for p in sorted(include_directory().glob("*.h")))


def scratch_environment() -> dict[str, str]:
    """The environment of the compiler: messages in English, so that errors can be read back."""
    return {**os.environ, "LC_ALL": "C", "GCC_COLORS": ""}
