"""Tensors and torch functions: attributes, methods, operators, indexing, in-place forms, data-dependent breaks."""

from __future__ import annotations

import math
import operator

import pytest
import torch
import torch.nn.functional as F
from kinds import Programs, check

P = Programs()
whole, any_graphs = P.whole, P.any_graphs

state_tensor = torch.zeros(3)
weights = torch.nn.Parameter(torch.ones(3))


@whole
def metadata(x, y):
    facts = (x.shape, y.size(1), x.dim(), x.ndim, x.dtype, x.device, y.stride(), x.numel(),
             len(y),
             x.requires_grad,
             x.is_floating_point(), x.element_size(),
             x.is_contiguous(), y.T.is_contiguous(), x.layout,
             x.is_cuda, x.itemsize)  # fmt: skip
    return x + 1, facts


@whole
def operators_all_forms(x, y):
    z = [
        x + 1,
        1 - x,
        2 * x,
        x / 2,
        3 / x,
        x // 2,
        x % 2,
        x**2,
        2**x,
        -x,
        +x,
        abs(x),
        x @ x,
        x > 1,
        x <= y,
        x == 2,
        x != 2,
    ]
    mask = x > 1
    return z, ~mask, mask & mask, mask | mask, mask ^ mask, x == None, x != None, operator.add(x, y), divmod(7, 2)  # noqa: E711


@whole
def in_place(x, y):
    x += 1
    x.mul_(2)
    y[0] = x
    y[:, 1] += 5
    z = x.add_(1)
    return z is x, z, y


@whole
def in_place_on_views(x, y):
    row = y[0]
    row.add_(1)
    view = x.view(3, 1)
    view.zero_()
    return y.sum(), x, row


@whole
def global_tensor_written(x, y):
    state_tensor.add_(x)
    return state_tensor * 2


@whole
def out_argument(x, y):
    buffer = torch.empty(3)
    result = torch.add(x, 1, out=buffer)
    return result is buffer, buffer


@whole
def indexing(x, y):
    index = torch.tensor([0, 2])
    return (x[0], x[-1], x[1:], x[..., 0], y[:, None, 1], x[[0, 1]], x[index], y[(0, 1)], y[0][1], y[:, ::2],
            y[torch.tensor(1), :1] if False else x, x[None].shape)  # fmt: skip


@whole
def methods(x, y):
    a = x.view(1, -1).expand(2, 3).contiguous().transpose(0, 1).reshape(-1)
    values, indices = y.max(dim=1)
    top = x.topk(2)
    return (a, values, indices, top.values, top[1],
            x.to(torch.float64).dtype, x.type_as(y), x.new_zeros(2),
            x.split(1),
            torch.chunk(x, 2),
            x.unbind(), x.clamp(min=1.5), x.masked_fill(x > 1, 0), y.permute(1, 0), x.float(), x.mean(),
            torch.Tensor.add(x, 1), x.sum(dim=0, keepdim=True))  # fmt: skip


@whole
def functions(x, y):
    made = torch.cat([x, x]), torch.stack((x, x)), torch.where(x > 1, x, 0.0), torch.zeros(2, 2), torch.arange(3)
    tensor = torch.tensor([[1, 2], [3, 4]])
    return (made, tensor, torch.full((2,), 7), torch.zeros_like(x), torch.einsum("i,i->", x, x), torch.linalg.norm(x),
            F.softmax(x, dim=-1), F.linear(x, y), F.relu(x), torch.sigmoid(x), F.layer_norm(x, (3,)),
            F.scaled_dot_product_attention(y[None], y[None], y[None]), torch.broadcast_tensors(x, y)[0].shape,
            torch.ops.aten.mul(x, 2), F.pad(x, (1, 1)), F.max_pool1d(x[None], 2),
            torch.meshgrid(x, x, indexing="ij")[0])  # fmt: skip


@whole
def answered_at_once(x, y):
    return (torch.is_tensor(x), torch.is_grad_enabled(), torch.get_default_dtype(), torch.finfo(x.dtype).min,
            torch.iinfo(torch.int8).max, torch.jit.is_scripting(), torch.is_floating_point(x), torch.numel(y),
            torch.promote_types(torch.int, torch.float), torch.device("cpu"), x.dtype == torch.float32, x + 1,
            math.sqrt(16), math.prod([2, 3]), round(2.567, 1), torch.Size([1]) + (2,))  # fmt: skip


@whole
def random_operations(x, y):
    torch.rand(3)
    return F.dropout(x, 0.5, training=True), torch.randn_like(x), torch.rand(2), x.bernoulli(0.5)


@whole
def parameters(x, y):
    return x * weights, isinstance(weights, torch.nn.Parameter), weights.requires_grad, weights.detach() + 1


@whole
def gradients_flow(x, y):
    z = (weights * x).sum()
    with torch.no_grad():
        w = weights * 2
    return z.detach(), z.requires_grad, w.requires_grad, (weights * 2).requires_grad


@whole
def aliased_results(x, y):
    z = x + 1
    return z, z, x, [z]


@any_graphs
def item_breaks(x, y):
    k = x.sum().item()
    return x + k, int(y.sum()), float(x[0]), x.tolist()


@any_graphs
def branch_on_data(x, y):
    z = x * 2
    if z.sum() > 3:
        return z + 1
    return z - 1


@any_graphs
def dynamic_shapes(x, y):
    return x[x > 1], x.nonzero(), torch.unique(x), x + 1


@any_graphs
def shape_error(x, y):
    z = x + 1
    return torch.matmul(z, torch.ones(4, 4))


@any_graphs
def text_of_tensors(x, y):
    z = x + 1
    return f"{z}", str(x.shape), repr(x.dtype)


@any_graphs
def printed(x, y):
    z = x + 1
    print("sum", z.sum())
    return z * 2


@any_graphs
def numpy_round_trip(x, y):
    z = x + 1
    return torch.from_numpy(z.numpy() * 2) + 1


@any_graphs
def sparse_and_subclass(x, y):
    s = y.to_sparse()
    return s.to_dense() + 1


@any_graphs
def seeded(x, y):
    torch.manual_seed(3)
    return torch.rand(2) + x[0]


@any_graphs
def autograd_inside(x, y):
    w = x.clone().requires_grad_()
    (w * 2).sum().backward()
    return w.grad


@any_graphs
def tensor_attributes(x, y):
    x.note = "hello"
    return x + 1, x.note, hasattr(x, "other")


@any_graphs
def complex_numbers(x, y):
    c = torch.complex(x, x)
    return c.real, c.imag, c.abs(), torch.view_as_real(c)


@pytest.mark.parametrize("function,is_whole", P.found, ids=lambda value: getattr(value, "__name__", ""))
def test_tensors(function, is_whole):
    state_tensor.zero_()
    check(function, is_whole)


@pytest.mark.parametrize("value", [1, 2.5, True, None, "text", (1, 2), torch.float16])
def test_constants_are_specialised(value):
    """A constant argument is guarded: another one is captured anew and never served by the old graph."""
    import lampwork_capture

    seen = []

    def program(x, constant):
        return x + 1, constant

    optimized = lampwork_capture.optimize(lambda graph, inputs: seen.append(1) or graph.forward)(program)
    x = torch.ones(2)
    assert optimized(x, value)[1] is value or optimized(x, value)[1] == value
    optimized(x, value)
    assert len(seen) == 1
    assert optimized(x, 99)[1] == 99
    assert len(seen) == 2


def test_same_and_distinct_inputs():
    """Two arguments that were one object, and were not: each form has its own graph, both are right."""
    import lampwork_capture

    def program(a, b):
        a.add_(1)
        return a + b, a is b

    optimized = lampwork_capture.optimize("eager")(program)
    for _ in range(2):
        one, two = torch.zeros(2), torch.zeros(2)
        result, same = optimized(one, two)
        assert not same and torch.equal(result, torch.ones(2))
        result, same = optimized(one, one)
        assert same and torch.equal(result, torch.full((2,), 4.0))


def test_lists_that_become_one():
    """A graph made for two lists does not serve one list passed twice."""
    import lampwork_capture

    def program(x, first, second):
        first.append(1)
        return x + len(second)

    optimized = lampwork_capture.optimize("eager")(program)
    x = torch.zeros(1)
    assert optimized(x, [], []).item() == 0
    both = []
    assert optimized(x, both, both).item() == 1
    assert optimized(x, [], []).item() == 0
