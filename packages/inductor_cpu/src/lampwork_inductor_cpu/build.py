"""Build: kernel texts to loaded callables, with one compiler process for all that are missing.

After `kernel`, before `bind`. Content-addressed on disk: a library by its whole text, header, flags and compiler; each
kernel by its name (which digests its text) and the same identity, so graphs share kernels. Invariants: files appear by
rename only, so a killed or concurrent build is harmless; a kernel is built once per process and once per cache.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from lampwork_inductor_core.codegen.scheduled_kernel import KernelSource

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

    # -- the cache

    def _index(self, name: str) -> Path:
        return self.cache / self.identity / "kernels" / name

    def _library(self, key: str) -> Path:
        return self.cache / self.identity / "libraries" / f"{key}.so"

    def _from_disk(self, missing: Mapping[str, KernelSource]) -> None:
        keys: set[str] = set()
        for name in missing:
            try:
                keys.add(self._index(name).read_text())
            except OSError:
                continue
        for key in sorted(keys):
            library = self._library(key)
            try:
                names = library.with_suffix(".names").read_text().split()
            except OSError:
                continue
            if library.exists():
                self._load(library, names)

    def _load(self, library: Path, names: Sequence[str]) -> None:
        for name, function in load_library(library, names).items():
            self.loaded.setdefault(name, function)

    # -- the compiler

    def _build(self, sources: Sequence[KernelSource]) -> None:
        text, spans = library_text(sources)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        library = self._library(key)
        library.parent.mkdir(parents=True, exist_ok=True)
        self._index("x").parent.mkdir(parents=True, exist_ok=True)
        names = [s.name for s in sources]
        with FileLock(str(library.with_suffix(".lock"))):
            if not library.exists():
                self._run_compiler(text, spans, library)
            _write(library.with_suffix(".names"), "\n".join(names))
            for name in names:
                _write(self._index(name), key)
        self._load(library, names)

    def _run_compiler(self, text: str, spans: Sequence[_Span], library: Path) -> None:
        source = library.with_suffix(".cpp")
        _write(source, text)
        output = library.with_name(f"{library.stem}.{os.getpid()}.tmp")
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
            os.replace(output, library)
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


def _write(path: Path, text: str) -> None:
    """Atomically: readers see all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w") as stream:
        stream.write(text)
    os.replace(temporary, path)
