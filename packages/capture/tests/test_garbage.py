"""A conversion leaves nothing of its own for the cyclic collector: what a trace made dies when the trace ends.

Programs that count what the collector finds, or that run with it off, see only their own garbage. Torch's graphs are
cycles, and so is every class: those of a graph that was given up, and the classes that stand for classes which the
frame makes, do wait for the collector; but nothing of the trace waits with them.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import gc
import itertools
from types import FrameType, FunctionType, TracebackType
from typing import Any

import pytest
import torch
from lampwork_capture import optimize
from lampwork_capture.config import CaptureConfig
from lampwork_capture.frame_callback import FrameCallback
from lampwork_capture.optimize import eager_backend, with_callback
from lampwork_capture.skip_policy import SkipPolicy

ROUNDS = 3
X = torch.ones(2, 3)
HELD_BY_ERRORS = (FrameType, TracebackType)


class CountingCallback(FrameCallback):
    """Converts frames without tensor work too, and keeps none."""

    def __init__(self) -> None:
        config = CaptureConfig(strict=True, verify=True, convert_without_tensor_work=True)
        super().__init__(eager_backend, "eager", config, SkipPolicy(), keep_records=False)
        self.conversions = 0

    def _convert(self, view: Any, entries: tuple[Any, ...]) -> Any:
        self.conversions += 1
        return super()._convert(view, entries)


CALLBACK = CountingCallback()


class Thing:
    value = 3


class Pair(tuple):
    pass


class Names(dict):
    pass


Point = collections.namedtuple("Point", "x y")
RING: list[Any] = [1]
RING.append(RING)


# Without tensors


def returns(a):
    return [b * 2 for b in range(a)]


def holds_itself(a):
    items: list[Any] = [a]
    items.append(items)
    return len(items)


def dropped_while_it_held_itself(a):
    table: dict[str, Any] = {}
    table["self"] = table
    del table
    return a


def two_that_hold_each_other(a):
    one, other = Thing(), Thing()
    one.other, other.other = other, one
    return a


def reads_a_ring(a):
    return RING[1][1][0] + a


def calls_itself(a):
    def down(n):
        return n and down(n - 1)

    return down(a)


def breaks(a):
    gc.isenabled()
    return a + 1


def breaks_in_a_callee(a):
    def inner(b):
        gc.isenabled()
        return b

    return inner(a) + 1


def breaks_in_each_round(a):
    total = 0
    for b in range(a):
        gc.isenabled()
        total += b
    return total


def breaks_in_with(a):
    with contextlib.suppress(ValueError):
        gc.isenabled()
        return a
    return 0


def catches(a):
    try:
        return a / 0
    except ZeroDivisionError as error:
        return str(error)


def keeps_what_it_caught(a):
    found = None
    try:
        raise ValueError(a)
    except ValueError as error:
        found = error
        gc.isenabled()
    return found.args


def catches_what_a_broken_callee_raised(a):
    def inner():
        gc.isenabled()
        raise ValueError(a)

    try:
        inner()
    except ValueError as error:
        return error.args


def raises(a):
    try:
        raise ValueError(a)
    finally:
        a += 1


def generates(a):
    def items():
        yield from range(a)

    return sum(items()) + next(items())


def leaves_a_generator_early(a):
    def items():
        own = items
        for b in range(a):
            yield b, own

    for b, _ in items():
        return b


def containers_with_a_class_of_their_own(a):
    return len(Pair((a, 2))) + len(Names(b=a)) + Point(a, 1).x


def reads_an_instance_dict(a):
    thing = Thing()
    thing.__dict__["a"] = a
    return thing.a


def asks_until(a):
    left = [a, a - 1, 0]
    return list(iter(lambda: left.pop(0), 0))


def groups(a):
    return [(key, len(list(group))) for key, group in itertools.groupby([a, a, 1])]


def a_circle_of_contexts(a):
    try:
        try:
            raise ValueError(a)
        except ValueError as error:
            raise KeyError(a) from error
    except KeyError as error:
        error.__cause__.__context__ = error
        error.__cause__.__cause__ = error
    return a


def copies_what_holds_itself(a):
    items: list[Any] = [a]
    items.append(items)
    return copy.deepcopy(items)[1][1][0]


def takes_keywords(a):
    return "{a}".format(a=a), "a b".split(maxsplit=1)


def writes_a_cell(a):
    def bump():
        nonlocal a
        a += 1
        return bump

    bump()()
    return a


def makes_a_class_that_cannot_be(a):
    try:

        class Bad(bool):
            pass

    except TypeError:
        return a


WITHOUT_TENSORS = [
    returns,
    holds_itself,
    dropped_while_it_held_itself,
    two_that_hold_each_other,
    reads_a_ring,
    calls_itself,
    breaks,
    breaks_in_a_callee,
    breaks_in_each_round,
    breaks_in_with,
    catches,
    keeps_what_it_caught,
    catches_what_a_broken_callee_raised,
    raises,
    generates,
    leaves_a_generator_early,
    containers_with_a_class_of_their_own,
    reads_an_instance_dict,
    asks_until,
    groups,
    a_circle_of_contexts,
    copies_what_holds_itself,
    takes_keywords,
    writes_a_cell,
    makes_a_class_that_cannot_be,
]


# With tensors

LINEAR = torch.nn.Linear(3, 3)


def computes(a):
    return torch.relu(X + a)


def calls_a_module(a):
    return LINEAR(X) * a


def breaks_between(a):
    y = X + a
    gc.isenabled()
    return y * 2


def breaks_at_data(a):
    y = X * a
    if y.sum() > 3:
        return y + 1
    return y


def breaks_at_an_error(a):
    try:
        return torch.mm(X * a, X)
    except RuntimeError:
        return X


def computes_without_grad(a):
    with torch.no_grad():
        return X + a


def maps(a):
    return torch.vmap(lambda row: row * a)(X)


def fails_in_a_map(a):
    return torch.vmap(lambda row: row * row.sum().item())(X * a)


def passes_a_sparse_tensor(a):
    sparse = (X * a).to_sparse()
    return [sparse, X + a]


def hooks(a):
    handle = LINEAR.register_forward_hook(lambda module, args, result: result + a)
    try:
        return LINEAR(X)
    finally:
        handle.remove()


def makes_a_class(a):
    class Made:
        def __init__(self, value):
            self.value = value

    class Derived(Made):
        pass

    return X + Derived(a).value


WITH_TENSORS = [
    computes,
    calls_a_module,
    breaks_between,
    breaks_at_data,
    breaks_at_an_error,
    computes_without_grad,
    maps,
    fails_in_a_map,
    passes_a_sparse_tensor,
    hooks,
    makes_a_class,
]


def copies_of(function: FunctionType, names: list[str]) -> list[FunctionType]:
    """The same function with code objects of their own, which nothing was converted of."""
    code = function.__code__
    return [FunctionType(code.replace(co_name=name), function.__globals__, name) for name in names]


def found_after(functions: list[Any]) -> list[Any]:
    """What the collector finds after a call of each."""
    gc.collect()
    gc.freeze()  # it need not look at all the rest
    gc.disable()
    try:
        for function in functions:
            with contextlib.suppress(ValueError, RuntimeError):
                function(3)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.unfreeze()


def found_with_and_without(function: FunctionType) -> tuple[list[Any], list[Any]]:
    """What the collector finds after first calls that are converted, and after plain ones."""
    rounds = [f"round_{i}" for i in range(ROUNDS)]
    found_after([with_callback(made, CALLBACK) for made in copies_of(function, ["warm"])])  # whatever is made once
    before = CALLBACK.conversions
    found = found_after([with_callback(made, CALLBACK) for made in copies_of(function, rounds)])
    assert CALLBACK.conversions >= before + ROUNDS
    return found, found_after(list(copies_of(function, rounds)))


@pytest.mark.parametrize("function", WITHOUT_TENSORS)
def test_conversions_without_tensors_leave_nothing_for_the_collector(function):
    found, plain = found_with_and_without(function)
    assert not collections.Counter(map(type, found)) - collections.Counter(map(type, plain))


@pytest.mark.parametrize("function", WITH_TENSORS)
def test_conversions_with_tensors_leave_nothing_of_ours(function):
    found, _ = found_with_and_without(function)
    ours = [obj for obj in found if type(obj).__module__.startswith("lampwork") or isinstance(obj, HELD_BY_ERRORS)]
    assert not collections.Counter(type(obj).__name__ for obj in ours)


def is_a_generator(a):
    yield a


def test_a_skipped_frame_leaves_nothing_for_the_collector():
    """As users call it: frames that do no tensor work are given up."""
    for function in (returns, breaks_in_a_callee, two_that_hold_each_other, is_a_generator):
        converted = [optimize("eager")(made) for made in copies_of(function, ["warm", "a", "b"])]
        found_after(converted[:1])
        found, plain = found_after(converted[1:]), found_after(list(copies_of(function, ["a", "b"])))
        assert len(found) == len(plain), function
