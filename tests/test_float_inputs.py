"""Python floats that vary, through the whole stack: one compilation for all of them, the bits of the constant."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork import pipeline

X, Y = torch.randn(2, 7, 33, generator=torch.Generator().manual_seed(0))
N = torch.arange(20) - 10
MANY = [0.1 + 0.037 * k for k in range(50)]
CONSTANT = 0.1 + 0.037 * 20

Program = Callable[..., Any]
PROGRAMS: dict[str, tuple[Program, tuple[torch.Tensor, ...]]] = {
    "scale": (lambda x, f: x * f + 1, (X,)),
    "arithmetic": (lambda x, f: x * (f / 3.0) + (2.0 - f) ** 2, (X,)),
    "full": (lambda x, f: torch.full((33,), f) + x, (X,)),
    "full alone": (lambda x, f: torch.full((5,), f), (X,)),
    "clamp": (lambda x, f: x.clamp(min=-f, max=f + 0.5), (X,)),
    "alpha": (lambda x, y, f: torch.add(x, y, alpha=f), (X, Y)),
    "in place": (lambda x, y, f: x.clone().add_(y, alpha=-f).mul_(f), (X, Y)),
    "lerp": (lambda x, y, f: torch.lerp(x, y, f), (X, Y)),
    "addcmul": (lambda x, y, f: torch.addcmul(x, x, y, value=f), (X, Y)),
    "addcdiv": (lambda x, y, f: torch.addcdiv(x, x, y, value=f), (X, Y)),
    "softmax": (lambda x, f: torch.softmax(x / f, -1), (X,)),
    "sum": (lambda x, f: (x.clamp(min=f) * f).sum(), (X,)),
    "layer norm": (lambda x, f: F.layer_norm(x, (33,), eps=f), (X,)),
    "group norm": (lambda x, f: F.group_norm(x.view(1, 7, 33), 7, eps=f), (X,)),
    "batch norm": (lambda x, f: F.batch_norm(x, torch.zeros(33), torch.ones(33), eps=f), (X,)),
    "statistics": (lambda x, f: F.batch_norm(x, None, None, training=True, eps=f), (X,)),
    "where": (lambda x, f: torch.where(x > f, x, f), (X,)),
    "attention": (lambda x, f: F.scaled_dot_product_attention(*[x.view(1, 1, 7, 33)] * 3, scale=f), (X,)),
    "fill of a mask": (lambda x, f: x.masked_fill(x > 0, f), (X,)),
    "power": (lambda x, f: x.abs() ** f, (X,)),
    "leaky": (lambda x, f: F.leaky_relu(x, f), (X,)),
    "elu": (lambda x, f: F.elu(x, f), (X,)),
    "huber": (lambda x, y, f: F.huber_loss(x, y, delta=f), (X, Y)),
    "smooth": (lambda x, y, f: F.smooth_l1_loss(x, y, beta=f), (X, Y)),
    "addmm": (lambda x, y, f: torch.addmm(x[:, :7], x, y.t(), beta=f, alpha=f), (X, Y)),
    "remainder": (lambda x, f: x % f, (X,)),
    "reversed": (lambda x, f: f - x, (X,)),
    "tensor": (lambda x, f: x[:, :2] + torch.tensor([f, 1.0]), (X,)),
    "gelu": (lambda x, f: F.gelu(x * f), (X,)),
    "integers compared": (lambda x, f: (x > f, x == f), (N,)),
    "integers": (lambda x, f: x * f, (N,)),
    "truths": (lambda x, f: x * f, (N > 0,)),
    "filled integers": (lambda x, f: x.clone().fill_(f * 10), (N,)),
    "bfloat16": (lambda x, f: x * f + f, (X.bfloat16(),)),
    "half": (lambda x, f: torch.where(x > 0, x * f, f), (X.half(),)),
    "double": (lambda x, f: x * f + f, (X.double(),)),
}


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs that were compiled."""
    made: list[Any] = []
    compile_graph = pipeline.compile_graph

    def counting(*args: Any, **kwargs: Any) -> Any:
        made.append(compile_graph(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(pipeline, "compile_graph", counting)
    return made


def lampwork(program: Program) -> Program:
    return torch.compile(program, backend="lampwork", fullgraph=True)


def tensors_of(result: Any) -> list[torch.Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


def close(actual: Any, expected: Any) -> None:
    for mine, eager in zip(tensors_of(actual), tensors_of(expected), strict=True):
        half = eager.dtype in (torch.bfloat16, torch.float16)
        tolerance = {"rtol": 2e-2, "atol": 2e-2} if half else {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(mine, eager, equal_nan=True, **tolerance)


@pytest.mark.parametrize("name", PROGRAMS)
@torch.no_grad()
def test_one_compilation_serves_all_floats(name: str, compilations: list[Any]) -> None:
    program, inputs = PROGRAMS[name]
    constant = lampwork(program)(*inputs, CONSTANT)
    torch.compiler.reset()
    compilations.clear()
    compiled = lampwork(program)
    for number in MANY:
        result = compiled(*inputs, number)
        close(result, program(*inputs, number))
        if number == CONSTANT:
            for mine, other in zip(tensors_of(result), tensors_of(constant), strict=True):
                assert torch.equal(mine, other)
    assert len(compilations) == (3 if name == "lerp" else 2)  # by the nearer end


SPECIAL = (math.inf, -math.inf, math.nan, 0.0, -0.0, 1.0, 1e-310, 1e-45, 1e40, -1e300)


@pytest.mark.parametrize("name", ["scale", "integers compared", "reversed", "bfloat16", "double"])
@torch.no_grad()
def test_special_values(name: str, compilations: list[Any]) -> None:
    program, inputs = PROGRAMS[name]
    if name == "reversed":
        inputs = (X.double(),)
    compiled = lampwork(program)
    for number in (0.5, 0.25, *SPECIAL):
        close(compiled(*inputs, number), program(*inputs, number))
    assert len(compilations) == 2


@torch.no_grad()
def test_a_fill_that_does_not_fit_is_eagers_error() -> None:
    compiled = lampwork(PROGRAMS["full"][0])
    for number in (0.5, 0.25):
        compiled(X, number)
    with pytest.raises(RuntimeError, match="value cannot be converted to type float without overflow"):
        compiled(X, 1e40)


@torch.no_grad()
def test_powers_that_eager_computes_otherwise(compilations: list[Any]) -> None:
    compiled = lampwork(lambda x, f: x.abs() ** f)
    for number in (2.5, 0.7, 2.0, 3.0, 0.5, -0.5, -1.0, 0.0, 1.0, -2.0, 4.0, 8.0, 1.3):
        close(compiled(X, number), X.abs() ** number)
    assert len(compilations) <= 7


@torch.no_grad()
def test_ints_floats_and_sizes_mix(compilations: list[Any]) -> None:
    def program(x: torch.Tensor, n: int, f: float) -> torch.Tensor:
        return (x * f + n) / x.shape[0] * (f / n) + math.sqrt(f * x.shape[0])

    compiled = lampwork(program)
    for k, number in enumerate(MANY):
        x = X[: 3 + k % 4]
        close(compiled(x, k + 2, number), program(x, k + 2, number))
    assert len(compilations) <= 3


@torch.no_grad()
def test_attributes_lists_and_dicts(compilations: list[Any]) -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(33, 5)
            self.scale = 0.0

        def forward(self, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
            return self.linear(x) * self.scale + options["shifts"][1] / options["temperature"]

    module = Scaled().eval()
    compiled = torch.compile(module, backend="lampwork", fullgraph=True)
    for number in MANY:
        module.scale = number
        options = {"shifts": [1, number + 1], "temperature": number * 2}
        close(compiled(X, options), module(X, options))
    assert len(compilations) == 2


@torch.no_grad()
def test_a_branch_on_a_float_is_two_compilations(compilations: list[Any]) -> None:
    def program(x: torch.Tensor, f: float) -> torch.Tensor:
        return x * f if f > 1 else x - f

    compiled = lampwork(program)
    for number in MANY:
        close(compiled(X, number), program(X, number))
    assert len(compilations) == 3


@torch.no_grad()
def test_what_asks_for_the_value_is_compiled_for_constants(compilations: list[Any]) -> None:
    """A root mean square is made of other operators, by torch, before any operator sees its epsilon."""

    def program(x: torch.Tensor, f: float) -> torch.Tensor:
        return F.rms_norm(F.dropout(x, f, training=False), (33,), eps=f)

    compiled = lampwork(program)
    with pytest.warns(lampwork_capture.NumberVariantsWarning):
        for number in MANY[:15]:
            close(compiled(X, number), program(X, number))
    assert len(compilations) == 9


def test_integers_with_a_float_value_are_eagers() -> None:
    def function(x: torch.Tensor, value: float) -> torch.Tensor:
        return torch.addcmul(x, x, x, value=value)

    def between(x: torch.Tensor, weight: float) -> torch.Tensor:
        return torch.lerp(x, x + 1, weight)

    x = torch.tensor([-2, -1, 1, 3])
    optimized = torch.compile(function, backend="lampwork")
    for value in (0.5, 2.0, 1.5, 2, -0.75):
        assert torch.equal(optimized(x, value), function(x, value))
    with pytest.raises(RuntimeError, match="cannot be converted to type int64_t"):
        optimized(x, float("inf"))
    with pytest.raises(NotImplementedError, match="lerp"):
        torch.compile(between, backend="lampwork")(x, 0.5)


def test_halves_take_numbers_beyond_them_item_by_item() -> None:
    def first(x: torch.Tensor, value: float) -> torch.Tensor:
        x[0] = value
        return x

    def behind(x: torch.Tensor, value: float) -> torch.Tensor:
        x[1:] = value
        return x * 2

    for function in (first, behind):
        optimized = lampwork_capture.optimize("lampwork")(function)
        for value in (1.0, 2.0, 65520.0, 1e6, 3.0):
            x, y = torch.ones(3).half(), torch.ones(3).half()
            assert torch.equal(optimized(x, value), function(y, value)) and torch.equal(x, y)
