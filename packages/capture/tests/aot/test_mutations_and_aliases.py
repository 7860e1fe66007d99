"""Writes to inputs, views of inputs and of results, identities: compiled calls leave the world as eager calls do."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import OutputKind, UnsupportedForAot, aot_backend, trace_functional
from torch import fx

from .differential import Counting, capture, check


def x46():
    return torch.arange(24.0).reshape(4, 6) / 7


def add_row(x):
    x[0].add_(1)
    return x * 2


def scale_transposed(x):
    x.t().mul_(2)
    return x.t(), x + 1


def mutate_view_chain(x):
    y = x.view(2, 12)[1].view(3, 4).t()
    y.add_(1)
    y[1:].mul_(3)
    return y, x, x.view(-1)


def intermediate_in_place(x):
    y = x + 1
    y[:, 2:4] = 5
    y.t()[0].mul_(3)
    return y, y[0], y.t(), x


def twice(x):
    y = x.relu()
    return y, y, (y + 1), y.view(-1)


def return_input(x):
    return x, x.detach(), x.contiguous(), x.view(6, 4), x[1:, ::2]


def in_place_then_return(x):
    return x.add_(1), x.mul_(2)


def out_form(x):
    y = torch.empty(4, 6)
    torch.add(x, 1, out=y)
    return y


def out_form_of_input(x, y):
    torch.mul(x, 2, out=y)
    return y.sum()


def copy_into(x, y):
    x.copy_(y)
    return x + y


def swap(x, y):
    t = x.clone()
    x.copy_(y)
    y.copy_(t)
    return x - y


def copy_broadcast(x):
    x.copy_(torch.tensor([1.0, 2, 3, 4, 5, 6]))
    return x.sum(0)


def masked_write(x):
    x[x > 1] = 0
    return x


def index_put(x):
    x[torch.tensor([0, 2])] = torch.tensor([1.0])
    x.index_put_((torch.tensor([1, 1]),), torch.ones(6), accumulate=True)
    return x * 1


def constants(x):
    return torch.tensor([1.0, 2, 3, 4, 5, 6]) + x, torch.tensor([1, 2]), torch.tensor(3.5)


def same_value_twice(x):
    return x + 1, x + 1, x.clone(), x.clone()


def expanded(x):
    y = x.sum(0)
    return y.expand(3, 6), y.unsqueeze(0)


def sliced_result(x):
    return (x + 1)[1:, ::2], (x * 2)[:, 0]


def transposed_result(x):
    return (x + 1).t(), (x * 3).view(2, 12).t().contiguous()


def mixed_types(x):
    return x > 1, x.long(), torch.view_as_complex(x.view(4, 3, 2)), x.to(torch.bfloat16), x.to(torch.float32), None, 3


def complex_views(z):
    z.real.add_(1)
    return z.imag, z.conj(), torch.view_as_real(z), z.abs()


def dtype_view(x):
    return x.view(torch.int32), x.view(torch.int32) + 1


def reshape_input(x):
    x.t_()
    return x * 2


def reshape_and_write(x):
    x.unsqueeze_(0)
    x.add_(1)
    return x[0]


def as_strided_views(x):
    y = x.as_strided((2, 2), (6, 1), 3)
    z = (x * 2).as_strided((3,), (2,), 1)
    return y, z


def write_through_as_strided(x):
    x.as_strided((2, 2), (6, 1), 3).mul_(5)
    return x.sum()


def split_write(x):
    a, b = x.chunk(2, 1)
    a.add_(1)
    b.mul_(a)
    return a, b


def diagonal_write(x):
    x[:, :4].diagonal().fill_(9)
    return x


def fill_forms(x):
    y = torch.zeros_like(x)
    y.fill_(2)
    z = torch.empty_like(x).zero_()
    x.zero_()
    return y, z, x.new_ones(2), torch.ones(3), torch.full((2,), 7)


def unfold_select(x):
    x.select(1, 2).copy_(x.select(1, 3))
    return x.unfold(1, 2, 2)


CASES = [
    add_row,
    scale_transposed,
    mutate_view_chain,
    intermediate_in_place,
    twice,
    return_input,
    in_place_then_return,
    out_form,
    copy_broadcast,
    masked_write,
    index_put,
    constants,
    same_value_twice,
    expanded,
    sliced_result,
    transposed_result,
    dtype_view,
    reshape_input,
    reshape_and_write,
    as_strided_views,
    write_through_as_strided,
    split_write,
    diagonal_write,
    fill_forms,
    unfold_select,
]


@pytest.mark.parametrize("f", CASES, ids=lambda f: f.__name__)
def test_contiguous_input(f):
    check(f, x46())


NEED_CONTIGUOUS = (mutate_view_chain, return_input, dtype_view, transposed_result, twice, reshape_and_write)


@pytest.mark.parametrize("f", [c for c in CASES if c not in NEED_CONTIGUOUS], ids=lambda f: f.__name__)
def test_input_with_offset_and_strides(f):
    base = torch.arange(80.0).reshape(8, 10) / 7
    check(f, base[2:8, 3:7].t())


def test_reshaped_input_with_gaps_written_is_refused():
    with pytest.raises(UnsupportedForAot, match="gaps"):
        check(reshape_and_write, torch.arange(80.0).reshape(8, 10)[2:8, 3:7].t())


def test_types_and_numbers():
    check(mixed_types, x46())


def test_complex():
    check(complex_views, torch.randn(3, 4, dtype=torch.complex64))


def test_two_inputs():
    check(copy_into, x46(), x46() * 3)
    check(swap, x46(), x46() * 3)
    check(out_form_of_input, x46(), torch.zeros(4, 6))


@pytest.mark.parametrize("shape", [(0, 6), (4, 0)])
def test_empty_tensors(shape):
    def f(x):
        x.add_(1)
        return x.t(), x.sum(), F.softmax(x, -1), F.layer_norm(x, x.shape[1:]), x + 1

    check(f, torch.zeros(shape))


def test_overlapping_inputs_run_eagerly():
    def f(x, y):
        x.add_(1)
        return y * 2

    base = torch.arange(10.0)
    check(f, base[:6], base[4:], compiled_calls=0)  # overlap
    check(f, base[:5], base[5:])  # same storage, apart
    check(f, base, base, compiled_calls=0)
    compiler = Counting()
    compiled = aot_backend(compiler)(fx.symbolic_trace(f), [torch.zeros(5), torch.zeros(5)])
    t = torch.arange(10.0)
    assert torch.equal(compiled(t[:5], t[2:7]), torch.tensor([6.0, 8, 10, 10, 12]))
    assert compiler.calls == 0


def test_expanded_input_written_is_refused():
    def f(x):
        return x.mul_(2)

    with pytest.raises(UnsupportedForAot, match="share memory"):
        aot_backend(Counting())(fx.symbolic_trace(f), [torch.zeros(1).expand(4)])


def test_alias_at_another_offset_than_traced():
    def f(x):
        return x.t(), x.view(-1)

    compiled = aot_backend(Counting())(fx.symbolic_trace(f), [torch.zeros(2, 3)])
    base = torch.arange(20.0)
    x = base[7:13].view(2, 3)
    transposed, line = compiled(x)
    assert transposed.data_ptr() == x.data_ptr() and line.data_ptr() == x.data_ptr()
    assert torch.equal(transposed, x.t()) and torch.equal(line, base[7:13])
    assert transposed._base is base


def test_absolute_addresses_at_another_offset_run_eagerly():
    compiler = Counting()
    compiled = aot_backend(compiler)(capture(as_strided_views, [x46()]), [x46()])
    base = torch.arange(40.0)
    x = base[8:32].view(4, 6)
    for mine, eager in zip(compiled(x), as_strided_views(x)):
        assert torch.equal(mine, eager)
    assert compiler.calls == 0


def test_buffers_of_the_graph_are_updated():
    module = torch.nn.BatchNorm2d(3)
    twin = torch.nn.BatchNorm2d(3)
    graph = fx.symbolic_trace(torch.nn.Sequential(module))
    x = torch.randn(4, 3, 5, 5)
    with torch.no_grad():
        compiled = aot_backend(Counting())(graph, [x])
        for _ in range(3):
            torch.testing.assert_close(compiled(x), twin(x))
    assert module.num_batches_tracked.item() == 3
    torch.testing.assert_close(module.running_mean, twin.running_mean)
    torch.testing.assert_close(module.running_var, twin.running_var)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics_of_inputs(name, training):
    function = getattr(F, name)

    def f(x, mean, var, w, b):
        return function(x, mean, var, w, b, training, 0.2)

    check(f, torch.randn(4, 3, 5, 5), torch.zeros(3), torch.ones(3), torch.randn(3), torch.randn(3))


def test_signature_says_what_the_outputs_are():
    signature = trace_functional(capture(scale_transposed, [x46()]), [x46()]).signature
    assert [o.kind for o in signature.outputs] == [OutputKind.ALIAS_OF_INPUT, OutputKind.COMPUTED]
    assert signature.mutated_inputs == (0,) and signature.metadata_mutated_inputs == ()
    signature = trace_functional(capture(reshape_input, [x46()]), [x46()]).signature
    assert signature.mutated_inputs == () and signature.metadata_mutated_inputs == (0,)
    signature = trace_functional(capture(twice, [x46()]), [x46()]).signature
    assert [o.kind for o in signature.outputs] == [
        OutputKind.ALIAS_OF_RESULT,
        OutputKind.IS_OUTPUT,
        OutputKind.COMPUTED,
        OutputKind.ALIAS_OF_RESULT,
    ]
    assert signature.result_count == 2
