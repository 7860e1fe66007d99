"""What decides machine code, beside the job: Triton, its settings, and what the text of a kernel imports from here.

Before the cache: `identity_of` is the part of a key that a process works out once. Invariant: a change in anything that
Triton compiles gives another key; places (cache folders) and the interpreter's switch do not. Imports no triton, so
that a process that finds all its kernels does not either.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

_PACKAGE = __name__.rpartition(".")[0]
_PLACES = {"TRITON_CACHE_DIR", "TRITON_HOME", "TRITON_INTERPRET"}
_SETTINGS = re.compile(r"TRITON_|LLVM_|MLIR_|NVPTX_|DISABLE_|ALLOW_|PTXAS_|USE_IR_LOC")
_IMPORTED = re.compile(rf"^\s*(?:from|import)\s+{_PACKAGE}\.(?P<absolute>\w+)", re.MULTILINE)
_RELATIVE = re.compile(r"^\s*from\s+\.(?P<relative>\w+)\s+import", re.MULTILINE)


def compiler_identity(environment: Mapping[str, str]) -> str:
    """Triton's version and build, and the environment variables that it reads."""
    settings = {k: v for k, v in environment.items() if _SETTINGS.match(k) and k not in _PLACES}
    return repr((importlib.metadata.version("triton"), _build(), sorted(settings.items())))


def imported_text(kernel_text: str) -> str:
    """The texts of this package's modules that a kernel's text imports, and that those import, in order of names."""
    left = {match["absolute"] for match in _IMPORTED.finditer(kernel_text)}
    texts: dict[str, str] = {}
    while left:
        name = left.pop()
        text = _module_text(name)
        texts[name] = text
        for pattern in (_IMPORTED, _RELATIVE):
            left |= {match[1] for match in pattern.finditer(text)} - texts.keys()
    return "".join(f"# {name}\n{texts[name]}" for name in sorted(texts))


@functools.cache
def _module_text(name: str) -> str:
    found = importlib.util.find_spec(f"{_PACKAGE}.{name}")
    if found is None or found.origin is None:
        raise ImportError(f"a kernel imports {_PACKAGE}.{name}, which there is not")
    return Path(found.origin).read_text()


def _build() -> str:
    """One version of Triton can be built twice: its library's size and time."""
    found = importlib.util.find_spec("triton")
    assert found is not None and found.origin is not None
    libraries = sorted((Path(found.origin).parent / "_C").glob("libtriton*"))
    status = [os.stat(path) for path in libraries]
    return repr([(s.st_size, s.st_mtime_ns) for s in status])
