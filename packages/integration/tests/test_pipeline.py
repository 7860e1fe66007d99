"""The wiring: fallbacks are warned about once, and explain shows what runs."""

import warnings

import lampwork
import pytest
import torch
from lampwork import pipeline
from lampwork_inductor_core.backend import CompilerNotFound


def f(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) * 2


def test_no_compiler_means_one_warning_and_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise CompilerNotFound("no C++ compiler found; apt install g++")

    monkeypatch.setattr(pipeline, "compile_graph", fail)
    monkeypatch.delenv("LAMPWORK_STRICT", raising=False)
    compiled = lampwork.compile(f)
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        for size in (3, 4, 5):
            x = torch.randn(size)
            assert torch.equal(compiled(x), f(x))
    ours = [str(w.message) for w in caught if issubclass(w.category, lampwork.EagerFallbackWarning)]
    assert len(ours) == 1 and "apt install g++" in ours[0]


def test_no_compiler_raises_when_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise CompilerNotFound("no C++ compiler found; apt install g++")

    monkeypatch.setattr(pipeline, "compile_graph", fail)
    monkeypatch.setenv("LAMPWORK_STRICT", "1")
    with pytest.raises(Exception, match="no C\\+\\+ compiler"), torch.no_grad():
        lampwork.compile(f)(torch.randn(3))


def test_explain_keeps_every_stage() -> None:
    with torch.no_grad():
        explanation = lampwork.explain(f)(torch.randn(7))
    assert list(explanation.stages[0]) == ["aten", "passes", "lowered", "schedule", "kernels", "cpu code", "wrapper"]
    assert "1 graph," in str(explanation) and not explanation.graph_breaks


def test_decorator_and_modes() -> None:
    @lampwork.compile(fullgraph=True, mode="max-autotune")
    def g(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x) + 1

    with torch.no_grad():
        x = torch.randn(5)
        torch.testing.assert_close(g(x), torch.tanh(x) + 1)
