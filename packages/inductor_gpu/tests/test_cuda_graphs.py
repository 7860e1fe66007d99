"""The books of CUDA graphs, on a device without a card: what is replayed, and that results are the wrapper's."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from fake_recording_device import FakeDevice
from lampwork_inductor_core.runtime.replay import ReplayFacts
from lampwork_inductor_gpu import cuda_graphs
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.cuda_graphs import CudaGraphs

Wrapper = Callable[[Sequence[Any]], list[Any]]


def facts(static: Sequence[int], passing: Sequence[int], **changes: Any) -> ReplayFacts:
    values: dict[str, Any] = {
        "device": torch.device("cpu"),
        "input_count": len(static) + len(passing),
        "static": tuple(static),
        "passing": tuple(passing),
        "numbers": (),
        "symbolic": False,
        "launches": 10,
        "calls_operators": True,
        "given": 0,
    }
    return ReplayFacts(**{**values, **changes})


class Program:
    """A wrapper that counts its runs, in front of it CUDA graphs on a fake device."""

    def __init__(self, wrapper: Wrapper, of: ReplayFacts) -> None:
        self.wrapper, self.runs, self.device = wrapper, 0, FakeDevice()
        self.graphs = CudaGraphs(self._run, of, self.device)

    def _run(self, inputs: Sequence[Any]) -> list[Any]:
        self.runs += 1
        return self.wrapper(inputs)

    def __call__(self, *inputs: Any) -> list[Any]:
        """A call as `CompiledGraph` makes it, compared with the wrapper."""
        with torch.no_grad():
            found, wanted = self.graphs(inputs), self.wrapper(inputs)
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted):
            if not isinstance(other, torch.Tensor):
                assert one == other and type(one) is type(other)
                continue
            assert torch.equal(one, other) and one.dtype is other.dtype
            assert one.stride() == other.stride() and one.storage_offset() == other.storage_offset()
            assert type(one) is type(other) and one.is_inference() == other.is_inference()
            assert one.requires_grad == other.requires_grad
        return found


def mlp(inputs: Sequence[Any]) -> list[Any]:
    x, w = inputs
    return [(x @ w).relu()]


def test_the_second_call_records_and_all_results_can_be_kept() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    kept: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    for number in range(12):
        x = torch.randn(3, 4)
        kept += program(x, w)
        wanted += mlp([x, w])
        assert program.device.replays == number + 1
    assert program.device.recorded == 1 and program.graphs.notes == ()
    assert all(torch.equal(a, b) for a, b in zip(kept, wanted, strict=True))
    assert len({result.data_ptr() for result in kept}) == len(kept)


def test_views_of_results_and_writes_into_results_are_the_callers() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    x = torch.randn(3, 4)
    (first,) = program(x, w)
    row, copy = first[1], first.clone()
    (second,) = program(torch.randn(3, 4), w)
    second.fill_(7)
    del first
    (third,) = program(x, w)
    assert torch.equal(row, copy[1]) and torch.equal(third, copy) and bool((second == 7).all())


def test_inputs_may_lie_anywhere() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    pool = torch.randn(100)
    for offset in (0, 1, 3, 17, 0, 1):
        program(pool[offset : offset + 12].view(3, 4), w)
    assert program.device.recorded == 1 and program.device.replays == 6


def test_parameters_are_read_where_they_lie_and_recorded_again_when_moved() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.nn.Parameter(torch.randn(4, 5))
    x = torch.randn(3, 4)
    program(x, w)
    with torch.no_grad():
        w.add_(1)
    program(x, w)
    assert program.device.recorded == 1
    old = w.data
    w.data = torch.randn(4, 5)
    program(x, w)  # by the wrapper: a caller may pass others at each call
    assert (program.device.recorded, program.device.replays) == (1, 2)
    program(x, w)
    assert (program.device.recorded, program.device.replays) == (2, 3)
    w.data = old
    program(x, w)
    assert (program.device.recorded, program.device.replays) == (2, 4)


def test_an_error_while_recording_ends_it_with_one_note() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    program.device.failure = RuntimeError("operation not permitted when stream is capturing\nmore lines")
    for _ in range(4):
        program(torch.randn(3, 4), w)
    assert program.device.recorded == 1 and program.device.replays == 0
    assert program.graphs.notes == (
        "no CUDA graph: recording failed: operation not permitted when stream is capturing",
    )
    assert program.device.begin(), "the turn was not given back"


def test_an_interrupt_while_recording_reaches_the_caller() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    program.device.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        program(torch.randn(3, 4), w)
    program.device.failure = None
    program(torch.randn(3, 4), w)
    assert program.device.replays == 1


def test_what_the_program_raises_is_raised_by_the_wrapper() -> None:
    def refuses(inputs: Sequence[Any]) -> list[Any]:
        raise ValueError("the program's own")

    program = Program(refuses, facts([], [0]))
    for _ in range(2):
        with pytest.raises(ValueError, match="own"):
            program(torch.randn(3))
    assert program.device.recorded == 0 and "ValueError" not in str(program.graphs.notes)
    assert program.graphs.notes == ("no CUDA graph: recording failed: the program's own",)


def related_to_inputs(inputs: Sequence[Any]) -> list[Any]:
    x, w = inputs
    return [x, w, x.t(), x[1:, ::2], w[2], (x * 2), None, 3]


def test_results_that_are_inputs_or_views_of_them_are_the_callers() -> None:
    program, w = Program(related_to_inputs, facts([1], [0])), torch.nn.Parameter(torch.randn(4, 5))
    for _ in range(3):
        x = torch.randn(40)[4:].view(6, 6)
        same, parameter, turned, part, row, double, nothing, three = program(x, w)
        assert same is x and parameter is w and nothing is None and three == 3
        for view, base in ((turned, x), (part, x), (row, w)):
            assert view.untyped_storage()._cdata == base.untyped_storage()._cdata
        turned[0, 1] = 100.0
        assert x[1, 0] == 100 and double[1, 0] != 200
    assert program.device.replays == 3


def test_the_same_tensor_at_two_positions_comes_back_by_position() -> None:
    program = Program(lambda inputs: [inputs[1], inputs[0], inputs[0] + inputs[1]], facts([0, 1], []))
    one = torch.randn(3)
    other = one.view(3)
    program(one, one)
    first, second, _ = program(one, other)
    assert first is other and second is one and program.device.replays == 2


def related_to_each_other(inputs: Sequence[Any]) -> list[Any]:
    (x,) = inputs
    y = x * 2
    z = torch.stack([x, x + 1])
    return [y, y, y.t(), z[1], z[:, 1:], (x + 3).expand(2, *x.shape), (x.sum(0) * 1)[1:].unsqueeze(0).expand(4, -1)]


def test_results_that_share_memory_still_do_and_nobody_elses() -> None:
    program = Program(related_to_each_other, facts([], [0]))
    before: list[torch.Tensor] = []
    for _ in range(3):
        found = program(torch.randn(4, 4))
        assert found[0] is found[1]
        found[0][1, 2] = 50.0
        found[3].fill_(60.0)
        assert found[2][2, 1] == 50 and bool((found[4][1] == 60).all())
        storages = {f.untyped_storage()._cdata for f in found}
        assert len(storages) == 4 and not storages & {b.untyped_storage()._cdata for b in before}
        before += found
    assert program.device.replays == 3


def test_no_results_and_empty_tensors() -> None:
    program = Program(lambda inputs: [], facts([], [0]))
    program(torch.randn(3))
    program(torch.randn(3))
    assert program.device.replays == 2
    empty = Program(lambda inputs: [inputs[0] * 2, inputs[0], inputs[1][5:], inputs[1].sum(0)], facts([], [0, 1]))
    for _ in range(3):
        empty(torch.randn(0, 3), torch.randn(5, 2))
    assert empty.device.replays == 3


@pytest.mark.parametrize("strides", [(0, 1), (1, 1), (1, 2), (4, 1), (1, 3), (7, 2)])
def test_inputs_that_overlap_or_have_gaps(strides: tuple[int, int]) -> None:
    program = Program(lambda inputs: [inputs[0] + 1, inputs[0][1]], facts([], [0]))
    for _ in range(3):
        program(torch.randn(40).as_strided((3, 4), strides, 2))
    assert program.device.replays == 3


def test_inputs_of_many_kinds() -> None:
    dtypes = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.int8, torch.complex64]
    inputs = [torch.ones(3, 4).to(dtype) for dtype in [*dtypes, *dtypes]]
    program = Program(lambda given: [g.clone() for g in given], facts([], range(len(inputs))))
    for _ in range(3):
        program(*inputs)
        inputs = [i.roll(1) if i.dtype is torch.bool else i + 1 for i in inputs]
    assert program.device.replays == 3


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        (lambda inputs: [inputs[0].view(torch.int32)], "another dtype"),
        (lambda inputs: [y := inputs[0] * 2, y.view(torch.int32)], "different dtypes"),
        (lambda inputs: [torch.complex(inputs[0], inputs[0]).conj()], "not a plain tensor"),
    ],
)
def test_results_that_cannot_be_given_are_left_to_the_wrapper(wrapper: Wrapper, reason: str) -> None:
    program = Program(wrapper, facts([], [0]))
    for _ in range(4):
        program(torch.rand(3))
    assert program.device.replays == 0 and len(program.graphs.notes) == 1 and reason in program.graphs.notes[0]
    assert program.runs == 5  # the trial once, and each call


def sized(inputs: Sequence[Any]) -> list[Any]:
    x, w = inputs
    return [x @ w, x.shape[0]]


def test_sizes_are_recorded_at_their_second_sight_and_never_mixed_up() -> None:
    program, w = Program(sized, facts([1], [0], symbolic=True)), torch.randn(4, 5)
    for round_ in range(4):
        for rows in (1, 2, 3):
            program(torch.randn(rows, 4), w)
            program(torch.randn(4, rows).t(), w)
        assert program.device.recorded == (6 if round_ else 0)
    assert program.device.replays == 6 * 3


def test_many_sizes_are_bounded_and_do_not_record_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    program, w = Program(sized, facts([1], [0], symbolic=True)), torch.randn(4, 5)
    for _ in range(20):
        for rows in range(1, 21):
            program(torch.randn(rows, 4), w)
    assert program.graphs.recordings == 8
    assert program.device.recorded < 40  # of 400 calls
    for rows in range(100, 400):
        program(torch.randn(rows, 4), w)
    assert program.graphs.recordings == 8 and len(program.graphs._seen) <= 64


def test_memory_is_bounded() -> None:
    program, w = Program(sized, facts([1], [0], symbolic=True)), torch.randn(4, 5)
    program.device.limit = 200
    for _ in range(3):
        for rows in (1, 2, 4):  # 16 bytes in and 20 out a row
            program(torch.randn(rows, 4), w)
    assert program.graphs.recordings == 2 and program.device.held == 108
    assert program.graphs.notes == ("no CUDA graph: the memory for inputs and results of recordings is used up",)
    program.graphs.invalidate()
    assert program.device.held == 0 and program.graphs.recordings == 0


def test_large_copies_are_not_worth_it() -> None:
    program = Program(lambda inputs: [inputs[0] + 1], facts([], [0], launches=1))
    for _ in range(3):
        program(torch.zeros(1 << 17, dtype=torch.float32))
    assert program.device.replays == 3
    program = Program(lambda inputs: [inputs[0] + 1], facts([], [0], launches=1))
    for _ in range(3):
        program(torch.zeros((1 << 17) + 1, dtype=torch.float32))
    assert program.device.recorded == 0 and "costs more than it saves" in program.graphs.notes[0]


def test_numbers_are_baked_in_exactly() -> None:
    def scaled(inputs: Sequence[Any]) -> list[Any]:
        x, number = inputs
        return [x * number, torch.copysign(x, torch.tensor(float(number)))]

    program, x = Program(scaled, facts([], [0], numbers=(1,), input_count=2)), torch.ones(3)
    for _ in range(3):
        for number in (0.0, -0.0, 1, True, 1.0, 2.5):
            program(x, number)
    assert program.device.recorded == 6 and program.device.replays == 12


def test_settings_of_libraries_are_baked_in() -> None:
    program, w, x = Program(mlp, facts([1], [0])), torch.randn(4, 5), torch.randn(3, 4)
    program(x, w)
    program.device.setting = "tf32"
    program(x, w)
    assert program.device.replays == 1
    program(x, w)
    program.device.setting = "ieee"
    program(x, w)
    assert program.device.recorded == 2 and program.device.replays == 3


def test_a_capture_of_the_users_and_a_turn_under_way_run_the_wrapper() -> None:
    program, w, x = Program(mlp, facts([1], [0])), torch.randn(4, 5), torch.randn(3, 4)
    program.device.opened = False
    program(x, w)
    program.device.opened = True
    assert program.device.begin()
    program(x, w)
    assert (program.device.recorded, program.device.replays, program.runs) == (0, 0, 2)
    program.device.end()
    program(x, w)
    assert program.device.replays == 1


def test_inference_mode_and_back() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    with torch.inference_mode():
        (first,) = program(torch.randn(3, 4), w)
        assert first.is_inference()
    (second,) = program(torch.randn(3, 4), w)
    assert not second.is_inference()
    second.requires_grad_()
    with torch.inference_mode():
        x = torch.randn(3, 4)
    program(x, w)
    assert program.device.replays == 3 and program.device.recorded == 1


def test_recorded_from_inference_tensors() -> None:
    program = Program(lambda inputs: [inputs[0] @ inputs[1], inputs[1], inputs[1][1]], facts([1], [0]))
    with torch.inference_mode():
        w = torch.randn(4, 5)
        program(torch.randn(4, 3).t(), w)
        program(torch.randn(1, 4).expand(3, 4), w)
    assert program.device.replays == 2


def test_another_stream_is_told_of_the_inputs_it_uses() -> None:
    program, w, x = Program(mlp, facts([1], [0])), torch.randn(4, 5), torch.randn(3, 4)
    program(x, w)
    program(x, w)
    assert program.device.moved == 0
    program.device.current = 1
    program(x, w)
    program(x, w)
    assert program.device.moved == 1


def test_inputs_that_nobody_looks_at() -> None:
    program = Program(lambda inputs: [inputs[1] + 1], facts([], [1], input_count=3))
    for _ in range(2):
        program("anything", torch.rand(3), torch.rand(1))
    assert program.device.replays == 2


def test_memory_goes_with_the_graph_without_a_collection() -> None:
    device, w = FakeDevice(), torch.randn(4, 5)
    graphs, parameter = CudaGraphs(mlp, facts([1], [0]), device), weakref.ref(w)
    with torch.no_grad():
        (kept,) = graphs([torch.randn(3, 4), w])
    recording = weakref.ref(next(iter(graphs._recordings.values())))
    assert device.held > 0 and device.replays == 1
    gc.disable()
    try:
        del w
        assert parameter() is None  # a recording holds no tensor of the caller's
        del graphs
        assert recording() is None and device.held == 0
    finally:
        gc.enable()
    kept.add_(1)


def test_threads_get_their_own_results() -> None:
    program, w = Program(mlp, facts([1], [0])), torch.randn(4, 5)
    program(torch.randn(3, 4), w)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            kept = [(x := torch.randn(3, 4), program.graphs([x, w])[0]) for _ in range(200)]
            assert all(torch.equal(result, mlp([x, w])[0]) for x, result in kept)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert program.device.recorded == 1 and program.device.replays > 20  # others had the turn


def test_graphs_of_one_device_share_memory_but_not_results() -> None:
    w = torch.randn(4, 5)
    one = Program(mlp, facts([1], [0]))
    other = Program(lambda inputs: [inputs[0] @ inputs[1] - 1], facts([1], [0]))
    other.device = one.device
    other.graphs = CudaGraphs(other._run, facts([1], [0]), one.device)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(5):
        for program in (one, other):
            (result,) = program(torch.randn(3, 4), w)
            kept.append((result, result.clone()))
    assert one.device.replays == 10 and all(torch.equal(result, copy) for result, copy in kept)
    assert one.device.order == ["begin", "end"] * 10


def test_the_backend_offers_replays_on_a_card_only() -> None:
    assert TritonBackend.replays is None  # under the interpreter tensors are on the CPU
    assert cuda_graphs.REPLAYS.noun == "CUDA graph" and cuda_graphs.REPLAYS.least_launches > 1
