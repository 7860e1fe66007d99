"""Generated kernels become machine code for an H100 on a machine without one."""

import os
import subprocess
import sys
from pathlib import Path


def test_kernels_compile_for_compute_capability_9(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"LAMPWORK_CACHE_DIR": str(tmp_path), "TRITON_CACHE_DIR": str(tmp_path / "triton")}
    script = Path(__file__).with_name("compile_for_hopper.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    sizes = dict(line.split() for line in done.stdout.strip().splitlines())
    assert len(sizes) == 12 and all(int(size) > 1000 for size in sizes.values())
