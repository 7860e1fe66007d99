"""Fixtures: a backend with a cache of its own for each instruction set that this machine can run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
os.environ["LAMPWORK_STRICT"] = "1"

from lampwork_inductor_cpu.backend import CpuBackend
from lampwork_inductor_cpu.config import CpuConfig
from lampwork_inductor_cpu.isa import detect

_RUNS = {"avx512": ("avx512", "avx2", "baseline"), "avx2": ("avx2", "baseline"), "neon": ("neon",)}
ISAS = _RUNS.get(detect().name, ("baseline",))


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="session")
def make_backend(cache_dir: Path) -> Callable[..., CpuBackend]:
    def make(isa: str = ISAS[0], **options: object) -> CpuBackend:
        return CpuBackend(CpuConfig(isa=isa, cache_dir=cache_dir, **options))  # type: ignore[arg-type]

    return make


@pytest.fixture(params=ISAS)
def backend(request: pytest.FixtureRequest, make_backend: Callable[..., CpuBackend]) -> CpuBackend:
    return make_backend(request.param)


@pytest.fixture(scope="session")
def run_cases() -> Callable[..., None]:
    """Build all cases' kernels at once, run them, and report every mismatch together."""

    def run(backend: CpuBackend, cases: Sequence[object]) -> None:
        sources = [backend.generate(c.kernel) for c in cases]  # type: ignore[attr-defined]
        built = backend.compile(sources)
        problems: list[str] = []
        for case, source in zip(cases, sources):
            built[source.name](*case.arguments)  # type: ignore[attr-defined]
            for got, want in zip(case.outputs, case.expected):  # type: ignore[attr-defined]
                try:
                    torch.testing.assert_close(got, want, rtol=case.rtol, atol=case.atol, equal_nan=True)  # type: ignore[attr-defined]
                except AssertionError as error:
                    problems.append(f"{case.label}: {error}\n{_worst(got, want, case)}")  # type: ignore[attr-defined]
        assert not problems, (
            f"{len(problems)} of {len(cases)} cases:\n"
            + "\n".join(p.split(chr(10))[0] for p in problems)
            + chr(10)
            + "\n".join(problems[:12])
        )

    return run


def _worst(got: torch.Tensor, want: torch.Tensor, case: object) -> str:
    different = ~((got == want) | ((got != got) & (want != want)))
    if got.is_floating_point():
        tolerance = case.atol + case.rtol * want.double().abs()  # type: ignore[attr-defined]
        close = (got.double() - want.double()).abs() <= tolerance
        different &= ~close
    where = different.flatten().nonzero().flatten()[:4].tolist()
    inputs = [a.flatten() for a in case.arguments if isinstance(a, torch.Tensor)][: -len(case.outputs)]  # type: ignore[attr-defined]
    rows = [
        f"at {k}: inputs {[i[k].item() if i.numel() == got.numel() else '?' for i in inputs]}"
        f" got {got.flatten()[k].item()!r} want {want.flatten()[k].item()!r}"
        for k in where
    ]
    return "\n".join(rows)
