"""Sizes that vary: how often a function is captured for them, and that each size gives what eager gives."""

from __future__ import annotations

import math
from types import SimpleNamespace

import lampwork_capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import aot_backend
from lampwork_capture.errors import SpecializedDimensionError


def counted(function, **options):
    """The optimized function, and the list that grows by one with each graph."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return lampwork_capture.optimize(backend, **options)(function), graphs


def flattened_rows(x, y):
    b, s = x.shape
    return (x.view(b * s) + 1).reshape(s, b).t() @ y[:s, :], b


def position_table(x, table):
    return x + table[: x.shape[1]]


def heads(x, weight):
    b = x.size(0)
    h = F.linear(x, weight)
    return h.view(b, -1, 2, h.size(-1) // 2).transpose(1, 2).softmax(-1).transpose(1, 2).reshape(b, -1, h.size(-1))


def causal_mask(x):
    s = x.size(-2)
    mask = torch.ones(s, s, dtype=torch.bool).triu(1)
    return (x @ x.transpose(-1, -2)).masked_fill(mask, float("-inf")).softmax(-1)


def halves(x):
    first, second = x.chunk(2, dim=-1)
    return first * second.sigmoid()


def windows(x):
    s = x.shape[1]
    padded = F.pad(x, (0, 0, 0, -s % 4))
    return padded.view(x.shape[0], -1, 4, x.shape[2]).mean(2)


def joined(x, y):
    return torch.cat([x, y], 1).flatten(1).sum(1) / len(x)


def positions(x):
    return x + torch.arange(x.size(1)).unsqueeze(-1) / (x.size(1) + 1)


def scaled_by_length(x):
    return x.mean(dim=1, keepdim=True) * x.shape[1] ** 0.5


def last_rows(x):
    return x[:, -7:].flip(1) * 2


def made_sizes(x, y):
    both = torch.broadcast_shapes(x.shape, y.shape)
    return x.expand(both) + y, torch.zeros(torch.Size([x.size(1), 2]))


def whole_patches(x):
    length = int(math.ceil(x.shape[1] / 4) * 4)
    return F.pad(x, (0, length - x.shape[1] + 1)), torch.ones(math.floor(x.shape[1] / 3) + 1, int(x.shape[0] / 2) + 1)


def parts_of_the_length(x):
    return x[:, : int(x.shape[1] * 0.75) + 1], F.pad(x, (0, math.ceil(1.5 * x.shape[1]))), math.floor(x.shape[0] / 2.0)


def pooled(x):
    return torch.flatten(F.adaptive_avg_pool1d(x.transpose(1, 2), 1), 1)


def checked(x, y):
    for i, j in zip(reversed(x.shape), reversed(y.shape)):
        if i != 1 and j != 1 and i != j:
            raise ValueError("cannot be broadcast")
    return x * y


SWEEP = [(2, 16), (3, 20), (1, 16), (4, 4), (5, 28), (1, 8), (2, 12), (3, 40)]
PROGRAMS = {
    "flattened_rows": (flattened_rows, lambda b, s: (torch.randn(b, s), torch.randn(64, 3))),
    "position_table": (position_table, lambda b, s: (torch.randn(b, s, 4), torch.randn(64, 4))),
    "heads": (heads, lambda b, s: (torch.randn(b, s, 8), torch.randn(8, 8))),
    "causal_mask": (causal_mask, lambda b, s: (torch.randn(b, s, 8),)),
    "halves": (halves, lambda b, s: (torch.randn(b, s, 8),)),
    "windows": (windows, lambda b, s: (torch.randn(b, s, 8),)),
    "joined": (joined, lambda b, s: (torch.randn(b, s, 2), torch.randn(b, 3, 2))),
    "positions": (positions, lambda b, s: (torch.randn(b, s, 2),)),
    "scaled_by_length": (scaled_by_length, lambda b, s: (torch.randn(b, s, 2),)),
    "last_rows": (last_rows, lambda b, s: (torch.randn(b, s, 2),)),
    "made_sizes": (made_sizes, lambda b, s: (torch.randn(b, s), torch.randn(b, s))),
    "whole_patches": (whole_patches, lambda b, s: (torch.randn(b, s),)),
    "parts_of_the_length": (parts_of_the_length, lambda b, s: (torch.randn(b, s),)),
    "pooled": (pooled, lambda b, s: (torch.randn(b, s, 4),)),
    "checked": (checked, lambda b, s: (lambda x: (x, x + 1))(torch.randn(b, s))),
}


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_one_capture_for_all_sizes(name, dynamic):
    function, inputs = PROGRAMS[name]
    optimized, graphs = counted(function, fullgraph=True, dynamic=dynamic)
    for sizes in SWEEP:
        args = inputs(*sizes)
        torch.testing.assert_close(optimized(*args), function(*args), rtol=0, atol=0)
    assert len(graphs) == (1 if dynamic else 2)


def test_a_rounded_float_that_is_other_for_a_size_of_one():
    def scaled(x):
        return x.repeat(1, int(x.shape[0] * 1.7) + 1)

    optimized, graphs = counted(scaled)
    for length in (4, 5, 1, 7, 1):
        x = torch.randn(length, 2)
        torch.testing.assert_close(optimized(x), scaled(x), rtol=0, atol=0)
    assert len(graphs) == 4


def test_static_sizes_are_captured_each():
    optimized, graphs = counted(halves, dynamic=False)
    for length in (4, 5, 6):
        optimized(torch.ones(2, length, 8))
    assert len(graphs) == 3


def test_sizes_that_only_were_equal_by_chance_are_told_apart():
    optimized, graphs = counted(lambda x, y: x.sum() + y.sum())
    for a, b in [(4, 4), (5, 5), (6, 7), (8, 3)]:
        assert optimized(torch.ones(a), torch.ones(b)).item() == a + b
    assert len(graphs) == 3  # one for 4, one for all where both are equal, one for all


def test_a_stride_that_varies_is_a_symbol():
    optimized, graphs = counted(lambda x: x * 2)
    for width in (8, 9, 10, 11):
        x = torch.randn(4, width)[:, :3]
        torch.testing.assert_close(optimized(x), x * 2, rtol=0, atol=0)
    assert len(graphs) == 2


def test_looking_for_sizes_that_vary_runs_no_code_of_the_program():
    class Holder:
        def __init__(self, size):
            self.value = torch.ones(size)

    class Telling:
        @property
        def value(self):
            read.append(1)
            return torch.ones(7)

    read = []
    optimized, _ = counted(lambda holder: holder.value * 2)
    for size in (3, 4, 5):
        optimized(Holder(size))
    assert optimized(Telling()).tolist() == [2] * 7
    assert len(read) == 1


def test_parameters_keep_their_sizes():
    def project(layer, x):
        return layer(x)

    optimized, graphs = counted(project)
    for width in (3, 4, 5):
        layer, x = torch.nn.Linear(2, width), torch.randn(7, 2)
        torch.testing.assert_close(optimized(layer, x), layer(x))
    assert len(graphs) == 3


def test_a_copy_that_eager_would_not_make_for_a_size_of_one_is_seen():
    def in_place(x):
        y = x.transpose(1, 2).contiguous()
        y.add_(1)
        return y * 2

    optimized, graphs = counted(in_place, dynamic=True)
    for length in (5, 7, 1, 3, 1):
        mine = torch.randn(2, 4, length, 8)
        theirs = mine.clone()
        torch.testing.assert_close(optimized(mine), in_place(theirs), rtol=0, atol=0)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert len(graphs) == 2


def test_a_copy_that_eager_would_not_make_of_all_rows_is_seen():
    def in_place(x, count):
        last, first = x[:, -7:].contiguous(), x[:, : count.size(0)].reshape(-1)
        last.add_(1)
        first.mul_(2)
        return last.sum() + first.sum()

    optimized, graphs = counted(in_place, dynamic=True)
    for length, count in ((12, 4), (9, 9), (7, 5), (5, 3), (20, 6)):
        mine = torch.randn(3, length, 4)
        theirs = mine.clone()
        expected = in_place(theirs, torch.ones(count))
        torch.testing.assert_close(optimized(mine, torch.ones(count)), expected, rtol=0, atol=0)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert len(graphs) == 3


def test_what_is_returned_shares_memory_as_in_eager():
    def joined_heads(x):
        return x.transpose(1, 2).reshape(x.size(0), -1)

    optimized, _ = counted(joined_heads, dynamic=True)
    for length in (5, 1, 3):
        mine = torch.randn(2, 4, length, 8)
        theirs = mine.clone()
        for x, function in ((mine, optimized), (theirs, joined_heads)):
            function(x).zero_()
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_empty_tensors_are_a_capture_of_their_own():
    optimized, graphs = counted(lambda x: x.sum(0), dynamic=True)
    for rows in (3, 0, 5, 0):
        torch.testing.assert_close(optimized(torch.ones(rows, 2)), torch.ones(rows, 2).sum(0))
    assert len(graphs) == 2


def test_interpolation_raises_for_no_data_and_a_norm_writes_in_training_only():
    def enlarged(x, mean, var, seen):
        seen.last = x
        x = F.interpolate(x[None, None], size=(x.size(1), 9), mode="bilinear", align_corners=False)
        return F.batch_norm(x.relu(), mean, var)

    optimized, graphs = counted(enlarged, dynamic=True, fullgraph=True)
    seen, others = SimpleNamespace(), SimpleNamespace()
    for rows in (4, 7):
        args = torch.randn(rows, 5), torch.zeros(1), torch.ones(1)
        torch.testing.assert_close(optimized(*args, seen), enlarged(*args, others))
        assert seen.last is args[0]
    assert len(graphs) == 1


def is_row(x):
    return x.t().is_contiguous()


def is_row_of_more(x):
    y = x + 1  # which nothing uses
    return y.t().is_contiguous()


def is_copied(x):
    y = (x + 1).t()
    z = y.contiguous()
    return z is y, z is not y, z, id(z) == id(y)


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("function", [is_row, is_row_of_more, is_copied])
@pytest.mark.parametrize(
    "sweep", [[(2, 3), (1, 3), (2, 1), (4, 5)], [(2, 3), (3, 3), (1, 3), (1, 1)], [(5, 2), (4, 2), (3, 1), (1, 2)]]
)
def test_layouts_that_are_others_for_a_size_of_one(function, sweep, dynamic):
    optimized, _ = counted(function, dynamic=dynamic)
    for sizes in sweep:
        x = torch.randn(sizes)
        assert_same(function(x), optimized(x))


def assert_same(expected, found):
    if isinstance(expected, tuple):
        for pair in zip(expected, found, strict=True):
            assert_same(*pair)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    else:
        assert found is expected


# Inputs whose sizes the graph changes


def summed_into(x, o):
    torch.add(x, 1, out=o)
    return o * 2, torch.zeros(x.shape[0])


def joined_into(x, o):
    rows = o.shape[0]
    return torch.cat([x, x], out=o), torch.ones(rows)  # as many as it had


def reduced_into(x, o):
    before = o.sum()
    torch.sum(x, 0, out=o)
    return before + x.sum()


@pytest.mark.parametrize("backend", [lambda graph, inputs: graph.forward, aot_backend(lambda graph, inputs: graph)])
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("function", [summed_into, joined_into, reduced_into])
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_an_input_that_is_given_other_sizes(function, dynamic, backend):
    graphs = []

    def counting(graph, inputs):
        graphs.append([tuple(map(str, given.shape)) for given in inputs])
        return backend(graph, inputs)

    optimized = lampwork_capture.optimize(counting, dynamic=dynamic, fullgraph=True)(function)
    for b, n in ((2, 3), (4, 3), (5, 6), (3, 2), (9, 2)):
        x, shape = torch.randn(b, n), (1,) if function is reduced_into else (2, 3) if dynamic is None else (3, n + 1)
        mine, theirs = torch.ones(shape), torch.ones(shape)
        torch.testing.assert_close(optimized(x, mine), function(x, theirs), rtol=0, atol=0)
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        assert mine.stride() == theirs.stride()
    assert len(graphs) <= 4


def into_a_part(x, o):
    return torch.add(x, 1, out=o[:, :1]) * 2


def into_itself(x, o):
    torch.add(x, 1, out=o)
    torch.sum(o, 0, out=o)
    return o + 1


def turned_into(x, o):
    torch.add(x.t(), 1, out=o)
    return o.stride(), o + 1


def steps_into(x, o):
    torch.add(x, 1, out=o[:, ::2])
    return torch.add(x, 2, out=o), torch.zeros(o.shape)


@pytest.mark.parametrize("backend", [lambda graph, inputs: graph.forward, aot_backend(lambda graph, inputs: graph)])
@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("function", [into_a_part, into_itself, turned_into, steps_into])
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
@pytest.mark.filterwarnings("ignore::lampwork_capture.aot.RanEagerlyWarning")
def test_an_output_of_another_size_that_is_part_of_something(function, dynamic, backend, monkeypatch):
    monkeypatch.delenv("LAMPWORK_STRICT", raising=False)
    optimized = lampwork_capture.optimize(backend, dynamic=dynamic)(function)
    for shape in ((3, 1), (2, 1), (4, 1), (5, 1)):
        for make in (lambda: torch.ones(2, 3), lambda: torch.ones(4, 6)[:, ::2]):
            x, mine, theirs = torch.randn(shape), make(), make()
            expected, found = function(x, theirs), optimized(x, mine)
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
            assert mine.stride() == theirs.stride()


@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_an_input_that_grows_over_another_one():
    def grows(x, o, other):
        torch.add(x, 1, out=o)
        return other * 2

    optimized = lampwork_capture.optimize(aot_backend(lambda graph, inputs: graph), dynamic=True)(grows)
    for length in (4, 6, 3):
        x = torch.randn(length)
        mine, theirs = torch.zeros(8), torch.zeros(8)
        results = [f(x, memory[:2], memory[2:5]) for f, memory in ((optimized, mine), (grows, theirs))]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(mine, theirs)


# Marks


def rows_of_16(x):
    return x.view(x.size(0), 16) + 1


@pytest.mark.parametrize("mark", [lampwork_capture.mark_dynamic, torch._dynamo.mark_dynamic])
def test_a_marked_dimension_is_symbolic_at_once(mark):
    optimized, graphs = counted(rows_of_16)
    for rows in (1, 2, 5):
        x = torch.randn(rows, 16)
        mark(x, 0)
        torch.testing.assert_close(optimized(x), rows_of_16(x), rtol=0, atol=0)
    assert len(graphs) == 1


def test_a_marked_dimension_that_must_have_one_size_is_an_error():
    x = torch.randn(3, 16)
    lampwork_capture.mark_dynamic(x, 1)
    with pytest.raises(
        SpecializedDimensionError, match=r"`x.size\(1\)`.*became 16, in `view`: `return x.view"
    ) as caught:
        lampwork_capture.optimize("eager")(rows_of_16)(x)
    assert caught.value.user_line.line == rows_of_16.__code__.co_firstlineno + 1


def test_marked_bounds_are_guards():
    optimized, graphs = counted(lambda x: x * x.size(0))
    for rows in (2, 4, 9, 3):
        x = torch.ones(rows)
        lampwork_capture.mark_dynamic(x, 0, min=2, max=8)
        assert optimized(x)[0].item() == rows
    assert len(graphs) == 2  # 9 is outside


def test_a_static_dimension_is_captured_for_each_size():
    optimized, graphs = counted(lambda x: x + 1, dynamic=True)
    for rows, columns in [(2, 3), (4, 3), (4, 5)]:
        x = torch.ones(rows, columns)
        lampwork_capture.mark_static(x, 1)
        optimized(x)
    assert len(graphs) == 2


@pytest.mark.parametrize("arguments", [(2,), (0, 5, 3), (0, -1)])
def test_marks_that_make_no_sense(arguments):
    with pytest.raises((IndexError, ValueError), match=r"dimension|size"):
        lampwork_capture.mark_dynamic(torch.ones(2, 3), *arguments)


# A comparison that the rest of its condition makes irrelevant


def attention(query, mask, is_causal=True):
    is_causal = query.shape[2] > 1 and mask is None and is_causal
    return F.scaled_dot_product_attention(query, query, query, attn_mask=mask, is_causal=is_causal)


def test_a_length_that_does_not_matter_beside_a_mask():
    optimized, graphs = counted(attention, dynamic=True)
    for length in (5, 1, 8):
        query, mask = torch.randn(2, 2, length, 4), torch.zeros(2, 1, length, length)
        torch.testing.assert_close(optimized(query, mask), attention(query, mask))
    assert len(graphs) == 1


def test_one_query_over_one_key_is_causal_anyway():
    optimized, graphs = counted(attention, dynamic=True, fullgraph=True)
    for length in (5, 1, 8):
        query = torch.randn(2, 2, length, 4)
        torch.testing.assert_close(optimized(query, None), attention(query, None), rtol=0, atol=0)
    assert len(graphs) == 1


def attention_over_more(query, keys, is_causal=True):
    is_causal = query.shape[2] > 1 and keys is not None and is_causal
    return F.scaled_dot_product_attention(query, keys, keys, is_causal=is_causal)


def test_one_query_over_more_keys_is_not_causal():
    optimized, graphs = counted(attention_over_more, dynamic=True)
    for length in (5, 1, 8):
        query, keys = torch.randn(2, 2, length, 4), torch.randn(2, 2, 9, 4)
        torch.testing.assert_close(optimized(query, keys), attention_over_more(query, keys), rtol=0, atol=0)
    assert len(graphs) == 2


def test_a_comparison_that_raises_is_not_left_out():
    def compares(x, other, flag):
        return x + 1 if x.shape[0] > other and flag else x - 1

    optimized, _ = counted(compares, dynamic=True)
    assert optimized(torch.zeros(3), 2, False).tolist() == [-1] * 3
    with pytest.raises(TypeError):
        optimized(torch.zeros(3), None, False)


def is_long(x, flag=True):
    long = x.shape[0] > 3 and flag
    if long and x.shape[0] < 0:
        return x, None
    return x + 1, long


def uses_of_a_truth_value(x):
    long = is_long(x)[1]
    return x * long, {long: 1}, str(long), [not long]


@pytest.mark.parametrize("function", [is_long, uses_of_a_truth_value])
def test_a_truth_value_that_is_needed_is_decided(function):
    optimized, graphs = counted(function, dynamic=True)
    for length in (5, 2, 8):
        found, expected = optimized(torch.ones(length)), function(torch.ones(length))
        assert found[1:] == expected[1:]
        torch.testing.assert_close(found[0], expected[0])
    assert len(graphs) == 2


def causal_or_not(query, keys, mask):
    length, known = query.shape[1], keys.shape[1]
    if (length == 1 or known == length) and (mask is None or mask.dim() == 2):
        return query + 1
    return query - 1


def test_a_length_that_does_not_matter_beside_an_equal_one():
    optimized, graphs = counted(causal_or_not, dynamic=True)
    for length in (5, 1, 8):
        query = torch.randn(2, length)
        torch.testing.assert_close(optimized(query, query * 2, None), causal_or_not(query, query * 2, None))
    assert len(graphs) == 1


def test_a_length_that_matters_beside_another_one():
    optimized, graphs = counted(causal_or_not, dynamic=True)
    for length in (5, 1, 8):
        query, keys = torch.randn(2, length), torch.randn(2, 9)
        torch.testing.assert_close(optimized(query, keys, None), causal_or_not(query, keys, None))
    assert len(graphs) == 2


# Backends


@pytest.mark.parametrize("name", ["last_rows", "pooled", "made_sizes"])
def test_the_operators_below_need_no_more_of_the_sizes(name):
    compiled = []

    def compiler(graph, inputs, *_, **__):
        compiled.append(graph)
        return graph

    function, inputs = PROGRAMS[name]
    optimized = lampwork_capture.optimize(aot_backend(compiler), dynamic=True, fullgraph=True)(function)
    for sizes in SWEEP:
        args = inputs(*sizes)
        with torch.no_grad():
            torch.testing.assert_close(optimized(*args), function(*args))
    assert len(compiled) == 1


def test_a_backend_that_knows_numbers_only_gets_graphs_of_one_size(monkeypatch):
    monkeypatch.delenv("LAMPWORK_STRICT", raising=False)
    sizes = []

    def backend(graph, inputs):
        sizes.append([size + 0 if type(size) is int else 1 / 0 for size in inputs[0].shape])
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(halves)
    with pytest.warns(lampwork_capture.CaptureWarning, match="cannot compile a graph for all sizes"):
        for length in (2, 3):
            optimized(torch.ones(2, length, 8))
    optimized(torch.ones(2, 4, 8))
    assert sizes == [[2, 2, 8], [2, 3, 8], [2, 4, 8]]


def test_symbolic_inputs_are_shown_as_symbols():
    shown = []

    def backend(graph, inputs):
        shown.append([str(size) for size in inputs[0].shape])
        return graph.forward

    lampwork_capture.optimize(backend, dynamic=True)(halves)(torch.ones(2, 3, 8))
    assert shown == [["s0", "s1", "s2"]]


def test_writes_to_what_has_a_gradient_function():
    def function(x, i):
        x.index_add_(0, i, x[:2] * 2)
        return x.sin()

    optimized, graphs = counted(function, fullgraph=True)
    for size in (3, 5, 7):
        results = []
        for f in (function, optimized):
            x = torch.ones(size, 2, requires_grad=True)
            y = x * 2
            f(y, torch.tensor([0, 1])).sum().backward()
            results.append((y, x.grad))
        torch.testing.assert_close(*results)
    assert len(graphs) == 2


def rows_softmax(x):
    return x.softmax(-1) + 1


def columns_first(x):
    return x.t().contiguous().view(-1), x.sum(0)


def largest_row(x):
    return x.amax(0)


@pytest.mark.parametrize("function", [rows_softmax, columns_first, largest_row])
def test_a_dimension_that_is_marked_from_0_on_may_be_empty(function):
    optimized = lampwork_capture.optimize("eager")(function)
    for size in (0, 3, 5, 0, 1, 4, 0, 2):
        x = torch.randn(size, 6)
        lampwork_capture.mark_dynamic(x, 0, min=0)
        try:
            expected = function(x)
        except IndexError as error:
            with pytest.raises(IndexError) as found:
                optimized(x)
            assert str(found.value) == str(error)
        else:
            torch.testing.assert_close(optimized(x), expected, rtol=0, atol=0)


def test_marks_of_several_dimensions_and_of_bounds_that_are_no_integers():
    graphs = []

    def backend(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(backend)(rows_softmax)
    for shape in ((3, 4), (5, 6), (2, 9)):
        x = torch.randn(shape)
        lampwork_capture.mark_dynamic(x, [0, -1])
        torch.testing.assert_close(optimized(x), rows_softmax(x), rtol=0, atol=0)
    assert len(graphs) == 1
    lampwork_capture.mark_static(x, (0, 1))
    with pytest.raises(TypeError, match="min=1.5 is no integer"):
        lampwork_capture.mark_dynamic(x, 0, min=1.5)
    with pytest.raises(IndexError):
        lampwork_capture.mark_dynamic(x, [0, 2])
