"""What varied is remembered across processes: the second run of a program compiles once, for all sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import CodeType

import lampwork_capture
import pytest
import torch
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import shared_policy, with_callback
from lampwork_capture.size_memory import SizeMemory

PROGRAM = """
import json, sys, warnings
import lampwork_capture, torch

graphs = []

def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward

def sizes(x, y, sequence):
    return x + y.sum() + sequence[1].sum()

def number(x, n, options):
    return x * n + options["scale"]

def text(x, word):
    return x * len(word)

def loop(x, n):
    for i in range(n):
        x = x + i
    return x

def counted(function, calls):
    graphs.clear()
    optimized = lampwork_capture.optimize(backend)(function)
    for call in calls:
        assert torch.equal(function(*call), optimized(*call)), call
    return len(graphs)

LENGTHS = [int(n) for n in sys.argv[1].split(",")]
ones = torch.ones
print(json.dumps([
    counted(sizes, [(ones(n, 3), ones(n), [ones(2), ones(n + m)]) for m, n in enumerate(LENGTHS)]),
    counted(number, [(ones(3), n, {"scale": n / 3}) for n in LENGTHS]),
    counted(text, [(ones(3), "a" * n) for n in LENGTHS]),
    counted(loop, [(ones(3), n) for n in LENGTHS[:3]]),
]))
"""


def run(path: Path, lengths: str, cache: Path, remember: str = "1") -> list[int]:
    environment = dict(os.environ, LAMPWORK_CACHE_DIR=str(cache), LAMPWORK_REMEMBER=remember, LAMPWORK_STRICT="1")
    done = subprocess.run(
        [sys.executable, str(path), lengths], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [int(count) for count in done.stdout.strip().strip("[]").split(",")]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def test_the_second_run_compiles_once(program: Path, tmp_path: Path) -> None:
    first = run(program, "4,5,6,7", tmp_path / "cache")
    assert first[:2] == [2, 2]
    assert run(program, "9,1,3,12", tmp_path / "cache")[:2] == [1, 1]
    assert run(program, "1,2,3", tmp_path / "cache")[:2] == [1, 1]
    assert run(program, "4,5,6,7", tmp_path / "cache", remember="0") == first


def test_a_folder_that_cannot_be_written_is_no_error(program: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert run(program, "4,5,6", tmp_path / "cache")[:2] == [2, 2]


NOT_OURS = (
    "", "{", "[]", "\x00", '{"format": 1}', '{"format": 2, "numbers": {}}',
    '{"format": 1, "numbers": {"x": {"a": 1}}}', '{"format": 1, "numbers": {"x": {"1": "2"}}}',
)  # fmt: skip


@pytest.mark.parametrize("content", NOT_OURS)
def test_a_file_that_is_not_ours_is_as_none(content: str, tmp_path: Path) -> None:
    memory = SizeMemory(tmp_path / "varied")
    memory.keep(code(), {"x.size(0)": {1: 2, 2: 3}})
    (path,) = (tmp_path / "varied").iterdir()
    path.write_text(content)
    assert memory.recall(code()) == {}


def test_a_memory_that_is_not_true_any_more_costs_captures_alone(tmp_path: Path) -> None:
    def together(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.sum(0) * y[:, None].sum() + x.size(0)

    def callback() -> FrameCallback:
        config = CaptureConfig(strict=True, memory=tmp_path)
        return FrameCallback(lambda graph, _: graph.forward, "backend", config, shared_policy())

    def count(calls: list[tuple[int, int]]) -> int:
        made = callback()
        optimized = with_callback(together, made)
        for rows, others in calls:
            x, y = torch.randn(rows, 3), torch.randn(others)
            torch.testing.assert_close(optimized(x, y), together(x, y))
        lampwork_capture.reset()
        return len(made.records)

    assert count([(2, 2), (3, 3), (4, 4)]) == 2
    assert count([(5, 5), (7, 7)]) == 1
    assert count([(4, 4), (4, 5), (6, 2), (1, 3), (3, 3)]) == 2
    assert count([(4, 5), (3, 3)]) == 1


def code(filename: str = "model.py", body: str = "x + 1") -> CodeType:
    return compile(body, filename, "eval")


def test_calls_are_numbered_below_those_of_this_process(tmp_path: Path) -> None:
    memory = SizeMemory(tmp_path)
    memory.keep(code(), {"x.size(0)": {-2: 2, 1: 3, 5: 7}, "n": {5: 0.5}})
    assert memory.recall(code()) == {"x.size(0)": {-3: 2, -2: 3, -1: 7}, "n": {-1: 0.5}}


def test_numbers_that_are_no_symbols_are_not_remembered(tmp_path: Path) -> None:
    memory = SizeMemory(tmp_path)
    memory.keep(code(), {"n": {1: 1, 2: 10**5000}, "m": {2: -(10**400)}, "f": {1: float("inf"), 2: 0.5}})
    assert memory.recall(code()) == {"n": {-2: 1}, "f": {-2: float("inf"), -1: 0.5}}


def test_code_without_a_file_and_other_code_is_not_remembered(tmp_path: Path) -> None:
    memory = SizeMemory(tmp_path)
    memory.keep(code("<stdin>"), {"x.size(0)": {1: 2}})
    assert not list(tmp_path.iterdir())
    memory.keep(code(), {"x.size(0)": {1: 2}})
    assert memory.recall(code(body="x * 2 - y")) == {} == memory.recall(code("other.py"))
