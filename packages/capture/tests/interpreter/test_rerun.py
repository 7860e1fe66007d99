"""Operations that raise for some data, in a `try` or behind side effects: one graph, and eager where it raises."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
import torch.utils._pytree as pytree

TABLE = torch.arange(15.0).reshape(5, 3)


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


def make_write_then_effect(size=3):
    noted, written = Noted(), torch.zeros(size)

    def function(index):
        written.add_(1)
        noted.value = 1
        return TABLE[index], written.clone(), dict(noted.__dict__)

    function.count = noted.__dict__
    return function


def make_write_to_much_then_effect():
    """More memory than a copy is kept of in case that the graph raises."""
    return make_write_then_effect(1 << 15)


def make_writes_to_parts_of_one():
    """Both are inputs; the counter of the module is too, and what writes to it has no sign of that in its schema."""
    base, norm = torch.zeros(4, 3), torch.nn.BatchNorm1d(3)

    def function(index):
        base[1:].add_(1)
        y = norm(base + torch.arange(4.0)[:, None])
        try:
            return TABLE[index] + y.sum(), base.clone(), norm.running_mean.clone(), norm.num_batches_tracked.clone()
        except IndexError:
            base[0].mul_(2)
            return base.clone(), norm.running_mean.clone(), norm.num_batches_tracked.clone()

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
    make_write_after,
    make_write_before,
    make_write_at_mask_of_counted,
    make_write_then_effect,
    make_writes_to_parts_of_one,
]
BROKEN = [make_custom_operator_caught, make_write_to_much_then_effect]


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
    assert bool(found.graph_breaks) == (make in BROKEN)
    assert make in BROKEN or len(found.graphs) == 1


WRITES = {
    "bytes": lambda kept, weight: kept.add_(weight.detach()),
    "a gradient": lambda kept, weight: kept.add_(weight),
    "sizes": lambda kept, weight: kept.unsqueeze_(0),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_a_copy_of_bytes_does_not_bring_back_breaks_the_graph(what):
    write = WRITES[what]

    def function(kept, weight, index):
        write(kept, weight)
        try:
            return TABLE[index] * 2
        except IndexError:
            return kept * 2

    weight = torch.ones(3, requires_grad=True)
    found = capture.capture(function, torch.zeros(3), weight, torch.tensor([0]))
    assert bool(found.graph_breaks) == (what != "bytes")
    optimized = capture.optimize("eager")(function)
    for last in (2, 9):
        mine, theirs = torch.zeros(3), torch.zeros(3)
        actual, expected = (f(x, weight, torch.tensor([last])) for f, x in ((optimized, mine), (function, theirs)))
        assert torch.equal(actual, expected) and torch.equal(mine, theirs)
        assert (mine.requires_grad, actual.requires_grad) == (theirs.requires_grad, expected.requires_grad)


def test_a_handler_of_missing_kernels_does_not_see_an_index_that_is_out_of_range():
    """So a write in front of it, to more than is copied, stays in the graph."""

    def function(much, index):
        much.add_(1)
        try:
            much.index_copy_(0, index, torch.ones(1))
        except NotImplementedError:
            much[index] = 1
        return much * 2

    much, index = torch.zeros(1 << 15), torch.tensor([3])
    optimized = capture.optimize("eager", fullgraph=True)(function)
    assert torch.equal(optimized(much.clone(), index), function(much.clone(), index))
    with pytest.raises(IndexError):
        optimized(much, torch.tensor([1 << 15]))
    assert much.sum() == 1 << 15


def test_a_dtype_that_may_lack_a_kernel_is_seen():
    def function(much, index):
        much.add_(1)
        try:
            return TABLE.to(torch.uint16)[index]
        except NotImplementedError:
            return TABLE

    found = capture.capture(function, torch.zeros(1 << 15), torch.tensor([3]))
    assert found.graph_breaks


class CompileableContextVar:
    """As `transformers` has it while a model is captured."""

    def __init__(self):
        self.global_var = None
        self.compiling = False

    def set(self, value):
        self.global_var, self.compiling = value, True

    def reset(self, token):
        self.global_var, self.compiling = None, False


CompileableContextVar.__module__ = "transformers.utils"
COLLECTOR, OTHER = CompileableContextVar(), CompileableContextVar()


@pytest.mark.parametrize("is_seen", [False, True])
def test_what_a_finally_takes_back_is_no_side_effect(is_seen):
    def function(much, index):
        token = COLLECTOR.set([])
        if is_seen:
            OTHER.set([])
        try:
            y = F.embedding(index, TABLE)
            much.add_(1)
        finally:
            COLLECTOR.reset(token)
        OTHER.reset(None)
        return y

    found = capture.capture(function, torch.zeros(1 << 15), torch.tensor([3]))
    assert bool(found.graph_breaks) == is_seen
    optimized, much = capture.optimize("eager")(function), torch.zeros(1 << 15)
    assert torch.equal(optimized(much, torch.tensor([3])), TABLE[3:4])
    with pytest.raises(IndexError):
        optimized(much, torch.tensor([30]))
    assert (COLLECTOR.compiling, OTHER.compiling, much[0].item()) == (False, is_seen, 1)
    OTHER.reset(None)


def test_another_class_of_that_name_is_another_handler():
    namespace = {"NotImplementedError": IndexError, "TABLE": TABLE}
    source = """
def function(much, index):
    much.add_(1)
    try:
        return TABLE[index]
    except NotImplementedError:
        return TABLE
"""
    exec(source, namespace)
    optimized = capture.optimize("eager")(namespace["function"])
    much = torch.zeros(1 << 15)
    assert torch.equal(optimized(much, torch.tensor([3])), TABLE[3:4])
    assert torch.equal(optimized(much, torch.tensor([30])), TABLE)
    del namespace["NotImplementedError"]
    with pytest.raises(IndexError):
        optimized(much, torch.tensor([30]))


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
