"""Training steps through the Triton backend, on CPU tensors, against eager in float64 (run by test_triton_training)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import lampwork_capture
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import PartitionPolicy, aot_backend
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.passes.training_layout import choose_training_layout
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.device import H100
from lampwork_inductor_gpu.training import recompute_cost
from torch import nn
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

aten = torch.ops.aten


@pytest.fixture(autouse=True)
def truth_values_of_scalars(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter gives a comparison the type of what it compares, and makes numbers of it when it spreads."""
    spread = InterpreterBuilder.create_splat

    def create_splat(self: InterpreterBuilder, result: Any, value: TensorHandle) -> TensorHandle:
        if value.data.dtype == np.bool_:
            return TensorHandle(np.full(result.shape, value.data.reshape(-1)[0]), value.dtype.scalar)
        return spread(self, result, value)

    monkeypatch.setattr(InterpreterBuilder, "create_splat", create_splat)


def backend(graphs: list[Any], *, innermost: bool = False) -> Any:
    def compiler(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Any:
        graphs.append(graph)
        device = TritonBackend(H100)
        device.device_type, device.replays = "cpu", None
        options = CompileOptions(weights_change=True, check_inputs=False, backends={"cpu": device})
        return compile_graph(graph, inputs, options=options)

    def rewrite(graph: torch.fx.GraphModule, forward: frozenset[torch.fx.Node], results: int) -> None:
        choose_training_layout(graph, forward, results, lambda convolutions: innermost)

    return aot_backend(compiler, partition=PartitionPolicy(recompute_cost, rewrite=rewrite))


class EncoderLayer(nn.TransformerEncoderLayer):
    """One whose loss is not constant: the mean square of what a normalisation gives has gradients of rounding only."""

    def __init__(self) -> None:
        super().__init__(32, 2, 48, dropout=0.0, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return (y * torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype)).sin().sum()


class Classifier(nn.Module):
    """The parts of a language model's head and block."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(19, 24)
        self.norm = nn.LayerNorm(24)
        self.inner, self.outer = nn.Linear(24, 40), nn.Linear(40, 24)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embedding(tokens)
        x = x + self.outer(F.gelu(self.inner(self.norm(x)), approximate="tanh"))
        return F.cross_entropy(F.linear(x, self.embedding.weight).flatten(0, 1), tokens.flatten())


class Convolutions(nn.Module):
    """Residual convolutions with batch norm, as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, k, padding=k // 2, bias=False) for k in (1, 3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.norms[0](self.stem(x))), 2)
        for layer, norm in zip(self.layers, self.norms[1:]):
            x = F.relu(norm(layer(x)) + x)
        y = self.head(x.mean((2, 3)))
        return (y * torch.linspace(-1, 1, 5, dtype=y.dtype)).sin().sum()


def gradients(function: Callable[..., torch.Tensor], model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    function(x).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


PROGRAMS: dict[type[nn.Module], Callable[[], torch.Tensor]] = {
    EncoderLayer: lambda: torch.randn(2, 8, 32),
    Classifier: lambda: torch.randint(0, 19, (3, 7)),
    Convolutions: lambda: torch.randn(3, 3, 16, 16),
}


@pytest.mark.parametrize(
    ("program", "innermost"),
    [(EncoderLayer, False), (Classifier, False), (Convolutions, False), (Convolutions, True)],
    ids=lambda value: value.__name__ if isinstance(value, type) else "innermost" if value else "as_given",
)
def test_gradients_are_as_near_as_eagers(program: type[nn.Module], innermost: bool) -> None:
    torch.manual_seed(0)
    model, x = program(), PROGRAMS[program]()
    exact = copy.deepcopy(model).double()
    precise = gradients(exact, exact, x.double() if x.is_floating_point() else x)
    eager = _eager(model, x)
    graphs: list[torch.fx.GraphModule] = []
    own = copy.deepcopy(model)
    compiled = lampwork_capture.optimize(backend(graphs, innermost=innermost), dynamic=False)(own)
    got = gradients(compiled, own, x)
    assert len(graphs) == 2 and got.keys() == precise.keys()
    for name, expected in precise.items():
        scale = expected.norm()
        assert (got[name] - expected).norm() <= 4 * (eager[name] - expected).norm() + 2e-6 * scale, name
        assert got[name].stride() == eager[name].stride()
    if program is Convolutions:
        _, backward = graphs
        calls = [n for n in backward.graph.nodes if n.target is aten.convolution_backward.default]
        for call in calls:
            lies_so = [a.meta["val"].is_contiguous(memory_format=torch.channels_last) for a in call.args[:3]]
            assert len(calls) == 3 and all(lies_so) == innermost


def _eager(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    plain = copy.deepcopy(model)
    return gradients(plain, plain, x)


def test_a_result_that_the_program_overwrites_is_kept_as_a_copy() -> None:
    """The logits are recomputed from in the backward pass, and are the program's to write to."""

    def step(x: torch.Tensor, w: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = (x @ w).half()
        return F.cross_entropy(logits.float(), target), logits

    torch.manual_seed(0)
    x, target = torch.randn(6, 8), torch.arange(6)
    weights = [torch.linspace(-1, 1, 8 * 64).view(8, 64).clone().requires_grad_() for _ in range(2)]
    graphs: list[torch.fx.GraphModule] = []
    for function, w in zip((step, lampwork_capture.optimize(backend(graphs), dynamic=False)(step)), weights):
        loss, logits = function(x, w, target)
        with torch.no_grad():
            logits.fill_(3)
        loss.backward()
    torch.testing.assert_close(weights[1].grad, weights[0].grad)
    kept = [n.meta["val"] for n in graphs[1].graph.find_nodes(op="placeholder") if n.meta["val"].shape == (6, 64)]
    assert [value.dtype for value in kept] == [torch.float16]
