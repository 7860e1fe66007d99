"""Why a guard failed (`guards.reason`): told without running code of the user's."""

from __future__ import annotations

import gc

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture.guards.facts import ByIdentity, ConstantIs, Guard, GuardSet, TypeIs
from lampwork_capture.guards.reason import first_failure, weakened
from lampwork_capture.source import FrameScope, LocalSource


class Logging(torch.Tensor):
    """Notes each function of torch that sees it."""

    seen: list[str] = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        Logging.seen.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.fixture
def logging_tensor():
    found = torch.ones(2).as_subclass(Logging)
    Logging.seen.clear()
    return found


def test_a_tensor_subclass_sees_what_the_program_does_with_it(logging_tensor) -> None:
    optimized = capture.optimize("eager")(lambda x: x + 1)
    optimized(torch.ones(2))
    optimized(logging_tensor)
    assert Logging.seen == ["add"]


def test_a_tensor_subclass_in_place_of_a_constant(logging_tensor) -> None:
    guards = GuardSet((Guard(ConstantIs(LocalSource("x"), ByIdentity(None))),))
    failure = first_failure(guards, FrameScope({"x": logging_tensor}, {}, {}, {}))
    assert failure is not None and "a tensor of sizes (2,)" in failure.words
    assert Logging.seen == []


def test_facts_about_a_class_are_equal_to_their_like():
    class One:
        pass

    def weak(cls):
        (guard,) = weakened(GuardSet((Guard(TypeIs(LocalSource("x"), cls)),)))
        return guard.fact

    strong, first, second = TypeIs(LocalSource("x"), One), weak(One), weak(One)
    assert first == second and hash(first) == hash(second)
    assert first != strong and strong != first and first != weak(int)
    known = hash(first)
    del strong, One
    gc.collect()
    assert first == second and hash(first) == known
