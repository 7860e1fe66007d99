"""Build: kernel texts to loaded callables, with one compiler process for all that are missing.

After `kernel`, before `bind`. Content-addressed on disk: a library by its whole text, header, flags and compiler;
each kernel by its name (which digests its text) and the same identity, so graphs share kernels. Invariants: files
appear by rename only (the core's kernel cache), so a killed or concurrent build is harmless; a kernel is built once
per process and once per cache.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource
from lampwork_inductor_core.runtime.kernel_cache import KernelCache, content_key

from .bind import binding_text, load_library
from .isa import Isa
from .toolchain import Toolchain, header_text, include_directory, scratch_environment

_TIMEOUT_SECONDS = 600


class CompileError(RuntimeError):
    """The compiler rejected generated code: a defect of ours. `source_path` is where the text was kept."""

    def __init__(self, kernel: str, user_line: str, messages: Sequence[str], source_path: Path) -> None:
        shown = "\n  ".join(messages[:6])
        where = f" ({user_line})" if user_line else ""
        super().__init__(
            f"kernel {kernel}{where} does not compile:\n  {shown}\nsource kept in {source_path}. "
            "Hint: this is a defect in Lampwork; please report it with that file"
        )
        self.kernel = kernel
        self.user_line = user_line
        self.source_path = source_path


@dataclass(frozen=True, slots=True)
class Builder:
    """Builds for one instruction set with one toolchain into one cache directory."""

    toolchain: Toolchain
    isa: Isa
    cache: Path
    loaded: dict[str, Callable[..., None]]  # by kernel name, of this process

    @property
    def identity(self) -> str:
        """Digest of everything but the kernels' own text."""
        basis = f"{self.toolchain.identity(self.isa)}|{self.isa.name}|{header_text()}|{binding_text(())}"
        return hashlib.sha256(basis.encode()).hexdigest()[:16]

    def compile(self, sources: Sequence[KernelSource]) -> Mapping[str, Callable[..., None]]:
        """Callables by kernel name. Raises CompileError."""
        unique = {s.name: s for s in sources}
        missing = {name: s for name, s in unique.items() if name not in self.loaded}
        if missing:
            self._from_disk(missing)
        missing = {name: s for name, s in unique.items() if name not in self.loaded}
        if missing:
            self._build([missing[name] for name in sorted(missing)])
        return {name: self.loaded[name] for name in unique}

    # -- the cache: libraries by their whole text, and for each kernel which library has it

    def _libraries(self) -> KernelCache:
        return KernelCache(self.cache / self.identity / "libraries", ".so")

    def _index(self) -> KernelCache:
        return KernelCache(self.cache / self.identity / "kernels", ".names")

    def _from_disk(self, missing: Mapping[str, KernelSource]) -> None:
        tried: set[str] = set()
        for name in missing:
            entry = self._index().find(content_key(name))
            if entry is None or name in self.loaded:
                continue
            key, *names = entry.read_text().split()
            library = self._libraries().find(key) if key not in tried else None
            tried.add(key)
            if library is None:
                continue
            try:
                self._load(library, names)
            except OSError:
                self._libraries().discard(key)  # built where it fits, but not here: build again

    def _load(self, library: Path, names: Sequence[str]) -> None:
        for name, function in load_library(library, names).items():
            self.loaded.setdefault(name, function)

    # -- the compiler

    def _build(self, sources: Sequence[KernelSource]) -> None:
        text, spans = library_text(sources)
        key = content_key(text)
        library = self._libraries().get_or_build(key, lambda: self._run_compiler(text, spans, key))
        names = [s.name for s in sources]
        for name in names:
            self._index().store(content_key(name), "\n".join([key, *names]).encode())
        try:
            self._load(library, names)
        except OSError:
            self._libraries().discard(key)
            self._load(self._libraries().get_or_build(key, lambda: self._run_compiler(text, spans, key)), names)

    def _run_compiler(self, text: str, spans: Sequence[_Span], key: str) -> bytes:
        folder = self.cache / self.identity / "sources"
        folder.mkdir(parents=True, exist_ok=True)
        source = folder / f"{key}.cpp"
        source.write_text(text)
        output = folder / f"{key}.{os.getpid()}.partial"
        command = self.toolchain.command(source, output, self.isa, include_directory())
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
                env=scratch_environment(),
            )
            if done.returncode != 0 or not output.exists():
                raise _compile_error(done.stderr, spans, source)
            return output.read_bytes()
        finally:
            output.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Span:
    """The lines of one kernel in a library's text."""

    name: str
    comment: str
    first: int
    last: int


def library_text(sources: Sequence[KernelSource]) -> tuple[str, tuple[_Span, ...]]:
    """The one translation unit of these kernels, and where each stands in it."""
    parts = ['#include "lampwork_cpu.h"\n']
    line = 2
    spans: list[_Span] = []
    for source in sources:
        parts.append("\n" + source.text)
        length = source.text.count("\n") + 1
        comment = next((t[3:] for t in source.text.splitlines() if t.startswith("// ")), "")
        spans.append(_Span(source.name, comment, line, line + length))
        line += length
    parts.append(binding_text(sources))
    return "".join(parts), tuple(spans)


def _compile_error(messages: str, spans: Sequence[_Span], source: Path) -> CompileError:
    errors = [line for line in messages.splitlines() if "error" in line] or messages.splitlines()
    for message in errors:
        pieces = message.split(":")
        if len(pieces) > 2 and pieces[1].isdigit():
            number = int(pieces[1])
            for span in spans:
                if span.first <= number <= span.last:
                    return CompileError(span.name, span.comment, errors, source)
    return CompileError(spans[0].name if spans else "(none)", "", errors or ["no message"], source)
