"""Programs of autograd, torch.func, higher-order operators, subclasses and unusual tensors."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from surface import Surface
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

S = Surface()
whole, any_graphs = S.whole, S.any_graphs


def vec() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0])


def leaf() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0], requires_grad=True)


# autograd.Function


class Cube(torch.autograd.Function):
    """Saves a tensor; its backward is not what autograd would derive, so that it shows."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x * 7


class Scale(torch.autograd.Function):
    """A non-tensor argument, an attribute on ctx, needs_input_grad, None gradients."""

    @staticmethod
    def forward(ctx, x, y, k=2.0):
        ctx.k = k
        ctx.save_for_backward(x, y)
        return x * y * k, x + y

    @staticmethod
    def backward(ctx, g, h):
        x, y = ctx.saved_tensors
        gx = g * y * ctx.k * 10 + h if ctx.needs_input_grad[0] else None
        gy = g * x * ctx.k * 10 + h if ctx.needs_input_grad[1] else None
        return gx, gy, None


class Split(torch.autograd.Function):
    """forward without ctx, and setup_context."""

    @staticmethod
    def forward(x, k):
        return x * k

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, k = inputs
        ctx.k = k
        ctx.mark_non_differentiable()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.k * 100, None


class Dirty(torch.autograd.Function):
    """Writes its input."""

    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 20


class Counted(torch.autograd.Function):
    """Not differentiable in one output."""

    @staticmethod
    def forward(ctx, x):
        top = x.argmax()
        ctx.mark_non_differentiable(top)
        ctx.set_materialize_grads(False)
        return x * 2, top

    @staticmethod
    def backward(ctx, g, _):
        return g * 5


@whole
def function_applied():
    def f(x):
        return Cube.apply(x).sum() + x.sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,), lambda r: r[-1].backward(), (vec(),)


@whole
def function_with_two_outputs():
    def f(x, y):
        a, b = Scale.apply(x, y, 3.0)
        c, d = Scale.apply(x, y)
        return a + b.sin(), c, d

    x, y = leaf(), leaf()
    return f, (x, y), lambda r: sum(t.sum() for t in r[-1]).backward(), (x, y), (x, vec())


@whole
def function_with_setup_context():
    def f(x):
        return Split.apply(x, 4) + 1

    x = leaf()
    return f, (x,), lambda r: r[-1].sum().backward(), (x,)


@any_graphs
def function_that_writes_its_input():
    def f(x):
        y = x * 1
        z = Dirty.apply(y)
        return z, z is y

    x = leaf()
    return f, (x,), lambda r: r[-1][0].sum().backward(), (x,)


@any_graphs
def function_partly_differentiable():
    def f(x):
        y, i = Counted.apply(x)
        return y.sum(), i

    x = leaf()
    return f, (x,), lambda r: r[-1][0].backward(), (x,)


@whole
def function_through_apply_alias():
    cube = Cube.apply

    def f(x):
        return cube(x) * 2

    x = leaf()
    return f, (x,), lambda r: r[-1].sum().backward(), (x,)


@whole
def function_in_module():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(3, 3)

        def forward(self, x):
            return Cube.apply(self.lin(x))

    m = M()
    return m, (vec(),), lambda r: r[-1].sum().backward(), (vec(),)


@whole
def function_backward_replaced():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    def f(x):
        return Twice.apply(x).sum()

    def change():
        Twice.backward = staticmethod(lambda ctx, g: g * 1000)
        Twice.forward = staticmethod(lambda ctx, x: x * 3)

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), change, (x,), lambda r: r[-1].backward(), (x,)


@whole
def function_without_gradients():
    def f(x):
        with torch.no_grad():
            return Cube.apply(x), Scale.apply(x, x)[0]

    return f, (leaf(),), (vec(),)


@whole
def straight_through_estimator():
    class Round(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.round()

        @staticmethod
        def backward(ctx, g):
            return g.clone()

    def f(x):
        y = Round.apply(x * 1.3)
        z = x + (x.round() - x).detach()
        return (y * z).sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,)


@any_graphs
def double_backward_of_function():
    def f(x):
        y = Cube.apply(x).sum()
        (g,) = torch.autograd.grad(y, x, create_graph=True)
        return g.sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,)


# Gradients in the frame


@any_graphs
def gradients_taken_in_frame():
    def f(x):
        y = (x * x).sum()
        (g,) = torch.autograd.grad(y, x)
        return g * 2, y

    return f, (leaf(),), (leaf(),)


@any_graphs
def gradient_penalty():
    lin = nn.Linear(3, 1)

    def f(x):
        x = x.detach().requires_grad_(True)
        out = lin(x).sum()
        (g,) = torch.autograd.grad(out, x, create_graph=True)
        return (g.norm() - 1) ** 2

    return f, (vec(),), lambda r: r[-1].backward(), (lin.weight,)


@any_graphs
def backward_called_in_frame():
    w = leaf()

    def f(x):
        loss = (w * x).sum()
        loss.backward()
        return w.grad * 2, loss

    return f, (vec(),), (vec(),), lambda: setattr(w, "grad", None), (vec(),)


@any_graphs
def backward_with_arguments():
    def f(x):
        y = x * 3
        y.backward(torch.ones_like(y), retain_graph=True)
        y.backward(gradient=torch.ones(3))
        return x.grad

    return f, (leaf(),), (leaf(),)


@any_graphs
def hook_on_tensor():
    def f(x):
        y = x * 2
        y.register_hook(lambda g: g * 10)
        return y.sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,), lambda r: r[-1].backward(), (x,)


@any_graphs
def hook_on_argument():
    log: list[Any] = []

    def f(x):
        handle = x.register_hook(lambda g: log.append(1))
        y = (x * 2).sum()
        return y, handle is None

    x = leaf()
    return f, (x,), lambda r: r[-1][0].backward(), lambda: print(log), (x,)


@any_graphs
def hook_removed_in_frame():
    def f(x):
        handle = x.register_hook(lambda g: g * 100)
        y = (x * 2).sum()
        handle.remove()
        return y

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,)


@whole
def post_accumulate_hook():
    log: list[Any] = []
    p = nn.Parameter(vec())
    p.register_post_accumulate_grad_hook(lambda t: log.append(t.grad.sum().item()))

    def f(x):
        return (p * x).sum()

    return f, (vec(),), lambda r: r[-1].backward(), lambda: print(log), (vec(),)


@any_graphs
def retain_grad_in_frame():
    def f(x):
        y = x * 2
        y.retain_grad()
        return y, (y * y).sum()

    return f, (leaf(),), lambda r: r[-1][1].backward(), lambda r: print(r[-1][0].grad.tolist())


@any_graphs
def detached_branches():
    def f(x):
        y = x * 2
        z = y.detach()
        w = z.requires_grad_()
        return y, z is w, (w * 2).requires_grad, y.requires_grad

    return f, (leaf(),), (vec(),)


@whole
def graph_kept_between_calls():
    def f(h, x):
        return torch.tanh(h + x)

    h, x = leaf(), vec()

    def again(r):
        out = f(r[-1], x)
        out.sum().backward()

    return f, (h, x), again, (h, x)


@whole
def grad_of_grad_outside():
    def f(x):
        return (x**3).sum()

    x = leaf()

    def second(r):
        (g,) = torch.autograd.grad(r[-1], x, create_graph=True)
        g.sum().backward()

    return f, (x,), second, (x,)


@any_graphs
def gradient_edges_and_nodes():
    def f(x):
        y = x * 2
        node = y.grad_fn
        return y, node is None, type(node).__name__

    return f, (leaf(),), (vec(),)


# checkpoint


@whole
def checkpoint_without_reentry():
    lin = nn.Linear(3, 3)

    def block(x, k):
        return F.dropout(lin(x).relu(), 0.5) * k

    def f(x):
        return checkpoint(block, x, 2.0, use_reentrant=False).sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,)


@any_graphs
def checkpoint_with_reentry():
    lin = nn.Linear(3, 3)

    def f(x):
        return checkpoint(lambda t: lin(t).relu(), x, use_reentrant=True).sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward(), (x,)


@whole
def checkpoint_of_modules_in_order():
    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))

    def f(x):
        return checkpoint_sequential(m, 2, x, use_reentrant=False).sum()

    x = leaf()
    return f, (x,), lambda r: r[-1].backward()


# torch.func


@whole
def func_vmap():
    def f(x):
        return torch.vmap(lambda r: r * r.sum())(x), torch.func.vmap(torch.dot)(x, x)

    return f, (torch.ones(2, 3),), (torch.ones(4, 3),)


@whole
def func_grad():
    def f(x):
        return torch.func.grad(lambda t: (t**3).sum())(x), torch.func.grad_and_value(lambda t: t.sum())(x)

    return f, (vec(),), (vec(),)


@any_graphs
def func_jvp_and_vjp():
    def f(x):
        out, tangent = torch.func.jvp(torch.sin, (x,), (torch.ones(3),))
        value, pull = torch.func.vjp(torch.exp, x)
        return out, tangent, value, pull(torch.ones(3))[0]

    return f, (vec(),), (vec(),)


@whole
def func_jacobians():
    def f(x):
        return (
            torch.func.jacrev(lambda t: t**2)(x),
            torch.func.jacfwd(lambda t: t**2)(x),
            torch.func.hessian(lambda t: (t**3).sum())(x),
        )

    return f, (vec(),)


@whole
def called_inside_vmap():
    def f(x):
        return x * 2 + x.sum()

    def outer(x):
        return torch.vmap(f)(x)

    return outer, (torch.ones(2, 3),), (torch.ones(2, 3) * 2,)


@whole
def optimized_called_by_vmap():
    def f(x, y):
        return torch.vmap(lambda a: torch.func.grad(lambda b: (b * y).sum())(a))(x)

    return f, (torch.ones(2, 3), vec()), (torch.ones(2, 3), vec() * 2)


@whole
def ensemble_by_stack_module_state():
    models = [nn.Linear(3, 2) for _ in range(3)]
    params, buffers = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0])

    def f(x):
        def one(p, b, t):
            return torch.func.functional_call(base, (p, b), (t,))

        return torch.vmap(one, in_dims=(0, 0, None))(params, buffers, x)

    return f, (vec(),), (vec(),)


# Higher-order operators


@whole
def cond_operator():
    def f(x):
        return torch.cond(x.sum() > 0, lambda t: t + 1, lambda t: t - 1, (x,))

    return f, (vec(),), (-vec(),), (vec(),)


@any_graphs
def cond_on_python_bool():
    def f(x):
        return torch.cond(x.shape[0] > 2, lambda t: t + 1, lambda t: t - 1, (x,))

    return f, (vec(),), (torch.ones(2),)


@any_graphs
def while_loop_operator():
    def f(x):
        return torch._higher_order_ops.while_loop(lambda i, t: i < 3, lambda i, t: (i + 1, t * 2), (torch.tensor(0), x))

    return f, (vec(),), (vec(),)


@any_graphs
def scan_operators():
    from torch._higher_order_ops.associative_scan import associative_scan
    from torch._higher_order_ops.scan import scan

    def f(x):
        a = associative_scan(lambda p, q: p + q, x, 0, combine_mode="generic")
        _, b = scan(lambda c, t: (c + t, c * t), torch.zeros(()), x)
        return a, b

    return f, (vec(),)


@any_graphs
def flex_attention_call():
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def causal(b, h, q, k):
        return q >= k

    def f(q):
        mask = create_block_mask(causal, None, None, 16, 16, device="cpu", BLOCK_SIZE=16)
        return flex_attention(q, q, q, block_mask=mask), flex_attention(
            q, q, q, score_mod=lambda s, b, h, i, j: s + (i - j)
        )

    return f, (torch.ones(1, 1, 16, 4),)


# Subclasses


class Tagged(torch.Tensor):
    """A subclass that keeps `__torch_function__` as it is."""


class Loud(torch.Tensor):
    """A subclass that counts."""

    calls = 0

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.mul or func is torch.mul:
            cls.calls += 1
        return super().__torch_function__(func, types, args, kwargs or {})


class Wrapped(torch.Tensor):
    """A wrapper subclass with `__torch_dispatch__`."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"Wrapped({self.inner.tolist()})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        plain = pytree.tree_map(lambda t: t.inner if isinstance(t, cls) else t, (args, kwargs or {}))
        out = func(*plain[0], **plain[1])
        return pytree.tree_map(lambda t: cls(t) if isinstance(t, torch.Tensor) else t, out)


class DuckArray:
    """Not a tensor, but torch functions take it."""

    def __init__(self, value):
        self.value = value

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        plain = [a.value if isinstance(a, cls) else a for a in args]
        return func(*plain, **(kwargs or {})) * 100


@any_graphs
def subclass_plain():
    def f(x):
        y = x * 2 + 1
        return y, type(y).__name__, isinstance(y, torch.Tensor)

    return f, (vec().as_subclass(Tagged),), (vec(),), (vec().as_subclass(Tagged),)


@any_graphs
def subclass_with_function():
    def f(x, y):
        return x * y + y * 2

    return (
        f,
        (vec().as_subclass(Loud), vec()),
        (vec(), vec()),
        (vec(), vec().as_subclass(Loud)),
        lambda: print(Loud.calls > 0),
    )


@any_graphs
def subclass_with_dispatch():
    def f(x, y):
        return x * y + 1

    return f, (Wrapped(vec()), vec()), (vec(), vec()), (Wrapped(vec()), Wrapped(vec()))


@any_graphs
def subclass_made_in_frame():
    def f(x):
        y = x.as_subclass(Tagged)
        z = Wrapped(x)
        return y + 1, z * 2, isinstance(y, Tagged)

    return f, (vec(),), (vec(),)


@whole
def duck_array_with_function():
    def f(x, d):
        return torch.add(x, d), torch.mul(d, 3)

    return f, (vec(), DuckArray(vec())), (vec(), DuckArray(vec() * 2))


@any_graphs
def parameter_of_subclass():
    p = nn.Parameter(vec().as_subclass(Tagged))

    def f(x):
        return p * x, type(p).__name__

    return f, (vec(),), (vec(),)


# Modes in the frame


@whole
def function_mode_in_frame():
    from torch.overrides import TorchFunctionMode

    class AddOne(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            return out + 1 if func is torch.sin else out

    def f(x):
        with AddOne():
            y = torch.sin(x)
        return y, torch.sin(x)

    return f, (vec(),), (vec(),)


@whole
def function_modes_nested_and_stateful():
    from torch.overrides import BaseTorchFunctionMode, TorchFunctionMode

    class Log(TorchFunctionMode):
        def __init__(self, name, log):
            super().__init__()
            self.name, self.log = name, log

        def __torch_function__(self, func, types, args=(), kwargs=None):
            self.log.append((self.name, func.__name__))
            return func(*args, **(kwargs or {}))

    def f(x):
        log = []
        with Log("a", log), Log("b", log), BaseTorchFunctionMode():
            y = x + 1
            z = y.sum()
        return z, log

    return f, (vec(),), (vec(),)


# Unusual tensors


@any_graphs
def sparse_tensors():
    def f(x, s):
        return torch.sparse.mm(s, x[:, None]), s.to_dense() + 1, s.is_sparse, x.to_sparse().to_dense()

    s = torch.eye(3).to_sparse()
    return f, (vec(), s), (vec(), torch.ones(3, 3).to_sparse())


@any_graphs
def sparse_made_in_frame():
    def f(x):
        s = torch.sparse_coo_tensor(torch.tensor([[0, 1], [0, 1]]), x[:2], (2, 2))
        return s.to_dense(), s.coalesce().values()

    return f, (vec(),)


@any_graphs
def quantized_round_trip():
    def f(x):
        q = torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)
        y = q.dequantize()
        return y + 1, q.int_repr(), q.q_scale()

    return f, (vec(),), (vec() * 2,)


@any_graphs
def quantized_argument():
    def f(q):
        return q.dequantize() * 2, q.is_quantized

    return f, (torch.quantize_per_tensor(vec(), 0.1, 0, torch.qint8),), (vec(),)


@any_graphs
def fake_quantized():
    def f(x):
        return torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127), torch.dequantize(
            torch.quantize_per_tensor(x, 0.5, 0, torch.quint8)
        )

    return f, (leaf(),), (vec(),)


@any_graphs
def nested_tensors():
    def f(a, b):
        n = torch.nested.nested_tensor([a, b])
        return (n * 2).to_padded_tensor(0.0), n.is_nested

    return f, (vec(), torch.ones(2)), (torch.ones(1), vec())


@any_graphs
def jagged_argument():
    def f(n):
        return n * 2

    n = torch.nested.nested_tensor([vec(), torch.ones(2)], layout=torch.jagged)

    def call(x):
        return f(n).to_padded_tensor(0.0) + x.sum()

    return call, (vec(),), (vec(),)


@whole
def meta_tensors():
    def f(x):
        return x * 2, x.device.type, torch.empty(2, device="meta").shape

    return f, (torch.ones(3, device="meta"),), (vec(),)


@whole
def complex_tensors():
    def f(z):
        return (
            z * 2,
            z.abs(),
            z.conj() * z,
            torch.fft.fft(z).real,
            z + 1,
            z.real * 2,
            z.imag.sum(),
            torch.view_as_real(z),
            z @ z,
        )

    return f, (torch.tensor([1 + 2j, 3 - 1j]),), (torch.tensor([1 - 2j, 3 + 1j]),)


# pytree, copy, pickle, scripts


class Pair(NamedTuple):
    """A named tuple of tensors."""

    a: torch.Tensor
    b: torch.Tensor


@whole
def pytree_functions():
    def f(x, y):
        tree = {"p": Pair(x, y), "l": [x, (y, 3)]}
        leaves, spec = pytree.tree_flatten(tree)
        doubled = pytree.tree_map(lambda t: t * 2 if isinstance(t, torch.Tensor) else t, tree)
        back = pytree.tree_unflatten([t for t in leaves], spec)
        return (
            doubled,
            back,
            len(leaves),
            pytree.tree_leaves(tree)[-1],
        )

    return f, (vec(), vec() * 2)


@whole
def pytree_map_only_and_paths():
    def f(x):
        return pytree.tree_map_only(torch.Tensor, lambda t: t + 1, [x, {"k": 2}]), pytree.tree_all(lambda t: True, [x])

    return f, (vec(),)


@any_graphs
def pickle_in_frame():
    def f(x):
        y = pickle.loads(pickle.dumps(x))
        return y + 1

    return f, (vec(),)


@any_graphs
def saved_and_loaded_in_frame():
    def f(x):
        buffer = io.BytesIO()
        torch.save(x, buffer)
        buffer.seek(0)
        return torch.load(buffer) + 1

    return f, (vec(),)


@any_graphs
def scripted_functions():
    @torch.jit.script
    def g(x: torch.Tensor, k: int) -> torch.Tensor:
        if k > 2:
            return x * k
        return x + k

    def f(x, k):
        return g(x, k) + 1

    return f, (vec(), 3), (vec(), 1)


@any_graphs
def traced_function():
    g = torch.jit.trace(lambda x: x * 2 + 1, (vec(),))

    def f(x):
        return g(x) * 3

    return f, (vec(),), (vec(),)


@any_graphs
def assertions():
    def f(x):
        torch._assert(x.shape[0] == 3, "three")
        assert x.dim() == 1, "one"
        torch._assert_async(x.sum() > 0)
        torch._check(x.shape[0] > 1, lambda: "more")
        return x + 1

    return f, (vec(),), (torch.ones(2),), (torch.ones(3, 3),)


@any_graphs
def assertion_on_data():
    def f(x):
        assert x.sum() > 0, "positive"
        torch._assert((x > 0).all(), "all positive")
        return x + 1

    return f, (vec(),), (-vec(),), (torch.tensor([5.0, -1.0]),)


@whole
def distributed_not_available():
    def f(x):
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return x * 100
        return x + 1

    return f, (vec(),)


@any_graphs
def overrides_helpers():
    def f(x):
        return x + 1, torch.overrides.is_tensor_like(x), torch.overrides.has_torch_function((x,)), torch.is_storage(x)

    return f, (vec(),)


@whole
def custom_operator():
    @torch.library.custom_op("lampwork_tests::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @double.register_fake
    def _(x):
        return torch.empty_like(x)

    def f(x):
        return double(x) + torch.ops.lampwork_tests.double(x)

    return f, (vec(),), (vec(),)


@any_graphs
def custom_operator_without_fake():
    @torch.library.custom_op("lampwork_tests::triple", mutates_args=())
    def triple(x: torch.Tensor) -> torch.Tensor:
        return x * 3

    def f(x):
        return triple(x + 1) + 1

    return f, (vec(),), (vec(),)


@any_graphs
def storages_and_pointers():
    def f(x):
        y = x.view(-1)
        return y + 1, x.data_ptr() == y.data_ptr(), x.untyped_storage().nbytes(), x.is_set_to(y), x.storage_offset()

    return f, (vec(),), (vec()[1:],)


@whole
def distributions():
    def f(x):
        d = torch.distributions.Normal(x, 1.0)
        c = torch.distributions.Categorical(logits=x)
        return (
            d.log_prob(x),
            d.rsample(),
            c.sample(),
            torch.distributions.kl_divergence(d, torch.distributions.Normal(0.0, 1.0)),
        )

    return f, (vec(),), (vec(),)


@any_graphs
def loop_that_trains():
    def f(x, n):
        w = torch.zeros(3, requires_grad=True)
        for _ in range(n):
            loss = ((w - x) ** 2).sum()
            (g,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w -= 0.1 * g
        return w.detach()

    return f, (vec(), 3), (vec(), 2)


@any_graphs
def set_data_and_versions():
    def f(x, y):
        v = x._version
        x.copy_(y)
        return x._version == v, x + 1

    return f, (vec(), vec() * 2), (vec(), vec())
