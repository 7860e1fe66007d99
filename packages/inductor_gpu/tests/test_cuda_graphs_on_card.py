"""CUDA graphs on a real card. Needs one, and a run of its own: `TRITON_INTERPRET=0 pytest <this file>`."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from lampwork_inductor_core import CompiledGraph, CompileOptions, Config, compile_graph
from lampwork_inductor_gpu.alternates import Alternates
from lampwork_inductor_gpu.cuda_capture import recording_device
from lampwork_inductor_gpu.cuda_graphs import CudaGraphs
from lampwork_inductor_gpu.device_functions import INTERPRETED
from lampwork_inductor_gpu.recording_device import RecordingFailed
from torch.fx.experimental.proxy_tensor import make_fx

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available() or INTERPRETED, reason="needs a card and TRITON_INTERPRET=0"
)


def layers(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    for _ in range(4):
        x = torch.nn.functional.layer_norm((x @ w).relu(), (x.shape[-1],))
    return x, x[1:], x.sum(-1)


def attention(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    for _ in range(2):
        y = (x @ w).view(x.shape[0], 4, -1).transpose(0, 1).unsqueeze(0)
        y = torch.nn.functional.scaled_dot_product_attention(y, y, y)
        x = x + y.squeeze(0).transpose(0, 1).reshape(x.shape[0], -1)
    return (x,)


def compiled(
    function: Callable[..., Any], inputs: Sequence[torch.Tensor], *, replay: bool = True, static: Sequence[int] = (1,)
) -> CompiledGraph:
    with torch.no_grad():
        graph = make_fx(torch.func.functionalize(function), tracing_mode="fake")(*inputs)
    options = CompileOptions(static_inputs=frozenset(static), config=Config(replay=replay))
    return compile_graph(graph, inputs, options=options)


def graphs_of(graph: CompiledGraph) -> CudaGraphs:
    assert isinstance(graph._replayer, CudaGraphs), graph.notes
    return graph._replayer


@pytest.fixture
def w() -> torch.Tensor:
    return torch.randn(64, 64, device="cuda") / 8


def rows() -> torch.Tensor:
    return torch.randn(32, 64, device="cuda")


@pytest.mark.parametrize("function", [layers, attention])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_are_the_wrappers_bit_for_bit_and_can_be_kept(
    function: Callable[..., Any], dtype: torch.dtype, w: torch.Tensor
) -> None:
    x, w = rows().to(dtype), w.to(dtype)
    replayed, plain = compiled(function, (x, w)), compiled(function, (x, w), replay=False)
    kept: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    for _ in range(20):
        x = rows().to(dtype)
        kept.append((replayed(x, w), plain(x, w)))
    assert graphs_of(replayed).recordings == 1 and replayed.notes == ()
    for found, wanted in kept:
        for one, other in zip(found, wanted, strict=True):
            assert torch.equal(one, other) and one.stride() == other.stride()
            assert one.storage_offset() == other.storage_offset()


def test_graphs_in_turn_share_memory_and_not_results(w: torch.Tensor) -> None:
    one, other = compiled(layers, (rows(), w)), compiled(attention, (rows(), w))
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(10):
        for graph in (one, other):
            result = graph(rows(), w)[0]
            kept.append((result, result.clone()))
    torch.cuda.synchronize()
    assert all(torch.equal(result, copy) for result, copy in kept)
    assert graphs_of(one).recordings == graphs_of(other).recordings == 1


def test_parameters_that_change_and_move(w: torch.Tensor) -> None:
    p = torch.nn.Parameter(w.clone())
    replayed, plain = compiled(layers, (rows(), p)), compiled(layers, (rows(), p), replay=False)
    x = rows()
    for step in range(12):
        assert torch.equal(replayed(x, p)[0], plain(x, p)[0]), step
        with torch.no_grad():
            p.mul_(1.01)
        if step % 4 == 3:
            p.data = p.data * 0.99
    assert graphs_of(replayed).recordings >= 2


def test_writes_into_results_reach_nothing_else(w: torch.Tensor) -> None:
    graph, x = compiled(layers, (rows(), w)), rows()
    wanted = [r.clone() for r in graph(x, w)]
    for _ in range(5):
        found = graph(x, w)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        found[0].fill_(3)
        assert bool((found[1] == 3).all())  # a view of it
        found[2].zero_()


def test_streams(w: torch.Tensor) -> None:
    graph, plain = compiled(layers, (rows(), w)), compiled(layers, (rows(), w), replay=False)
    streams = [torch.cuda.Stream() for _ in range(3)]
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    torch.cuda.synchronize()
    for number in range(60):
        with torch.cuda.stream(streams[number % 3] if number % 4 else torch.cuda.default_stream()):
            x = rows()
            kept.append((x, graph(x, w)[0]))
    torch.cuda.synchronize()
    assert all(torch.equal(result, plain(x, w)[0]) for x, result in kept)
    assert graphs_of(graph).recordings == 1


def test_threads(w: torch.Tensor) -> None:
    graph, plain = compiled(layers, (rows(), w)), compiled(layers, (rows(), w), replay=False)
    plain(rows(), w)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                for _ in range(100):
                    x = rows()
                    assert torch.equal(graph(x, w)[0], plain(x, w)[0])
        except BaseException as error:
            failed.append(error)

    graph(rows(), w)
    torch.cuda.synchronize()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed
    assert graphs_of(graph).notes == ()


def test_a_capture_of_the_users_takes_the_wrapper(w: torch.Tensor) -> None:
    graph, x = compiled(layers, (rows(), w)), rows()
    for _ in range(3):
        wanted = graph(x, w)[0]
    outer = torch.cuda.CUDAGraph()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        graph(x, w)
    torch.cuda.synchronize()
    with torch.cuda.graph(outer, stream=side):
        result = graph(x, w)[0]
    outer.replay()
    assert torch.equal(result, wanted)


@pytest.mark.parametrize("breaks", ["python", "synchronise"])
def test_a_failed_recording_leaves_the_card_as_it_was(breaks: str, w: torch.Tensor) -> None:
    device = recording_device(torch.device("cuda", 0))

    def run() -> list[Any]:
        y = w * 2
        if breaks == "python":
            raise ValueError("no")
        return [y.sum().item()]

    run_ok = compiled(layers, (rows(), w))
    run_ok(rows(), w)
    assert device.begin()
    try:
        with pytest.raises(RecordingFailed):
            device.record(run)
    finally:
        device.end()
    assert not torch.cuda.is_current_stream_capturing()
    assert torch.rand(8, device="cuda").isfinite().all()  # a generator that thinks it is recorded raises
    torch.nn.functional.dropout(w, 0.5)
    torch.cuda.synchronize()
    torch.empty(1, device="cuda")
    active = torch.cuda.memory_stats()["active_bytes.all.current"]
    for _ in range(3):
        large = torch.empty(1 << 26, device="cuda", dtype=torch.uint8)
        large.record_stream(torch.cuda.Stream())
        del large
    torch.cuda.synchronize()
    torch.empty(1, device="cuda")
    torch.empty(1, device="cuda")  # what is freed on two streams waits for events, looked at by the next allocations
    assert torch.cuda.memory_stats()["active_bytes.all.current"] <= active + (1 << 20)
    for _ in range(3):
        run_ok(rows(), w)
    assert graphs_of(run_ok).recordings == 1 and run_ok.notes == ()


def test_random_graphs_draw_anew(w: torch.Tensor) -> None:
    def noisy(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.bernoulli((x @ w).sigmoid()) + (x @ w).relu().softmax(-1)

    x = rows()
    graph = compiled(noisy, (x, w))
    assert any("draws random numbers" in note for note in graph.notes)
    assert not torch.equal(graph(x, w)[0], graph(x, w)[0])


def test_random_numbers_beside_replays_are_eagers(w: torch.Tensor) -> None:
    graph, x = compiled(layers, (rows(), w)), rows()
    for _ in range(3):
        graph(x, w)
    torch.manual_seed(5)
    wanted = [torch.rand(4, device="cuda") for _ in range(3)]
    torch.manual_seed(5)
    for one in wanted:
        graph(x, w)
        assert torch.equal(torch.rand(4, device="cuda"), one)


def test_memory_goes_with_the_graph_and_does_not_grow(w: torch.Tensor) -> None:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    graph, x = compiled(layers, (rows(), w)), rows()
    for _ in range(4):
        graph(x, w)
    held = torch.cuda.memory_allocated()
    kept = [graph(x, w)[0] for _ in range(50)]
    assert torch.cuda.memory_allocated() - held <= 50 * (32 * 64 * 4 + 512 + 1024)
    del kept
    assert torch.cuda.memory_allocated() == held
    del graph, x
    assert torch.cuda.memory_allocated() <= before + (40 << 20)  # workspaces of libraries stay
    again = torch.cuda.memory_allocated()
    for _ in range(5):
        graph, x = compiled(layers, (rows(), w)), rows()
        for _ in range(4):
            graph(x, w)
        del graph, x
    assert torch.cuda.memory_allocated() == again


def test_tf32_switched_between_calls(w: torch.Tensor) -> None:
    graph, plain, x = compiled(layers, (rows(), w)), compiled(layers, (rows(), w), replay=False), rows()
    for precision in ("highest", "high", "highest", "high", "high"):
        torch.set_float32_matmul_precision(precision)
        try:
            assert torch.equal(graph(x, w)[0], plain(x, w)[0])
        finally:
            torch.set_float32_matmul_precision("highest")


# ----------------------------------------------------------------------------------- results in memory of their own


def many_rows() -> torch.Tensor:
    """So many that results are not copied."""
    return torch.randn(4096, 64, device="cuda")


def with_library_results(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
    for _ in range(4):
        x = torch.nn.functional.layer_norm((x @ w).relu(), (x.shape[-1],))
    values, order = torch.sort(x, -1)
    return x, x.t(), values, order, x.view(-1), x.sum(-1)


def alternates_of(graph: CompiledGraph) -> Alternates:
    (found,) = graphs_of(graph)._recordings.values()
    return found


@pytest.mark.parametrize("function", [layers, attention, with_library_results])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_results_are_not_copied_and_right(
    function: Callable[..., Any], dtype: torch.dtype, w: torch.Tensor
) -> None:
    x, w = many_rows().to(dtype), w.to(dtype)
    replayed, plain = compiled(function, (x, w)), compiled(function, (x, w), replay=False)
    found: list[torch.Tensor] = []
    for _ in range(20):
        x = many_rows().to(dtype)
        found = replayed(x, w)  # the last results are held while the next are computed
        for one, other in zip(found, plain(x, w), strict=True):
            assert torch.equal(one, other) and one.stride() == other.stride()
            assert one.storage_offset() == other.storage_offset()
    assert len(alternates_of(replayed)._given) == 2 and alternates_of(replayed)._copying is None
    assert not any("CUDA graph" in note for note in replayed.notes)
    recording = alternates_of(replayed)._given[0]
    assert recording.is_given
    addresses = {memory.tensor.data_ptr() for one in alternates_of(replayed)._given for memory in one._given}
    assert found[0].data_ptr() in addresses


def test_results_that_are_let_go_leave_one_recording(w: torch.Tensor) -> None:
    graph = compiled(layers, (many_rows(), w))
    for _ in range(10):
        graph(many_rows(), w)
    assert len(alternates_of(graph)) == 1  # so the count of holders came back to what it was each time


def test_large_results_that_are_held_never_change(w: torch.Tensor) -> None:
    one, other = compiled(layers, (many_rows(), w)), compiled(attention, (many_rows(), w))
    kept: list[tuple[Any, torch.Tensor]] = []
    for number in range(24):
        for graph in (one, other):
            result = graph(many_rows(), w)[0]
            copy = result.clone()
            kept.append((result if number % 3 else result[1:], copy if number % 3 else copy[1:]))
        if number % 5 == 4:
            del kept[::2]
    del result
    torch.cuda.synchronize()
    assert all(torch.equal(found, copy) for found, copy in kept)


def test_large_results_through_dlpack_and_storages(w: torch.Tensor) -> None:
    graph = compiled(layers, (many_rows(), w))
    result = graph(many_rows(), w)[0]
    result = graph(many_rows(), w)[0]
    copy, capsule = result.clone(), torch.utils.dlpack.to_dlpack(result.detach())
    del result
    for _ in range(5):
        graph(many_rows(), w)
    held = torch.utils.dlpack.from_dlpack(capsule)
    assert torch.equal(held, copy)
    result = graph(many_rows(), w)[0]
    copy, storage = result.clone(), result.untyped_storage()
    del result
    for _ in range(5):
        graph(many_rows(), w)
    again = torch.empty(0, device="cuda").set_(storage, 0, copy.shape, copy.stride())
    assert torch.equal(again, copy)


def test_large_results_read_on_their_stream_and_let_go(w: torch.Tensor) -> None:
    graph, plain = compiled(layers, (many_rows(), w)), compiled(layers, (many_rows(), w), replay=False)
    streams = [torch.cuda.default_stream(), *(torch.cuda.Stream() for _ in range(3))]
    sums: list[tuple[torch.Tensor, torch.Tensor]] = []
    torch.cuda.synchronize()
    for number in range(80):
        with torch.cuda.stream(streams[number % 4 if number % 3 else 0]):
            x = many_rows()
            result = graph(x, w)[0]
            for _ in range(20):  # so that the card is behind the host when the result is let go
                result = result * 1.0 if number % 2 else result
            sums.append((x, result.sum(-1)))
            del result
    torch.cuda.synchronize()
    assert all(torch.equal(found, plain(x, w)[0].sum(-1)) for x, found in sums)


def test_large_results_in_inference_mode_and_changed_by_the_caller(w: torch.Tensor) -> None:
    graph, plain = compiled(layers, (many_rows(), w)), compiled(layers, (many_rows(), w), replay=False)
    for number in range(12):
        x = many_rows()
        with torch.inference_mode(number % 3 == 1):
            found, wanted = graph(x, w), plain(x, w)
            assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
            assert found[0].is_inference() == wanted[0].is_inference()
            found[2].unsqueeze_(0).add_(1)
            found[0].zero_()
            assert not found[1].any()
        del found
    assert len(alternates_of(graph)) == 1


@pytest.mark.parametrize("count", [0, 1 << 10, 1 << 24])
def test_the_memory_of_a_large_result_is_resized(count: int, w: torch.Tensor) -> None:
    graph, plain = compiled(layers, (many_rows(), w)), compiled(layers, (many_rows(), w), replay=False)
    for _ in range(3):
        result = graph(many_rows(), w)[2]
    result.untyped_storage().resize_(count)
    others = [torch.zeros(4096, device="cuda") for _ in range(64)]  # some in the memory that came back
    del result
    for _ in range(4):
        x = many_rows()
        assert torch.equal(graph(x, w)[0], plain(x, w)[0])
    assert not any(other.any() for other in others)


def test_memory_of_large_results_is_bounded_and_goes(w: torch.Tensor) -> None:
    size = 4096 * 64 * 4
    gc.collect()
    graph, x = compiled(layers, (many_rows(), w)), many_rows()
    result = graph(x, w)
    for _ in range(4):
        result = graph(x, w)
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    for _ in range(50):
        result = graph(x, w)
    assert torch.cuda.memory_allocated() == held
    copy = result[0].clone()
    before = torch.cuda.memory_allocated()
    del graph
    assert torch.cuda.memory_allocated() <= before - size  # of the other recording
    assert torch.equal(result[0], copy)


def test_results_too_large_to_copy_are_the_wrappers_while_two_are_held(w: torch.Tensor) -> None:
    def wide(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for _ in range(4):
            x = (x @ w).relu()
        return x.sum(-1)[:, None] + x.repeat(1, 64)  # 64 MiB

    graph, plain = compiled(wide, (many_rows(), w)), compiled(wide, (many_rows(), w), replay=False)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(6):
        x = many_rows()
        kept.append((graph(x, w)[0], plain(x, w)[0]))
    assert all(torch.equal(a, b) for a, b in kept)
    assert len(alternates_of(graph)._given) == 2 and any("held" in note for note in graph.notes), graph.notes


def test_a_replay_is_cheaper_for_the_host(w: torch.Tensor) -> None:
    def deep(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        for _ in range(30):
            x = (x @ w).relu()
        return x

    def milliseconds(graph: CompiledGraph) -> float:
        x = rows()
        for _ in range(5):
            graph(x, w)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(100):
            graph(x, w)
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    x = rows()
    assert milliseconds(compiled(deep, (x, w))) < milliseconds(compiled(deep, (x, w), replay=False))
