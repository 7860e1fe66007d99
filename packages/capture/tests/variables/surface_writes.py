"""Programs of tensors that are written to: in-place forms, `out=`, indexing and index assignment, shared memory."""

from __future__ import annotations

import torch
from surface import Surface

S = Surface()
whole, any_graphs = S.whole, S.any_graphs


def vec(*values: float) -> torch.Tensor:
    return torch.tensor([float(v) for v in values or (1, 2, 3)])


def mat() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3)


# In-place forms


@whole
def augmented_assignments():
    def f(x):
        y = x
        x += 1
        x -= 0.5
        x *= 2
        x /= 3
        x **= 2
        x //= 0.1
        x %= 7
        return y is x, x

    return f, (vec(),), (vec(4, 5, 6),)


@whole
def augmented_on_ints():
    def f(x):
        x <<= 1
        x >>= 1
        x |= 8
        x &= 13
        x ^= 3
        return x

    return f, (vec().int(),)


@whole
def in_place_methods():
    def f(x):
        x.add_(1).mul_(2).sub_(1).clamp_(0, 6).neg_().abs_().sqrt_()
        x.fill_(3)
        x.zero_()
        x.copy_(torch.arange(3))
        x.masked_fill_(x > 1, -1.0)
        x.index_fill_(0, torch.tensor([0]), 9.0)
        return x.relu_()

    return f, (vec(),)


@whole
def in_place_on_view_of_argument():
    def f(x):
        x[0].add_(1)
        x[:, 1:].mul_(2)
        x.view(-1)[-1] = 100
        x.t()[0] += 5
        return x.sum()

    return f, (mat(),), (mat(),)


@whole
def in_place_seen_through_alias():
    def f(x):
        y = x.view(3, 2)
        x.add_(1)
        z = y * 1
        y.mul_(2)
        return z, x.clone(), y is x

    return f, (mat(),), (mat(),)


@any_graphs
def in_place_on_leaf_raises():
    def f(x):
        x.add_(1)
        return x

    return f, (vec().requires_grad_(),)


@whole
def in_place_on_leaf_under_no_grad():
    p = torch.nn.Parameter(vec())

    def f(x):
        with torch.no_grad():
            p.add_(x)
        return p * 2

    return f, (vec(),), (vec(),), (p.detach(),)


@whole
def in_place_changes_requires_grad():
    p = torch.nn.Parameter(vec())

    def f(x):
        y = torch.zeros(3)
        y.add_(p * x)
        a = y.requires_grad
        y[0] = 1.0
        return y, a, y.requires_grad

    return f, (vec(),), lambda r: r[-1][0].sum().backward(), (vec(),)


@whole
def in_place_on_argument_makes_it_require_grad():
    p = torch.nn.Parameter(vec())

    def f(x):
        x.mul_(p)
        return x.requires_grad, x + 1

    return f, (vec(),), (vec(),)


@whole
def shape_changed_in_place_on_new():
    def f(x):
        y = x * 1
        y.unsqueeze_(0)
        a = y.shape
        y.t_()
        y.squeeze_()
        return y, a, y.shape

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def shape_changed_in_place_on_argument():
    def f(x):
        x.unsqueeze_(0)
        return x + 1, x.shape

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def transposed_in_place_on_argument():
    def f(x):
        x.transpose_(0, 1)
        return x * 2

    return f, (mat(),), (mat(),)


@any_graphs
def resized():
    def f(x):
        y = torch.empty(0)
        y.resize_(3)
        y.copy_(x)
        return y

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def set_storage():
    def f(x, y):
        x.set_(y)
        return x + 1

    return f, (vec(), vec(4, 5, 6)), (vec(), vec(7, 8, 9))


@whole
def detached_in_place():
    def f(x):
        y = x * 2
        y.detach_()
        return y, y.requires_grad

    return f, (vec().requires_grad_(),), (vec(),)


@whole
def detach_shares_memory():
    def f(x):
        y = x.detach()
        y.mul_(2)
        return x * 1, y

    return f, (vec(),), (vec().requires_grad_(),)


@whole
def clone_and_contiguous():
    def f(x):
        return (
            x.clone(),
            x.contiguous(),
            x.contiguous() is x,
            x.t().contiguous(),
            x.clone(memory_format=torch.preserve_format),
        )

    return f, (mat(),), (mat().t(),)


@whole
def to_returns_self_or_copy():
    def f(x):
        a = x.to(torch.float32)
        b = x.to("cpu")
        c = x.float()
        d = x.to(torch.float64)
        return a is x, b is x, c is x, d, x.to(torch.float32, copy=True), x.type(torch.int32), x.cpu() is x, x.double()

    return f, (mat(),), (mat().double(),)


@whole
def to_other_and_non_blocking():
    def f(x, y):
        return x.to(y), x.to(y.device, y.dtype, non_blocking=True), x.type_as(y), x.to(dtype=torch.half), x.bfloat16()

    return f, (mat(), mat().int()), (mat(), mat())


@whole
def type_method():
    def f(x):
        return x.type(), x.type("torch.DoubleTensor"), x + 1

    return f, (vec(),)


# out=


@whole
def out_of_same_size():
    def f(x, buffer):
        r = torch.add(x, 1, out=buffer)
        return r is buffer, buffer * 2

    return f, (vec(), torch.zeros(3)), (vec(4, 5, 6), torch.zeros(3))


@whole
def out_is_resized():
    def f(x, buffer):
        r = torch.mul(x, 2, out=buffer)
        return r is buffer, buffer.shape, buffer + 1

    return f, (vec(), torch.empty(0)), (vec(4, 5, 6), torch.empty(0))


@whole
def out_resized_local():
    def f(x):
        buffer = torch.empty(0)
        torch.mul(x, 2, out=buffer)
        return buffer.shape, buffer + 1

    return f, (vec(),), (vec(4, 5, 6),)


@whole
def out_of_two():
    def f(x):
        values, indices = torch.empty(2), torch.empty(2, dtype=torch.long)
        r = torch.max(x, dim=1, out=(values, indices))
        return values, indices, r.values is values, r[1] is indices

    return f, (mat(),)


@whole
def out_is_the_input():
    def f(x):
        torch.mul(x, 2, out=x)
        return torch.add(x, x, out=x)

    return f, (vec(),)


@whole
def out_is_a_view():
    def f(x):
        buffer = torch.zeros(2, 3)
        torch.add(x, 1, out=buffer[1])
        torch.cat([x[:1], x[1:]], out=buffer[0])
        return buffer

    return f, (vec(),)


# Indexing


@whole
def index_reads():
    def f(x, i, m):
        return (
            x[0],
            x[-1],
            x[0, 1],
            x[:, 0],
            x[..., -1],
            x[None],
            x[:, None],
            x[0:1],
            x[::2],
            x[:, ::2],
            x[[0, 1]],
            x[i],
            x[:, i],
            x[i, i],
            x[m.nonzero(as_tuple=True)] if False else x,
            x[0][1],
            x[(0, 1)],
            x[[0], [1]],
            x[slice(None), 1],
            x[..., None].shape,
            x[True].shape,
            x[torch.tensor(1)],
            x[1:1],
            x[...],
        )

    return f, (mat(), torch.tensor([0, 1]), mat() > 2)


@any_graphs
def index_by_mask():
    def f(x):
        return x[x > 2], x[x > 2].shape, (x > 2).nonzero(), torch.nonzero(x, as_tuple=True), torch.where(x > 2)

    return f, (mat(),), (mat() * 2,), (-mat(),)


@any_graphs
def index_out_of_range_raises():
    def f(x):
        return x[7]

    return f, (vec(),)


@any_graphs
def index_out_of_range_caught():
    def f(x):
        try:
            return x[7]
        except IndexError:
            return x + 1

    return f, (vec(),)


@whole
def index_writes():
    def f(x, i):
        x[0] = 1
        x[:, 1] = torch.tensor([5.0, 6.0])
        x[..., -1] += 10
        x[i] = x[i] * 2
        x[x > 20] = 0
        x[0, 0] -= 3
        x[1] = x[0]
        x[None, 0] = -1
        x[:] = x + 1
        x[[0, 1], [0, 1]] = 9.0
        return x * 1

    return f, (mat(), torch.tensor([1])), (mat(), torch.tensor([0]))


@whole
def index_write_from_other_dtype():
    def f(x):
        x[0] = torch.tensor(7)
        x[1] = True
        x[2] = torch.tensor(2.5, dtype=torch.float64)
        return x

    return f, (vec(),), (vec().int(),)


@whole
def index_helpers():
    def f(x, i):
        return (
            x.index_select(1, i),
            x.gather(1, i[None]),
            x.take(i),
            torch.take_along_dim(x, i[None], 1),
            x.scatter(1, i[None], 9.0),
            x.index_add(1, i, x[:, :2]),
            x.masked_select(x > 100) if False else 0,
            x.narrow(1, 0, 2),
            x.select(0, 1),
            x.unfold(1, 2, 1),
            x.diagonal(),
            x.roll(1),
            x.flip(0),
            x.tril(),
            torch.index_select(x, 0, i % 2),
            x.put(i, x[0, :2]),
            x.index_copy(1, i, x[:, :2]),
            x.movedim(0, 1),
        )

    return f, (mat(), torch.tensor([0, 1]))


@whole
def scatter_in_place():
    def f(x, i):
        x.scatter_(1, i[None], 9.0)
        x.index_add_(0, torch.tensor([0]), torch.ones(1, 3))
        x.index_put_((torch.tensor([0]), torch.tensor([1])), torch.tensor(4.0), accumulate=True)
        x.masked_scatter_(x > 8, torch.zeros(6))
        return x

    return f, (mat(), torch.tensor([0, 1]))


# Aliasing of inputs and outputs


@whole
def input_returned_unchanged():
    def f(x, y):
        z = x + y
        return x, z, y, [x]

    return f, (vec(), vec(4, 5, 6))


@whole
def views_of_inputs_returned():
    def f(x):
        return (
            x.t(),
            x[0],
            x.detach(),
            x.expand(2, *x.shape),
            x.reshape(3, 2),
            x.squeeze(),
            x.flatten(),
            x.view_as(x),
            x.unbind(),
        )

    return f, (mat(),), (mat().requires_grad_(),), (mat().t(),)


@whole
def outputs_alias_each_other():
    def f(x):
        y = x * 2
        return y, y.view(-1), y[0], y.t(), y

    return f, (mat(),), (mat().requires_grad_(),)


@whole
def inputs_that_share_memory():
    def f(x, y):
        x.add_(1)
        return y * 2, x

    base = mat()
    return f, (base[0], base[1]), (base[0], base.view(-1)[:3]), (base, base.view(-1)), (vec(), vec())


@whole
def written_twice_the_same():
    def f(x, y):
        x.add_(1)
        y.mul_(2)
        return x + y

    x = vec()
    return f, (vec(), vec()), (x, x), (vec(), vec())


@whole
def expanded_and_strided_inputs():
    def f(x):
        return (
            x + 1,
            x * x.t() if x.dim() == 2 and x.shape[0] == x.shape[1] else x,
            x.contiguous(),
            x.is_contiguous(),
            x.sum(0),
        )

    return (
        f,
        (torch.ones(1).expand(3, 3),),
        (torch.arange(9.0).reshape(3, 3).t(),),
        (torch.arange(9.0)[::2],),
        (mat()[:, :2],),
    )
