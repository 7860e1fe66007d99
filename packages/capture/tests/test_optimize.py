"""The public API: optimize, fallbacks, marks, explain."""

from __future__ import annotations

import copy
import pickle
import warnings

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture import _native
from lampwork_capture.config import CaptureConfig
from lampwork_capture.errors import CaptureWarning
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import eager_backend, shared_policy, with_callback

X = torch.tensor([1.0, 2.0, 3.0])


def lenient(function, backend=eager_backend, **settings):
    callback = FrameCallback(backend, "backend", CaptureConfig(**settings), shared_policy())
    return with_callback(function, callback), callback


class Recorder:
    """A backend that keeps what it is given."""

    def __init__(self):
        self.graphs = []
        self.inputs = []

    def __call__(self, graph, inputs):
        self.graphs.append(graph)
        self.inputs.append(inputs)
        return graph.forward


def test_backend_gets_graph_inputs_and_metadata():
    recorder = Recorder()
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU()).eval()
    optimized = capture.optimize(recorder, fullgraph=True)(model)
    x = torch.randn(2, 3)
    assert torch.equal(optimized(x), model(x))
    (graph,) = recorder.graphs
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    assert (
        len(placeholders) == len(recorder.inputs[0]) == 1 + len(model.state_dict()) - 1
    )  # num_batches_tracked is unused
    static = [node.meta["static_input"] for node in placeholders]
    assert static.count(False) == 1 and static.count(True) == len(static) - 1
    for node, example in zip(placeholders, recorder.inputs[0]):
        assert node.meta["val"].shape == example.shape
        assert node.meta["source"] is not None
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    assert calls and all(node.meta["user_line"].line > 0 for node in calls)


def test_second_call_is_not_converted_again():
    recorder = Recorder()
    optimized = capture.optimize(recorder)(lambda x: x * 2 + 1)
    for _ in range(3):
        assert torch.equal(optimized(X), X * 2 + 1)
    assert len(recorder.graphs) == 1
    assert torch.equal(optimized(X[:2]), X[:2] * 2 + 1)
    assert len(recorder.graphs) == 2


def test_hook_is_off_outside():
    optimized = capture.optimize("eager")(lambda x: x + 1)
    optimized(X)
    assert not _native.is_installed()
    assert _native.get_callback() is None


def test_optimized_module_shares_state():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 3)
            self.drop = torch.nn.Dropout(0.5)
            self.extra = 5

        def forward(self, x):
            return self.drop(self.layer(x)) * self.extra

        def helper(self):
            return "helped"

    model = Model()
    optimized = capture.optimize("eager")(model)
    assert list(optimized.state_dict()) == list(model.state_dict())
    assert [id(p) for p in optimized.parameters()] == [id(p) for p in model.parameters()]
    assert optimized.helper() == "helped" and optimized.extra == 5
    optimized.eval()
    assert not model.training and not model.drop.training
    assert torch.equal(optimized(X), model(X))
    optimized.extra = 7
    assert model.extra == 7 and torch.equal(optimized(X), model(X))
    calls = []
    handle = model.register_forward_hook(lambda m, a, r: calls.append(1))
    optimized(X)
    handle.remove()
    assert calls == [1]
    optimized.double()
    assert model.layer.weight.dtype == torch.float64
    assert torch.equal(optimized(X.double()), model(X.double()))
    loss = optimized(X.double()).sum()
    loss.backward()
    assert model.layer.weight.grad is not None


def test_unknown_backend():
    with pytest.raises(capture.UnknownBackendError, match="nonsense"):
        capture.optimize("nonsense")


def test_fullgraph_names_id_line_and_hint():
    def f(x):
        y = x + 1
        print(y)
        return y

    with pytest.raises(capture.GraphBreakError) as caught:
        capture.optimize("eager", fullgraph=True)(f)(X)
    assert "LW012" in str(caught.value)
    assert f"line {f.__code__.co_firstlineno + 2}" in str(caught.value)
    assert "hint" in str(caught.value) or "outside the compiled function" in str(caught.value)
    assert caught.value.record.break_id is capture.BreakId.OUTPUT_TO_WORLD


@pytest.mark.parametrize("fullgraph", [False, True])
def test_wrong_input_raises_what_eager_raises(fullgraph):
    def helper(x, w):
        return torch.mm(x, w)

    def f(x, w):
        return helper(x + 1, w) * 2

    recorder = Recorder()
    optimized = capture.optimize(recorder, fullgraph=fullgraph)(f)
    good, bad = torch.randn(2, 3), torch.randn(2, 5)
    w = torch.randn(3, 4)
    with pytest.raises(RuntimeError) as expected:
        f(bad, w)
    with pytest.raises(RuntimeError) as actual:
        optimized(bad, w)
    assert str(actual.value) == str(expected.value) and type(actual.value) is type(expected.value)
    before = len(recorder.graphs)
    assert torch.equal(optimized(good, w), f(good, w))
    assert len(recorder.graphs) == before + 1
    with pytest.raises(TypeError) as expected:
        f(good, "w")
    with pytest.raises(TypeError) as actual:
        optimized(good, "w")
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_exception_of_the_program(fullgraph):
    def check(x, *rest, flag=False, **more):
        if flag:
            raise KeyError("flag")
        return x + len(rest) + len(more)

    optimized = capture.optimize("eager", fullgraph=fullgraph)(check)
    with pytest.raises(KeyError, match="flag"):
        optimized(X, 1, 2, flag=True, z=1)
    assert torch.equal(optimized(X, 1, 2, z=1), X + 3)


def failing_backend(graph, inputs):
    raise ValueError("no compiler today")


def test_backend_that_raises_warns_once_and_runs_eagerly():
    optimized, _ = lenient(lambda x: x * 2, failing_backend)
    with pytest.warns(CaptureWarning, match="no compiler today"):
        assert torch.equal(optimized(X), X * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(optimized(X), X * 2)


@pytest.mark.parametrize("settings", [{"strict": True}, {"fullgraph": True}])
def test_backend_that_raises_under_strictness(settings):
    optimized, _ = lenient(lambda x: x * 2, failing_backend, **settings)
    with pytest.raises(capture.BackendError, match="no compiler today") as caught:
        optimized(X)
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.user_line is not None and caught.value.user_line.filename == __file__


def test_our_own_failure_warns_and_runs_eagerly(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("inside us")

    monkeypatch.setattr("lampwork_capture.frame_callback.convert", broken)
    optimized, _ = lenient(lambda x: x * 2)
    with pytest.warns(CaptureWarning, match="inside us"):
        assert torch.equal(optimized(X), X * 2)
    strict, _ = lenient(lambda x: x * 3, strict=True)
    with pytest.raises(capture.CaptureError, match="inside us"):
        strict(X)


def test_recompilation_is_bounded_and_explained():
    def f(x, n):
        return x * len(n)

    optimized, callback = lenient(f, recompile_limit=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in range(20):
            assert torch.equal(optimized(X, "n" * n), X * n)
    assert sum(not record.is_skipped for record in callback.records) == 4
    messages = [str(w.message) for w in caught if issubclass(w.category, CaptureWarning)]
    assert len(messages) == 1 and "LW103" in messages[0] and "`n` is" in messages[0]


def test_marks():
    @capture.disable
    def hidden(x):
        return x + (0 if capture.is_compiling() else 10)

    @torch.compiler.disable
    def hidden_by_torch(x):
        return x + (0 if torch.compiler.is_compiling() else 100)

    def f(x):
        a = x + (1 if capture.is_compiling() and torch.compiler.is_compiling() else 1000)
        b = hidden(a)
        c = hidden_by_torch(b)
        capture.graph_break("here")
        return c * 2

    found = capture.capture(f, X)
    assert torch.equal(found.result, (X + 111) * 2)
    assert [b.break_id.code for b in found.graph_breaks] == ["LW015", "LW015", "LW014"]
    assert "here" in found.graph_breaks[2].cause
    assert all(b.user_line.filename == __file__ for b in found.graph_breaks)


@capture.allow_in_graph
def opaque_sum(x, y):
    return x + y if isinstance(x, torch.Tensor) else None


@capture.assume_constant_result
def constant_five():
    return 5


def test_functions_in_the_graph():
    recorder = Recorder()
    f = lambda x: opaque_sum(x, x) * constant_five()  # noqa: E731
    assert torch.equal(capture.optimize(recorder, fullgraph=True)(f)(X), X * 10)
    assert opaque_sum in [node.target for node in recorder.graphs[0].graph.nodes]


def test_substitute_in_graph():
    import _bisect

    @capture.substitute_in_graph(_bisect.insort_right)
    def insort(items, x):
        items.append(x)
        items.sort()

    def f(x):
        items = [1, 3]
        _bisect.insort_right(items, 2)
        return x * items[1]

    found = capture.capture(f, X)
    assert torch.equal(found.result, X * 2) and not found.graph_breaks and len(found.graphs) == 1


def test_explain_shows_breaks():
    def f(x):
        y = x + 1
        if y.sum() > 0:
            y = y * 2
        return y

    text = str(capture.explain(f)(X))
    assert "2 graphs" in text and "LW009" in text and "hint:" in text
    assert f"line {f.__code__.co_firstlineno + 2}" in text


def test_optimize_inside_optimize():
    inner = capture.optimize("eager")(lambda x: x + 1)
    outer = capture.optimize("eager", fullgraph=True)(lambda x: inner(x) * 2)
    assert torch.equal(outer(X), (X + 1) * 2)


def test_torch_compile_beside_ours():
    recorder = Recorder()

    def f(x):
        return (x * 2).relu()

    theirs = torch.compile(f, backend="eager")
    ours = capture.optimize(recorder)(f)
    for _ in range(2):
        assert torch.equal(theirs(X), ours(X))
    assert len(recorder.graphs) == 1


def test_records_do_not_keep_arguments_alive():
    import gc
    import weakref

    model = torch.nn.Linear(3, 3)
    optimized, callback = lenient(model)
    optimized(X)
    assert callback.records[0].graph is not None
    reference = weakref.ref(model.weight)
    del model, optimized
    gc.collect()
    assert reference() is None


class _Loud(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) + 100

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def test_a_module_with_its_own_call() -> None:
    module = _Loud()
    optimized = capture.optimize("eager")(module)
    x = torch.randn(2, 3)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(optimized(x), module(x))


@capture.optimize("eager")
def _adds_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def test_an_optimized_function_is_copied_and_pickled_as_a_function_is() -> None:
    assert copy.copy(_adds_one) is _adds_one and copy.deepcopy({"f": [_adds_one]})["f"][0] is _adds_one
    assert pickle.dumps(_adds_one).count(b"_adds_one") == 1
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(capture.optimize("eager")(lambda x: x))
