"""Floats among the inputs of a captured graph: symbols of the ATen graph, or a graph that is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import UnsupportedForAot, aot_backend
from torch import fx

aten = torch.ops.aten
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
FLOATS = [0.3 + 0.05 * k for k in range(12)]


class Keeping:
    """A compiler that keeps the graphs and runs them as they are; it refuses none."""

    def __init__(self) -> None:
        self.graphs: list[fx.GraphModule] = []

    def __call__(self, graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs.append(graph)
        return lambda *args: graph.forward(*args)


def targets(graph: fx.GraphModule) -> list[Any]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


def readers(graph: fx.GraphModule, name: str) -> list[Any]:
    """What reads an input."""
    return [user.target for n in graph.graph.nodes if n.op == "placeholder" and n.name == name for user in n.users]


def run(program: Callable[..., Any], *inputs: torch.Tensor) -> list[fx.GraphModule]:
    """The program on many floats, as eager runs it; the graphs that were made."""
    keeping = Keeping()
    optimized = lampwork_capture.optimize(aot_backend(keeping, refuse_numbers=True), fullgraph=True)(program)
    with torch.no_grad():
        for number in FLOATS:
            torch.testing.assert_close(optimized(*inputs, number), program(*inputs, number))
    return keeping.graphs


def test_a_float_that_varies_is_no_constant():
    graphs = run(lambda x, f: x * f, X)
    assert len(graphs) == 2 and readers(graphs[1], "f") == [aten.mul.Tensor]


def test_arithmetic_is_of_the_graph():
    _, graph = run(lambda x, f: x * math.sqrt(f * 2.0) + math.exp(-f), X)
    assert math.sqrt in targets(graph) and math.exp in targets(graph)


def test_numbers_of_sizes_and_floats_mix():
    graphs: Keeping = Keeping()
    optimized = lampwork_capture.optimize(aot_backend(graphs), dynamic=True, fullgraph=True)(
        lambda x, f: x * math.sqrt(f * x.shape[0])
    )
    with torch.no_grad():
        for number in FLOATS:
            for rows in (2, 3, 4):
                torch.testing.assert_close(optimized(X[:rows], number), X[:rows] * math.sqrt(number * rows))
    assert len(graphs.graphs) == 2


HANDED_ON: dict[str, Callable[..., Any]] = {
    "layer norm": lambda x, f: F.layer_norm(x, (6,), eps=f),
    "layer norm by position": lambda x, f: F.layer_norm(x, (6,), None, None, f),
    "group norm": lambda x, f: F.group_norm(x.view(1, 4, 6), 2, eps=f),
    "batch norm": lambda x, f: F.batch_norm(x, torch.zeros(6), torch.ones(6), eps=f),
    "statistics": lambda x, f: F.batch_norm(x, None, None, training=True, eps=f),
    "instance norm": lambda x, f: F.instance_norm(x.view(1, 4, 6), eps=f),
    "huber": lambda x, f: F.huber_loss(x, x + 1, delta=f),
    "smooth": lambda x, f: F.smooth_l1_loss(x, x + 1, beta=f),
    "attention": lambda x, f: F.scaled_dot_product_attention(*[x.view(1, 1, 4, 6)] * 3, scale=f),
    "twice": lambda x, f: F.layer_norm(x, (6,), eps=f) + F.layer_norm(x, (6,), eps=f * 2.0),
}


@pytest.mark.parametrize("name", HANDED_ON)
def test_c_numbers_keep_their_symbol(name):
    graphs = run(HANDED_ON[name], X)
    assert len(graphs) == 2 and readers(graphs[1], "f")


def outcome(program, *inputs):
    """What a program gives, or the error that it raises."""
    try:
        return program(*inputs)
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", [name for name in HANDED_ON if name != "twice"])
@pytest.mark.filterwarnings("ignore::lampwork_capture.aot.errors.RanEagerlyWarning")
def test_what_torch_refuses_of_them_raises_as_in_eager(name, monkeypatch):
    monkeypatch.setenv("LAMPWORK_STRICT", "0")
    program = HANDED_ON[name]
    optimized = lampwork_capture.optimize(
        lampwork_capture.with_number_variants(aot_backend(Keeping(), refuse_numbers=True), symbolic_numbers=True)
    )(program)
    with torch.no_grad():
        for number in (0.5, 0.3, -1.0, -2.0, math.nan, 0.0, -0.0, math.inf, -math.inf, 1e300, -0.25, 0.7):
            expected, found = outcome(program, X, number), outcome(optimized, X, number)
            if isinstance(expected, torch.Tensor):
                torch.testing.assert_close(found, expected, equal_nan=True)
            else:
                assert found == expected


FILLS: dict[str, Callable[..., Any]] = {
    "full": lambda x, f: torch.full((6,), f, dtype=x.dtype) + x,
    "full like": lambda x, f: torch.full_like(x, f),
    "new full": lambda x, f: x.new_full((2, 6), f),
    "masked fill": lambda x, f: x.masked_fill(x > 0, f),
    "pad": lambda x, f: F.pad(x, (1, 2), value=f),
    "of a product": lambda x, f: torch.full((6,), f * 2.0, dtype=x.dtype) * x,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("name", FILLS)
@pytest.mark.filterwarnings("ignore")  # what is refused runs as captured, and tells of that
def test_a_fill_that_does_not_fit_raises_behind_the_writes(name, dtype, monkeypatch):
    def program(x, f):
        x.add_(1)
        return FILLS[name](x, f)

    monkeypatch.setenv("LAMPWORK_STRICT", "0")
    keeping = Keeping()
    optimized = lampwork_capture.optimize(
        lampwork_capture.with_number_variants(aot_backend(keeping, refuse_numbers=True), symbolic_numbers=True)
    )(program)
    with torch.no_grad():
        for number in (0.5, 0.3, 0.25, 0.7, 1e300, math.inf, -1e300, 1e39, -math.inf, math.nan, 1e300, 7e4, 2.5):
            x, y = X.to(dtype, copy=True), X.to(dtype, copy=True)
            expected, found = outcome(program, x, number), outcome(optimized, y, number)
            torch.testing.assert_close(y, x)
            if isinstance(expected, torch.Tensor):
                torch.testing.assert_close(found, expected, equal_nan=True)
            else:
                assert found == expected
            if number == 0.7 and name != "pad":
                assert len(keeping.graphs) == 2


@pytest.mark.filterwarnings("ignore::lampwork_capture.aot.errors.RanEagerlyWarning")
def test_so_does_a_literal(monkeypatch):
    def program(x):
        x.add_(1)
        return torch.full((6,), 1e300) + x

    monkeypatch.setenv("LAMPWORK_STRICT", "0")
    x, y = X.clone(), X.clone()
    with torch.no_grad():
        found = outcome(lampwork_capture.optimize(aot_backend(Keeping()))(program), y)
        assert found == outcome(program, x)
    torch.testing.assert_close(y, x)


def test_a_graph_that_writes_nothing_asks_nothing():
    def program(x, f):
        return torch.full((6,), f) + x

    graph, inputs, env = graph_of(program, 0.25)
    before = env.scalar_facts
    with torch.no_grad():
        aot_backend(Keeping(), refuse_numbers=True)(graph, inputs)
    assert env.scalar_facts == before


def test_a_dropout_that_drops_nothing_reads_no_probability():
    _, graph = run(lambda x, f: F.dropout(x, f, training=False) * f + F.dropout(x, p=f, training=False), X)
    assert readers(graph, "f") == [aten.mul.Tensor]


def running_statistics(x: torch.Tensor, f: float) -> torch.Tensor:
    mean, var = torch.zeros(6), torch.ones(6)
    F.batch_norm(x, mean, var, training=True, momentum=f, eps=f * 2.0)
    return torch.stack([mean, var])


def test_two_floats_of_one_call_are_kept_apart():
    graphs = run(running_statistics, X)
    assert len(graphs) == 2 and readers(graphs[1], "f")


def graph_of(program: Callable[..., Any], number: float) -> tuple[fx.GraphModule, list[Any], Any]:
    """A captured graph with a float input, its example inputs, and the environment of its symbols."""
    seen: list[Any] = []

    def backend(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        seen.append((graph, inputs))
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(program)
    with torch.no_grad():
        for value in (number + 0.5, number):
            optimized(X, value)
    graph, inputs = seen[-1]
    symbol = next(n.meta["example_value"] for n in graph.graph.nodes if n.name == "f")
    return graph, inputs, symbol.node.shape_env


REFUSED: dict[str, tuple[Callable[..., Any], float]] = {
    "dropout": (lambda x, f: F.dropout(x, f, training=True), 0.25),
    "a root of the scale": (
        lambda x, f: F.scaled_dot_product_attention(*[x.double().view(1, 4, 6)] * 3, scale=f) * f, 0.25,
    ),
    "an epsilon of nothing": (lambda x, f: F.layer_norm(x, (6,), eps=f), 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", ["dropout", "an epsilon of nothing"])
def test_a_graph_that_asks_for_the_value_is_refused_and_leaves_no_fact(name):
    program, number = REFUSED[name]
    graph, inputs, env = graph_of(program, number)
    before = env.scalar_facts
    with torch.no_grad(), pytest.raises(UnsupportedForAot):
        aot_backend(Keeping(), refuse_numbers=True)(graph, inputs)
    assert env.scalar_facts == before


@pytest.mark.parametrize(
    "name, texts",
    [
        ("a root of the scale", ("F.scaled_dot_product_attention(scale=...)", "torch computes with it")),
        ("an epsilon of nothing", ("F.layer_norm(eps=...)", "because 0.0")),
    ],
)
def test_a_refusal_names_the_argument_and_the_line(name, texts):
    program, number = REFUSED[name]
    graph, inputs, _ = graph_of(program, number)
    with torch.no_grad(), pytest.raises(UnsupportedForAot) as raised:
        aot_backend(Keeping(), refuse_numbers=True)(graph, inputs)
    assert all(text in str(raised.value) for text in (*texts, "is compiled for each value", "hint:", __file__))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_right_for_all_values_all_the_same(name):
    program, _ = REFUSED[name]
    optimized = lampwork_capture.optimize(
        lampwork_capture.with_number_variants(aot_backend(Keeping(), refuse_numbers=True), symbolic_numbers=True)
    )(program)
    with torch.no_grad():
        for number in (0.5, 0.25, 0.125, 0.3):
            torch.manual_seed(0)
            actual = optimized(X, number)
            torch.manual_seed(0)
            torch.testing.assert_close(actual, program(X, number))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.complex64], ids=str)
def test_powers(dtype):
    x = (X.abs() + 1).to(dtype)
    optimized = lampwork_capture.optimize(
        lampwork_capture.with_number_variants(aot_backend(Keeping(), refuse_numbers=True), symbolic_numbers=True)
    )(lambda x, f: x**f)
    with torch.no_grad():
        for number in (2.5, 0.7, 1.3, 2.0, 3.0, 0.5, -0.5, 0.0):
            torch.testing.assert_close(optimized(x, number), x**number)
