"""Results that a recording writes into memory of its own: they never change while anybody holds them, in any way."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from fake_recording_device import FakeDevice
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_core.runtime.replay import ReplayFacts, Replays, ResultMemory
from lampwork_inductor_gpu import recording
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.cuda_graphs import NOUN, CudaGraphs
from lampwork_inductor_gpu.device import H100
from torch.fx.experimental.proxy_tensor import make_fx

Given = Callable[[Sequence[Any], ResultMemory], list[Any]]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_result_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_SMALL", 0)


def fresh(
    _number: int, sizes: Sequence[int], strides: Sequence[int], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Memory as the plain wrapper makes it."""
    return torch.empty_strided(sizes, strides, dtype=dtype, device=device)


class Program:
    """A wrapper of two forms, in front of it CUDA graphs on a fake device. Calls are compared with the plain form, and
    so is every result of an earlier call that is still held."""

    def __init__(self, given: Given, passing: int = 1, static: int = 1, **changes: Any) -> None:
        self.given, self.plain_runs, self.device = given, 0, FakeDevice()
        values: dict[str, Any] = {
            "device": CPU,
            "input_count": passing + static,
            "static": tuple(range(passing, passing + static)),
            "passing": tuple(range(passing)),
            "numbers": (),
            "symbolic": False,
            "launches": 1,
            "calls_operators": True,
            "given": 1,
        }
        self.facts = ReplayFacts(**{**values, **changes})
        self.graphs = CudaGraphs(self._plain, self.facts, self.device, lambda: given)
        self.held: list[tuple[weakref.ref[torch.Tensor], torch.Tensor]] = []

    def _plain(self, inputs: Sequence[Any]) -> list[Any]:
        self.plain_runs += 1
        return self.given(inputs, fresh)

    def __call__(self, *inputs: Any) -> list[Any]:
        with torch.no_grad():
            found, wanted = self.graphs(inputs), self.given(inputs, fresh)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            assert torch.equal(one, other) and one.dtype is other.dtype
            assert one.stride() == other.stride() and one.storage_offset() == other.storage_offset()
            assert one.untyped_storage().nbytes() == other.untyped_storage().nbytes()
            assert type(one) is type(other) and one.is_inference() == other.is_inference()
            assert one.requires_grad == other.requires_grad
        shared = [[a.untyped_storage()._cdata == b.untyped_storage()._cdata for a in found] for b in found]
        assert shared == [[a.untyped_storage()._cdata == b.untyped_storage()._cdata for a in wanted] for b in wanted]
        del wanted
        self.check()
        self.held.extend((weakref.ref(one), one.clone()) for one in found)
        return found

    def check(self) -> None:
        """Whatever is held is what it was."""
        for reference, copy in self.held:
            one = reference()
            assert one is None or torch.equal(one, copy)

    def forget(self) -> None:
        """Results that are going to be written."""
        self.held.clear()


def linear(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
    x, w = inputs
    out = memory(0, (3, 5), (5, 1), torch.float32, CPU)
    return [torch.mm(x, w, out=out)]


def several(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
    """Two results in memory that is brought, one of them read again and written over a dead value; a view; a result
    in memory of its own."""
    x, w = inputs
    first = memory(0, (3, 5), (5, 1), torch.float32, CPU)
    torch.mm(x, w, out=first)
    second = memory(1, (5, 3), (1, 5), torch.float32, CPU)
    second.copy_(first.t())
    over = second.relu_()
    return [first, over, over[1:, ::2], (over.t() @ w.t()).softmax(-1), x, w[1]]


def x_() -> torch.Tensor:
    return torch.randn(3, 4)


def w_() -> torch.Tensor:
    return torch.randn(4, 5)


def storages(results: Sequence[torch.Tensor]) -> set[int]:
    return {result.untyped_storage()._cdata for result in results}


def test_the_usual_loop_has_two_recordings_that_alternate() -> None:
    program, w, result = Program(linear), w_(), None
    seen: list[int] = []
    for number in range(10):
        (result,) = program(x_(), w)
        seen.append(result.data_ptr())
        assert program.device.replays == number + 1
    assert program.graphs.recordings == program.device.recorded == 2
    assert len(set(seen)) == 2 and all(a != b for a, b in itertools.pairwise(seen))
    assert program.graphs.notes == ()


def test_results_that_are_let_go_need_one_recording() -> None:
    program, w = Program(linear), w_()
    for number in range(5):
        program(x_(), w)
        assert program.device.replays == number + 1
    assert program.graphs.recordings == 1


def test_nothing_is_copied_out() -> None:
    program, w = Program(linear), w_()
    (result,) = program(x_(), w)
    (memory,) = next(iter(program.graphs._recordings.values()))._given[0]._given
    assert result.data_ptr() == memory.tensor.data_ptr() and result is not memory.tensor


def test_results_kept_for_ever_are_copies_from_the_third_on() -> None:
    program, w = Program(linear), w_()
    kept = [program(x_(), w)[0] for _ in range(12)]
    program.check()
    assert program.device.recorded == 3 and program.device.replays == 12 and program.graphs.notes == ()
    assert len({result.data_ptr() for result in kept}) == 12


def test_results_too_large_to_copy_are_the_wrappers_while_two_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lampwork_inductor_gpu.cuda_graphs._COPIED_PER_LAUNCH", 50)  # the input has 48
    program, w = Program(linear), w_()
    kept = [program(x_(), w)[0] for _ in range(6)]
    assert program.device.replays == 2 and program.plain_runs >= 4
    assert len(program.graphs.notes) == 2 and all("held" in note for note in program.graphs.notes)
    recorded = program.device.recorded
    del kept[1]
    kept.append(program(x_(), w)[0])
    assert program.device.replays == 3
    kept.clear()
    for _ in range(3):
        program(x_(), w)
    assert program.device.replays == 6 and program.device.recorded == recorded == 2
    assert len(program.graphs.notes) == 2


HOLDS: dict[str, Callable[[torch.Tensor], Any]] = {
    "itself": lambda r: r,
    "row": lambda r: r[1],
    "slice": lambda r: r[:, 1:3],
    "detached": lambda r: r.detach(),
    "data": lambda r: r.data,
    "array": lambda r: r.numpy(),
    "dlpack": torch.utils.dlpack.to_dlpack,
    "storage": lambda r: r.untyped_storage(),
    "other dtype": lambda r: r.view(torch.int32),
    "empty view": lambda r: r[3:],
    "saved": lambda r: torch.ones(3, 5, requires_grad=True) * r,
    "in a closure": lambda r: lambda: r,
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=list(HOLDS))
def test_memory_is_not_written_however_it_is_held(hold: Callable[[torch.Tensor], Any]) -> None:
    program, w = Program(linear), w_()
    (result,) = program(x_(), w)
    memory, copy = weakref.ref(result), result.clone()
    address = result.data_ptr()
    with torch.enable_grad():
        holder = hold(result)
    raw = result.numpy()  # holds it too, so it goes before the calls
    del raw, result
    others = {program(x_(), w)[0].data_ptr() for _ in range(4)}
    assert address not in others
    if memory() is not None:
        assert torch.equal(memory(), copy)
    del holder
    assert address in {program(x_(), w)[0].data_ptr() for _ in range(2)}


def test_the_value_of_what_is_held() -> None:
    program, w = Program(linear), w_()
    (result,) = program(x_(), w)
    copy = result.clone()
    array, row, alias = result.numpy(), result[1], result.detach()
    capsule = torch.utils.dlpack.to_dlpack(result.detach())
    del result
    for _ in range(5):
        program(x_(), w)
    through = torch.utils.dlpack.from_dlpack(capsule)
    assert torch.equal(torch.from_numpy(array), copy) and torch.equal(row, copy[1]) and torch.equal(alias, copy)
    assert torch.equal(through, copy)


def test_autograd_saves_results() -> None:
    program, w = Program(linear), w_()
    p = torch.ones(3, 5, requires_grad=True)
    wanted = torch.zeros(3, 5)
    total: Any = 0
    for _ in range(5):
        result = program(x_(), w)[0]
        wanted += result
        total = total + (p * result).sum()
        del result
    total.backward()
    torch.testing.assert_close(p.grad, wanted)


def test_results_are_let_go_in_any_order() -> None:
    program, w, chance = Program(several), w_(), random.Random(3)
    kept: list[Any] = []
    for _ in range(150):
        kept.extend(program(x_(), w)[:4])
        while kept and chance.random() < 0.75:
            del kept[chance.randrange(len(kept))]
        program.check()
    assert program.device.replays == 150 and program.device.recorded == 3


def test_a_user_writes_into_results() -> None:
    program, w, x = Program(several), w_(), x_()
    found = program(x, w)
    program.forget()
    found[0].fill_(7)
    found[1].zero_()
    assert bool((found[2] == 0).all())  # they share memory, as the wrapper's do
    again = program(x, w)
    for _ in range(3):
        program(x, w)
    assert bool((found[0] == 7).all()) and bool((found[1] == 0).all())
    assert not storages(found[:4]) & storages(again[:4])


def test_versions_are_the_callers_own() -> None:
    program, w = Program(linear), w_()
    for _ in range(4):
        (result,) = program(x_(), w)
        assert result._version == 0 and not result._is_view() and result.is_leaf
        program.forget()
        result.add_(1)
        assert result._version == 1
        del result


def test_results_that_share_memory_share_their_version() -> None:
    program, w = Program(several), w_()
    _, over, part, *_ = program(x_(), w)
    before = part._version
    program.forget()
    over.add_(1)
    assert part._version == before + 1


def test_a_caller_changes_the_sizes_of_a_result() -> None:
    program, w = Program(linear), w_()
    for change in (
        lambda r: r.t_(),
        lambda r: r.unsqueeze_(0),
        lambda r: r.set_(torch.ones(2)),
        lambda r: r.resize_(2),
    ):
        (result,) = program(x_(), w)
        program.forget()
        change(result)
        result.requires_grad_()
        del result
    assert program.device.recorded == 1 and program.device.replays == 4


@pytest.mark.parametrize("count", [0, 4, 15 * 4, 1000])
def test_a_caller_that_resizes_the_memory_of_a_result_gets_copies_from_then_on(count: int) -> None:
    program, w = Program(linear), w_()
    (result,) = program(x_(), w)
    program.forget()
    result.untyped_storage().resize_(count)
    for number in range(4):
        program(x_(), w)
        if number == 1:
            del result
    assert program.device.replays == 5
    alternates = next(iter(program.graphs._recordings.values()))
    kept = [program(x_(), w)[0] for _ in range(4)]
    assert alternates._copying is not None and len(alternates._given) == 1 and len(storages(kept)) == 4


def test_results_of_library_calls_beside_given_ones() -> None:
    def both(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
        x, w = inputs
        out = torch.mm(x, w, out=memory(0, (3, 5), (5, 1), torch.float32, CPU))
        values, order = out.sort(-1)
        return [values, out, order[1:], order, out.sum()]

    program, w = Program(both), w_()
    kept: list[torch.Tensor] = []
    for _ in range(8):
        kept = program(x_(), w)
    assert program.device.replays == 8 and program.device.recorded == 2
    kept[0].zero_()
    assert torch.equal(kept[1], kept[1].clone())


def test_results_in_one_memory() -> None:
    def halves(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
        x, w = inputs
        out = torch.mm(x, w, out=memory(0, (3, 5), (5, 1), torch.float32, CPU))
        return [out[0], out, out, out[1:].t(), out.view(15)[::3]]

    program, w = Program(halves), w_()
    for _ in range(6):
        found = program(x_(), w)
        assert found[1] is found[2]
        program.forget()
        found[1].fill_(3)
        assert all(bool((part == 3).all()) for part in found)
        row = found[0]
        del found
        program(x_(), w)
        assert bool((row == 3).all())
    assert program.device.recorded == 2


def test_a_single_result_that_is_a_part_of_its_memory() -> None:
    def part(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
        x, w = inputs
        out = torch.mm(x, w, out=memory(0, (3, 5), (5, 1), torch.float32, CPU))
        return [out[1:, 2:]]

    program, w, kept = Program(part), w_(), None
    for _ in range(6):
        (kept,) = program(x_(), w)
    assert program.device.replays == 6 and program.device.recorded == 2 and kept is not None


def test_empty_results_and_memory_that_no_result_lies_in() -> None:
    def odd(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
        x, w = inputs
        empty = memory(0, (0, 5), (5, 1), torch.float32, CPU)
        out = torch.mm(x, w, out=memory(1, (3, 5), (5, 1), torch.float32, CPU))
        return [empty, out.clone(), empty[:, 1:]]

    program, w, kept = Program(odd), w_(), None
    for _ in range(6):
        kept = program(x_(), w)
    assert program.device.replays == 6 and kept is not None
    program.forget()
    kept[0].resize_(4).fill_(1)
    again = program(x_(), w)[0].resize_(4).fill_(2)
    assert kept[0].tolist() == [1.0] * 4 and again.tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        (lambda m: [m.view(torch.int32)], "another dtype"),
        (lambda m: [m, m.view(torch.int32)], "another dtype"),
    ],
)
def test_results_seen_as_another_dtype_are_the_wrappers(wrapper: Callable[..., list[Any]], reason: str) -> None:
    def seen(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
        return wrapper(torch.mm(*inputs, out=memory(0, (3, 5), (5, 1), torch.float32, CPU)))

    program, w = Program(seen), w_()
    for _ in range(3):
        program(x_(), w)
    assert program.device.replays == 0 and reason in program.graphs.notes[0]


def test_small_results_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_SMALL", 60)
    program, w = Program(linear), w_()
    kept = [program(x_(), w)[0] for _ in range(5)]
    assert program.device.recorded == 1 and program.device.replays == 5 and len(storages(kept)) == 5


def test_inference_mode_and_back() -> None:
    program, w, kept = Program(several), w_(), []
    for number in range(8):
        with torch.inference_mode(number % 2 == 0):
            kept = program(x_(), w)
    assert program.device.recorded == 2 and len(kept) == 6


def test_each_stream_has_recordings_of_its_own() -> None:
    program, w = Program(linear), w_()
    for _ in range(3):
        for stream in (0, 1):
            program.device.current = stream
            program(x_(), w)
    assert program.device.recorded == 2 and program.device.replays == 6 and program.device.moved == 0
    for stream in range(6):
        program.device.current = stream
        program(x_(), w)
    assert program.device.recorded <= 5  # two a stream, four in all, and one that copies


def test_memory_is_bounded() -> None:
    program, w = Program(linear), w_()
    program.device.limit = 2 * (48 + 60) - 1
    kept = [program(x_(), w)[0] for _ in range(4)]
    assert program.device.held == 48 + 60 and program.device.replays == 1 and kept
    assert "used up" in program.graphs.notes[0]
    program.graphs.invalidate()
    assert program.device.held == 0 and program.graphs.recordings == 0
    program.check()


def test_invalidated_recordings_leave_their_results() -> None:
    program, w = Program(linear), w_()
    kept: list[torch.Tensor] = []
    for _ in range(6):
        kept.extend(program(x_(), w))
        program.graphs.invalidate()
    program.check()
    assert program.graphs._last is None and len(storages(kept)) == 6


def test_memory_goes_with_the_graph_and_results_stay() -> None:
    device, w = FakeDevice(), w_()
    values = Program(linear).facts
    graphs = CudaGraphs(lambda inputs: linear(inputs, fresh), values, device, lambda: linear)
    with torch.no_grad():
        x = x_()
        (kept,) = graphs([x, w])
    memory = weakref.ref(next(iter(graphs._recordings.values()))._given[0]._given[0])
    gc.disable()
    try:
        del graphs
        assert memory() is None and device.held == 0
    finally:
        gc.enable()
    assert torch.equal(kept, x @ w)


@pytest.mark.parametrize("at", [1, 2])
def test_an_error_while_recording(at: int) -> None:
    program, w = Program(linear), w_()
    kept = [program(x_(), w)[0] for _ in range(at - 1)]
    program.device.failure = RuntimeError("no capture now")
    for _ in range(3):
        kept.extend(program(x_(), w))
    program.check()
    assert program.device.replays == at - 1 and program.graphs.notes == (
        f"no {NOUN}: recording failed: no capture now",
    )
    assert program.device.begin(), "the turn was not given back"


def test_an_interrupt_between_replay_and_results(monkeypatch: pytest.MonkeyPatch) -> None:
    program, w = Program(linear), w_()
    program(x_(), w)
    (given,) = next(iter(program.graphs._recordings.values()))._given

    class Interrupts:
        def replay(self) -> None:
            raise KeyboardInterrupt

    tape, given._tape = given._tape, Interrupts()
    with pytest.raises(KeyboardInterrupt):
        program(x_(), w)
    given._tape = tape
    for _ in range(3):
        program(x_(), w)
    assert program.device.recorded == 1


def test_results_that_are_the_next_inputs() -> None:
    def step(inputs: Sequence[Any], memory: ResultMemory) -> list[Any]:
        x, w = inputs
        return [torch.mm(x, w, out=memory(0, (3, 4), (4, 1), torch.float32, CPU)), x]

    program, w, x = Program(step), torch.randn(4, 4) / 2, torch.randn(3, 4)
    wanted = x
    for _ in range(8):
        (x, before), wanted = program(x, w), wanted @ w
        assert torch.equal(x, wanted) and before is not x
    assert program.device.replays == 8 and program.device.recorded == 3  # two are held, `before` among them


def test_parameters_that_move_are_noticed_at_once() -> None:
    program, w = Program(linear), torch.nn.Parameter(w_())
    kept: list[torch.Tensor] = []
    for number in range(20):
        kept = program(x_(), w)
        if number % 5 == 4:
            w.data = w_()
        elif number % 5 == 2:
            with torch.no_grad():
                w.mul_(2)
    assert kept and program.device.replays > 8


def test_threads() -> None:
    program, w = Program(linear), w_()
    program(x_(), w)
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        chance = random.Random(seed)
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        try:
            for _ in range(300):
                x = x_()
                with torch.no_grad():
                    kept.append((program.graphs([x, w])[0], x @ w))
                while kept and chance.random() < 0.6:
                    del kept[chance.randrange(len(kept))]
                for result, copy in kept:
                    assert torch.equal(result, copy)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert program.device.replays > 20  # others had the turn


def test_a_device_that_cannot_count_holders_copies() -> None:
    program, w = Program(linear), w_()
    program.device.counts_holders = False
    program.graphs = CudaGraphs(program._plain, program.facts, program.device, lambda: linear)
    kept = [program(x_(), w)[0] for _ in range(5)]
    assert program.device.recorded == 1 and len(storages(kept)) == 5


# ------------------------------------------------------------------------------------------------- compiled graphs


def chains(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = (x @ w).relu().softmax(-1)
    z = (y @ w).softmax(-1)
    values, order = torch.sort(z, -1)
    return z * 2, y.view(-1), y.t(), values, order, (z @ w).sum(0), x, w.t()[1:]


def test_compiled_graphs() -> None:
    devices: list[FakeDevice] = []

    def make(call: Any, facts: ReplayFacts, load_given: Any) -> CudaGraphs:
        devices.append(FakeDevice())
        return CudaGraphs(call, facts, devices[-1], load_given)

    backend = TritonBackend(H100)
    backend.device_type = "cpu"
    backend.replays = Replays(NOUN, 1, make)
    x, w = torch.randn(6, 4), torch.randn(4, 4)
    graph = make_fx(chains, tracing_mode="fake")(x, w)
    options = CompileOptions(backends={"cpu": backend}, static_inputs=frozenset({1}))
    compiled = compile_graph(graph, (x, w), options=options)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(16):
        x = torch.randn(6, 4)
        found, wanted = compiled(x, w), chains(x, w)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)
        kept = [*kept[-9:], *((one, one.clone()) for one in found)]
        assert all(torch.equal(one, copy) for one, copy in kept)
    assert devices[0].replays == 15 and devices[0].recorded == 3
    assert not any(NOUN in note for note in compiled.notes)
