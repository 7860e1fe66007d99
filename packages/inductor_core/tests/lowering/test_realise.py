"""When a value gets a buffer of its own, and that lowering stays linear."""

from __future__ import annotations

import torch
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.ir import loop_body
from lampwork_inductor_core.ir.buffer import ComputedBuffer, ExternBuffer
from lampwork_inductor_core.ir.loop_body import walk
from lampwork_inductor_core.lowering.graph import lower
from torch.fx.experimental.proxy_tensor import make_fx


def computed(lowered):
    return [b for b in lowered.buffers if isinstance(b, ComputedBuffer)]


def chain(length):
    def function(x):
        for k in range(length):
            x = torch.sin(x) if k % 2 else x + 0.5
        return x

    return function


def test_a_long_chain_is_one_buffer(lowers_as_eager):
    lowered = lowers_as_eager(chain(200), torch.randn(7))
    assert len(computed(lowered)) == 1


def test_a_chain_takes_linear_work(monkeypatch):
    made = []
    original = loop_body._intern
    monkeypatch.setattr(loop_body, "_intern", lambda key, make: made.append(key) or original(key, make))
    counts = {}
    for length in (250, 1000):
        graph = make_fx(chain(length), tracing_mode="fake")(torch.randn(7))
        made.clear()
        lowered = lower(graph, config=Config())
        counts[length] = len(made)
        assert len(list(walk(computed(lowered)[0].loops.body.value))) <= 2 * length
    assert counts[1000] <= 4.5 * counts[250]


def test_a_chain_through_views_takes_linear_work(monkeypatch):
    def function(x):
        for _ in range(300):
            x = torch.sin(x).t() + 1
        return x

    made = []
    original = loop_body._intern
    monkeypatch.setattr(loop_body, "_intern", lambda key, make: made.append(key) or original(key, make))
    lower(make_fx(function, tracing_mode="fake")(torch.randn(4, 4)), config=Config())
    assert len(made) < 300 * 4 * 70


def test_cheap_values_are_recomputed(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: [(x + 1).sum(0), (x + 1) * 2], torch.randn(4, 5))
    shared = lowers_as_eager(lambda x: [(y := x + 1).sum(0), y * 2], torch.randn(4, 5))
    assert len(computed(lowered)) == len(computed(shared)) == 2


def test_dear_values_with_two_users_are_stored_once(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: [(y := torch.exp(x)).sum(0), y * 2], torch.randn(4, 5))
    exponentials = [
        b for b in computed(lowered) if any(getattr(n, "op", "") == "exp" for n in walk(b.loops.body.value))
    ]
    assert len(exponentials) == 1


def test_dear_values_are_not_repeated_by_a_broadcast(lowers_as_eager):
    lowered = lowers_as_eager(lambda x, y: torch.exp(x) + y, torch.randn(4, 1), torch.randn(4, 8))
    sizes = {b.name: [int(s) for s in b.layout.sizes] for b in computed(lowered)}
    assert sorted(sizes.values()) == [[4, 1], [4, 8]]


def test_many_reads_are_split(lowers_as_eager):
    inputs = [torch.randn(5) for _ in range(30)]
    lowered = lowers_as_eager(lambda *xs: sum(xs), *inputs)
    assert all(len({r.buffer for r in b.loops.body.reads()}) <= 9 for b in computed(lowered))


def test_extern_inputs_have_eagers_strides(lowers_as_eager):
    lowered = lowers_as_eager(lambda x, y: torch.mm((x + 1).t(), y), torch.randn(4, 3), torch.randn(4, 5))
    (call,) = (b for b in lowered.buffers if isinstance(b, ExternBuffer))
    assert [int(s) for s in call.arguments[0].layout.strides] == [1, 3]
    assert call.out_variant is torch.ops.aten.mm.out


def test_dead_values_are_not_computed(lowers_as_eager):
    def function(x):
        torch.exp(x).sum()
        return x + 1

    assert len(computed(lowers_as_eager(function, torch.randn(3)))) == 1
