"""Kernels of a fixed set of programs as text, run against eager, and compiled for three generations of cards.

`LAMPWORK_UPDATE_GOLDEN=1 pytest packages/inductor_gpu/tests/test_golden.py` renews the text.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden_programs import PROGRAMS, RecordingBackend, compiled

GOLDEN = Path(__file__).parent / "golden"
# What the widest access has, in bits, where rows start aligned: 16 bytes.
_WIDE = 128


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_text_and_results(program) -> None:
    inputs, backend = PROGRAMS[program](), RecordingBackend()
    graph = compiled(program, inputs, backend)
    for mine, eager in zip(graph(*inputs), program(*inputs), strict=True):
        tolerance = 2e-3 if eager.dtype == torch.float16 else 2e-5
        torch.testing.assert_close(mine, eager, rtol=tolerance, atol=tolerance * float(eager.abs().max()))
        assert mine.stride() == eager.stride()
    text = "\n\n".join(f"# {_configuration(s.launch['config'])}\n{s.text}" for s in backend.sources.values())
    path = GOLDEN / f"{program.__name__}.py"
    if os.environ.get("LAMPWORK_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"no golden text {path}; make it with LAMPWORK_UPDATE_GOLDEN=1"
    assert text == path.read_text()


def _configuration(config) -> str:
    return f"{config.shape.value}: {config.x_block} x {config.r_block}, {config.warps} warps"


def test_machine_code_for_three_generations(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"LAMPWORK_CACHE_DIR": str(tmp_path), "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    script = Path(__file__).with_name("compile_golden.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [line.split() for line in done.stdout.strip().splitlines()]
    assert {capability for _, capability, *_ in found} == {"80", "90", "100"}
    assert {program for program, *_ in found} == {p.__name__ for p in PROGRAMS}
    wide = {program for program, _, _, bits in found if int(bits) == _WIDE}
    # rows of 9 x 11 points start anywhere
    assert wide == {p.__name__ for p in PROGRAMS}
    assert all(int(size) > 1000 for _, _, size, _ in found)
