"""A kernel's text as a file and as an imported function.

Between the text and whoever runs or compiles it: Triton reads a function's source from its file, so there is one, which
a person can read too. Invariant: a name stands for one text (it has a digest in it), so a file that is there is right;
imports neither torch nor triton, but the text that it imports may.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType


def import_kernel(name: str, text: str, folder: Path) -> ModuleType:
    """The module of a kernel's text, from its file in `folder` (written if it is not there)."""
    path = write_kernel_file(name, text, folder)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_kernel_file(name: str, text: str, folder: Path) -> Path:
    """Put the text in its place, whole or not at all."""
    path = folder / f"{name}.py"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_text(text)
        part.replace(path)
    return path
