"""Writes to inputs that are views inside other memory: the memory around them stays, they stay where they are."""

from __future__ import annotations

import copy

import pytest
import torch
from lampwork_capture.aot import UnsupportedForAot, aot_backend, trace_functional

from .differential import Counting, assert_same, capture, check, flat, relations


def add_one(v):
    v.add_(1)


def operators(v):
    v += 1
    v.mul_(2)


def overwrite(v):
    v.copy_(torch.ones(2, 2))


def zero_and_return(v):
    v.zero_()
    return v


def returned(v):
    return v.add_(1)


def write_a_row(v):
    v[0] = 7.0
    return v * 2


def tail_of_written(v):
    v.add_(1)
    return v[1:], v.t(), v + 1


def transposed_in_place(v):
    v.t_()


def written_and_transposed(v):
    v.add_(1)
    v.t_()
    return v[1:]


def unsqueezed_and_written(v):
    v.unsqueeze_(0)
    v.mul_(3)
    return v


def squeezed(v):
    v.unsqueeze_(1)
    v.squeeze_(1)
    v.sub_(2)


def line():
    base = torch.arange(8.0)
    return base, [base[4:].view(2, 2)]


def steps():
    base = torch.arange(40.0).view(5, 8)
    return base, [base[1:3, 1:5:2]]


def columns():
    base = torch.arange(40.0).view(5, 8)
    return base, [base.t()[2:4, 1:3]]


def layer():
    base = torch.arange(12.0).view(3, 2, 2)
    return base, [base[1]]


WRITES = [
    add_one,
    operators,
    overwrite,
    zero_and_return,
    returned,
    write_a_row,
    tail_of_written,
    transposed_in_place,
    written_and_transposed,
    unsqueezed_and_written,
    squeezed,
]


def compare(f, make, compiled_calls=2):
    """Like `check`, and the memory around the inputs and their place in it agree as well."""
    example = make()[1]
    compiler = Counting()
    compiled = aot_backend(compiler)(capture(f, example), make()[1])
    for _ in range(2):
        (base, inputs), (our_base, ours) = make(), make()
        expected, actual = f(*inputs), compiled(*ours)
        expected = [t for t in flat(expected) if t is not None]
        actual = [t for t in flat(actual) if t is not None]
        assert torch.equal(base, our_base)
        for e, a in zip([*inputs, *expected], [*ours, *actual], strict=True):
            assert_same(e, a)
            assert e.storage_offset() == a.storage_offset()
        assert relations([base, *inputs], expected) == relations([our_base, *ours], actual)
    assert compiler.calls == compiled_calls


@pytest.mark.parametrize("make", [line, steps, columns, layer], ids=lambda m: m.__name__)
@pytest.mark.parametrize("f", WRITES, ids=lambda f: f.__name__)
def test_written_view(f, make):
    if make in (steps, columns) and f in (unsqueezed_and_written, squeezed):
        with pytest.raises(UnsupportedForAot, match="gaps"):
            compare(f, make)
    else:
        compare(f, make)


def test_two_views_of_one_base():
    def f(a, b):
        a.add_(1)
        b.mul_(2)
        return a + b

    def apart():
        base = torch.arange(6.0)
        return base, [base[:3], base[3:]]

    def meeting():
        base = torch.arange(6.0)
        return base, [base[1:4], base[2:5]]

    compare(f, apart)
    compare(f, meeting, compiled_calls=0)


def test_cache_layer_is_written_from_another_input():
    def f(cache, x):
        cache.copy_(x)

    def make():
        kv = torch.zeros(2, 3, 4)
        return kv, [kv[1], torch.ones(3, 4)]

    compare(f, make)


def test_size_one_strides_are_no_change():
    def f(v):
        v.add_(1)
        return v

    base = torch.arange(12.0)
    v = base.as_strided((3, 1), (2, 7), 3)
    twin = copy.deepcopy(base).as_strided((3, 1), (2, 7), 3)
    signature = trace_functional(capture(f, [v]), [v]).signature
    assert signature.metadata_mutated_inputs == ()
    compiled = aot_backend(Counting())(capture(f, [v]), [v])
    compiled(v)
    f(twin)
    assert v.stride() == twin.stride() and v.storage_offset() == 3


def test_buffer_that_is_a_view():
    memory = torch.zeros(4)

    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("b", memory[2:])

        def forward(self, x):
            self.b.add_(x)
            return x * 2

    graph = torch.fx.symbolic_trace(Holder())
    aot_backend(Counting())(graph, [torch.ones(2)])(torch.ones(2))
    assert memory.tolist() == [0, 0, 1, 1]


def test_another_offset_than_traced():
    compiled = aot_backend(Counting())(capture(add_one, [torch.zeros(2)]), [torch.zeros(4)[2:]])
    base = torch.zeros(5)
    compiled(base[1:3])
    assert base.tolist() == [0, 1, 1, 0, 0]


def test_moved_in_place_is_refused():
    def f(v):
        v.as_strided_((2,), (1,), 1)
        v.add_(1)

    with pytest.raises(UnsupportedForAot, match="another place"):
        check(f, torch.arange(4.0))


def test_addressed_memory_of_a_written_view_is_refused():
    def f(v):
        v.add_(1)
        return v.as_strided((1,), (1,), 3) * 2

    with pytest.raises(UnsupportedForAot):
        check(f, torch.arange(4.0)[2:])
