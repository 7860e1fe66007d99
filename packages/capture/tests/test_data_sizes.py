"""Sizes and numbers that depend on data: one graph for all of them, and a break with a hint where Python needs them."""

from __future__ import annotations

import warnings

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import aot_backend
from lampwork_capture.errors import GraphBreakError

X = torch.arange(20.0).view(5, 4).sub(7.5).sin()


def n(value):
    return torch.tensor(value)


def bools(*places):
    return torch.tensor([place in places for place in range(5)])


def nonzero(x):
    return x.nonzero() * 2


def nonzero_sum(x):
    return (x > 0).nonzero().sum(0)


def where(x):
    rows, columns = torch.where(x > 0)
    return rows + columns


def masked_select(x):
    return torch.masked_select(x, x > 0).sum()


def unique(x):
    return torch.unique(x) + 1


def unique_with_counts(x):
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    return values[inverse] + counts.sum()


def mask(x, m):
    return x[m] + 1


def mask_twice(x, m):
    return x[m] * x[m].sum(0) + x[m].mean(0, keepdim=True)


def mask_length(x, m):
    return len(x[m]), x[m].shape[0] * 2, x[m].numel()


def mask_linear(x, m):
    return F.linear(x[m], torch.ones(3, 4))


def mask_softmax(x, m):
    return torch.softmax(x[m], -1)


def mask_largest(x, m):
    return x[m].sort(0).values


def mask_parts(x, m):
    return torch.cat([x[m], x[~m]])


def mask_views(x, m):
    return x[m].view(-1, 2, 2).transpose(1, 2).reshape(-1, 4).flatten()


def mask_chunks(x, m):
    first, second = x[m].chunk(2, dim=1)
    return first * second


def mask_write(x, m):
    y = x.clone()
    y[m] = x[m] * 2
    return y


def index_add(x, m):
    index = m.nonzero().squeeze(1)
    return x.index_add(0, index, x[index])


def slice_update(k, x):
    y = x.clone()
    i = k.item()
    y[:i] += 1
    y[i - 1] *= 2
    return y


def mask_rolled(x, m):
    return x[m].roll(1, 0), x[m].flip(0)


def mask_attention(x, m):
    return F.scaled_dot_product_attention(x[m][None, None], x[None, None], x[None, None])


def smaller_length(x, m):
    return min(x[m].shape[0], 3), max(2, len(x[m]))


def size(k, x):
    return torch.zeros(k.item()) + 1, torch.full((k.item(), 2), 3.0)


def rows_of(k, x):
    return x.new_ones((k.item(), 4)) @ torch.ones(4, 3)


def mean_of_range(k, x):
    return torch.arange(k.item()).float().mean()


def first_rows(k, x):
    return x[: k.item()] * 2


def last_rows(k, x):
    return x[k.item() :].sum(0), x[:, k.item() :] + 1


def one_row(k, x):
    return x[k.item()] * 2


def one_of_each(k, x):
    i = k.item()
    return x[:, i], x[..., i], x[None, i], x[i, 1:], x[i, i]


def two_from(k, x):
    return x.narrow(0, k.item(), 2) * 2


def narrow(k, x):
    return x.narrow(0, 0, k.item()) + 1


def bounds_around(k, x):
    i = k.item()
    return x[i:] * 2, x[-i:] + 1, x[i - 2 :] + 1, x[2 - i :] - 1, x[: i - 2] * 3, x[:-i] + 2


def mask_bounds(x, m):
    i = x[m].shape[0]
    return x[i - 2 :] * 2, x[2 - i :] + 1, x[: i - 3] * 2


def mask_views_in_place(x, m):
    y, k, z = x[m], x[m].nonzero(), x[~m]
    y.unsqueeze_(0)
    k.t_()
    return torch.zeros(y.shape[1]), y.shape, k.shape, y.shape[1] + z.shape[0]


def pad(k, x):
    return F.pad(x, (0, 0, 0, k.item()))


def repeat(k, x):
    return x.repeat(k.item(), 1), x[:1].expand(k.item(), 4) + 1


def arithmetic(k, x):
    i = int(k)
    return x * i + i // 2, i * 3 - 1, abs(i), x / (i + 0.5)


def checked(k, x):
    i = k.item()
    torch._check(i >= 0)
    torch._check(i <= x.size(0), lambda: "too many rows")
    return x[:i].relu()


def read_then_written(k, x):
    k = k.clone()
    i = k.item()
    k.add_(1)
    return torch.zeros(i), k, i


def split(k, x):
    return torch.split(x, k.tolist())


def repeat_interleave(k, x):
    return torch.repeat_interleave(x, k, dim=0)


def unique_rows(x):
    values, inverse, counts = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
    return values, values[inverse] * 2, counts.sum()


def unique_rows_of_mask(x, m):
    return torch.unique(x[m], dim=0)


def unique_columns(x):
    return torch.unique(x, dim=-1).t() + 1, torch.unique_consecutive(x, dim=0)


def counts_of_values(k, x):
    return torch.bincount(k, minlength=3) + 1, torch.bincount(k, k * 0.5), torch.bincount(k, minlength=len(x))


def counts_of_at_least(k, x):
    return torch.bincount(torch.arange(4), minlength=k.item()) * 2


def made_of(k, x):
    i = k.item()
    return torch.eye(i) * 2, torch.eye(i, 3), torch.linspace(0, 1, i) + 1, torch.linspace(i, -2, 5, dtype=torch.float64)


def powers(k, x):
    i = k.item()
    return x.abs() ** i, torch.pow(x, i), i**x, (x * 4).long() ** i, x.t().pow(i), (x > 0) ** i


def checked_in_many_ways(k, x):
    i = k.item()
    torch._check_index(i < 5, lambda: f"{i} is too large")
    torch._check_value(i > 0, lambda: "nothing")
    torch._check_type(i != 4)
    torch._check_not_implemented(x.shape[0] > 1)
    return x[:i] * 2, i < 5, x[i - 1]


MASKS = [(X, bools(0, 2, 3)), (X, bools(1)), (X, bools()), (X, bools(*range(5)))]
ROWS = n([[1, 2], [1, 2], [3, 4], [0, 1]])
NUMBERS = [(n(3), X), (n(1), X), (n(2), X)]
PROGRAMS = [
    *((f, [(X,), (X.abs(),), (torch.zeros(2, 2),)]) for f in (nonzero, nonzero_sum, where, masked_select)),
    (unique, [(X,), (torch.ones(3),)]),
    (unique_with_counts, [(n([1, 2, 2, 3]),), (n([1, 1, 1, 1]),)]),
    *((f, MASKS) for f in (mask, mask_length, mask_linear, mask_softmax, mask_largest, mask_parts, mask_views)),
    *((f, MASKS) for f in (mask_bounds, mask_views_in_place)),
    *((f, [*NUMBERS, (n(-2), X), (n(0), X), (n(7), X)]) for f in (bounds_around,)),
    (bounds_around, [(n(i).to(torch.int32), X) for i in (3, -2, 0, 9)]),
    (bounds_around, [(n(i).to(torch.int8), X) for i in (1, -7, 2)]),
    *((f, MASKS) for f in (mask_twice, mask_chunks, mask_write, index_add, smaller_length, mask_rolled)),
    (mask_attention, MASKS),
    *(
        (f, NUMBERS)
        for f in (slice_update, size, rows_of, mean_of_range, narrow, pad, repeat, arithmetic, checked, one_of_each)
    ),
    (two_from, NUMBERS),
    (first_rows, [*NUMBERS, (n(-1), X), (n(0), X), (n(9), X), (n(-9), X)]),
    (last_rows, [*NUMBERS, (n(-1), X), (n(0), X), (n(9), X), (n(-9), X)]),
    (one_row, [*NUMBERS, (n(-1), X), (n([[2]]), X), (n(3).to(torch.uint8), X)]),
    (read_then_written, NUMBERS),
    (split, [(n([2, 3]), X), (n([1, 4]), X), (n([0, 5]), X)]),
    (unique_rows, [(ROWS,), (ROWS[:1].expand(4, 2).clone(),), (ROWS.flip(0),)]),
    (unique_rows_of_mask, [MASKS[0], MASKS[1], MASKS[3], MASKS[2]]),
    (unique_columns, [(ROWS,), (ROWS[:, :1].expand(4, 2).clone(),), (ROWS[:1].expand(4, 2).clone(),)]),
    (counts_of_values, [(n([1, 2, 2]), X), (n([0, 7, 1]), X), (n([0, 0, 0]), X)]),
    (counts_of_at_least, [*NUMBERS, (n(9), X), (n(0), X)]),
    *((f, NUMBERS) for f in (made_of, powers, checked_in_many_ways)),
    (repeat_interleave, [(n([1, 2, 3, 0, 1]), X), (n([0, 0, 0, 0, 1]), X)]),
]


def same(expected, found):
    if isinstance(expected, (tuple, list)):
        assert type(expected) is type(found) and len(expected) == len(found)
        for pair in zip(expected, found):
            same(*pair)
    elif isinstance(expected, torch.Tensor):
        assert expected.dtype == found.dtype and expected.stride() == found.stride()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    else:
        assert type(expected) is type(found) and expected == found


@pytest.mark.parametrize(("function", "calls"), PROGRAMS, ids=lambda value: getattr(value, "__name__", ""))
def test_one_graph_for_what_depends_on_data(function, calls):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend, fullgraph=True)(function)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in calls:
            same(function(*call), optimized(*call))
    assert len(graphs) == len({tuple((t.shape, t.dtype) for t in call) for call in calls})


@pytest.mark.parametrize(
    ("function", "good", "bad"),
    [
        (one_row, (n(3), X), (n(7), X)),
        (checked, (n(3), X), (n(7), X)),
        (split, (n([2, 3]), X), (n([2, 2]), X)),
        (split, (n([2, 3]), X), (n([-1, 6]), X)),
        (size, (n(3), X), (n(-1), X)),
        (narrow, (n(3), X), (n(9), X)),
        (made_of, (n(3), X), (n(-1), X)),
        (powers, (n(3), X), (n(-1), X)),
        (counts_of_values, (n([1, 2]), X), (n([1, -2]), X)),
        (counts_of_at_least, (n(3), X), (n(-1), X)),
        (checked_in_many_ways, (n(3), X), (n(5), X)),
        (checked_in_many_ways, (n(3), X), (n(4), X)),
        (checked_in_many_ways, (n(3), X), (n(0), X)),
    ],
)
def test_what_eager_refuses_raises_as_in_eager(function, good, bad):
    optimized = lampwork_capture.optimize("eager", fullgraph=True)(function)
    optimized(*good)
    with pytest.raises(Exception) as expected:
        function(*bad)
    with pytest.raises(type(expected.value)) as found:
        optimized(*bad)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("backend", ["eager", aot_backend(lambda graph, inputs: graph.forward)], ids=["eager", "aot"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_weights_of_nothing_are_counted_in_integers(backend, dynamic):
    def function(x, w):
        counts = torch.bincount(x, w, minlength=2)
        return counts * 3, counts.is_floating_point()

    def of_mask(x, m):
        found = x[m]
        counts = torch.bincount(found.nonzero()[:, 0], found, minlength=2)
        return counts * 3, counts.is_floating_point()

    optimized = lampwork_capture.optimize(backend, dynamic=dynamic)
    numbers, masked = optimized(function), optimized(of_mask)
    line, nothing = torch.arange(1.0, 6.0), torch.zeros(0)
    with torch.no_grad():
        for weights in (nothing, nothing.to(torch.int32), line, nothing, line.double()):
            places = torch.arange(len(weights))
            same(function(places, weights), numbers(places, weights))
        for mask in (bools(1, 2), bools(), bools(0, 3, 4)):
            same(of_mask(line, mask), masked(line, mask))


@pytest.mark.skipif(not hasattr(torch, "_check_is_size"), reason="this torch has no such check")
@pytest.mark.filterwarnings("ignore:_check_is_size will be removed")
def test_a_number_that_is_said_to_be_a_size():
    def function(k, x):
        i = k.item()
        torch._check_is_size(i, max=4)
        return torch.zeros(i), x[:i], i >= 0, i <= 4

    optimized = lampwork_capture.optimize("eager", fullgraph=True)(function)
    for number in (3, 0, 4):
        same(function(n(number), X), optimized(n(number), X))
    for number in (-1, 5):
        with pytest.raises(RuntimeError):
            optimized(n(number), X)


def test_what_holds_after_a_check_is_known():
    def function(k, x):
        i = k.item()
        torch._check(i == x.size(0))
        return x + torch.zeros(i, 1), i == 5

    optimized = lampwork_capture.optimize("eager", fullgraph=True)(function)
    same(function(n(5), X), optimized(n(5), X))
    with pytest.raises(RuntimeError):
        optimized(n(4), X)


def branch(k, x):
    i = k.item()
    y = x * i
    if i > 3:
        y = y + 1
    return y, i, f"{i}"


def empty_or_not(x, m):
    y = x[m] * 2
    if y.numel() == 0:
        return x.sum()
    return y.sum(0) / len(y)


def experts(x, m):
    chosen = x.argmax(-1)
    out = torch.zeros_like(x)
    for expert in range(4):
        rows = (chosen == expert).nonzero().squeeze(-1)
        if rows.shape[0] == 0:
            continue
        out[rows] = x[rows] * (expert + 1)
    return out


def loop(x, m):
    total = 0
    for row in x[m]:
        total = total + row
    return total


@pytest.mark.parametrize(
    ("function", "calls"),
    [(branch, [(n(2), X), (n(5), X), (n(0), X)]), (empty_or_not, MASKS), (experts, MASKS), (loop, MASKS[:2])],
)
def test_a_branch_on_it_breaks_and_goes_on(function, calls):
    optimized = lampwork_capture.optimize("eager")(function)
    for call in calls:
        same(function(*call), optimized(*call))


def test_a_branch_on_it_says_what_to_change():
    with pytest.raises(GraphBreakError) as raised:
        lampwork_capture.optimize("eager", fullgraph=True)(branch)(n(2), X)
    text = str(raised.value)
    assert "LW009" in text and "whether u0 >= 4" in text and "`item`" in text and "torch._check" in text


def test_numbers_reach_what_is_outside():
    def function(x, m, found):
        found["rows"] = x[m].shape[0]
        found["more"] = [len(x[m]) + 1]
        return x.sum()

    expected, found = {}, {}
    function(X, bools(1, 2), expected)
    lampwork_capture.optimize("eager", fullgraph=True)(function)(X, bools(1, 2), found)
    assert found == expected == {"rows": 2, "more": [3]}


def test_a_backend_that_refuses_such_sizes_gets_the_graphs_around_them():
    graphs = []

    def backend(graph, inputs):
        if graph.meta["data_sizes"]:
            raise NotImplementedError("sizes that depend on data")
        graphs.append(graph)
        return graph.forward

    def function(x, m):
        y = x.exp().sin() * 2 + x.cos()
        return y[m].sum() + y.sum()

    def lenient():
        return lampwork_capture.optimize(backend)(function)

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LAMPWORK_STRICT", raising=False)
        same(function(X, bools(0, 2)), lenient()(X, bools(0, 2)))
    assert graphs


def test_size_that_a_mask_and_a_vector_share_by_a_check():
    def function(x, m, y):
        return x[m].sum(1) + y

    optimized = lampwork_capture.optimize("eager", fullgraph=True)(function)
    same(function(X, bools(0, 1), torch.ones(2)), optimized(X, bools(0, 1), torch.ones(2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # eager broadcasts a size of 1, which is no fault of anybody
        same(function(X, bools(3), torch.ones(2)), optimized(X, bools(3), torch.ones(2)))
    with pytest.raises(RuntimeError, match="must match"):
        optimized(X, bools(0, 1, 2), torch.ones(2))


def written_through_data(k, x):
    k = k.clone()
    i = k.item()
    k.data.add_(1)
    rows = x[k > 2]
    return i, k.item(), rows


def copy_that_takes_all(k, x):
    y = x * 2
    part = y[:, : k.item()].contiguous()
    y.add_(1)
    return part


def copy_that_is_written(k, x):
    y = x * 2
    part = y[k.item() :].t().flatten()
    part.mul_(3)
    return y, part


def input_that_leaves(k, x):
    return x[:, : k.item()].contiguous()


@pytest.mark.parametrize("function", [copy_that_takes_all, copy_that_is_written, input_that_leaves])
def test_memory_that_eager_shares_for_some_data(function):
    optimized = lampwork_capture.optimize("eager")(function)
    for number in (2, 4, 9, -1, 0, 3):
        x = X.clone()
        expected, found = function(n(number), x), optimized(n(number), x)
        same(expected, found)
        if function is input_that_leaves:
            shares = [r.numel() and r.data_ptr() == x.data_ptr() for r in (expected, found)]
            assert shares[0] == shares[1]


def test_a_write_through_data_is_seen():
    optimized = lampwork_capture.optimize("eager")(written_through_data)
    for values in ([3], [1], [2]):
        k = n(values)
        same(written_through_data(k, X[:1]), optimized(k, X[:1]))


def caught(m, k, x):
    x.add_(1)
    try:
        torch._check(int(m.sum()) == k.item())
    except RuntimeError:
        return "caught"
    return x


def last_of_all(m, k, x):
    x.add_(1)
    torch._check(k.item() < 3, lambda: "too many")
    return x


def behind_random_numbers(m, k, x):
    y = F.dropout(x, 0.5) + torch.rand(2, 1)
    torch._check(k.item() < 3)
    return y


@pytest.mark.parametrize("function", [caught, last_of_all, behind_random_numbers])
@pytest.mark.parametrize("rows", [2, 4096])
def test_a_check_at_the_end_fails_as_in_eager(function, rows):
    optimized = lampwork_capture.optimize("eager")(function)
    for number in (2, 9, 1):
        outcomes = []
        for f in (function, optimized):
            x = torch.ones(rows, 8)
            torch.manual_seed(1)
            try:
                outcomes.append((f(bools(1, 2), n(number), x), x))
            except RuntimeError as error:
                outcomes.append((str(error), x))
        same(*outcomes)


def test_checks_are_about_the_sizes_that_there_were():
    def function(x, m):
        y, z = x[m], x[~m]
        y.unsqueeze_(0)
        z.unsqueeze_(0)
        return y + z

    optimized = lampwork_capture.optimize("eager", fullgraph=True)(function)
    x = X[:4]
    same(function(x, bools(0, 1)[:4]), optimized(x, bools(0, 1)[:4]))
    same(function(x, bools(0)[:4]), optimized(x, bools(0)[:4]))
    with pytest.raises(RuntimeError, match="must match"):
        optimized(torch.ones(5, 4), bools(0, 1))


def test_identity_of_what_a_comparison_gives():
    def function(k):
        flag = k.item() > 2
        return flag is True, flag is not False, flag is None

    optimized = lampwork_capture.optimize("eager")(function)
    for number in (1, 5):
        assert optimized(n(number)) == function(n(number))


def test_counts_of_unique_alone():
    def function(x):
        return torch._unique2(x, True, False, True)

    same(function(n([1, 2, 2])), lampwork_capture.optimize("eager", fullgraph=True)(function)(n([1, 2, 2])))


def test_undoing_writes_copies_no_more_than_what_is_written():
    def function(c, x, m):
        c += 1
        return x[m] + x[~m]

    optimized = lampwork_capture.optimize("eager", fullgraph=True)(function)
    x = X[:4]
    for memory in (torch.zeros(4), torch.zeros(1000), torch.zeros(100)):
        c = memory[:4]
        same(function(c.clone(), x, bools(0, 1)[:4]), optimized(c, x, bools(0, 1)[:4]))
        assert c.tolist() == [1.0] * 4
        with pytest.raises(RuntimeError):
            optimized(c, x, torch.ones(4, dtype=torch.bool))
        assert c.tolist() == [2.0] * 4 and memory.sum() == 8


def added_to(x, m):
    return x[m] + X[:3]  # of one row, eager repeats it


def test_data_that_do_not_meet_a_check_are_told_of_and_broken_at():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(added_to)
    same(added_to(X, bools(0, 1, 2)), optimized(X, bools(0, 1, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            same(added_to(X, bools(0)), optimized(X, bools(0)))
    with pytest.warns(lampwork_capture.CaptureWarning, match="u0.*captured anew, with a graph break"):
        same(added_to(X, bools(0)), optimized(X, bools(0)))
    assert len(graphs) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in ([0], [0, 1, 2], [4], [1]):
            same(added_to(X, bools(*rows)), optimized(X, bools(*rows)))
    assert len(graphs) > 1


def test_rare_data_that_do_not_meet_a_check_keep_the_graph():
    optimized = lampwork_capture.optimize("eager")(added_to)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in range(100):
            rows = [call % 5] if call % 20 == 19 else [0, 1, call % 3 + 2]
            same(added_to(X, bools(*rows)), optimized(X, bools(*rows)))


def test_errors_of_the_program_are_no_reason_to_break():
    optimized = lampwork_capture.optimize("eager")(checked)
    optimized(n(3), X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(10):
            with pytest.raises(RuntimeError):
                optimized(n(7), X)


def test_under_fullgraph_they_are_told_of_alone():
    optimized = lampwork_capture.optimize("eager", fullgraph=True)(added_to)
    optimized(X, bools(0, 1, 2))
    with pytest.warns(lampwork_capture.CaptureWarning, match="is an error under `fullgraph=True`") as told:
        for _ in range(9):
            same(added_to(X, bools(3)), optimized(X, bools(3)))
    assert len(told) == 1
