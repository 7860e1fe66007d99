"""Builds the native half of lampwork-capture. Plain C: needs a compiler and CPython's headers, not torch."""

import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
CSRC = Path("src") / "lampwork_capture" / "csrc"
FLAGS = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Wno-missing-field-initializers"]
FLAGS += ["-fvisibility=hidden"]  # its own calls go straight to each other

setup(
    ext_modules=[
        Extension(
            "lampwork_capture._native",
            sources=sorted((CSRC / path.name).as_posix() for path in (HERE / CSRC).glob("*.c")),
            depends=sorted((CSRC / path.name).as_posix() for path in (HERE / CSRC).glob("*.h")),
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
        )
    ]
)
