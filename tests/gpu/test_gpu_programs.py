"""The programs that measure and compare on a GPU, tried on the CPU: they find what is wrong and survive crashes."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent / "benchmarks"))

import gpu_card
import gpu_models
import opinfo_gpu
from gpu_processes import Task, plan_of, run_tasks

BENCHMARKS = Path(gpu_models.__file__).parent
NAMES = ["sum", "softmax", "clamp", "nn.functional.dropout", "where", "nn.functional.layer_norm", "cat"]


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def first_sample(name: str):
    op = opinfo_gpu.operators([name])[0]
    return op, next(iter(op.sample_inputs("cpu", torch.float32, requires_grad=False)))


@pytest.mark.parametrize("name", NAMES)
def test_operators_pass(name):
    assert opinfo_gpu.check(*first_sample(name), torch.float32).status == "passed"


@pytest.mark.parametrize("name", ["softmax", "nn.functional.dropout"])
def test_a_wrong_result_fails(name, monkeypatch):
    compiled = opinfo_gpu.compiled

    def wrong(program):
        function = compiled(program)
        return lambda *tensors: [t + 1e-3 for t in opinfo_gpu.pytree.tree_leaves(function(*tensors))]

    monkeypatch.setattr(opinfo_gpu, "compiled", wrong)
    assert opinfo_gpu.check(*first_sample(name), torch.float32).status == "failed"


def test_what_nothing_is_compiled_of_is_no_pass():
    outcome = opinfo_gpu.check(*first_sample("item"), torch.float32)
    assert outcome.status == "fell back" and outcome.reason


def test_float64_allows_what_is_as_near_as_eager_and_no_more():
    exact = torch.tensor([1.0, 100.0, float("inf")], dtype=torch.float64)
    eager = exact.float() + torch.tensor([0.0, 0.5, 0.0])
    assert opinfo_gpu.within_double([exact.float() - torch.tensor([0.0, 1.0, 0.0])], [eager], [exact])
    assert not opinfo_gpu.within_double([exact.float() - torch.tensor([0.0, 2.0, 0.0])], [eager], [exact])
    assert not opinfo_gpu.within_double([exact.float().nan_to_num(nan=0, posinf=1)[:2]], [eager], [exact])
    assert not opinfo_gpu.within_double([torch.tensor([1.0, float("nan"), float("inf")])], [eager], [exact])


def test_a_process_that_crashes_goes_on_behind_the_sample(tmp_path, monkeypatch):
    """The worker is a stand-in that dies at one sample, and never comes back to it."""
    stand_in = tmp_path / "worker.py"
    stand_in.write_text(
        "import json, os, sys\n"
        "path = sys.argv[sys.argv.index('--file') + 1]\n"
        "seen = [json.loads(l).get('at') for l in open(path) if l.strip()] if os.path.exists(path) else []\n"
        "with open(path, 'a', buffering=1) as file:\n"
        "    for name in ('a//torch.float32', 'b/v/torch.float32', 'c//torch.float32'):\n"
        "        if name in seen: continue\n"
        "        file.write(json.dumps({'at': name}) + '\\n')\n"
        "        if name[0] == 'b': os.abort()\n"
        "        file.write(json.dumps({'operator': name[0], 'dtype': 'float32', 'status': 'passed'}) + '\\n')\n"
        "    file.write(json.dumps({'end': True}) + '\\n')\n"
    )
    monkeypatch.setattr(opinfo_gpu, "__file__", str(stand_in))
    options = argparse.Namespace(jobs=1, samples=1, dtypes="float32", names="", device="cpu")
    entries = opinfo_gpu.run_slice(0, options, tmp_path, opinfo_gpu.time.monotonic() + 60)
    outcomes = {entry["operator"]: entry["status"] for entry in entries if "status" in entry}
    assert outcomes == {"a": "passed", "b.v": "failed", "c": "passed"}


def test_cells_that_crash_or_hang_are_results(tmp_path):
    script = tmp_path / "cell.py"
    script.write_text(
        "import json, os, sys, time\n"
        "path = sys.argv[sys.argv.index('--result') + 1]\n"
        "open(path, 'w').write(json.dumps({'at': 'lampwork', 'caches': os.environ['TRITON_CACHE_DIR']}))\n"
        "if sys.argv[1] == 'crash': raise ValueError('no such thing')\n"
        "if sys.argv[1] == 'hang': time.sleep(60)\n"
    )
    tasks = [Task(name, (str(script), name)) for name in ("good", "crash", "hang")]
    plan = plan_of(tmp_path / "out", parallel=2, limit_s=5, total_s=60)
    results = run_tasks(tasks, plan, lambda name, result: None)
    assert "failed" not in results["good"]
    assert results["crash"]["failed"] == "ValueError: no such thing"
    assert results["hang"]["failed"] == "ended after 5 s"
    assert gpu_models.culprit(results["crash"]) == "lampwork" and gpu_models.culprit(results["good"]) is None
    assert len({r["caches"] for r in results.values()}) == 3


def test_the_table_compares_with_the_better_of_torch_compile():
    def contestant(call_s: float, error: float, peak: int) -> dict[str, object]:
        return {"call_s": call_s, "host_s": 1e-4, "error": error, "peak_bytes": peak, "graphs": {"inference": 1}}

    cell = {
        "contestants": {
            "eager": contestant(8e-3, 1e-2, 100),
            "torch.compile": contestant(4e-3, 1e-2, 50),
            "reduce-overhead": contestant(2e-3, 1e-2, 0),
            "lampwork": contestant(1e-3, 2e-2, 150),
        }
    }
    ours = gpu_models.figures_of(cell, {"lampwork": {"cold_s": 2.0}})["lampwork"]
    figures = ("speedup", "over_best", "error_ratio", "peak_ratio", "cold_s")
    assert [ours[k] for k in figures] == pytest.approx([8, 2, 2, 1.5, 2])
    text = "\n".join(gpu_models.tables({"inference/bert": cell, "inference/vit": {"failed": "lost"}}, {}))
    assert "| bert | lampwork | 1.000 | 8.00x | 2.00x | 2.00 |" in text and "failed: lost" in text


def test_a_contestant_that_raises_while_timed_leaves_the_others_their_figures():
    calls = {"good": lambda: None, "bad": iter([1, 2, 3]).__next__}
    failures: dict[str, str] = {}
    times = gpu_card.timed_in_turn(calls, 0.01, "cpu", failures)
    assert list(times) == ["good"] and times["good"].call >= 0
    assert list(failures) == ["bad"] and "StopIteration" in failures["bad"]
    with pytest.raises(StopIteration):
        gpu_card.timed_in_turn({"bad": iter([1]).__next__}, 0.01, "cpu")


@pytest.mark.timeout(240)
def test_a_tiny_model_is_measured(tmp_path):
    arguments = ["--out", str(tmp_path), "--models", "gpt2", "--contestants", "eager,lampwork", "--device", "cpu"]
    command = [str(BENCHMARKS / "gpu_models.py"), *arguments, "--tiny", "--seconds", "0.05"]
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, *command, "--parallel", "1"]) == 0
    text = (tmp_path / "models.md").read_text()
    assert "| gpt2 | lampwork | " in text and "failed" not in text
