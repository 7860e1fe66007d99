"""Graphs that call code of the user's, operators and hooks on saved tensors: it runs as often as in eager, whatever
raises, and what it raises is raised. Only for side effects in front of an error that leaves the frame does it run
twice, and a warning says so."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

LOG: list[str] = []


@torch.library.custom_op("lampwork_user_code_tests::logged", mutates_args=())
def logged(x: torch.Tensor) -> torch.Tensor:
    LOG.append("called")
    if x.max() > 5:
        raise ValueError("too large")
    return x.clone()


@logged.register_fake
def _(x):
    return torch.empty_like(x)


def run_from_python(x):
    LOG.append("called")
    if LOG.count("called") == 1:
        raise ValueError("the first call")
    return x.clone()


LIBRARY = torch.library.Library("lampwork_user_code_tests", "FRAGMENT")
LIBRARY.define("composite(Tensor x) -> Tensor")


@capture.allow_in_graph
def allowed(x):
    return run_from_python(x) if type(x) is torch.Tensor else x + 0


LIBRARY.impl("composite", allowed, "CompositeImplicitAutograd")


def alone(x, index):
    return logged(x) * 2


def raises_after(x, index):
    return logged(x)[index]


def caught(x, index):
    y = x * 2
    try:
        return logged(y) + 1
    except ValueError as error:
        LOG.append(str(error))
        return y


def caught_after(x, index):
    y = logged(x)
    try:
        return y[index]
    except IndexError as error:
        LOG.append(str(error))
        return y


def caught_before(x, index):
    try:
        y = x[index]
    except IndexError as error:
        LOG.append(str(error))
        y = x
    return logged(y)


def asserted_before(x, index):
    if not (x < 4).all():
        raise TypeError("refused")
    return logged(x)


def composite(x, index):
    return torch.ops.lampwork_user_code_tests.composite(x) + 1


def in_graph(x, index):
    return allowed(x) + 1


CALLS = [(1.0, 0), (7.0, 0), (1.0, 9), (7.0, 9), (2.0, 0)]


def outcomes(function, wrap):
    call, found = wrap(function), []
    LOG.clear()
    for value, index in CALLS:
        try:
            found.append(call(torch.full((2,), value), torch.tensor([index])).tolist())
        except Exception as error:
            found.append((type(error), str(error)))
        found.append(list(LOG))
    return found


BEFORE_AND_AFTER = [caught_after, caught_before, asserted_before]


@pytest.mark.filterwarnings("ignore:The compiled graph:lampwork_capture.CaptureWarning")
@pytest.mark.parametrize("function", [alone, raises_after, caught, *BEFORE_AND_AFTER, composite, in_graph])
def test_an_operator_runs_as_often_as_in_eager(function):
    assert outcomes(function, capture.optimize("eager")) == outcomes(function, lambda f: f)


def test_an_operator_stays_in_the_graph_where_nothing_sees_when_it_raises():
    assert len(capture.capture(raises_after, torch.ones(2), torch.tensor([0])).graphs) == 1


class Cached(torch.nn.Module):
    """Keeps tensors and counts in front of an operator, as a key-value cache does."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation
        self.kept: torch.Tensor | None = None
        self.steps: list[str] = []

    def forward(self, x):
        self.kept = x * 2
        self.steps.append("before")
        y = self.operation(x) + 1
        self.steps.append("after")
        return y


def forward_calls(module, wrap):
    """What calls give, with what they leave in the module and how often the operator ran."""
    call, found = wrap(module), []
    for value in (1.0, 7.0, 2.0):
        LOG.clear()
        try:
            result = call(torch.full((2,), value)).tolist()
        except ValueError as error:
            result = str(error)
        found.append((result, module.kept.tolist(), list(module.steps), len(LOG)))
    return found


@capture.allow_in_graph
def refuses_large(x):
    if type(x) is torch.Tensor and x.max() > 5:
        raise ValueError("too large")
    return x.clone()


@pytest.mark.parametrize("operation", [logged, refuses_large])
def test_side_effects_in_front_of_code_of_the_users_do_not_break_the_graph(operation):
    expected = forward_calls(Cached(operation), lambda module: module)
    with pytest.warns(capture.CaptureWarning, match="may have run twice") as told:
        actual = forward_calls(Cached(operation), lambda module: capture.optimize("eager", fullgraph=True)(module))
    assert len(told) == 1  # of the call that raises
    assert [found[:3] for found in actual] == [found[:3] for found in expected]
    assert [found[3] for found in actual] == ([1, 2, 1] if operation is logged else [0, 0, 0])


@torch.library.custom_op("lampwork_user_code_tests::fails_once", mutates_args=())
def fails_once(x: torch.Tensor) -> torch.Tensor:
    LOG.append("called")
    if len(LOG) == 1:
        raise ValueError("the first call")
    return x.clone()


@fails_once.register_fake
def _(x):
    return torch.empty_like(x)


def test_an_error_that_does_not_come_again_is_told_of():
    LOG.clear()
    module = Cached(fails_once)
    with pytest.warns(capture.CaptureWarning, match="raised where plain Python does not.*may have run twice"):
        result = capture.optimize("eager", fullgraph=True)(module)(torch.ones(2))
    assert result.tolist() == [2.0, 2.0] and module.steps == ["before", "after"]


def test_a_handler_in_the_frame_breaks_the_graph_at_code_of_the_users():
    for function in (caught, caught_after, caught_before):
        assert capture.capture(function, torch.ones(2), torch.tensor([0])).graph_breaks


@pytest.mark.filterwarnings("ignore:The compiled graph:lampwork_capture.CaptureWarning")
def test_an_assertion_beside_code_of_the_users_stays_in_the_graph():
    def asserted_after(x, index):
        y = logged(x)
        if not (y < 4).all():
            raise TypeError("refused")
        return y

    for function in (asserted_before, asserted_after):
        assert not capture.capture(function, torch.ones(2), torch.tensor([0])).graph_breaks
        with pytest.raises(TypeError, match="refused"):
            capture.optimize("eager")(function)(torch.full((2,), 4.5), torch.tensor([0]))


def hooked(call, raising):
    """What a hook sees around a call."""
    LOG.clear()

    def pack(tensor):
        LOG.append("packed")
        if LOG.count("packed") == raising:
            raise KeyError("a hook")
        return tensor

    x = torch.ones(2, requires_grad=True)
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        try:
            call(x, torch.tensor([9]))
        except (KeyError, IndexError) as error:
            LOG.append(str(error))
    return list(LOG)


def computes(x, index):
    return x.sin().exp()


def computes_then_raises(x, index):
    return x.sin()[index]


def computes_then_catches(x, index):
    y = x.sin()
    try:
        return y[index]
    except IndexError:
        LOG.append("caught")
        return y.exp()


@pytest.mark.parametrize("function", [computes, computes_then_raises, computes_then_catches])
@pytest.mark.parametrize("is_captured_before", [False, True])
def test_a_hook_on_saved_tensors_runs_as_often_as_in_eager(function, is_captured_before):
    for raising in (0, 1, 2):
        optimized = capture.optimize("eager")(function)
        if is_captured_before:
            optimized(torch.ones(2, requires_grad=True), torch.tensor([0]))
        assert hooked(optimized, raising) == hooked(function, raising)


class Layer(torch.nn.Module):
    def forward(self, x):
        return x.sin().cos()


@pytest.mark.parametrize("make", [lambda: lambda x: x.sin().cos(), Layer])
def test_a_captured_function_inside_checkpoint(make):
    """Recomputing stops by an exception that a hook raises, as soon as all that is needed was computed."""
    found = []
    for wrap in (lambda f: f, capture.optimize("eager")):
        x = torch.ones(2, requires_grad=True)
        function = wrap(make())
        for _ in range(2):
            checkpoint(function, x, use_reentrant=False).sum().backward()
            function(x).sum().backward()
        found.append(x.grad)
    assert torch.equal(*found)


@capture.allow_in_graph
def noting(x):
    LOG.append("ran")
    return x + 1


def changes_and_breaks(x):
    LOG.append("frame")
    try:
        y = noting(x)
    except ValueError:
        y = x
    return y * 2


@pytest.mark.parametrize("strict", [False, True])
def test_code_that_changes_what_is_guarded_while_it_is_traced_is_told_of_once(strict, monkeypatch):
    """Its function runs on fake tensors, too: each trace would leave the list in another state than it found."""
    LOG.clear()
    monkeypatch.setenv("LAMPWORK_STRICT", str(int(strict)))
    optimized = capture.optimize("eager")(changes_and_breaks)
    if strict:
        with pytest.raises(capture.CaptureError, match="do not hold where they were made"):
            optimized(torch.ones(2))
        return
    with pytest.warns(capture.CaptureWarning, match="do not hold where they were made") as told:
        optimized(torch.ones(2))
        for _ in range(5):
            LOG.clear()
            assert optimized(torch.ones(2)).tolist() == [4.0, 4.0]
            assert LOG == ["frame", "ran"]  # a trace would have run it once more
    assert len(told) == 1
