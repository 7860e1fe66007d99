"""Training loops as users write them, through the whole stack: every loss and parameter as in eager."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Loop = Callable[[Any, nn.Module, torch.Tensor], list[float]]
STEPS = 3


class Block(nn.Module):
    """A residual block of a transformer without its attention."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(rate)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(self.inner(self.norm(x)))


class Stack(nn.Module):
    """Blocks, checkpointed or not."""

    def __init__(self, width: int = 16, depth: int = 3, rate: float = 0.0, checkpointed: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, rate) for _ in range(depth))
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        return x


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)


def plain(function: Any, model: nn.Module, x: torch.Tensor) -> list[float]:
    optimizer, losses = _optimizer(model), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = function(x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def accumulated(function: Any, model: nn.Module, x: torch.Tensor) -> list[float]:
    optimizer, losses = _optimizer(model), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        for part in (x, x + 1, x * 2):
            loss = function(part).square().mean() / 3
            loss.backward()
            losses.append(loss.item())
        optimizer.step()
    return losses


def clipped(function: Any, model: nn.Module, x: torch.Tensor) -> list[float]:
    optimizer, losses = _optimizer(model), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = function(x).square().sum()
        loss.backward()
        losses += [loss.item(), float(nn.utils.clip_grad_norm_(model.parameters(), 0.5))]
        optimizer.step()
    return losses


def scaled(function: Any, model: nn.Module, x: torch.Tensor) -> list[float]:
    optimizer, losses = _optimizer(model), []
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = function(x * (float("inf") if step == 1 else 1.0)).square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # leaves out the step whose gradients are not finite
        scaler.update()
        losses.append(scaler.get_scale())
    return losses


def retained(function: Any, model: nn.Module, x: torch.Tensor) -> list[float]:
    """Two losses of one forward pass, each differentiated by itself."""
    optimizer, losses = _optimizer(model), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        out = function(x)
        first, second = out.mean(), out.square().mean()
        first.backward(retain_graph=True)
        second.backward()
        optimizer.step()
        losses += [first.item(), second.item()]
    return losses


def _frozen() -> nn.Module:
    model = Stack()
    for parameter in itertools.chain(model.blocks[0].parameters(), model.blocks[2].norm.parameters()):
        parameter.requires_grad_(False)
    return model


def _shared() -> nn.Module:
    model = Stack()
    model.blocks[2] = model.blocks[0]
    model.blocks[1].inner[0].weight = model.blocks[0].inner[0].weight
    return model


@pytest.mark.parametrize("loop", [plain, accumulated, clipped, scaled, retained], ids=lambda loop: loop.__name__)
def test_loops(loop: Loop) -> None:
    _compare(Stack(), loop)


@pytest.mark.parametrize("build", [_frozen, _shared])
def test_frozen_layers_and_shared_parameters(build: Callable[[], nn.Module]) -> None:
    _compare(build(), plain)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_checkpointed_layers(rate: float) -> None:
    _compare(Stack(rate=rate, checkpointed=True), plain)


def _compare(model: nn.Module, loop: Loop) -> None:
    reference = copy.deepcopy(model)
    torch.manual_seed(1)
    x = torch.randn(8, 16)
    torch.manual_seed(2)
    expected = loop(reference, reference, x)
    torch.manual_seed(2)
    found = loop(torch.compile(model, backend="lampwork"), model, x)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)


def held_between(function: Any, model: nn.Module, x: torch.Tensor) -> int:
    """The bytes that a forward pass leaves behind for the backward pass, as the allocator counts them."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        out = function(x)
    held = sum(e.nbytes() for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]")
    out.sum().backward()
    return held


def test_checkpoints_save_what_they_save_in_eager() -> None:
    x = torch.randn(64, 32)
    held: dict[tuple[str, bool], int] = {}
    for checkpointed in (False, True):
        model = Stack(width=32, depth=4, rate=0.1, checkpointed=checkpointed)
        compiled = torch.compile(model, backend="lampwork")
        for name, function in (("eager", model), ("compiled", compiled)):
            function(x).sum().backward()
            held[name, checkpointed] = held_between(function, model, x)
    assert held["eager", True] < 0.5 * held["eager", False]
    assert held["compiled", False] <= held["eager", False]
    assert held["compiled", True] <= held["eager", True] + 4 * 6000  # and the random state of each block
