"""Training steps through the Triton backend, under its interpreter, in a process of its own (see `triton_training`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.timeout(900)  # the interpreter takes seconds a kernel on a busy machine
def test_training_steps_under_the_interpreter() -> None:
    program = Path(__file__).parent / "triton_training.py"
    environment = {**os.environ, "TRITON_INTERPRET": "1", "TRITON_DEFAULT_FP_FUSION": "0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
