"""Toolchain: the C++ compiler that is there, and what it is told.

Found once per process and choice of compiler. OpenMP is torch's own runtime (the library in `torch/lib`), so that a
process has one pool of threads. Invariant: no flag lets the compiler change nan, infinities, -0.0 or the order of
operations.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
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
_LEAST_GCC, _LEAST_CLANG = 12, 13  # what the header's vector types and builtins need


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler and everything its command line depends on."""

    compiler: tuple[str, ...]  # a program and what goes before the flags (`ccache g++`)
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
            *self.compiler, *_FLAGS, *isa.flags, *compile_openmp, f"-DLAMPWORK_VECTOR_BYTES={isa.vector_bytes}",
            f"-I{include}", str(source), "-o", str(output), *self._no_second_runtime(), *link,
        ]  # fmt: skip

    def _no_second_runtime(self) -> tuple[str, ...]:
        # -fopenmp at link time would add the compiler's own libgomp beside torch's: pass it to the compile phase only
        return ("-Wl,--as-needed",) if self.openmp_library is not None and sys.platform != "darwin" else ()

    def identity(self, isa: Isa) -> str:
        """What a built library depends on besides its source."""
        parts = (*self.compiler, self.version, str(self.openmp), self.openmp_library or "", *_FLAGS, *isa.flags)
        return "|".join((*parts, platform_identity()))


@functools.lru_cache(maxsize=1)
def platform_identity() -> str:
    """Where a built library can be loaded: architecture, system and C library. The instruction set is `Isa`'s, by
    explicit flags; nothing is built for "this very processor"."""
    return "|".join((platform.machine(), sys.platform, *platform.libc_ver()))


def _install_hint() -> str:
    if sys.platform == "darwin":
        return "run `xcode-select --install`"
    return "install one: `apt install g++`, `dnf install gcc-c++` or `conda install gxx`"


@functools.lru_cache(maxsize=8)
def find_toolchain(compiler: str | None = None) -> Toolchain:
    """The compiler named (or found on PATH: g++, clang++, c++). Raises CompilerNotFound, naming the fix."""
    problems: list[str] = []
    for candidate in [compiler] if compiler else ["g++", "clang++", "c++"]:
        command = _command(candidate)
        if not command:
            continue
        version, problem = _ask_version(command)
        if version is not None:
            return _describe(command, version)
        problems.append(f"{candidate} {problem}")
    looked = f"CXX={compiler}" if compiler else "g++, clang++ and c++ on PATH"
    found = f"; {'; '.join(problems)}" if problems else ""
    raise CompilerNotFound(
        f"no C++ compiler found (looked for {looked}{found}), so kernels for the CPU cannot be built. "
        f"Hint: {_install_hint()}, or set CXX to the compiler's path"
    )


def _command(text: str) -> tuple[str, ...]:
    """A compiler's words, the first one as a path; empty where there is no such program."""
    try:
        words = shlex.split(text)
    except ValueError:
        return ()
    path = shutil.which(words[0]) if words else None
    return () if path is None else (path, *words[1:])


def _ask_version(command: tuple[str, ...]) -> tuple[str | None, str]:
    """What `--version` prints, or None and what is wrong with the compiler."""
    try:
        answer = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=30, check=False, env=scratch_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"cannot be run: {error}"
    if answer.returncode != 0:
        return None, f"failed with status {answer.returncode}: {(answer.stderr or answer.stdout).strip()[:500]}"
    major = _major_version(answer.stdout)
    least = _LEAST_CLANG if _is_clang(answer.stdout) else _LEAST_GCC
    if major is not None and major < least:
        return None, f"is of version {major}, and version {least} or newer is needed"
    return answer.stdout, ""


def _is_clang(version_text: str) -> bool:
    return "clang" in version_text.lower()


def _major_version(version_text: str) -> int | None:
    found = re.search(r"(?<![\w.])(\d+)\.\d+", version_text.splitlines()[0] if version_text else "")
    return int(found[1]) if found else None


def _describe(command: tuple[str, ...], version_text: str) -> Toolchain:
    version = version_text.splitlines()[0] if version_text else "unknown"
    is_clang = _is_clang(version_text)
    libraries = Path(torch.__file__).parent / "lib"
    names = ("libomp*", "libiomp5*") if is_clang else ("libgomp*",)
    shipped = sorted(str(p) for name in names for p in libraries.glob(name))
    if shipped:
        return Toolchain(command, version, True, shipped[0])
    # clang's OpenMP code needs LLVM's runtime; without torch's own, a second one would fight over the threads
    return Toolchain(command, version, not is_clang, None)


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
