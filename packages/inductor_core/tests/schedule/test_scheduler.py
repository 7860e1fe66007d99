"""Which nodes share a kernel, which may not, and how long that takes to find out."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.backend import Verdict
from lampwork_inductor_core.config import Config, ScheduleConfig
from lampwork_inductor_core.ir.buffer import ComputedBuffer, GraphOutput, InputBuffer, LoweredGraph, Origin
from lampwork_inductor_core.ir.layout import Layout, contiguous_strides
from lampwork_inductor_core.ir.loop_body import LoopBody, index_variable, ops
from lampwork_inductor_core.ir.loops import Pointwise
from lampwork_inductor_core.schedule.dependencies import ScheduleError
from lampwork_inductor_core.schedule.scheduler import schedule, step_reads, step_writes
from lampwork_symshape import integer

CPU = torch.device("cpu")


def pointwise(name: str, reads: list[str], sizes: tuple[int, ...] = (64,), *, shift: int = 0) -> ComputedBuffer:
    """A buffer that adds up the same element (or a neighbour) of others."""
    exprs = tuple(integer(s) for s in sizes)
    layout = Layout(CPU, torch.float32, exprs, contiguous_strides(exprs))
    variables = tuple(index_variable(k, s) for k, s in enumerate(exprs))
    index = layout.index(variables)
    value = ops.constant(1.0, torch.float32)
    for read in reads:
        value = ops.add(
            value, ops.load(read, (index + shift) % layout.element_count if shift else index, torch.float32)
        )
    return ComputedBuffer(name, layout, Pointwise(exprs, LoopBody(variables, (), value)), Origin((name,)))


def graph_of(*buffers: ComputedBuffer, outputs: tuple[str, ...]) -> LoweredGraph:
    layout = buffers[0].layout
    x = InputBuffer("x", layout, 0)
    return LoweredGraph((x, *buffers), tuple(GraphOutput(o, layout) for o in outputs))


def groups(graph: LoweredGraph, config: ScheduleConfig | None = None, can_fuse=None) -> list[set[str]]:
    return [set(step_writes(step)) for step in schedule(graph, config or ScheduleConfig(), can_fuse).steps]


def check_order(graph: LoweredGraph, config: ScheduleConfig) -> int:
    done = {"x"}
    steps = schedule(graph, config).steps
    for step in steps:
        assert set(step_reads(step)) <= done, f"{step_writes(step)} runs before what it reads"
        done |= set(step_writes(step))
    return len(steps)


def test_producer_and_consumers_fuse():
    graph = graph_of(pointwise("a", ["x"]), pointwise("b", ["a"]), pointwise("c", ["a", "b"]), outputs=("a", "c"))
    assert groups(graph) == [{"a", "b", "c"}]


def test_a_shifted_read_keeps_two_kernels():
    graph = graph_of(pointwise("a", ["x"]), pointwise("b", ["a"], shift=1), outputs=("a", "b"))
    assert groups(graph) == [{"a"}, {"b"}]


def test_no_cycle_through_a_third_node():
    """a -> m -> c and a -> c, where m cannot join: a and c must stay apart."""
    graph = graph_of(pointwise("a", ["x"]), pointwise("m", ["a"], shift=1), pointwise("c", ["a", "m"]), outputs=("c",))
    found = groups(graph)
    assert {"a"} in found and not any({"a", "c"} <= group for group in found)
    check_order(graph, ScheduleConfig())


def test_a_device_may_refuse():
    graph = graph_of(pointwise("a", ["x"]), pointwise("b", ["a"]), outputs=("a", "b"))
    assert groups(graph, can_fuse=lambda a, b: Verdict(False, "not today")) == [{"a"}, {"b"}]
    assert "not today" in schedule(graph, ScheduleConfig(), lambda a, b: Verdict(False, "not today")).refusals[0]


def test_dead_nodes_are_dropped():
    graph = graph_of(pointwise("a", ["x"]), pointwise("dead", ["x"]), outputs=("a",))
    assert groups(graph) == [{"a"}]


def test_reading_what_is_defined_later_is_refused():
    graph = graph_of(pointwise("b", ["a"]), pointwise("a", ["x"]), outputs=("a", "b"))
    with pytest.raises(ScheduleError, match="defined later"):
        schedule(graph, ScheduleConfig())


def test_limits_hold():
    nodes = [pointwise(f"n{k}", ["x" if k == 0 else f"n{k - 1}"]) for k in range(40)]
    graph = graph_of(*nodes, outputs=tuple(n.name for n in nodes))
    assert max(len(g) for g in groups(graph, ScheduleConfig(max_fused=8))) <= 8


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_stay_acyclic(seed):
    rng = random.Random(seed)
    names = ["x"]
    nodes = []
    for k in range(60):
        reads = rng.sample(names[-12:], rng.randrange(1, min(3, len(names[-12:])) + 1))
        nodes.append(pointwise(f"n{k}", reads, shift=rng.choice([0, 0, 0, 1])))
        names.append(f"n{k}")
    graph = graph_of(*nodes, outputs=tuple(rng.sample(names[1:], 4)))
    steps = check_order(graph, ScheduleConfig(max_fused=rng.choice([4, 64])))
    assert steps < 60


def random_graph(count: int) -> LoweredGraph:
    rng = random.Random(0)
    nodes = []
    for k in range(count):
        reads = [f"n{rng.randrange(max(0, k - 8), k)}" if k else "x" for _ in range(2)]
        nodes.append(pointwise(f"n{k}", sorted(set(reads)), shift=k % 5 == 0))
    return graph_of(*nodes, outputs=(f"n{count - 1}", f"n{count - 2}", f"n{count // 2}"))


def python_calls(work: Callable[[], object]) -> int:
    """How many Python functions `work` calls: effort that does not depend on the machine."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_effort_is_linear_in_the_number_of_nodes():
    small, large = random_graph(250), random_graph(1000)
    for graph in (small, large):
        schedule(graph, ScheduleConfig())  # expressions and substitutions are remembered
    few, many = (python_calls(lambda g=g: schedule(g, ScheduleConfig())) for g in (small, large))
    assert many < 6 * few, (few, many)


# --------------------------------------------------------------------------------------- on programs from the lowering


def kernels_of(compiled) -> int:
    return compiled.artifacts.stages["schedule"].count("kernel over")


def test_two_reductions_of_one_input_fuse(compile_interpreted):
    x = torch.randn(64, 32)
    compiled, _ = compile_interpreted(lambda v: (v.sum(-1), v.amax(-1)), [x])
    assert kernels_of(compiled) == 1


def test_prologue_and_epilogue_join_a_reduction(compile_interpreted):
    x, y = torch.randn(64, 32), torch.randn(64, 32)

    def f(a, b):
        s = torch.exp(a)
        total = s.sum(-1, keepdim=True)
        return s / total * b, torch.log(total)

    compiled, _ = compile_interpreted(f, [x, y])
    assert kernels_of(compiled) == 1
    for mine, eager in zip(compiled(x, y), f(x, y), strict=True):
        torch.testing.assert_close(mine, eager)


def test_another_shape_of_the_same_points_joins(compile_interpreted):
    """(B, S, D) and (B * S, D) are the same loops."""
    x, w = torch.randn(2, 8, 16), torch.randn(16)

    def f(a, scale):
        y = torch.exp(a)
        return F.layer_norm(y.view(16, 16), (16,), scale), y

    compiled, _ = compile_interpreted(f, [x, w])
    assert kernels_of(compiled) == 1
    for mine, eager in zip(compiled(x, w), f(x, w), strict=True):
        torch.testing.assert_close(mine, eager)


def test_few_long_rows_stay_apart(compile_interpreted):
    x = torch.randn(2, 100_000)

    def f(a):
        y = torch.exp(a)
        return y, y.sum(-1)

    compiled, _ = compile_interpreted(f, [x], config=Config())
    assert kernels_of(compiled) == 2


def test_externs_split_kernels(compile_interpreted):
    x = torch.randn(16, 16)
    compiled, _ = compile_interpreted(lambda a: ((a.exp() @ a).relu() + 1,), [x])
    text = compiled.artifacts.stages["schedule"]
    assert kernels_of(compiled) == 2 and text.count("extern") == 1


def test_random_calls_keep_their_order(compile_interpreted):
    """Eager draws the small numbers first; so must we, whatever order would need less memory."""

    def f(a):
        first = torch.rand(256, 64)
        second = torch.rand(2)
        third = torch.bernoulli(a.sigmoid())
        return second.sum(), (first * third.sum()).sum(0)

    x = torch.randn(64, 64)
    compiled, _ = compile_interpreted(f, [x])
    compiled(x)
    torch.manual_seed(7)
    expected = f(x)
    torch.manual_seed(7)
    for mine, eager in zip(compiled(x), expected, strict=True):
        torch.testing.assert_close(mine, eager)


def test_reductions_over_nothing(aten, interpreted):
    """Nothing of an empty tensor may be read, not even by what does not change in a loop."""
    x, y, index = torch.randn(4, 0), torch.randn(0, 4), torch.empty(0, dtype=torch.int64)

    def f(a, b, i):
        base = torch.ones(4, 3)
        return (a * 2 + 1).sum(1), b.exp().sum(), (b > 0).all(0), torch.cumsum(a, 1), base.index_add(0, i, b[:, :3])

    options = CompileOptions(backends={"cpu": interpreted()}, config=Config(lower_scatter=True))
    compiled = compile_graph(aten(f, x, y, index), [x, y, index], options=options)
    for _ in range(2):
        for mine, eager in zip(compiled(x, y, index), f(x, y, index), strict=True):
            torch.testing.assert_close(mine, eager)


def test_empty_tensors(compile_interpreted):
    x = torch.randn(0, 8)
    compiled, _ = compile_interpreted(lambda a: (a + 1, a.sum(0), a.sum(1)), [x])
    for mine, eager in zip(compiled(x), (x + 1, x.sum(0), x.sum(1)), strict=True):
        torch.testing.assert_close(mine, eager)


def test_scatter_leaves_its_source_alone(compile_interpreted):
    x, index = torch.randn(8, 4), torch.tensor([0, 2, 2, 7])

    def f(a, i):
        base = a * 2
        return base.index_add(0, i, torch.ones(4, 4)), base, torch.zeros(8, 4).index_add(0, i, a[:4])

    compiled, _ = compile_interpreted(f, [x, index], config=Config(lower_scatter=True))
    for _ in range(2):
        for mine, eager in zip(compiled(x, index), f(x, index), strict=True):
            torch.testing.assert_close(mine, eager)
