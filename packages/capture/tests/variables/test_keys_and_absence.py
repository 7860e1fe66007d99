"""Tensors as keys, globals that are absent, complex zeros: what a second call with other facts must see."""

from __future__ import annotations

import lampwork_capture as capture
import torch


def test_tensors_in_a_set_are_guarded_to_be_distinct():
    optimized = capture.optimize("eager")(lambda x, y: (x + 1, len({x, y})))
    a, b = torch.ones(1), torch.ones(1)
    assert optimized(a, b)[1] == 2
    assert optimized(a, a)[1] == 1
    assert optimized(a, b)[1] == 2


def test_an_absent_global_is_guarded():
    def function(x):
        global absent_at_first
        try:
            del absent_at_first
        except NameError:
            absent_at_first = x + 1  # noqa: F841
            return "was absent"
        return "deleted"

    optimized = capture.optimize("eager")(function)
    assert [optimized(torch.ones(1)) for _ in range(4)] == ["was absent", "deleted", "was absent", "deleted"]


def test_complex_zeros_keep_their_signs():
    def function(x, k):
        return (x * k).tolist(), k

    optimized = capture.optimize("eager")(function)
    numbers = (0j, complex(-0.0, 0), complex(0, -0.0), complex(-0.0, -0.0), complex(1, float("inf")), 1 + 2j)
    for number in numbers:
        assert repr(optimized(torch.ones(1), number)) == repr(function(torch.ones(1), number))
