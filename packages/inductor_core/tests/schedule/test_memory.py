"""The memory plan: no two live buffers in one place, nothing of the caller's overwritten, no peak above frugal."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lampwork_inductor_core.ir.buffer import ComputedBuffer, ExternBuffer, InputBuffer, Origin
from lampwork_inductor_core.ir.layout import Layout, contiguous_strides
from lampwork_inductor_core.ir.loop_body import LoopBody, ops
from lampwork_inductor_core.ir.loops import Pointwise
from lampwork_inductor_core.schedule.memory import StepAccess, plan
from lampwork_symshape import integer

CPU = torch.device("cpu")


def _layout(size: int, dtype: torch.dtype = torch.float32) -> Layout:
    sizes = (integer(size),)
    return Layout(CPU, dtype, sizes, contiguous_strides(sizes))


def _computed(name: str, size: int, dtype: torch.dtype = torch.float32) -> ComputedBuffer:
    body = LoopBody((), (), ops.constant(0.0, torch.float32))
    return ComputedBuffer(name, _layout(size, dtype), Pointwise((integer(size),), body), Origin(()))


def _extern(name: str, size: int, aliases: str | None = None) -> ExternBuffer:
    return ExternBuffer(name, _layout(size), None, (), {}, Origin(()), name, aliases=aliases)


@st.composite
def _programs(draw):
    """Steps that each write one or two buffers and read earlier ones."""
    buffers = {f"in{k}": InputBuffer(f"in{k}", _layout(8), k) for k in range(2)}
    steps: list[StepAccess] = []
    for number in range(draw(st.integers(1, 14))):
        known = sorted(buffers)
        reads = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        kind = draw(st.sampled_from(["kernel", "kernel", "kernel", "extern", "view"]))
        size = draw(st.sampled_from([8, 8, 16]))
        if kind == "kernel":
            names = [f"b{number}_{k}" for k in range(draw(st.integers(1, 2)))]
            dtype = draw(st.sampled_from([torch.float32, torch.float32, torch.int64]))
            buffers.update({n: _computed(n, size, dtype) for n in names})
            steps.append(StepAccess(tuple(reads), tuple(names)))
        else:
            name = f"e{number}"
            buffers[name] = _extern(name, size, reads[0] if kind == "view" else None)
            steps.append(StepAccess(tuple(reads), (), (name,)))
    made = [n for n in buffers if not n.startswith("in")]
    outputs = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))
    return buffers, steps, frozenset(outputs), draw(st.booleans())


def _memory_of(name, buffers, roots):
    """The identity of a buffer's memory: its root, with views followed to what they view."""
    while True:
        buffer = buffers[name]
        if isinstance(buffer, ExternBuffer) and buffer.aliases is not None:
            name = buffer.aliases
        elif roots.get(name, name) != name:
            name = roots[name]
        else:
            return name


def _related(a, b, buffers):
    def base(name):
        buffer = buffers[name]
        return base(buffer.aliases) if isinstance(buffer, ExternBuffer) and buffer.aliases is not None else name

    return base(a) == base(b)


@settings(max_examples=400, deadline=None)
@given(_programs())
def test_live_buffers_never_share_memory(program):
    buffers, steps, outputs, allow = program
    planned = plan(steps, buffers, outputs, lambda *_: allow)
    last = {name: len(steps) for name in outputs}
    for number, step in reversed(list(enumerate(steps))):
        for name in (*step.reads, *step.written, *step.made):
            last.setdefault(name, number)
    defined: set[str] = {n for n in buffers if n.startswith("in")}
    for number, step in enumerate(steps):
        placed = {p.name: p for p in planned.placements[number]}
        assert set(placed) == set(step.written)
        in_place = {p.source for p in placed.values() if p.in_place}
        assert len(in_place) == sum(p.in_place for p in placed.values()), "one source overwritten twice"
        for name, placement in placed.items():
            memory = _memory_of(name, buffers, planned.roots)
            assert not memory.startswith("in"), "an input is overwritten"
            if placement.source is not None:
                assert buffers[placement.source].layout == buffers[name].layout
            # all that is still needed, or is read by this very step, must lie elsewhere
            for other in (*defined, *step.written):
                needed = last.get(other, -1) > number or (other in step.reads and other not in in_place)
                if other != name and needed and not _related(other, name, buffers):
                    assert _memory_of(other, buffers, planned.roots) != memory, (number, name, other)
        defined |= {*step.written, *step.made}
        for name in planned.frees[number]:
            assert name not in outputs and last[name] == number


@settings(max_examples=200, deadline=None)
@given(_programs())
def test_reuse_does_not_raise_the_peak(program):
    buffers, steps, outputs, _ = program
    sizes = {n: b.layout.dtype.itemsize * int(b.layout.sizes[0]) for n, b in buffers.items()}
    frugal = plan(steps, buffers, outputs, lambda *_: False, reuse=False).peak_bytes(sizes)
    assert plan(steps, buffers, outputs, lambda *_: False).peak_bytes(sizes) <= frugal * 1.02


def test_a_chain_needs_two_buffers():
    buffers = {"in0": InputBuffer("in0", _layout(8), 0)}
    buffers |= {f"b{k}": _computed(f"b{k}", 8) for k in range(6)}
    steps = [StepAccess(("in0" if k == 0 else f"b{k - 1}",), (f"b{k}",)) for k in range(6)]
    planned = plan(steps, buffers, frozenset({"b5"}), lambda *_: False)
    assert sum(p.source is None for placed in planned.placements for p in placed) == 2


def test_a_chain_in_place_needs_one():
    buffers = {"in0": InputBuffer("in0", _layout(8), 0)}
    buffers |= {f"b{k}": _computed(f"b{k}", 8) for k in range(6)}
    steps = [StepAccess(("in0" if k == 0 else f"b{k - 1}",), (f"b{k}",)) for k in range(6)]
    planned = plan(steps, buffers, frozenset({"b5"}), lambda *_: True)
    assert [p.source for placed in planned.placements for p in placed] == [None, "b0", "b1", "b2", "b3", "b4"]


def test_a_viewed_buffer_is_left_alone():
    buffers = {"b0": _computed("b0", 8), "view": _extern("view", 8, "b0"), "b1": _computed("b1", 8)}
    steps = [StepAccess((), ("b0",)), StepAccess(("b0",), (), ("view",)), StepAccess(("view",), ("b1",))]
    planned = plan(steps, buffers, frozenset({"b1"}), lambda *_: True)
    assert all(p.source is None for placed in planned.placements for p in placed)
