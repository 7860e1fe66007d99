"""Programs of tensors: attributes, methods, Python's protocols, objects beside tensors, factories, promotion."""

from __future__ import annotations

import copy
import math
import operator

import torch
import torch.nn.functional as F
from surface import Surface

S = Surface()
whole, any_graphs = S.whole, S.any_graphs


def vec(*values: float) -> torch.Tensor:
    return torch.tensor([float(v) for v in values or (1, 2, 3)])


def mat() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3)


# Attributes


@whole
def attribute_data_reads():
    def f(x):
        y = x.data
        return y + 1, y.requires_grad, y is x

    return f, (vec(),), (vec().requires_grad_(),)


@whole
def attribute_data_of_result_is_a_view():
    def f(x):
        y = x * 2
        z = y.data
        z.add_(1)
        return y, z

    return f, (vec(),), (vec().requires_grad_(),)


@any_graphs
def attribute_data_written_on_an_argument():
    def f(x, y):
        x.data = y * 2
        return x + 1

    return f, (vec(), vec()), (vec(4, 5, 6), vec())


@any_graphs
def parameter_data_written():
    p = torch.nn.Parameter(vec())

    def f(x):
        p.data = p.data * 0.5
        return p * x

    return f, (vec(),), (vec(),), (vec(),)


@whole
def parameter_data_updated_in_place():
    p = torch.nn.Parameter(vec())

    def f(x):
        p.data.mul_(0.5)
        p.data.add_(x)
        return (p * x).sum()

    return f, (vec(),), lambda r: r[-1].backward(), (vec(),), (p,)


@whole
def grad_read():
    p = torch.nn.Parameter(vec())

    def f(x):
        if p.grad is None:
            return p * x
        return p.grad * x

    return f, (vec(),), lambda r: r[-1].sum().backward(), (vec(),), lambda: setattr(p, "grad", None), (vec(),)


@whole
def grad_cleared():
    p = torch.nn.Parameter(vec())

    def f(x):
        p.grad = None
        return (p * x).sum()

    return f, (vec(),), lambda r: r[-1].backward(), (vec(),), (p,)


@whole
def grad_zeroed_in_place():
    p = torch.nn.Parameter(vec())

    def f(x):
        if p.grad is not None:
            p.grad.zero_()
        return (p * x).sum()

    return f, (vec(),), lambda r: r[-1].backward(), (vec(),), lambda r: r[-1].backward(), (vec(),)


@whole
def grad_assigned():
    p = torch.nn.Parameter(vec())

    def f(x):
        p.grad = x * 2
        return p.grad + 1

    return f, (vec(),), (vec(4, 5, 6),)


@whole
def requires_grad_reads():
    def f(x):
        return x * 2 if x.requires_grad else x + 1

    return f, (vec(),), (vec().requires_grad_(),), (vec(),)


@any_graphs
def requires_grad_assigned_on_argument():
    def f(x):
        x.requires_grad = True
        y = x * 2
        return y, y.requires_grad

    return f, (vec(),), (vec(),)


@any_graphs
def requires_grad_assigned_on_new_tensor():
    def f(x):
        w = torch.ones(3)
        w.requires_grad = True
        y = (w * x).sum()
        return y, w, y.requires_grad

    return f, (vec(),), lambda r: r[-1][0].backward(), (vec(),)


@any_graphs
def requires_grad_method():
    def f(x):
        w = (x * 2).detach().requires_grad_()
        y = (w * w).sum()
        return y, w.requires_grad, w.is_leaf

    return f, (vec(),), lambda r: r[-1][0].backward(), (vec(),)


@any_graphs
def is_leaf_of_all():
    def f(x, p):
        y = x * p
        return x.is_leaf, p.is_leaf, y.is_leaf, y.detach().is_leaf

    p = torch.nn.Parameter(vec())
    return f, (vec(), p), (vec().requires_grad_(), p), (vec().requires_grad_() * 1, p)


@whole
def grad_fn_presence():
    def f(x):
        y = x * 2
        return y, y.grad_fn is None, x.grad_fn is None

    return f, (vec(),), (vec().requires_grad_(),), (vec().requires_grad_() + 1,)


@any_graphs
def grad_fn_name():
    def f(x):
        y = x.exp()
        return y, y.grad_fn.name() if y.grad_fn is not None else "none"

    return f, (vec(),), (vec().requires_grad_(),)


@any_graphs
def version_counter():
    def f(x):
        before = x._version
        x.add_(1)
        return x._version - before

    x = vec()
    return f, (x,), (x,), (x,)


@any_graphs
def version_counter_of_new():
    def f(x):
        y = x * 2
        a = y._version
        y.add_(1)
        y.mul_(2)
        return y, a, y._version

    return f, (vec(),), (vec(),)


@whole
def sizes_and_kin():
    def f(x):
        return (
            x * 1,
            x.shape,
            x.size(),
            x.size(0),
            x.size(-1),
            x.ndim,
            x.dim(),
            len(x),
            x.numel(),
            x.nelement(),
            x.stride(),
            x.stride(0),
            x.element_size(),
            x.itemsize,
            x.nbytes,
            x.shape[-1],
            x.shape[:1],
            x.shape.numel(),
            tuple(x.shape),
            list(x.size()),
            x.is_contiguous(),
        )

    return f, (mat(),), (mat().t(),), (mat()[:, 1:],), (mat().double(),)


@whole
def kinds_of_tensor():
    def f(x):
        return (
            x + 1,
            x.dtype,
            x.device,
            x.layout,
            x.is_floating_point(),
            x.is_complex(),
            x.is_signed(),
            x.is_cuda,
            x.is_sparse,
            x.is_quantized,
            x.is_meta,
            x.is_mkldnn,
            x.device.type,
            x.device.index,
            x.is_nested,
            x.dtype.is_floating_point,
            x.dtype.itemsize,
            str(x.dtype),
            x.get_device(),
            x.is_inference(),
        )

    return f, (mat(),), (mat().int(),), (mat().bool(),), (mat().to(torch.complex64),)


@whole
def transposes():
    def f(x):
        return x.T, x.mT, x.H, x.mH, x.t(), x.T.is_contiguous(), x.transpose(0, 1).stride()

    return f, (mat(),), (mat() * 1j,)


@whole
def complex_parts():
    def f(x):
        y = x.conj()
        return x.real, x.imag, y, y.is_conj(), y.resolve_conj(), torch.view_as_real(x), x.abs(), x.angle(), -x.imag

    return f, (mat() + 1j,), (mat() * 1j,)


@any_graphs
def real_of_real():
    def f(x):
        return x.real, x.real is x, x.conj(), x.conj() is x, x.resolve_neg()

    return f, (mat(),)


@any_graphs
def imag_of_real_raises():
    def f(x):
        try:
            return x.imag
        except RuntimeError:
            return x + 1

    return f, (mat(),)


@whole
def attribute_kept_on_tensor():
    def f(x):
        if hasattr(x, "note"):
            return x * x.note
        return x + 1

    x = vec()
    return f, (x,), lambda: setattr(x, "note", 3.0), (x,), lambda: setattr(x, "note", 4.0), (x,), (vec(),)


@whole
def attribute_written_on_tensor():
    def f(x):
        x.note = "seen"
        x.scaled = x * 2
        return x.scaled + 1

    return f, (vec(),), (vec(),)


@whole
def attribute_written_on_new_tensor():
    def f(x):
        y = x * 2
        y.note = "made"
        return y

    return f, (vec(),), (vec(),)


@whole
def attribute_written_on_new_tensor_and_read():
    def f(x):
        y = x * 2
        y.scale = 3
        return y * y.scale

    return f, (vec(),), (vec(),)


@whole
def missing_attribute_raises():
    def f(x):
        try:
            return x.nothing_of_the_kind
        except AttributeError:
            return x + 1

    return f, (vec(),)


@any_graphs
def names_attribute():
    def f(x):
        return x + 1, x.names

    return f, (vec(),)


# Python protocol on tensors


@whole
def iterate_rows():
    def f(x):
        total = 0
        for row in x:
            total = total + row * 2
        a, b = x
        first, *rest = x.t()
        return total, a, b, first, rest, [r.sum() for r in x], list(x), tuple(x)

    return f, (mat(),)


@whole
def enumerate_zip_reversed():
    def f(x, y):
        out = [(i, a + b) for i, (a, b) in enumerate(zip(x, y))]
        return out, list(reversed(x)), max(range(len(x))), [*x], {i: r for i, r in enumerate(x)}

    return f, (mat(), mat() + 1)


@whole
def reversed_tensor():
    def f(x):
        return [r + 1 for r in reversed(x)]

    return f, (mat(),)


@any_graphs
def truth_of_tensor():
    def f(x):
        if x.sum() > 0:
            return x + 1
        return x - 1

    return f, (vec(),), (-vec(),), (vec(),)


@any_graphs
def tensor_in_list():
    def f(x, y):
        return x in [y, x], x + 1

    return f, (vec(), vec(4, 5, 6)), (torch.tensor(1.0), torch.tensor(1.0))


@any_graphs
def number_in_tensor():
    def f(x):
        return 2.0 in x, x + 1

    return f, (vec(),), (-vec(),)


@any_graphs
def conversions_to_python():
    def f(x):
        a = x.sum()
        return int(a), float(a), bool(a), a.item(), x.tolist(), x + int(a), math.sqrt(a), round(a.item(), 1)

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def item_used_as_index():
    def f(x):
        i = x.argmax().item()
        return x[i] * 2, i

    return f, (vec(),), (vec(9, 1, 1),), (vec(1, 9, 1),)


@any_graphs
def tensor_as_list_index():
    def f(x, names):
        return names[x.argmax()], x + 1

    return f, (vec(), ["a", "b", "c"]), (vec(9, 1, 1), ["a", "b", "c"])


@any_graphs
def tensor_in_range():
    def f(x, n):
        for _ in range(n):
            x = x * 2
        return x

    return f, (vec(), torch.tensor(2)), (vec(), torch.tensor(3))


@any_graphs
def tensor_formatted():
    def f(x):
        y = x + 1
        return f"{y}", str(y.shape), f"{y.sum().item():.2f}", repr(y), y * 2

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def tensor_printed():
    def f(x):
        print(x + 1)
        return x * 2

    return f, (vec(),), (vec(4, 5, 6),)


@whole
def comparisons_with_none_and_str():
    def f(x):
        return x == None, x != None, x is None, x is not None, None in [1, None], x + 1  # noqa: E711

    return f, (vec(),)


@whole
def comparison_with_str():
    def f(x):
        return x == "a", x != "a", x + 1

    return f, (vec(),)


@whole
def tensor_as_dict_key():
    def f(x, y):
        d = {x: 1, y: 2}
        d[x] = 3
        return d[x], d[y], len(d), x + y, x in d

    return f, (vec(), vec())


@any_graphs
def tensor_hash_and_id():
    def f(x, y):
        return hash(x) == hash(x), id(x) == id(y), x + y

    x = vec()
    return f, (x, vec()), (x, x)


@whole
def same_tensor_twice():
    def f(x, y):
        return x is y, x + y

    x = vec()
    return f, (x, x), (x, vec()), (x, x)


@whole
def isinstance_checks():
    def f(x):
        return (
            x + 1,
            isinstance(x, torch.Tensor),
            isinstance(x, torch.nn.Parameter),
            torch.is_tensor(x),
            type(x).__name__,
            isinstance(x, torch.FloatTensor),
            isinstance(x, torch.LongTensor),
            isinstance(x, (list, torch.Tensor)),
            type(x) is torch.Tensor,
            x.__class__,
            callable(x),
            isinstance(x, torch.autograd.Variable),
        )

    return f, (vec(),), (torch.nn.Parameter(vec()),), (vec().long(),)


@whole
def method_through_class():
    def f(x):
        return torch.Tensor.add(x, 1), torch.Tensor.__mul__(x, 2), torch.Tensor.sum(x, dim=0), torch.Tensor.size(x)

    return f, (vec(),)


@whole
def methods_as_values():
    def f(x):
        m = x.add
        g = getattr(x, "mul")
        h = [torch.sin, torch.Tensor.cos, x.exp]
        return m(1), g(2), h[0](x), h[1](x), h[2](), operator.methodcaller("abs")(x), operator.attrgetter("shape")(x)

    return f, (vec(),)


@whole
def map_filter_reduce():
    def f(x, y):
        return list(map(torch.sin, [x, y])), sum([x, y]), sum([x, y], x), list(map(operator.add, [x], [y]))

    return f, (vec(), vec(4, 5, 6))


@any_graphs
def builtin_min_max_abs_round():
    def f(x):
        return abs(x), max(x), min(x), sum(x), pow(x, 2), math.floor(2.5)

    return f, (vec(1.5, 2.5, 0.5),), (vec(3, 1, 2),)


@whole
def operators_reflected():
    def f(x):
        return (
            1 + x,
            1 - x,
            2 * x,
            1 / x,
            7 // x,
            7 % x,
            2**x,
            1.5 > x,
            2 <= x,
            2 == x,
            True & (x > 1),
            1 | x.int(),
            1 ^ x.int(),
            1 << x.int(),
            8 >> x.int(),
            -x,
            +x,
            ~(x > 1),
            x.int() << 1,
            x // 2,
            x % 2,
            x @ x,
            x**2,
        )

    return f, (vec(),)


@any_graphs
def matmul_reflected_with_lists_raises():
    def f(x):
        try:
            return [1, 2, 3] @ x
        except TypeError:
            return x + 1

    return f, (vec(),)


@whole
def operators_with_sequences():
    def f(x):
        return x + 1, x == [1, 2, 3]

    return f, (vec(),)


@whole
def operator_with_unknown_object():
    class Odd:
        def __radd__(self, other):
            return other * 10

        def __rmul__(self, other):
            return "mul"

    def f(x):
        return x + Odd(), x * Odd()

    return f, (vec(),)


# Size, dtype, device, finfo, ... as objects


@whole
def size_objects():
    def f(x):
        s = x.shape
        return (
            x + 1,
            s,
            s[0],
            s[-1],
            s[1:],
            s + (4,),
            (4,) + s,
            s * 2,
            s == (2, 3),
            s == [2, 3],
            s.count(2),
            s.index(3),
            2 in s,
            len(s),
            list(s),
            tuple(s),
            max(s),
            sum(s),
            s.numel(),
            [*s],
            isinstance(s, tuple),
            type(s) is torch.Size,
            hash(s) == hash((2, 3)),
            torch.Size([1, 2]),
            torch.Size((1,)) + s,
            str(s),
            s[:1] + s[1:],
        )

    return f, (mat(),)


@whole
def size_unpacked_and_used():
    def f(x):
        b, n = x.shape
        return (
            x.view(b * n),
            x.reshape(-1, b),
            x.new_zeros(x.shape),
            torch.zeros(*x.shape),
            torch.ones(x.size()),
            x.expand(4, b, n),
        )

    return f, (mat(),), (mat().t().contiguous(),)


@whole
def size_as_dict_key():
    def f(x, table):
        return x * table.get(x.shape, 1), x.shape in table

    return f, (mat(), {torch.Size([2, 3]): 5}), (vec(), {(2, 3): 5})


@whole
def dtype_objects():
    def f(x, d):
        info, whole_info = torch.finfo(d), torch.iinfo(torch.int32)
        return (
            x.to(d),
            info.eps,
            info.max,
            info.min,
            info.tiny,
            info.bits,
            info.dtype,
            whole_info.max,
            whole_info.bits,
            d.is_floating_point,
            d.is_complex,
            d.is_signed,
            d.itemsize,
            str(d),
            repr(d),
            d == torch.float32,
            d in (torch.half,),
            {torch.float32: "f", torch.float64: "d"}.get(d),
            d is torch.float,
            torch.promote_types(d, torch.int32),
            torch.result_type(x, 1.0),
            torch.can_cast(d, torch.int32),
            d.to_complex(),
            torch.get_default_dtype(),
        )

    return f, (vec(), torch.float32), (vec(), torch.float64), (vec(), torch.half)


@whole
def device_objects():
    def f(x, d):
        return (
            x.to(d),
            torch.device("cpu"),
            torch.device("cuda", 1),
            torch.device("cuda:2").index,
            d.type,
            d.index,
            str(d),
            d == torch.device("cpu"),
            d == "cpu",
            x.device == d,
            torch.zeros(2, device=d),
            repr(d),
            hash(d) == hash(x.device),
        )

    return f, (vec(), torch.device("cpu")), (vec(), torch.device("cpu", 0))


@whole
def memory_formats_and_layouts():
    def f(x):
        y = x.to(memory_format=torch.channels_last)
        return (
            y,
            y.stride(),
            y.is_contiguous(memory_format=torch.channels_last),
            x.layout is torch.strided,
            torch.empty_like(y).stride(),
            torch.contiguous_format,
            y.contiguous(),
            x.layout == torch.sparse_coo,
        )

    return f, (torch.arange(24.0).reshape(1, 2, 3, 4),)


# Factories


@whole
def factories():
    def f(x):
        return (
            x + 1,
            torch.zeros(2),
            torch.ones(2, 3),
            torch.full((2,), 7),
            torch.full((2,), 1.5),
            torch.arange(5),
            torch.arange(1, 2, 0.25),
            torch.linspace(0, 1, 3),
            torch.logspace(0, 1, 3),
            torch.eye(2),
            torch.empty(2).shape,
            torch.zeros_like(x),
            torch.ones_like(x, dtype=torch.int),
            torch.full_like(x, 3),
            x.new_tensor([1, 2]),
            x.new_zeros(2),
            x.new_ones((2,)),
            x.new_full((2,), 4),
            x.new_empty(2).shape,
            torch.tril_indices(2, 2),
            torch.zeros(()),
            torch.zeros(0),
            torch.zeros([2, 2]),
            torch.zeros((2, 2)),
            torch.complex(x, x),
            torch.polar(x, x),
            torch.hann_window(4),
            torch.empty_strided((2, 2), (1, 2)).stride(),
            torch.scalar_tensor(3.0),
            torch.range(0, 2),
            torch.zeros(2, requires_grad=True),
        )

    return f, (vec(),), (vec().double(),)


@whole
def tensor_of_python_data():
    def f(x):
        return (
            x + 1,
            torch.tensor(1),
            torch.tensor(1.5),
            torch.tensor(True),
            torch.tensor([1, 2]),
            torch.tensor([[1.0], [2]]),
            torch.tensor((1, 2)),
            torch.tensor([]),
            torch.tensor([True, 2]),
            torch.tensor(1 + 2j),
            torch.tensor([1], dtype=torch.half),
            torch.tensor(range(3)),
            torch.as_tensor([1, 2]),
            torch.as_tensor(3.0),
            torch.asarray([1.0]),
            torch.tensor([1.0], requires_grad=True),
            torch.tensor(x.shape),
            torch.tensor([len(x), 2]),
            torch.as_tensor(x) is x,
            torch.tensor([[]]),
        )

    return f, (vec(),)


@any_graphs
def tensor_of_zero_dim_tensors():
    def f(x):
        return torch.tensor([x[0], x[1]]), torch.tensor([x.sum(), 1.0]), torch.tensor(x[0])

    return f, (vec(),), (vec(4, 5, 6),)


@whole
def tensor_of_tensor_copies():
    def f(x):
        y = torch.tensor(x)
        y.add_(1)
        return y, x, torch.as_tensor(x) is x

    return f, (vec(),), (vec().requires_grad_(),)


@any_graphs
def legacy_constructors():
    def f(x):
        return (
            torch.Tensor([1, 2]) + x.sum(),
            torch.FloatTensor([1.0]),
            torch.LongTensor([1, 2]),
            torch.Tensor(2, 3).shape,
            x.new([1.0]),
        )

    return f, (vec(),)


@any_graphs
def from_numpy():
    import numpy as np

    def f(x, a):
        y = torch.from_numpy(a)
        return y + x, torch.as_tensor(a), torch.tensor(a)

    return f, (vec(), np.ones(3)), (vec(), np.zeros(3))


@any_graphs
def numpy_inside():
    import numpy as np

    def f(x):
        a = x.numpy()
        b = np.sin(a) + a.shape[0]
        return torch.from_numpy(b) * 2, np.float32(1.5), x * 2, b.dtype.name

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def numpy_shares_memory():
    def f(x):
        a = x.numpy()
        x.add_(1)
        a[0] = 50
        return x * 2

    return f, (vec(),), (vec(4, 5, 6),)


@any_graphs
def numpy_scalars_as_arguments():
    import numpy as np

    def f(x, k):
        return x * k, x + np.pi, np.sqrt(4.0)

    return f, (vec(), np.float64(2.5)), (vec(), np.float64(3.5)), (vec(), np.int64(2))


@any_graphs
def numpy_ufunc_on_tensor():
    import numpy as np

    def f(x):
        return np.sin(x), x + 1, np.asarray(x).sum()

    return f, (vec(),), (vec(4, 5, 6),)


@whole
def zero_sizes_and_zero_dims():
    def f(x):
        return (
            x + 1,
            x.sum(),
            x.shape,
            x.numel(),
            x.reshape(-1),
            torch.cat([x.reshape(-1), x.reshape(-1)]),
            x.mean(),
            x.dim(),
        )

    return f, (torch.zeros(0),), (torch.zeros(2, 0),), (torch.tensor(3.0),), (torch.tensor(2.0).double(),)


@whole
def promotion_with_scalars():
    def f(i, h, z, b):
        return (
            i + 1,
            i + 1.0,
            i * True,
            i / 2,
            i // 2,
            h + 1,
            h * 2.0,
            h + z,
            i + z,
            b + 1,
            b + 1.5,
            b & True,
            i + 1j,
            h + i,
            z + i,
            torch.add(i, 1.0),
            torch.where(b, i, 1.0),
            torch.where(b, 1, 0),
            i.pow(2),
            i.pow(-1.0),
            2**i,
            i == 1.0,
            torch.maximum(i, z.int()),
            i.clamp(min=1.5),
            i.float().clamp(1),
            b.sum(),
            i.mean(dtype=torch.float64),
            h.softmax(0, dtype=torch.float32),
            i.sqrt(),
        )

    return f, (torch.arange(3), vec().half(), torch.tensor(2.5), torch.tensor([True, False, True]))


@whole
def default_dtype_at_the_call():
    def f(x):
        return x + torch.ones(3), torch.tensor(1.5), torch.get_default_dtype(), torch.arange(2.0)

    return (
        f,
        (vec(),),
        lambda: torch.set_default_dtype(torch.float64),
        (vec(),),
        lambda: torch.set_default_dtype(torch.float32),
        (vec(),),
    )


@any_graphs
def deepcopied_tensors():
    def f(x):
        y = copy.deepcopy(x)
        z = copy.copy(x)
        y.add_(1)
        return y, z is x, x * 2

    return f, (vec(),), (torch.nn.Parameter(vec()).detach(),), (vec().requires_grad_().detach(),)


@whole
def multi_output_functions():
    def f(x):
        top = x.topk(2)
        values, indices = x.sort(descending=True)
        mx = x.max(dim=0)
        u = torch.unbind(x)
        return (
            top,
            top.values,
            top.indices,
            values,
            indices,
            mx,
            mx.values,
            mx[1],
            u,
            x.split(1),
            x.chunk(2),
            torch.std_mean(x),
            x.var_mean() if hasattr(x, "var_mean") else 0,
            torch.aminmax(x),
            x.aminmax().max,
            x.median(dim=0).values,
            x.kthvalue(1),
            x.cummax(0),
            torch.frexp(x),
            x.mode(),
            torch.linalg.svd(x[None]).S,
            type(top).__name__,
            isinstance(top, tuple),
        )

    return f, (vec(3, 1, 2),)


@any_graphs
def unique_and_counts():
    def f(x):
        return x.unique(), torch.unique(x, return_counts=True), torch.unique_consecutive(x), x + 1

    return f, (vec(1, 1, 2),), (vec(1, 2, 3),)


@whole
def python_functional():
    def f(x, y):
        return (
            torch.einsum("ij,kj->ik", x, y),
            torch.broadcast_tensors(x, y),
            torch.meshgrid(x[0], y[0], indexing="ij"),
            torch.cartesian_prod(x[0], y[0]),
            torch.block_diag(x, y),
            torch.cdist(x, y),
            torch.norm(x),
            torch.tensordot(x, y, 0).shape,
            torch.atleast_2d(x[0]),
            torch.split(x, 1),
            torch.stack([x, y], -1),
            torch.cat((x, y), dim=1),
            torch.hstack([x, y]),
            torch.vstack((x, y)),
            F.pad(x, (1, 1)),
            F.normalize(x + 1),
            F.cosine_similarity(x + 1, y + 1),
            F.one_hot(torch.tensor([1])),
            F.interpolate(x[None, None], scale_factor=2),
            F.mse_loss(x, y),
            F.cross_entropy(x, torch.tensor([0, 1])),
            F.gelu(x),
            torch.nn.functional.glu(torch.cat([x, x], 1)),
            F.unfold(x[None, None], 2).shape,
            x.logsumexp(0),
            torch.lerp(x, y, 0.5),
        )

    return f, (mat(), mat() + 1)


@whole
def ops_namespace():
    def f(x):
        return (
            torch.ops.aten.add.Tensor(x, x),
            torch.ops.aten.sin(x),
            torch.ops.aten.mul(x, 2),
            torch.ops.prims.sum(x, [0]) if False else 0,
        )

    return f, (vec(),)
