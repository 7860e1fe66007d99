"""Traces without tensor work: their breaks, rounds and guards are bounded, and what they do is as in eager."""

from __future__ import annotations

import gc

import lampwork_capture
import torch
from lampwork_capture.idle_breaks import IdleBreaks


def causes_of(f, *args):
    frames = lampwork_capture.capture(f, *args).frames
    return [frame.graph_break.cause for frame in frames if frame.graph_break]


def test_a_function_that_keeps_breaking_runs_natively():
    seen, names = [], [torch]  # it can reach tensors, and does not

    def helper(number):
        gc.isenabled()  # not modelled: a break
        seen.append(number)
        return number + len(names)

    def f(x):
        a = helper(1) + helper(2) + helper(3) + helper(4)
        b = helper(5) + helper(6) + helper(7) + helper(8)
        return x + a + b

    expected = f(torch.ones(2))
    seen.clear()
    causes = causes_of(f, torch.ones(2))
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]
    assert sum("keep breaking" in cause for cause in causes) == 3  # once it is in the middle of it
    assert torch.equal(lampwork_capture.optimize("eager")(f)(torch.ones(2)), expected)


def test_with_tensor_work_every_break_is_resumed():
    def helper(number):
        gc.isenabled()
        return number + 1

    def f(x):
        for_each = [x.sin() + helper(n) for n in ()]
        y = x.cos()
        y = y + helper(1) + helper(2)
        return y.sin() + helper(3) + helper(4) + helper(5) + helper(6) + helper(7) + helper(8) + helper(9), for_each

    causes = causes_of(f, torch.ones(2))
    assert not any("keep breaking" in cause for cause in causes)


def test_resume_functions_count_as_their_function():
    breaks = IdleBreaks()

    def f():
        return 1

    same = f.__code__.replace(co_consts=(None, 2))
    for _ in range(3):
        breaks.note([f.__code__])
        breaks.note([same])
    assert breaks.runs_natively(f.__code__)
    assert not breaks.runs_natively(causes_of.__code__)


def test_long_loops_without_tensors_run_natively():
    def f(x, n):
        total = 0
        for i in range(n):
            total += i % 3
        return x + total

    causes = causes_of(f, torch.ones(2), 4000)
    assert any("rounds and calls without tensor work" in cause for cause in causes)
    assert not causes_of(f, torch.ones(2), 500)
    whole = lampwork_capture.optimize("eager", fullgraph=True)(f)
    assert torch.equal(whole(torch.ones(2), 4000), f(torch.ones(2), 4000))


def test_a_container_of_many_numbers_is_not_guarded_one_by_one():
    def f(x, items):
        return x + sum(sorted(items))

    causes = causes_of(f, torch.ones(2), list(range(12_000)))
    assert any("guards on what is looked at" in cause for cause in causes)
    assert not causes_of(f, torch.ones(2), list(range(100)))
