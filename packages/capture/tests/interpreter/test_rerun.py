"""Operations that raise for some data, in a `try` or behind side effects: one graph, and eager where it raises."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree

TABLE = torch.arange(15.0).reshape(5, 3)
WRITTEN = torch.zeros(3)


def make_caught():
    def function(index):
        try:
            return F.embedding(index, TABLE) * 2
        except IndexError as error:
            return str(error)

    return function


def make_side_effect_before():
    log = []

    def function(index):
        log.append(1)
        y = F.embedding(index, TABLE)
        log.append(2)
        return y, list(log)

    return function


def make_finally():
    log = []

    def function(index):
        y = TABLE.clone()
        y.add_(1)
        try:
            log.append(index.shape[0])
            z = y[index]
            log.append("taken")
        except (IndexError, RuntimeError) as error:
            log.append(type(error).__name__)
            z = y
        finally:
            log.append("left")
        return z + 1, list(log)

    return function


def make_random():
    def function(index):
        first = torch.rand(3)
        try:
            y = TABLE[index] * torch.rand(3)
        except (IndexError, RuntimeError):
            y = torch.rand(3)
        return first, y, torch.rand(2)

    return function


def make_arguments_and_cells():
    count = 0

    def function(index, *rest, scale=3, **named):
        nonlocal count
        count += 1
        try:
            y = TABLE[index] + scale
        except IndexError:
            y = TABLE * scale

        def inner():
            return y

        return inner() + count, rest, named

    return function


class Counting(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.embedding = torch.nn.Embedding(5, 3)
        self.count = 0

    def forward(self, index):
        self.count += 1
        try:
            return self.embedding(index), self.count
        finally:
            self.count += 10


def make_write_after():
    def function(index):
        try:
            y = TABLE[index]
        except IndexError:
            y = TABLE
        index.add_(1)
        return y, index

    return function


def make_write_before():
    def function(index):
        index.add_(1)
        try:
            y = TABLE[index]
        except IndexError:
            y = TABLE
        return y, index

    return function


def make_write_behind_what_never_raises():
    """Neither depends on data: what fits any count, written at a mask; and what fake tensors compute with an index."""

    def function(index):
        try:
            index[index > 1] = 7
            resized = F.interpolate(TABLE[None, None], size=(3, 3), mode="bilinear")
        except RuntimeError:
            resized = TABLE
        index.add_(1)
        return index, resized

    return function


def make_write_at_mask_of_counted():
    def function(index):
        try:
            index[index > 1] = torch.tensor([8, 9])
        except RuntimeError as error:
            index.add_(5)
            return str(error), index
        return index.add_(1)

    return function


class Noted:
    """What programs write attributes to."""


def make_write_then_effect():
    noted = Noted()

    def function(index):
        WRITTEN.add_(1)
        noted.value = 1
        return TABLE[index], dict(noted.__dict__)

    function.count = noted.__dict__
    return function


def make_one_hot():
    def function(index):
        try:
            return F.one_hot(index, 3)
        except RuntimeError:
            return "caught"

    return function


@torch.library.custom_op("lampwork_rerun_tests::checked", mutates_args=())
def checked(x: torch.Tensor) -> torch.Tensor:
    if x.max() > 5:
        raise ValueError("too large")
    return x.clone()


@checked.register_fake
def _(x):
    return torch.empty_like(x)


def make_custom_operator():
    noted = Noted()

    def function(index):
        noted.kept = index.shape[0]
        y = checked(index)
        noted.checked = True
        return y

    function.count = noted.__dict__
    return function


def make_custom_operator_caught():
    def function(index):
        y = index + 1
        try:
            return checked(y)
        except ValueError as error:
            return str(error)

    return function


WHOLE = [
    make_one_hot,
    make_custom_operator,
    make_caught,
    make_side_effect_before,
    make_write_behind_what_never_raises,
    make_finally,
    make_random,
    make_arguments_and_cells,
    Counting,
]
BROKEN = [
    make_custom_operator_caught,
    make_write_after,
    make_write_before,
    make_write_at_mask_of_counted,
    make_write_then_effect,
]


def outcomes(make, wrap):
    torch.manual_seed(0)
    function = make()
    call = wrap(function)
    found = []
    for last in (2, 9, 1, 9, 9, 0):
        try:
            found.append(call(torch.tensor([0, 1, last])))
        except Exception as error:
            found.append((type(error), str(error)))
        count = getattr(function, "count", None)
        found.append(dict(count) if isinstance(count, dict) else count)
    return [*pytree.tree_leaves(found), torch.rand(1)]


@pytest.mark.filterwarnings("ignore:The compiled graph:lampwork_capture.CaptureWarning")
@pytest.mark.parametrize("make", [*WHOLE, *BROKEN])
def test_raising_operations_behave_as_in_eager(make):
    expected, actual = outcomes(make, lambda f: f), outcomes(make, capture.optimize("eager"))
    for a, b in zip(expected, actual, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    found = capture.capture(make(), torch.tensor([0, 1]))
    assert bool(found.graph_breaks) == (make in BROKEN) and len(found.graphs) == 1


def test_what_the_graph_does_not_handle_goes_through():
    class Stop(BaseException):
        pass

    def backend(module, examples):
        def run(*inputs):
            raise Stop

        return run

    with pytest.raises(Stop):
        capture.optimize(backend)(make_caught())(torch.tensor([0]))


def test_a_graph_that_raises_alone_is_told_of():
    def backend(graph, inputs):
        def broken(*tensors):
            raise ValueError("a kernel of ours")

        return broken

    def f(x):
        return x + 1

    def g(x):
        try:
            return x + 1
        except ValueError:
            return x

    x = torch.ones(2)
    with pytest.warns(capture.CaptureWarning, match="compiled graph of `f`"):
        assert torch.equal(capture.optimize(backend)(f)(x), x + 1)
    assert torch.equal(capture.optimize(backend)(g)(x), x + 1)  # it might have been the program's own error
