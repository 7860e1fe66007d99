"""What one failed call must not do to the next ones, and what threads must not do to each other."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import lampwork_capture
import pytest
import torch
from lampwork_capture import _native
from lampwork_capture.errors import CaptureError


def counting(graphs: list[object]):
    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    return backend


def test_a_call_without_tensor_work_does_not_end_capture() -> None:
    graphs: list[object] = []

    def f(x, flag):
        if not flag:
            return None
        return x.sin().cos()

    compiled = lampwork_capture.optimize(counting(graphs))(f)
    x = torch.randn(3)
    assert compiled(x, False) is None and not graphs
    for _ in range(2):
        assert torch.equal(compiled(x, True), f(x, True))
        assert compiled(x, False) is None
    assert len(graphs) == 1


def test_a_backend_that_fails_once_is_asked_again_for_other_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMPWORK_STRICT", raising=False)
    asked: list[int] = []

    def backend(graph, example_inputs):
        asked.append(len(example_inputs[0]))
        if len(example_inputs[0]) == 3:
            raise RuntimeError("three is not supported")
        return graph.forward

    compiled = lampwork_capture.optimize(backend)(lambda x: x + 1)
    with pytest.warns(lampwork_capture.CaptureWarning, match="three is not supported"):
        compiled(torch.zeros(3))
    for size in (3, 4, 5, 3):
        assert torch.equal(compiled(torch.zeros(size)), torch.ones(size))
    assert asked == [3, 4, 5]


def test_threads_that_miss_together_make_one_entry() -> None:
    graphs: list[object] = []

    def f(x):
        return x * 2 + 1

    compiled = lampwork_capture.optimize(counting(graphs))(f)
    x, barrier = torch.randn(3), threading.Barrier(8)

    def work(_: int) -> bool:
        barrier.wait()
        return torch.equal(compiled(x), f(x))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert len(_native.entries(f.__code__)) == 1


def test_a_backend_may_wait_for_a_thread_that_captures() -> None:
    other = lampwork_capture.optimize("eager")(lambda x: x - 1)

    def backend(graph, example_inputs):
        with ThreadPoolExecutor(1) as pool:
            assert torch.equal(pool.submit(other, torch.ones(2)).result(timeout=60), torch.zeros(2))
        return graph.forward

    compiled = lampwork_capture.optimize(backend)(lambda x: x + 1)
    assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 2.0))


class Scale:
    factor = 1


def scaled_while_another_thread_writes(spoiled: int):
    """A function whose guards another thread makes fail in its first `spoiled` conversions; the graphs; its object."""
    scale, graphs = Scale(), []
    pool = ThreadPoolExecutor(1)

    def backend(graph, example_inputs):
        graphs.append(graph)
        if len(graphs) <= spoiled:
            pool.submit(setattr, scale, "factor", len(graphs) + 1).result(timeout=60)
        return graph.forward

    return lampwork_capture.optimize(backend)(lambda x: x * scale.factor), graphs, scale, pool


@pytest.mark.filterwarnings("error")
def test_a_change_by_another_thread_while_compiling_is_no_failure() -> None:
    compiled, graphs, scale, pool = scaled_while_another_thread_writes(2)
    with pool:
        for made in (1, 2, 3, 3):
            result = compiled(torch.ones(2))
            assert torch.equal(result, torch.full((2,), float(scale.factor)))
            assert len(graphs) == made


def test_guards_that_never_hold_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMPWORK_STRICT", "1")
    compiled, graphs, _, pool = scaled_while_another_thread_writes(1000)
    with pool, pytest.raises(CaptureError, match="do not hold where they were made"):
        for _ in range(100):
            compiled(torch.ones(2))
    assert 1 < len(graphs) < 20


def test_what_nests_too_deeply_to_follow_runs_natively_without_a_word(recwarn: pytest.WarningsRecorder) -> None:
    def f(x: torch.Tensor, nested: list) -> tuple[torch.Tensor, int]:
        for _ in range(2_000):
            nested = [nested]
        y = x + 1
        lampwork_capture.graph_break()
        return y, len(nested)

    result, length = lampwork_capture.optimize("eager")(f)(torch.ones(2), [])
    assert torch.equal(result, torch.full((2,), 2.0)) and length == 1
    assert not recwarn.list


def test_functions_made_and_dropped_leave_nothing_behind() -> None:
    optimize = lampwork_capture.optimize("eager")
    codes = []
    for number in range(5):
        namespace: dict[str, object] = {}
        exec(f"def f(x): return x + {number}", namespace)
        function = namespace.pop("f")
        optimize(function)(torch.zeros(2))
        codes.append(weakref.ref(function.__code__))
        del function, namespace
    gc.collect()
    assert [code() for code in codes] == [None] * 5


def test_nothing_is_converted_while_a_builtin_of_ours_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def f(x):
        return x + int("1")

    graphs: list[object] = []
    optimized = lampwork_capture.optimize(counting(graphs))(f)
    with monkeypatch.context() as patched:
        patched.setattr("builtins.int", lambda text: 40)
        assert optimized(torch.ones(1)).item() == 41
    assert not graphs
    assert optimized(torch.ones(1)).item() == 2
    assert len(graphs) == 1
