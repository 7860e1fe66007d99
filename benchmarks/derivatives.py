"""Derivatives of second order through a compiled function: eager, Lampwork and torch.compile on the same programs.

    python benchmarks/derivatives.py [--steps 20]

Programs: a critic trained with a gradient penalty, a Hessian-vector product, one through a convolution, a Newton step
by conjugate gradients, a third derivative. For each contestant the largest difference from eager (relative to the
largest magnitude), or what it raises, and the time of a step (a second run's, whose model shares what the first one
compiled). Exits with 1 if Lampwork raises or differs by more than
1e-5.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Program = Callable[[Callable[[nn.Module], Any], int], list[torch.Tensor]]


def _critic() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 256), nn.LeakyReLU(0.2), nn.Linear(256, 256), nn.LayerNorm(256), nn.SiLU(), nn.Linear(256, 1)
    )


def gradient_penalty(compiled: Callable[[nn.Module], Any], steps: int) -> list[torch.Tensor]:
    """A Wasserstein critic with a penalty on the norm of its gradient, trained by Adam."""
    model = _critic()
    function = compiled(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses: list[torch.Tensor] = []
    for step in range(steps):
        torch.manual_seed(step)
        real, fake, share = torch.randn(128, 64) + 1, torch.randn(128, 64), torch.rand(128, 1)
        mixed = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(function(mixed).sum(), mixed, create_graph=True)
        penalty = (slope.norm(2, dim=1) - 1).square().mean()
        loss = function(fake).mean() - function(real).mean() + 10 * penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [torch.stack(losses), *(p.detach() for p in model.parameters())]


def hessian_vector_product(compiled: Callable[[nn.Module], Any], steps: int) -> list[torch.Tensor]:
    """The product of the loss's Hessian and a vector, over all parameters."""
    model = _critic()
    function = compiled(model)
    parameters = list(model.parameters())
    found: list[torch.Tensor] = []
    for step in range(steps):
        torch.manual_seed(step)
        x, vector = torch.randn(128, 64), [torch.randn_like(p) for p in parameters]
        gradients = torch.autograd.grad(function(x).square().mean(), parameters, create_graph=True)
        product = sum((g * v).sum() for g, v in zip(gradients, vector))
        found = list(torch.autograd.grad(product, parameters, allow_unused=True, materialize_grads=True))
    return found


def through_a_convolution(compiled: Callable[[nn.Module], Any], steps: int) -> list[torch.Tensor]:
    """A penalty on the input's gradient of a small convolutional network."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(16, 16, 3), nn.Tanh())
    function = compiled(model)
    found: list[torch.Tensor] = []
    for step in range(steps):
        torch.manual_seed(step)
        x = torch.randn(4, 3, 16, 16, requires_grad=True)
        (slope,) = torch.autograd.grad(function(x).square().mean(), x, create_graph=True)
        found = list(torch.autograd.grad(slope.square().sum(), list(model.parameters())))
    return found


def conjugate_gradients(compiled: Callable[[nn.Module], Any], steps: int) -> list[torch.Tensor]:
    """A Newton direction by conjugate gradients: many products with one Hessian, the graph retained between."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.Softplus(), nn.Linear(16, 1)
    ).double()  # the iteration magnifies rounding
    function = compiled(model)
    x, y = torch.randn(64, 8).double(), torch.randn(64, 1).double()
    parameters = list(model.parameters())
    loss = (function(x) - y).square().mean() + sum(p.square().sum() for p in parameters)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    flat = torch.cat([g.flatten() for g in gradients])
    direction = torch.zeros_like(flat)
    residual = basis = -flat.detach()
    for _ in range(min(steps, 10)):
        product = torch.cat([p.flatten() for p in torch.autograd.grad(flat, parameters, basis, retain_graph=True)])
        length = residual.dot(residual) / basis.dot(product)
        direction = direction + length * basis
        after = residual - length * product
        basis = after + after.dot(after) / residual.dot(residual) * basis
        residual = after
    return [direction]


def third_derivative(compiled: Callable[[nn.Module], Any], steps: int) -> list[torch.Tensor]:
    """A third derivative of a scalar function."""
    model = nn.Sequential(nn.Tanh(), nn.Softplus())
    function = compiled(model)
    found: list[torch.Tensor] = []
    for _ in range(steps):
        x = torch.linspace(-2, 2, 101, requires_grad=True)
        value = function(x)
        for order in range(3):
            (value,) = torch.autograd.grad(value.sum(), x, create_graph=order < 2)
        found = [value]
    return found


PROGRAMS: tuple[Program, ...] = (
    gradient_penalty,
    hessian_vector_product,
    through_a_convolution,
    conjugate_gradients,
    third_derivative,
)
CONTESTANTS: dict[str, Callable[[nn.Module], Any]] = {
    "lampwork": lambda model: torch.compile(model, backend="lampwork"),
    "torch.compile": torch.compile,
    "torch.compile, backend=aot_eager": lambda model: torch.compile(model, backend="aot_eager"),
}


def difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The largest difference, relative to the largest magnitude of each tensor."""
    return max(
        float((a - b).abs().max() / b.abs().max().clamp(min=1e-12)) for a, b in zip(found, expected, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = False
    print("| program | contestant | result | ms a step | eager |\n|---|---|---|---|---|")
    for program in PROGRAMS:
        expected = program(lambda model: model, options.steps)
        started = time.perf_counter()
        program(lambda model: model, options.steps)
        eager = (time.perf_counter() - started) / options.steps * 1e3
        for name, compiled in CONTESTANTS.items():
            torch.compiler.reset()
            wrapped: dict[int, Any] = {}

            def once(model: nn.Module, compiled: Any = compiled, wrapped: dict[int, Any] = wrapped) -> Any:
                return wrapped.setdefault(id(model), compiled(model))

            try:
                worst = difference(program(once, options.steps), expected)
                result, is_wrong = f"within {worst:.0e}" if worst else "equal", worst > 1e-5
                started = time.perf_counter()
                program(once, options.steps)
                step = f"{(time.perf_counter() - started) / options.steps * 1e3:.1f}"
            except Exception as error:
                result, is_wrong, step = f"raises: {str(error).strip().splitlines()[0][:90]}", True, ""
            failed |= is_wrong and name == "lampwork"
            print(f"| {program.__name__} | {name} | {result} | {step} | {eager:.1f} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
