"""What can be seen of a captured frame from outside is as in eager: tracebacks, stack, trace functions."""

from __future__ import annotations

import sys
import traceback
import weakref

import lampwork_capture
import pytest
import torch
from lampwork_capture import graph_break


def both(function, *args):
    """The eager and the captured result of two calls each."""
    lampwork_capture.reset()
    optimized = lampwork_capture.optimize("eager")(function)
    return [function(*args), function(*args)], [optimized(*args), optimized(*args)]


def names_of_stack(_=None):
    return [entry.name for entry in traceback.extract_stack() if __file__ in entry.filename][-3:]


def test_a_frame_that_resumes_is_one_frame():
    def inner(x):
        graph_break()
        y = x + 1
        graph_break()
        z = y * 2
        return names_of_stack(), z.sum().item()

    def outer(x):
        return inner(x)

    eager, captured = both(outer, torch.ones(2))
    assert eager == captured


def test_traceback_after_breaks():
    def fails(x):
        graph_break()
        y = x + 1
        graph_break()
        return y.sum() + undefined_name

    def lines(x):
        try:
            fails(x)
        except NameError as error:
            return [(entry.name, entry.lineno) for entry in traceback.extract_tb(error.__traceback__)][-1:]

    def count(x, called):
        try:
            called(x)
        except NameError as error:
            return len([e for e in traceback.extract_tb(error.__traceback__) if e.name == "fails"])

    assert lines(torch.ones(2)) == lampwork_capture.optimize("eager")(lines)(torch.ones(2))
    optimized = lampwork_capture.optimize("eager")(fails)
    assert count(torch.ones(2), fails) == count(torch.ones(2), optimized) == 1


def test_a_trace_function_sees_the_lines():
    lines = []

    def tracer(frame, event, argument):
        if frame.f_code.co_name == "function" and event == "line":
            lines.append(frame.f_lineno)
        return tracer

    def function(x):
        y = x + 1
        return y * 2

    def run(called):
        lines.clear()
        before = sys.gettrace()
        sys.settrace(tracer)
        try:
            called(torch.ones(2))
        finally:
            sys.settrace(before)
        return list(lines)

    optimized = lampwork_capture.optimize("eager")(function)
    optimized(torch.ones(2))
    assert run(function) == run(optimized) != []


def test_an_exception_that_outlives_its_handler_has_traceback_and_context():
    def function(x):
        kept = None
        try:
            try:
                raise ValueError(1)
            finally:
                raise KeyError(2)
        except KeyError as error:
            kept = error
        y = x + 1
        return kept, y

    def shown(result):
        error = result[0]
        return (
            repr(error),
            repr(error.__context__),
            error.__traceback__ is not None,
            error.__context__.__traceback__ is not None,
            result[1].tolist(),
        )

    eager, captured = both(function, torch.ones(2))
    assert [shown(r) for r in eager] == [shown(r) for r in captured]


def test_calls_that_eager_refuses():
    def function(x):
        names = []
        for call in (
            lambda: bool(x=1),
            lambda: int(x="10"),
            lambda: list(sequence=()),
            lambda: getattr(x),
            lambda: callable(),
            lambda: UnicodeDecodeError("a"),
        ):
            try:
                call()
            except TypeError as error:
                names.append(type(error).__name__)
            else:
                names.append("no error")
        return names, (x + 1).tolist()

    eager, captured = both(function, torch.ones(2))
    assert eager == captured
    assert eager[0][0] == ["TypeError"] * 6


def test_conversion_has_a_recursion_budget_of_its_own():
    def deep(x, n):
        return x + 1 if n == 0 else bottom(x, n - 1)

    def bottom(x, n):
        graph_break()
        return deep(x, n)

    limit = sys.getrecursionlimit()

    def call(called):
        sys.setrecursionlimit(len(traceback.extract_stack()) + 60)
        try:
            return called(torch.ones(2), 8).tolist()
        finally:
            sys.setrecursionlimit(limit)

    optimized = lampwork_capture.optimize("eager")(deep)
    assert call(deep) == call(optimized) == call(optimized)


class Owner:
    """An object of which a weak reference can tell whether it is alive."""


def _alive_after_del(x, one, other):
    known = weakref.ref(one), weakref.ref(other)
    print("first", end="")
    x = x + 1
    del one
    print("second", end="")
    alive = [reference() is not None for reference in known]
    del other
    print("third", end="")
    return x * 2, alive, [reference() is not None for reference in known]


def _middle(x):
    return _alive_after_del(x + 1, Owner(), Owner())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there a caller holds what it passed")
@pytest.mark.parametrize("outermost", [_middle, lambda x: _middle(x * 3)], ids=["one caller", "two callers"])
def test_a_resumed_callee_alone_holds_its_arguments(outermost):
    """What an inlined frame deletes behind a break is gone, however often its callers were resumed."""
    expected, results = both(outermost, torch.ones(2))
    for plain, result in zip(expected, results):
        assert result[1:] == plain[1:] == ([False, True], [False, False])
        assert torch.equal(result[0], plain[0])
