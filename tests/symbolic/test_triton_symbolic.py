"""Symbolic sizes through the Triton backend, under its interpreter, in a process of its own (see `triton_symbolic`)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.timeout(900)  # a softmax takes the interpreter seconds on a busy machine
def test_one_compilation_serves_all_sizes_floats_and_ints() -> None:
    program = Path(__file__).parent / "triton_symbolic.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == 21
