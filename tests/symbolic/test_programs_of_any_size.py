"""The programs of capture's own tests whose sizes vary, through the whole stack: compiled once, for all sizes.

What traces, decomposes and lowers their graphs may ask no more of the sizes than capture did. Results are compared with
eager, within the rounding of floats.
"""

from __future__ import annotations

import functools
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.config import config_from_environment
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import resolve_backend, shared_policy, with_callback

_TESTS = Path(__file__).parents[2] / "packages/capture/tests"
_ANY = runpy.run_path(str(_TESTS / "test_programs_of_any_size.py"))
_VARYING = runpy.run_path(str(_TESTS / "test_dynamic_sizes.py"))

Program = Callable[..., Any]
Sizes = tuple[int, int]
CASES: list[tuple[Program, Program, list[Sizes]]] = [
    *((program, functools.partial(_ANY["inputs_of"], program), _ANY["SWEEP"]) for program in _ANY["PROGRAMS"]),
    *((program, inputs, _VARYING["SWEEP"]) for program, inputs in _VARYING["PROGRAMS"].values()),
]


def _recompiled(program: Program, inputs: Program, sweep: list[Sizes], dynamic: bool | None = True) -> list[str]:
    """Compare with eager for all sizes of a sweep; gives why it was captured more than once."""
    name, compiler = resolve_backend("lampwork")
    callback = FrameCallback(compiler, name, config_from_environment(fullgraph=True, dynamic=dynamic), shared_policy())
    optimized = with_callback(program, callback)
    for sizes in sweep:
        args = inputs(*sizes)
        torch.testing.assert_close(optimized(*args), program(*args), rtol=1e-4, atol=1e-4)
    return [reason for missed in callback.cache.recompilations for reason in missed.reasons]


@pytest.mark.parametrize(
    ("program", "inputs", "sweep"), CASES, ids=lambda value: getattr(value, "__name__", "" if value else "-")
)
def test_compiled_once_for_all_sizes(program: Program, inputs: Program, sweep: list[Sizes]) -> None:
    assert _recompiled(program, inputs, sweep) == []


TABLE = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
RESIZED: dict[str, tuple[Program, Program]] = {
    "twice": (
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        lambda a, b: (torch.randn(2, 3, a, b),),
    ),
    "half as much again": (
        lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True),
        lambda a, b: (torch.randn(2, 3, a, b),),
    ),
    "bicubic": (
        lambda x: F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=True),
        lambda a, b: (torch.randn(2, 3, a, b),),
    ),
    "trilinear": (
        lambda x: F.interpolate(x, size=(x.shape[3], 5, x.shape[2]), mode="trilinear", align_corners=True),
        lambda a, b: (torch.randn(1, 2, a, b, 3),),
    ),
    "a table of one size": (
        lambda x: x + F.interpolate(TABLE, size=x.shape[0], mode="linear", align_corners=True)[0, 0],
        lambda a, b: (torch.randn(a, a),),
    ),
    "rounded": (
        lambda x: F.interpolate(x.bfloat16(), size=x.shape[3], mode="bilinear", align_corners=True).float().round(),
        lambda a, b: (10 * torch.eye(a, b)[None, None],),
    ),
}


@pytest.mark.parametrize("name", RESIZED)
def test_resized_with_aligned_corners(name: str) -> None:
    program, inputs = RESIZED[name]
    assert _recompiled(program, inputs, [(4, 6), (5, 7), (1, 3), (3, 1), (1, 1), (9, 2)]) == []


def _part(x: torch.Tensor) -> Any:
    """A view of memory that is all of it for some sizes only, beside another view of other memory."""
    padded = F.pad(x.sin(), (0, 0, 0, x.shape[1] % 2))
    return padded[:, : x.shape[1]], (x * 2)[:, : (x.shape[1] + 1) // 2]


def test_outputs_that_are_all_of_their_memory_for_some_sizes() -> None:
    sweep = [(2, 4), (3, 5), (1, 1), (2, 2), (4, 1)]
    assert _recompiled(_part, lambda b, n: (torch.randn(b, n, 3),), sweep) == []
    name, compiler = resolve_backend("lampwork")
    callback = FrameCallback(compiler, name, config_from_environment(fullgraph=True, dynamic=True), shared_policy())
    optimized = with_callback(_part, callback)
    for b, n in sweep:
        gradients = []
        for function in (optimized, _part):
            x = torch.ones(b, n, 3, requires_grad=True)
            first, second = function(x)
            (first.sum() * 2 + second.sum()).backward()
            gradients.append(x.grad)
        torch.testing.assert_close(*gradients)
        strides = [[part.stride() for part in function(torch.ones(b, n, 3))] for function in (optimized, _part)]
        assert n == 1 or strides[0] == strides[1]
    assert len(callback.cache.recompilations) == 1  # with gradients, and without


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.parametrize("name", ["summed_into", "joined_into", "reduced_into"])
def test_an_input_is_given_other_sizes(name: str) -> None:
    program = _VARYING[name]
    optimized = lampwork_capture.optimize("lampwork", fullgraph=True, dynamic=True)(program)
    for b, n in ((2, 3), (4, 3), (5, 6), (4, 2)):
        mine, theirs = (torch.ones((1,) if name == "reduced_into" else (3, n + 1)) for _ in range(2))
        x = torch.randn(b, n)
        torch.testing.assert_close(optimized(x, mine), program(x, theirs))
        torch.testing.assert_close(mine, theirs)
        assert mine.stride() == theirs.stride()


@pytest.mark.parametrize("dynamic", [None, True])
def test_one_hot_checks_its_classes(dynamic: bool | None) -> None:
    def counts(classes: torch.Tensor) -> torch.Tensor:
        return F.one_hot(classes, 5).sum(0)

    name, compiler = resolve_backend("lampwork")
    callback = FrameCallback(compiler, name, config_from_environment(fullgraph=True, dynamic=dynamic), shared_policy())
    optimized = with_callback(counts, callback)
    for classes in ([0, 4, 4], [2], [1, 1, 3, 0]):
        torch.testing.assert_close(optimized(torch.tensor(classes)), counts(torch.tensor(classes)))
    for classes, message in (([0, 5], "smaller than num_classes"), ([3, -1], "non-negative")):
        with pytest.raises(RuntimeError, match=message):
            optimized(torch.tensor(classes))
