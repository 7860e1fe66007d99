"""Steps of `torch.optim` are one graph each: captured once as the state arises, and once more for all later steps.

Each program runs beside eager from the same parameters and gradients; parameters and all state are compared after ten
steps, bit by bit unless torch's own form for captures rounds in other places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lampwork_capture
import pytest
import torch
from torch import fx, nn, optim

_SHAPES = ((4,), (3, 5), (2, 3, 4), (), (6, 2))
_STEPS = 10


@dataclass
class _Run:
    """Parameters and their optimizer, eager or compiled."""

    parameters: list[nn.Parameter]
    optimizer: optim.Optimizer
    seen: list[str] = field(default_factory=list)


class _Graphs:
    """A backend that counts, and runs what it is given."""

    def __init__(self) -> None:
        self.modules: list[fx.GraphModule] = []

    def __call__(self, graph: fx.GraphModule, example_inputs: Any) -> Callable[..., Any]:
        self.modules.append(graph)
        return graph.forward


def _run(make: Callable[[list[nn.Parameter]], Any]) -> _Run:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in _SHAPES]
    return _Run(parameters, make(parameters))


def _give_gradients(run: _Run, step: int, missing: frozenset[int] = frozenset()) -> None:
    generator = torch.Generator().manual_seed(step)
    for index, parameter in enumerate(run.parameters):
        gradient = torch.randn(parameter.shape, generator=generator)
        parameter.grad = None if index in missing else gradient


def _step(run: _Run) -> None:
    run.optimizer.step()


def _beside_eager(
    make: Callable[[list[nn.Parameter]], Any],
    step: Callable[[_Run], Any] = _step,
    after: Callable[[_Run], Any] = lambda run: None,
    missing: Callable[[int], frozenset[int]] = lambda step: frozenset(),
    exact: bool = True,
) -> list[int]:
    """Ten steps of both; how many graphs there were after each. Raises AssertionError where they differ."""
    eager, compiled = _run(make), _run(make)
    graphs = _Graphs()
    optimized = lampwork_capture.optimize(graphs)(step)
    counts: list[int] = []
    for number in range(_STEPS):
        for run, function in ((eager, step), (compiled, optimized)):
            _give_gradients(run, number, missing(number))
            function(run)
            after(run)
        counts.append(len(graphs.modules))
    _assert_same(eager, compiled, exact)
    return counts


def _assert_same(eager: _Run, compiled: _Run, exact: bool) -> None:
    tolerance = {"rtol": 0.0, "atol": 0.0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    assert eager.seen == compiled.seen
    for a, b in zip(eager.parameters, compiled.parameters, strict=True):
        torch.testing.assert_close(a, b, **tolerance)
        of_a, of_b = eager.optimizer.state[a], compiled.optimizer.state[b]
        assert of_a.keys() == of_b.keys()
        for name in of_a:
            torch.testing.assert_close(of_a[name], of_b[name], **tolerance)


_FORMS: list[Any] = [
    pytest.param(cls, {**options, **form}, exact, id=f"{cls.__name__}-{'-'.join(map(str, (*options, *form)))}-{form}")
    for cls, options, exact in (
        (optim.SGD, {"lr": 0.1}, True),
        (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, True),
        (optim.Adam, {}, True),
        (optim.Adam, {"amsgrad": True, "weight_decay": 0.1, "maximize": True}, True),
        (optim.AdamW, {}, True),
        (optim.RMSprop, {"momentum": 0.9, "centered": True}, True),
        (optim.Adagrad, {"lr_decay": 0.1}, True),
        (optim.Adadelta, {}, True),
        (optim.Adamax, {}, True),
        (optim.NAdam, {}, True),
    )
    for form in ({"foreach": True}, {"foreach": False}, {})
] + [
    pytest.param(cls, options, True, id=f"{cls.__name__}-fused")
    for cls, options in (
        (optim.SGD, {"lr": 0.1, "momentum": 0.9, "fused": True}),
        (optim.Adam, {"fused": True}),
        (optim.AdamW, {"fused": True}),
        (optim.Adagrad, {"fused": True}),
    )
]


@pytest.mark.parametrize(("cls", "options", "exact"), _FORMS)
def test_a_step_is_one_graph(cls: Any, options: dict[str, Any], exact: bool) -> None:
    counts = _beside_eager(lambda parameters: cls(parameters, **options), exact=exact)
    assert counts[0] == 1
    assert counts[1] == counts[-1] <= 2


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("cls", [optim.AdamW, optim.RAdam, optim.NAdam, optim.ASGD, optim.Adamax, optim.RMSprop])
def test_capturable_forms_compute_the_same_without_branches(cls: Any, foreach: bool) -> None:
    # Eager refuses them on CPUs, where a capture asks for no such device
    eager = _run(lambda parameters: cls(parameters, foreach=foreach))
    compiled = _run(lambda parameters: cls(parameters, foreach=foreach, capturable=True))
    graphs = _Graphs()
    optimized = lampwork_capture.optimize(graphs, fullgraph=True)(_step)
    for number in range(_STEPS):
        for run, function in ((eager, _step), (compiled, optimized)):
            _give_gradients(run, number)
            function(run)
    for a, b in zip(eager.parameters, compiled.parameters, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert len(graphs.modules) == 2


@pytest.mark.parametrize("cls", [optim.RAdam, optim.ASGD, optim.Rprop])
def test_steps_that_branch_on_data_are_right(cls: Any) -> None:
    _beside_eager(lambda parameters: cls(parameters, foreach=True))


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (optim.SGD, {"lr": 0.1, "momentum": 0.9, "foreach": True}),
        (optim.SGD, {"lr": 0.1, "foreach": False}),
        (optim.AdamW, {"foreach": True}),
        (optim.AdamW, {"foreach": False}),
        (optim.AdamW, {"fused": True}),
        (optim.RMSprop, {"foreach": True}),
    ],
)
def test_a_schedule_of_rates_costs_no_graph_for_each(cls: Any, options: dict[str, Any]) -> None:
    schedules: dict[int, Any] = {}

    def make(parameters: list[nn.Parameter]) -> Any:
        made = cls(parameters, **options)
        schedules[id(made)] = optim.lr_scheduler.ExponentialLR(made, 0.9)
        return made

    counts = _beside_eager(make, after=lambda run: schedules[id(run.optimizer)].step())
    assert counts[-1] == counts[1] <= 2


def test_the_bound_method_is_optimized_too() -> None:
    eager, compiled = (_run(lambda parameters: optim.AdamW(parameters, foreach=True)) for _ in range(2))
    graphs = _Graphs()
    optimized = lampwork_capture.optimize(graphs, fullgraph=True)(compiled.optimizer.step)
    for number in range(_STEPS):
        for run, function in ((eager, eager.optimizer.step), (compiled, optimized)):
            _give_gradients(run, number)
            function()
    _assert_same(eager, compiled, exact=True)
    assert len(graphs.modules) == 2


def test_parameters_without_gradients_are_left_alone() -> None:
    counts = _beside_eager(
        lambda parameters: optim.AdamW(parameters, foreach=True),
        missing=lambda step: frozenset({1}) if step % 3 == 2 else frozenset(),
    )
    assert counts[-1] == 3


def test_the_default_form_of_adam_is_that_on_lists() -> None:
    run = _run(optim.AdamW)
    _give_gradients(run, 0)
    graphs = _Graphs()
    lampwork_capture.optimize(graphs)(run.optimizer.step)()
    called = [getattr(node.target, "__name__", "") for node in graphs.modules[0].graph.nodes]
    assert "_foreach_lerp_" in called and "lerp_" not in called


def test_groups_have_rates_of_their_own() -> None:
    def make(parameters: list[nn.Parameter]) -> Any:
        groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:], "weight_decay": 0.0}]
        return optim.AdamW(groups, foreach=True)

    assert _beside_eager(make)[-1] == 2


def test_hooks_of_steps_run() -> None:
    def make(parameters: list[nn.Parameter]) -> Any:
        made = optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=True)
        made.register_step_pre_hook(lambda optimizer, args, kwargs: _scale(parameters[0]))
        made.register_step_post_hook(lambda optimizer, args, kwargs: _scale(parameters[1]))
        return made

    assert _beside_eager(make)[-1] == 2


@torch.no_grad()
def _scale(parameter: nn.Parameter) -> None:
    parameter.mul_(0.9)


def test_gradients_are_clipped_in_the_same_graph() -> None:
    def clipped(run: _Run) -> None:
        nn.utils.clip_grad_norm_(run.parameters, 0.5)
        run.optimizer.step()

    assert _beside_eager(lambda parameters: optim.AdamW(parameters, foreach=True), clipped)[-1] == 2


@pytest.mark.parametrize("norm", [1.0, 2.0, math.inf])
def test_the_norm_of_gradients_of_several_dtypes(norm: float) -> None:
    def make() -> list[nn.Parameter]:
        dtypes = (torch.float32, torch.float64, torch.float32, torch.bfloat16)
        made = [nn.Parameter(torch.ones(5, dtype=dtype)) for dtype in dtypes]
        for index, parameter in enumerate(made):
            parameter.grad = torch.full_like(parameter, float(index + 1))
        return made

    def clip(parameters: list[nn.Parameter]) -> torch.Tensor:
        return nn.utils.clip_grad_norm_(parameters, 1.0, norm)

    eager, compiled = make(), make()
    expected = clip(eager)
    graphs = _Graphs()
    found = lampwork_capture.optimize(graphs, fullgraph=True)(clip)(compiled)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=0.0, atol=0.0)
    assert len(graphs.modules) == 1


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (optim.AdamW, {"foreach": False}),
        (optim.AdamW, {"fused": True}),
        (optim.SGD, {"foreach": True, "momentum": 0.9}),
        (optim.SGD, {"foreach": False}),
    ],
)
def test_a_rate_may_be_a_tensor(cls: Any, options: dict[str, Any]) -> None:
    def after(run: _Run) -> None:
        run.optimizer.param_groups[0]["lr"].mul_(0.9)

    counts = _beside_eager(
        lambda parameters: cls(parameters, lr=torch.tensor(0.01), **options), after=after, exact="fused" in options
    )
    assert counts[-1] <= 2


def test_gradients_are_dropped_behind_the_step() -> None:
    def step(run: _Run) -> None:
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.seen[:] = [str([parameter.grad for parameter in run.parameters])]

    # torch keeps `zero_grad` from its own capture once that was used: then the break is in another place
    counts = _beside_eager(lambda parameters: optim.AdamW(parameters, foreach=True), step)
    assert counts[-1] == counts[2] <= 3


def test_a_closure_is_evaluated_in_the_step() -> None:
    def step(run: _Run) -> None:
        def closure() -> torch.Tensor:
            for parameter in run.parameters:
                parameter.grad = None
            loss = torch.stack([(parameter * parameter).sum() for parameter in run.parameters]).sum()
            loss.backward()
            return loss

        run.optimizer.step(closure)

    counts = _beside_eager(lambda parameters: optim.AdamW(parameters, foreach=True), step)
    assert counts[-1] == counts[1]


def test_a_whole_step_of_training() -> None:
    def make() -> tuple[nn.Module, optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 2))
        return model, optim.AdamW(model.parameters(), lr=0.01, foreach=True)

    def train(model: nn.Module, optimizer: optim.Optimizer, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    graphs = _Graphs()
    optimized = lampwork_capture.optimize(graphs)(train)
    eager, compiled = make(), make()
    counts: list[int] = []
    for number in range(_STEPS):
        torch.manual_seed(number)
        x, y = torch.randn(3, 4), torch.randn(3, 2)
        expected, found = train(*eager, x, y), optimized(*compiled, x, y)
        torch.testing.assert_close(found, expected, rtol=0.0, atol=0.0)
        counts.append(len(graphs.modules))
    assert counts[1] == counts[-1] <= 4
    for a, b in zip(eager[0].parameters(), compiled[0].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.0)


def test_a_graph_break_that_the_program_asks_for_is_one() -> None:
    import torch._dynamo  # what programs written for torch's capture call

    def program(x: torch.Tensor) -> torch.Tensor:
        y = x + 1
        torch._dynamo.graph_break()
        return y * 2

    graphs = _Graphs()
    assert torch.equal(lampwork_capture.optimize(graphs)(program)(torch.ones(3)), torch.full((3,), 4.0))
    assert len(graphs.modules) == 2


def test_a_number_is_what_the_tensor_held_when_it_was_read() -> None:
    from torch.optim.optimizer import _get_value

    def program(count: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        number = _get_value(count) * 2
        count.add_(1)
        return x * number

    def eager(count: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        number = count.item() * 2
        count.add_(1)
        return x * number

    for start in (1.0, 5.0):
        counts = torch.tensor(start), torch.tensor(start)
        found = lampwork_capture.optimize(_Graphs())(program)(counts[0], torch.ones(3))
        torch.testing.assert_close(found, eager(counts[1], torch.ones(3)))
        assert torch.equal(*counts)
