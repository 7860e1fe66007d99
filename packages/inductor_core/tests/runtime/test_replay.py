"""Which graphs a device may replay, and how a compiled graph uses a replayer: on a device that only notes its calls."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lampwork_inductor_core import CompiledGraph, CompileOptions, Config, compile_graph
from lampwork_inductor_core.runtime.replay import LoadGiven, ReplayFacts, Replays, WrapperCall
from lampwork_inductor_core.schedule.new_values import NEW_VALUES


class NotingReplayer:
    """Runs the wrapper and counts."""

    def __init__(self, call: WrapperCall, facts: ReplayFacts, load_given: LoadGiven) -> None:
        self.call, self.facts, self.calls, self.invalidated = call, facts, 0, 0
        self.load_given = load_given
        self.notes: list[str] = []

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        self.calls += 1
        self.notes.append(f"call {self.calls}")
        return self.call(inputs)

    def invalidate(self) -> None:
        self.invalidated += 1


class Compiled:
    """A graph compiled for a device that replays, and the replayers that were made for it."""

    def __init__(
        self, interpreted: Any, graph: torch.fx.GraphModule, inputs: Sequence[Any], *, least: int = 1, **options: Any
    ) -> None:
        self.made: list[NotingReplayer] = []
        device = interpreted()
        device.replays = Replays("tape", least, self._make)
        self.graph = compile_graph(graph, inputs, options=CompileOptions(backends={"cpu": device}, **options))

    def _make(self, call: WrapperCall, facts: ReplayFacts, load_given: LoadGiven) -> NotingReplayer:
        self.made.append(NotingReplayer(call, facts, load_given))
        return self.made[-1]


def mlp(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return (x @ w).relu().sum(-1)


def test_the_first_call_runs_the_checked_wrapper_and_later_ones_the_replayer(interpreted: Any, aten: Any) -> None:
    inputs = (torch.randn(3, 4), torch.randn(4, 5))
    compiled = Compiled(interpreted, aten(mlp, *inputs), inputs, static_inputs=frozenset({1}))
    graph = compiled.graph
    assert graph.notes == ()
    torch.testing.assert_close(graph(*inputs)[0], mlp(*inputs))
    (replayer,) = compiled.made
    assert replayer.calls == 0
    torch.testing.assert_close(graph(*inputs)[0], mlp(*inputs))
    assert replayer.calls == 1 and graph.notes == ("call 1",)
    facts = replayer.facts
    assert (facts.static, facts.passing, facts.numbers, facts.symbolic) == ((1,), (0,), (), False)
    assert facts.device == torch.device("cpu") and facts.launches == 2 and facts.calls_operators
    assert facts.given == 1
    memory = torch.full((3,), float("nan"))
    (result,) = replayer.load_given()(inputs, lambda *_: memory)
    assert result is memory
    torch.testing.assert_close(memory, mlp(*inputs))
    graph.invalidate()
    assert replayer.invalidated == 1
    graph.run_owned(list(inputs))
    graph.run_owned(list(inputs))
    assert replayer.calls == 1


def test_a_dead_graph_lets_its_replayer_go_at_once(interpreted: Any, aten: Any) -> None:
    inputs = (torch.randn(3, 4), torch.randn(4, 5))
    compiled = Compiled(interpreted, aten(mlp, *inputs), inputs)
    compiled.graph(*inputs)
    alive = weakref.ref(compiled.made.pop())
    gc.disable()
    try:
        compiled.graph = None
        assert alive() is None
    finally:
        gc.enable()


def draws(x: torch.Tensor) -> torch.Tensor:
    return torch.bernoulli(x.sigmoid()) + 1


def reads_beyond(x: torch.Tensor) -> torch.Tensor:
    return torch.as_strided(x, (2, 2), (1, 1)) * 2


@pytest.mark.parametrize(
    ("function", "note"),
    [(draws, "bernoulli.* draws random numbers"), (reads_beyond, "addresses the memory around")],
)
def test_graphs_that_are_not_replayed_say_why(
    interpreted: Any, aten: Any, function: Callable[..., Any], note: str
) -> None:
    inputs = (torch.rand(4, 4),)
    compiled = Compiled(interpreted, aten(function, *inputs), inputs)
    _is_not_replayed(compiled, inputs, note)


def test_custom_operators_are_not_replayed(interpreted: Any, aten: Any) -> None:
    with torch.library._scoped_library("replay_test", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")
        inputs = (torch.rand(4, 4),)
        graph = aten(lambda x: torch.ops.replay_test.twice(x) + 1, *inputs)
        _is_not_replayed(Compiled(interpreted, graph, inputs), inputs, "replay_test.twice.* may do more")


def test_attention_without_dropout_draws_nothing(interpreted: Any, aten: Any) -> None:
    q = torch.randn(1, 2, 8, 16)
    operator = torch.ops.aten._scaled_dot_product_flash_attention.default
    assert torch.Tag.nondeterministic_seeded in operator.tags
    calls = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    for dropout, replayed in ((0.0, True), (0.5, False)):
        graph = aten(lambda q: calls(q, q, q)[0] + 1, q)
        (node,) = [n for n in graph.graph.nodes if n.target is calls]
        val = node.meta["val"]
        node.target, node.args = operator, (q_node := node.args[0], q_node, q_node, dropout)
        node.meta["val"] = (*val, None, None, None, None, None, None, None)[:9]
        compiled = Compiled(interpreted, graph, (q,))
        assert (compiled.graph.notes == ()) is replayed, compiled.graph.notes


def test_an_input_that_is_written_over_is_an_obstacle(interpreted: Any, aten: Any) -> None:
    def step(p: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor]:
        return (p - 0.1 * g,)

    inputs = (torch.rand(64), torch.rand(64))
    graph = aten(step, *inputs)
    assert Compiled(interpreted, graph, inputs).graph.notes == ()
    graph = aten(step, *inputs)
    graph.meta[NEW_VALUES] = {0: 0}
    _is_not_replayed(Compiled(interpreted, graph, inputs), inputs, "writes over its input")


def test_switched_off_training_and_few_launches(interpreted: Any, aten: Any) -> None:
    inputs = (torch.randn(3, 4), torch.randn(4, 5))
    graph = aten(mlp, *inputs)
    _is_not_replayed(Compiled(interpreted, graph, inputs, config=Config(replay=False)), inputs, "no tape: switched off")
    _is_not_replayed(Compiled(interpreted, graph, inputs, weights_change=True), inputs, "training")
    _is_not_replayed(Compiled(interpreted, graph, inputs, least=3), inputs, "with 2 launches")


def test_devices_that_do_not_replay_are_asked_nothing(interpreted: Any, aten: Any) -> None:
    inputs = (torch.randn(3, 4), torch.randn(4, 5))
    options = CompileOptions(backends={"cpu": interpreted()}, config=Config(replay=False))
    assert compile_graph(aten(mlp, *inputs), inputs, options=options).notes == ()


def _is_not_replayed(compiled: Compiled, inputs: Sequence[Any], note: str) -> None:
    assert isinstance(compiled.graph, CompiledGraph)
    compiled.graph(*(value.clone() for value in inputs))
    compiled.graph(*(value.clone() for value in inputs))
    assert compiled.made == []
    assert re.search(note, "\n".join(compiled.graph.notes)), compiled.graph.notes
