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
    found = {name: (int(size), int(bits)) for name, size, bits in map(str.split, done.stdout.strip().splitlines())}
    assert len(found) == 20 and all(size > 1000 for size, _ in found.values())
    # rows of a size that nobody knows are accessed by elements of 32 bits, and by 16 bytes where the size is divided
    symbolic = {name: variant for name in found if (variant := found.get(f"{name}_divided"))}
    assert {name.rpartition("_")[0] for name in symbolic} == {"softmax", "scaled_rows"}
    for name in symbolic:
        assert found[name][1] == found[f"{name}_narrow"][1] == 32
        assert found[f"{name}_divided"][1] == found[f"{name}_divided_narrow"][1] == 128
