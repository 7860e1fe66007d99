"""Whole stack: steps of optimizers, written in place, are as in eager; whoever keeps values sees the writes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import lampwork
import pytest
import torch
from torch import nn, optim

_SHAPES = ((4,), (3, 5), (2, 3, 4), (), (3, 5))
_STEPS = 5


def _parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in _SHAPES]


def _give_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


_FORMS: list[Any] = [
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "foreach": True}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "foreach": False}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "fused": True}),
    (optim.SGD, {"lr": 0.1, "maximize": True, "fused": True}),
    (optim.Adam, {"amsgrad": True, "weight_decay": 0.1, "foreach": True}),
    (optim.Adam, {"amsgrad": True, "weight_decay": 0.1, "maximize": True, "fused": True}),
    (optim.AdamW, {"foreach": True}),
    (optim.AdamW, {"foreach": False}),
    (optim.AdamW, {"fused": True}),
    (optim.AdamW, {"lr": torch.tensor(0.01), "fused": True}),
    (optim.Adagrad, {"lr_decay": 0.1, "fused": True}),
    (optim.Adagrad, {"foreach": True}),
    (optim.RMSprop, {"foreach": True}),
    (optim.NAdam, {"foreach": True}),
    (optim.RAdam, {"foreach": True}),
    (optim.Adamax, {"foreach": True}),
    (optim.Adadelta, {"foreach": True}),
]


def _id(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    return "-".join(f"{name}={float(item) if isinstance(item, torch.Tensor) else item}" for name, item in value.items())


@pytest.mark.parametrize(("cls", "options"), _FORMS, ids=_id)
def test_steps_are_as_in_eager(cls: Any, options: dict[str, Any]) -> None:
    _compare(cls, options, torch.float32)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("form", ["foreach", "fused"])
def test_steps_of_other_dtypes(dtype: torch.dtype, form: str) -> None:
    _compare(optim.AdamW, {form: True}, dtype)


def _compare(cls: Any, options: dict[str, Any], dtype: torch.dtype) -> None:
    runs: list[tuple[list[nn.Parameter], optim.Optimizer, Callable[[], Any]]] = []
    for compiled in (False, True):
        parameters = _parameters(dtype)
        optimizer = cls(parameters, **copy.deepcopy(options))
        step = torch.compile(optimizer.step, backend="lampwork") if compiled else optimizer.step
        runs.append((parameters, optimizer, step))
    for number in range(_STEPS):
        for parameters, optimizer, step in runs:
            _give_gradients(parameters, number)
            step()
            for group in optimizer.param_groups:
                if not isinstance(group["lr"], torch.Tensor):
                    group["lr"] *= 0.9
    (eager, eager_optimizer, _), (ours, optimizer, _) = runs
    tolerance = {"rtol": 2e-2, "atol": 1e-2} if dtype is torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    for a, b in zip(eager, ours, strict=True):
        torch.testing.assert_close(b, a, **tolerance)
        for name, value in eager_optimizer.state[a].items():
            torch.testing.assert_close(optimizer.state[b][name], value, **tolerance)


def test_every_update_is_one_kernel_in_place() -> None:
    parameters = _parameters()
    optimizer = optim.AdamW(parameters, foreach=True)
    _give_gradients(parameters, 0)
    optimizer.step()
    stages = lampwork.explain(optimizer.step)().stages[0]
    assert ".copy_(" not in stages["wrapper"] and "extern" not in stages["schedule"]
    kernels = [text for text in stages["kernels"].split("kernel ") if text]
    updates = [text for text in kernels if text.count("inout") >= 3 and "sqrt" in text and "in0" in text]
    assert len(updates) == len({parameter.numel() for parameter in parameters})  # equal shapes share one


def test_values_kept_from_parameters_follow_the_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)).eval()
    optimizer = optim.SGD(model.parameters(), lr=0.5, foreach=True)
    step = torch.compile(optimizer.step, backend="lampwork")
    compiled = torch.compile(model, backend="lampwork")
    x = torch.randn(4, 16)
    for number in range(3):
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), model(x))
        versions = [parameter._version for parameter in model.parameters()]
        _give_gradients(list(model.parameters()), number)
        step()
        assert all(p._version > before for p, before in zip(model.parameters(), versions, strict=True))


def test_a_backward_over_a_written_parameter_raises_as_in_eager() -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([parameter], lr=0.5)
    loss = (parameter * parameter).sum()
    parameter.grad = torch.ones(3)
    torch.compile(optimizer.step, backend="lampwork")()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_parameters_that_share_memory_are_updated_as_in_eager() -> None:
    def make() -> tuple[list[nn.Parameter], optim.Optimizer]:
        base = torch.arange(8.0)
        made = [nn.Parameter(base[:5]), nn.Parameter(base[3:])]
        return made, optim.SGD(made, lr=0.5, momentum=0.9, foreach=True)

    eager, compiled = make(), make()
    step = torch.compile(compiled[1].step, backend="lampwork")
    for number in range(3):
        _give_gradients(eager[0], number)
        eager[1].step()
        _give_gradients(compiled[0], number)
        step()
    for a, b in zip(eager[0], compiled[0], strict=True):
        torch.testing.assert_close(a, b)


def test_a_whole_step_of_training() -> None:
    def make() -> tuple[nn.Module, optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.LayerNorm(16), nn.Linear(16, 4))
        return model, optim.AdamW(model.parameters(), lr=0.01)

    def train(model: nn.Module, optimizer: optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    optimized = torch.compile(train, backend="lampwork")
    eager, compiled = make(), make()
    for number in range(_STEPS):
        torch.manual_seed(number)
        x, y = torch.randn(5, 8), torch.randint(4, (5,))
        torch.testing.assert_close(optimized(*compiled, x, y), train(*eager, x, y))
    for a, b in zip(eager[0].parameters(), compiled[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
