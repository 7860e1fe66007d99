"""A compiled module under DistributedDataParallel: eager's losses, and buckets sent while gradients are computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(240)
def test_two_processes_train_to_the_same_losses_and_overlap_communication() -> None:
    program = Path(__file__).parent / "distributed_program.py"
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    for mode in ("inner", "outer"):
        for rank in "01":
            assert found[mode + rank]["losses"] == pytest.approx(found["eager" + rank]["losses"], rel=1e-5)
            events = found[mode + rank]["events"]
            sent = [event for event in events if event != "stage"]
            assert len(sent) >= 3 and events.count("stage") >= 3
            # the first bucket is on its way before the last gradients are computed
            assert "stage" in events[events.index(sent[0]) :]
