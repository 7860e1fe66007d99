"""Programs of `nn.Module`: containers, hooks, parametrizations, state written or swapped, lazy and recurrent ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from surface import Surface
from torch import nn
from torch.nn.utils import parametrize

S = Surface()
whole, any_graphs = S.whole, S.any_graphs


def vec() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0])


def mat() -> torch.Tensor:
    return torch.arange(6.0).reshape(2, 3)


class Simple(nn.Module):
    """One linear layer; programs change it between calls."""

    def __init__(self, out: int = 3) -> None:
        super().__init__()
        self.lin = nn.Linear(3, out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.lin(x))


# Containers


@whole
def sequential_slices():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))

        def forward(self, x):
            y = self.body[:2](x)
            return (
                self.body[-1](y),
                self.body[0](x),
                len(self.body),
                self.body[1:](y),
                [type(m).__name__ for m in self.body],
            )

    return M(), (vec(),), (mat(),)


@whole
def module_lists():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])

        def forward(self, x):
            for i, layer in enumerate(self.layers):
                x = layer(x) * i
            for layer in self.layers[1:3]:
                x = layer(x)
            for layer in reversed(self.layers):
                x = layer(x)
            y = [layer(x) for layer in self.layers[::2]]
            return x, y, self.layers[-1](x), len(self.layers), self.layers[0] in self.layers

    return M(), (vec(),)


@whole
def module_dicts():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.ReLU()})

        def forward(self, x, name):
            y = self.table[name](x)
            for key, module in self.table.items():
                y = module(y) * len(key)
            return (
                y,
                list(self.table.keys()),
                "a" in self.table,
                "z" in self.table,
                len(self.table),
                [k for k in self.table],
            )

    m = M()
    return m, (vec(), "a"), (vec(), "b"), lambda: m.table.update({"c": nn.Tanh()}), (vec(), "c")


@whole
def parameter_containers():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.list = nn.ParameterList([nn.Parameter(torch.ones(3) * i) for i in range(3)])
            self.dict = nn.ParameterDict({"a": nn.Parameter(torch.ones(3)), "b": nn.Parameter(torch.zeros(3))})

        def forward(self, x):
            for p in self.list:
                x = x + p
            for i in range(len(self.list)):
                x = x * self.list[i]
            for key in self.dict:
                x = x - self.dict[key]
            for _, p in self.dict.items():
                x = x + p
            return x, self.list[-1] * 2, "a" in self.dict, len(self.dict), [p.shape for p in self.list]

    return M(), (vec(),), lambda r: r[-1][0].sum().backward(), (vec(),)


@whole
def parameter_list_slices():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.list = nn.ParameterList([torch.ones(3) * i for i in range(3)])

        def forward(self, x):
            for p in self.list[1:]:
                x = x + p
            return x, sum(p.sum() for p in self.list)

    return M(), (vec(),)


@whole
def listings_of_members():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
            self.c = self.a

        def forward(self, x):
            total = sum(p.sum() for p in self.parameters())
            names = [n for n, _ in self.named_parameters()]
            kinds = [type(m).__name__ for m in self.modules()]
            children = [n for n, _ in self.named_children()]
            inner = [n for n, _ in self.named_modules()]
            buffers = [n for n, b in self.named_buffers()]
            only = [n for n, _ in self.named_parameters(recurse=False)]
            count = sum(p.numel() for p in self.parameters() if p.requires_grad)
            return x + total, names, kinds, children, inner, buffers, only, count, len(list(self.children()))

    m = M()
    return m, (vec(),), lambda: m.a.requires_grad_(False), (vec(),)


@whole
def listings_with_prefix():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x):
            return (
                x + 1,
                [n for n, _ in self.named_parameters(prefix="p")],
                [n for n, _ in self.named_modules(prefix="q")],
            )

    return M(), (vec(),)


@any_graphs
def state_dict_in_forward():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)

        def forward(self, x):
            state = self.state_dict()
            return x + state["a.weight"].sum(), list(state)

    return M(), (vec(),)


@whole
def get_by_name():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(3, 3))
            self.register_buffer("scale", torch.tensor(2.0))

        def forward(self, x):
            return (
                self.get_submodule("block.0")(x) * self.get_buffer("scale") + self.get_parameter("block.0.bias"),
                getattr(self, "block")[0](x),
                hasattr(self, "scale"),
                hasattr(self, "nope"),
                getattr(self, "nope", 3),
            )

    return M(), (vec(),)


@whole
def apply_in_loop_over_dict_of_modules():
    mods = {"x": nn.Linear(3, 3), "y": nn.ReLU()}

    def f(x):
        for name, m in mods.items():
            x = m(x) + len(name)
        return x

    return f, (vec(),), lambda: mods.update(z=nn.Sigmoid()), (vec(),)


# State


@whole
def counter_attribute():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.n = 0
            self.seen = []

        def forward(self, x):
            self.n += 1
            self.seen.append(x.shape)
            return x + 1

    return M(), (vec(),), (vec(),), (mat(),)


@whole
def buffers_written():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("total", torch.zeros(3))
            self.register_buffer("count", torch.tensor(0), persistent=False)
            self.register_buffer("nothing", None)

        def forward(self, x):
            self.total += x
            self.count = self.count + 1
            self.count.add_(1)
            if self.nothing is None:
                return x + self.total
            return x * self.nothing

    m = M()
    return m, (vec(),), (vec(),), lambda: setattr(m, "nothing", torch.ones(3)), (vec(),)


@any_graphs
def batch_norm_statistics():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm1d(3)
            self.inorm = nn.InstanceNorm1d(3, track_running_stats=True)

        def forward(self, x):
            return self.bn(x), self.inorm(x[None])

    m = M()
    return m, (mat(),), (mat() * 2,), lambda: m.eval() and None, (mat(),), lambda: m.train() and None, (mat(),)


@whole
def attribute_tensor_set():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = None
            self.history = {}

        def forward(self, x):
            if self.last is not None:
                x = x + self.last
            self.last = x.detach()
            self.history["n"] = self.history.get("n", 0) + 1
            return x * 2

    return M(), (vec(),), (vec(),), (vec(),)


@any_graphs
def parameter_replaced_in_forward():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x):
            self.w = nn.Parameter(x * 2)
            return self.w * x

    return M(), (vec(),), (vec(),)


@any_graphs
def submodule_replaced_in_forward():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            self.a, self.b = self.b, self.a
            return self.a(x)

    return M(), (vec(),), (vec(),), (vec(),)


@whole
def buffer_registered_in_forward():
    class M(nn.Module):
        def forward(self, x):
            if not hasattr(self, "cache"):
                self.register_buffer("cache", x * 2)
            return self.cache + x

    return M(), (vec(),), (vec(),), (vec(),)


@any_graphs
def parameter_registered_in_forward():
    class M(nn.Module):
        def forward(self, x):
            if getattr(self, "w", None) is None:
                self.w = nn.Parameter(torch.ones(3))
            return self.w * x

    return M(), (vec(),), lambda r: r[-1].sum().backward(), (vec(),)


@any_graphs
def attribute_deleted_in_forward():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))
            self.tmp = 3

        def forward(self, x):
            if "w" in self._parameters:
                y = x * self.w
                del self.w
                del self.tmp
                return y
            return x + 1

    return M(), (vec(),), (vec(),)


# Changes between calls


@whole
def changes_of_mode_and_grad():
    m = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))

    def f(x):
        return m(x)

    return (
        f,
        (mat(),),
        lambda: m.eval() and None,
        (mat(),),
        lambda: m.requires_grad_(False) and None,
        (mat(),),
        lambda: m.train() and None,
        (mat(),),
        lambda: m[0].weight.requires_grad_(True) and None,
        (mat(),),
    )


@whole
def changes_of_dtype():
    m = Simple()
    return (
        m,
        (vec(),),
        lambda: m.double() and None,
        (vec().double(),),
        lambda: m.half() and None,
        (vec().half(),),
        lambda: m.float() and None,
        (vec(),),
        lambda: m.to(torch.bfloat16) and None,
        (vec().bfloat16(),),
    )


@whole
def weights_swapped():
    m = Simple()
    other = Simple()

    def swap():
        m.lin = other.lin

    def parameter():
        m.lin.weight = nn.Parameter(torch.ones(3, 3))

    def data():
        m.lin.weight.data = torch.zeros(3, 3)

    def no_bias():
        m.lin.bias = None

    return m, (vec(),), swap, (vec(),), parameter, (vec(),), data, (vec(),), no_bias, (vec(),)


@whole
def weights_tied():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x)), self.a.weight is self.b.weight

    m = M()

    def untie():
        m.b.weight = nn.Parameter(torch.ones(3, 3))

    return m, (vec(),), lambda r: r[-1][0].sum().backward(), (vec(),), untie, (vec(),)


@whole
def submodule_replaced_between_calls():
    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())

    def replace():
        m[1] = nn.Tanh()

    def append():
        m.append(nn.Sigmoid())

    def remove():
        del m[0]

    return m, (vec(),), replace, (vec(),), append, (vec(),), remove, (vec(),)


@whole
def forward_patched():
    m = Simple()
    inner = m.lin

    def patch():
        inner.forward = lambda x: x * 7

    def patch_self():
        m.forward = lambda x: inner(x) + 1

    def undo():
        del inner.forward

    return m, (vec(),), patch, (vec(),), patch_self, (vec(),), undo, (vec(),)


@whole
def class_attribute_shadows():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))
            self.register_buffer("shift", torch.ones(3))
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(x * self.scale + self.shift)

    def shadow(name, value):
        return lambda: setattr(M, name, value)

    return (
        M(),
        (vec(),),
        shadow("scale", 3.0),
        (vec(),),
        shadow("shift", property(lambda self: 10.0)),
        (vec(),),
        shadow("act", staticmethod(torch.neg)),
        (vec(),),
        lambda: delattr(M, "scale"),
        (vec(),),
    )


@whole
def instance_attribute_shadows_member():
    m = Simple()

    def shadow():
        m.__dict__["lin"] = torch.neg

    return m, (vec(),), shadow, (vec(),), lambda: m.__dict__.pop("lin") and None, (vec(),)


@whole
def getattr_on_module():
    class Wrapper(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def __getattr__(self, name):
            try:
                return super().__getattr__(name)
            except AttributeError:
                return getattr(super().__getattr__("inner"), name)

        def forward(self, x):
            return self.inner(x) + self.bias + self.extra

    inner = nn.Linear(3, 3)
    inner.extra = 2
    m = Wrapper(inner)
    return m, (vec(),), lambda: setattr(inner, "extra", 5), (vec(),)


@whole
def properties_and_class_state():
    class M(nn.Module):
        factor = 2
        names: list[str] = ["a"]

        def __init__(self):
            super().__init__()
            self.lin = nn.Linear(3, 3)

        @property
        def weight(self):
            return self.lin.weight

        @staticmethod
        def act(x):
            return x.tanh()

        @classmethod
        def scaled(cls, x):
            return x * cls.factor

        def forward(self, x):
            return self.scaled(self.act(F.linear(x, self.weight))), self.names, type(self).factor

    return M(), (vec(),), lambda: setattr(M, "factor", 5), (vec(),)


@whole
def call_overridden_and_super():
    class Base(nn.Module):
        def forward(self, x, scale=1.0, *, shift=0):
            return x * scale + shift

    class M(Base):
        def __call__(self, *args, **kwargs):
            return super().__call__(*args, **kwargs) + 100

        def forward(self, x, **kwargs):
            return super().forward(x, **kwargs) - 1

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.m = M()

        def forward(self, x):
            return self.m(x, scale=2.0, shift=x), self.m.forward(x)

    return Outer(), (vec(),)


# Hooks


@any_graphs
def forward_hooks():
    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    log: list[Any] = []
    m[0].register_forward_pre_hook(lambda mod, args: (args[0] * 2,))
    m[0].register_forward_hook(lambda mod, args, out: out + 1)
    m[1].register_forward_hook(lambda mod, args, out: log.append(out.shape))
    m[1].register_forward_hook(lambda mod, args, kwargs, out: None, with_kwargs=True)
    handle: list[Any] = []

    def add():
        handle.append(m[0].register_forward_hook(lambda mod, args, out: out * 10))

    def first():
        m[0].register_forward_hook(lambda mod, args, out: out - 3, prepend=True)

    def f(x):
        return m(x), len(log)

    return f, (vec(),), add, (vec(),), lambda: handle[0].remove(), (vec(),), first, (vec(),)


@whole
def hooks_on_the_root():
    m = Simple()
    log: list[Any] = []
    m.register_forward_hook(lambda mod, args, out: log.append(len(log)))
    m.register_forward_pre_hook(lambda mod, args: (args[0] + 1,))
    m.log = log
    return m, (vec(),), (vec(),)


@whole
def hooks_registered_in_the_frame():
    """Registered, called, removed; kept beyond the frame, with the handle; before all others."""
    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    m[1].register_forward_hook(lambda mod, args, out: out + 0.5)

    def f(x):
        seen = []

        def hook(mod, args, out):
            seen.append(type(mod).__name__)
            return out * 2

        handle = m[0].register_forward_hook(hook)
        y = m(x)
        handle.remove()
        handle.remove()
        with m[1].register_forward_hook(lambda mod, args, kwargs, out: out - 1, with_kwargs=True):
            z = m(x)
        kept = m[0].register_forward_pre_hook(lambda mod, args: (args[0] + len(mod._forward_pre_hooks),))
        m[1].register_forward_hook(lambda mod, args, out: out * 3, prepend=True)
        return y, z, m(x), seen, len(m[1]._forward_hooks), bool(kept), type(kept).__name__

    def check():
        hooks = [h for layer in m for h in (*layer._forward_hooks, *layer._forward_pre_hooks)]
        assert len(set(hooks)) == len(hooks)

    return f, (vec(),), check, (vec(),)


@any_graphs
def handle_of_a_hook_from_the_frame():
    m = nn.Sequential(nn.Linear(3, 3))

    def f(x):
        handle = m[0].register_forward_hook(lambda mod, args, out: out * 2)
        return m(x), handle.id in m[0]._forward_hooks, handle.hooks_dict_ref() is m[0]._forward_hooks, handle

    def g(x):
        found = f(x)
        y = m(x)
        found[-1].remove()
        return *found[:-1], y, m(x), len(m[0]._forward_hooks)

    return g, (vec(),), (vec(),)


@any_graphs
def hook_that_removes_itself():
    m = nn.Sequential(nn.Linear(3, 3))
    handle: list[Any] = []

    def hook(mod, args, out):
        handle[0].remove()
        return out * 2

    handle.append(m[0].register_forward_hook(hook))
    return m, (vec(),), (vec(),)


@any_graphs
def hook_registered_in_frame():
    lin = nn.Linear(3, 3)

    def f(x):
        handle = lin.register_forward_hook(lambda m, a, o: o * 2)
        y = lin(x)
        handle.remove()
        return y, lin(x)

    return f, (vec(),), (vec(),)


@whole
def hooks_always_called():
    lin = nn.Linear(3, 3)
    lin.register_forward_hook(lambda m, a, o: None, always_call=True)

    def f(x):
        return lin(x)

    return f, (vec(),)


@any_graphs
def backward_hooks():
    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    log: list[Any] = []
    m[0].register_full_backward_hook(lambda mod, gi, go: log.append("full"))
    m[1].register_full_backward_pre_hook(lambda mod, go: log.append("pre"))

    def f(x):
        return m(x).sum()

    def seen():
        print(log)

    return f, (vec(),), lambda r: r[-1].backward(), seen, (vec(),), lambda r: r[-1].backward(), seen, (m[0].weight[0],)


@any_graphs
def backward_hook_changes_gradient():
    m = nn.Linear(3, 3)
    m.register_full_backward_hook(lambda mod, gi, go: tuple(g * 2 if g is not None else None for g in gi))

    def f(x):
        return m(x * 1).sum()

    x = vec().requires_grad_()
    return f, (x,), lambda r: r[-1].backward(), (x,)


@any_graphs
def global_hooks():
    m = Simple()
    log: list[Any] = []
    handle: list[Any] = []

    def add():
        handle.append(nn.modules.module.register_module_forward_hook(lambda mod, a, o: log.append(type(mod).__name__)))

    def remove():
        handle[0].remove()
        print(log)

    return m, (vec(),), add, (vec(),), remove, (vec(),)


# Parametrizations


@whole
def parametrized_weight():
    class Symmetric(nn.Module):
        def forward(self, w):
            return w.triu() + w.triu(1).transpose(-1, -2)

    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    parametrize.register_parametrization(m[0], "weight", Symmetric())

    def f(x):
        return m(x), m[0].weight

    return (
        f,
        (vec(),),
        lambda r: r[-1][0].sum().backward(),
        (vec(),),
        lambda: parametrize.remove_parametrizations(m[0], "weight") and None,
        (vec(),),
    )


@whole
def weight_norm_parametrization():
    m = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    return m, (vec(),), lambda r: r[-1].sum().backward(), (vec(),)


@whole
def spectral_norm_parametrization():
    m = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
    return m, (vec(),), (vec(),), lambda: m.eval() and None, (vec(),)


@whole
def old_weight_norm():
    m = nn.utils.weight_norm(nn.Linear(3, 3))
    return m, (vec(),), (vec(),)


@whole
def old_spectral_norm():
    m = nn.utils.spectral_norm(nn.Linear(3, 3))
    return m, (vec(),), (vec(),)


@whole
def orthogonal_parametrization():
    m = nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))
    return m, (vec(),), (vec(),)


@any_graphs
def parametrization_cached():
    class Double(nn.Module):
        def forward(self, w):
            return w * 2

    m = nn.Linear(3, 3)
    parametrize.register_parametrization(m, "weight", Double())

    def f(x):
        with parametrize.cached():
            a = m(x)
            b = m(x)
        return a, b, m.weight is m.weight

    return f, (vec(),), (vec(),)


# Made in the frame


@any_graphs
def parameter_made_in_frame():
    def f(x):
        p = nn.Parameter(torch.ones(3))
        return (p * x).sum(), p, p.requires_grad, isinstance(p, nn.Parameter)

    return f, (vec(),), lambda r: r[-1][0].backward(), (vec(),)


@any_graphs
def module_made_in_frame():
    def f(x):
        m = nn.Linear(3, 3)
        return m(x), m

    return f, (vec(),), (vec(),)


@whole
def activation_modules_made_in_frame():
    def f(x):
        return (
            nn.ReLU()(x),
            nn.Softmax(dim=-1)(x),
            nn.Dropout(0.0)(x),
            nn.Identity()(x),
            nn.Sequential(nn.Tanh(), nn.GELU())(x),
        )

    return f, (vec(),), (vec(),)


@whole
def losses_made_in_frame():
    def f(x, y):
        return (
            nn.MSELoss()(x, y),
            nn.L1Loss(reduction="sum")(x, y),
            nn.CrossEntropyLoss()(x, torch.tensor(1)),
            nn.BCEWithLogitsLoss()(x, y),
        )

    return f, (vec(), vec() * 0)


@whole
def user_module_made_in_frame():
    class M(nn.Module):
        def __init__(self, k):
            super().__init__()
            self.k = k

        def forward(self, x):
            return x * self.k

    def f(x):
        m = M(3)
        return m(x), m.training, m.k

    return f, (vec(),), (vec(),)


# Lazy, recurrent, attention, transformer


@whole
def lazy_linear():
    m = nn.LazyLinear(2)
    return m, (vec(),), (vec(),), lambda r: r[-1].sum().backward(), (vec(),)


@any_graphs
def lazy_inside():
    m = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyBatchNorm1d(), nn.LazyLinear(2))
    return m, (mat(),), (mat(),), (mat(),)


@any_graphs
def lazy_called_by_function():
    m = nn.LazyLinear(2)

    def f(x):
        return m(x) * 2

    return f, (vec(),), (vec(),)


@whole
def lstm_gru_rnn():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True)
            self.gru = nn.GRU(3, 4)
            self.rnn = nn.RNN(3, 4, nonlinearity="relu")

        def forward(self, x, h=None):
            a, (b, c) = self.lstm(x)
            d, e = self.gru(x, h)
            g, _ = self.rnn(x)
            return a, b, c, d, e, g

    x = torch.ones(2, 5, 3)
    return M(), (x,), (x, torch.ones(1, 5, 4)), lambda r: r[-1][0].sum().backward(), (x,)


@whole
def recurrent_cells():
    cell, gru = nn.LSTMCell(3, 4), nn.GRUCell(3, 4)

    def f(xs):
        h, c = torch.zeros(2, 4), torch.zeros(2, 4)
        outs = []
        for x in xs:
            h, c = cell(x, (h, c))
            outs.append(gru(x, h))
        return torch.stack(outs), h, c

    return f, (torch.ones(3, 2, 3),)


@any_graphs
def packed_sequence():
    lstm = nn.LSTM(3, 4)

    def f(x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths)
        out, _ = lstm(packed)
        return nn.utils.rnn.pad_packed_sequence(out)

    return f, (torch.ones(4, 2, 3), torch.tensor([4, 2]))


@whole
def multihead_attention():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.attn = nn.MultiheadAttention(4, 2, batch_first=True)

        def forward(self, x, mask=None, need=True):
            return self.attn(x, x, x, attn_mask=mask, need_weights=need)

    m = M()
    x = torch.ones(2, 3, 4)
    mask = torch.ones(3, 3).triu(1).bool()
    return m, (x,), (x, mask, False), lambda: m.eval() and None, (x,), (x, mask, False)


@any_graphs
def attention_fast_path():
    m = nn.MultiheadAttention(4, 2, batch_first=True).eval()

    def f(x):
        with torch.no_grad():
            return m(x, x, x, need_weights=False)[0]

    return f, (torch.ones(2, 3, 4),), (torch.ones(2, 3, 4),)


@whole
def transformer_layers():
    enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True), 2)
    dec = nn.TransformerDecoderLayer(4, 2, 8, batch_first=True)

    def f(x, y):
        memory = enc(x, mask=nn.Transformer.generate_square_subsequent_mask(3), is_causal=True)
        return dec(y, memory)

    x, y = torch.ones(2, 3, 4), torch.zeros(2, 3, 4)
    return f, (x, y), lambda: (enc.eval(), dec.eval()) and None, (x, y)


@whole
def transformer_encoder_fast_path():
    enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2).eval()

    def f(x):
        with torch.inference_mode():
            return enc(x)

    return f, (torch.ones(2, 3, 4),), (torch.ones(2, 3, 4),)


@whole
def whole_transformer():
    m = nn.Transformer(4, 2, 1, 1, 8, batch_first=True)
    return m, (torch.ones(2, 3, 4), torch.ones(2, 3, 4)), lambda r: r[-1].sum().backward()


@whole
def embedding_kinds():
    e, bag = nn.Embedding(5, 3, padding_idx=0), nn.EmbeddingBag(5, 3)
    norm = nn.Embedding(5, 3, max_norm=1.0)

    def f(i):
        return e(i), bag(i[None]), norm(i), F.embedding(i, e.weight)

    return f, (torch.tensor([0, 2]),), (torch.tensor([1, 4]),)


@whole
def convolutions_and_pools():
    m = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        nn.GroupNorm(1, 2),
        nn.MaxPool2d(2),
        nn.ConvTranspose2d(2, 1, 2),
        nn.AdaptiveAvgPool2d((2, 2)),
        nn.Flatten(),
        nn.LayerNorm(4),
        nn.PReLU(),
        nn.Unflatten(1, (2, 2)),
        nn.Softmax(-1),
    )
    return m, (torch.arange(16.0).reshape(1, 1, 4, 4),), lambda r: r[-1].sum().backward()


# functional_call, copies, pickles


@whole
def functional_call():
    m = Simple()

    def f(x, w):
        return torch.func.functional_call(m, {"lin.weight": w}, (x,)), m(x)

    return f, (vec(), torch.ones(3, 3)), (vec(), torch.zeros(3, 3)), lambda r: r[-1][0].sum().backward()


@any_graphs
def deepcopy_of_module_in_frame():
    m = Simple()

    def f(x):
        n = copy.deepcopy(m)
        return n(x), n is m

    return f, (vec(),), (vec(),)


@whole
def module_methods_called_in_frame():
    m = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))

    def f(x):
        m.eval()
        y = m(x)
        m.train()
        return y, m(x), m.training

    return f, (vec(),), (vec(),)


@any_graphs
def requires_grad_toggled_in_frame():
    m = nn.Linear(3, 3)

    def f(x):
        m.requires_grad_(False)
        y = m(x)
        m.requires_grad_(True)
        return y, m(x)

    return f, (vec(),), (vec(),)


@any_graphs
def zero_grad_and_step():
    m = nn.Linear(3, 1)
    opt = torch.optim.SGD(m.parameters(), lr=0.1)

    def f(x):
        opt.zero_grad()
        loss = m(x).sum()
        loss.backward()
        opt.step()
        return loss

    return f, (vec(),), (vec(),), (m.weight[0],)


@whole
def optimizer_steps_between_calls():
    m = Simple()
    opt = torch.optim.Adam(m.parameters(), lr=0.1)

    def step(r):
        opt.zero_grad()
        r[-1].sum().backward()
        opt.step()

    return m, (vec(),), step, (vec(),), step, (vec(),)


@any_graphs
def clip_grad_norm():
    m = nn.Linear(3, 1)

    def f(x):
        m(x).sum().backward()
        return nn.utils.clip_grad_norm_(m.parameters(), 0.5)

    return f, (vec(),), (vec(),)


@whole
def init_in_frame():
    def f(x):
        w = torch.empty(3, 3)
        nn.init.xavier_uniform_(w)
        nn.init.constant_(w[0], 2.0)
        return w @ x

    return f, (vec(),), (vec(),)


@whole
def module_equality_and_dict_keys():
    a, b = nn.Linear(3, 3), nn.Linear(3, 3)
    scales = {a: 2.0, b: 3.0}

    def f(x, m):
        return m(x) * scales[m], m is a, m == a, m in scales

    return f, (vec(), a), (vec(), b), (vec(), a)


@whole
def modules_as_arguments():
    def f(m, x):
        return m(x) + 1, m.training, type(m).__name__

    a, b = nn.Linear(3, 3), nn.ReLU()
    return f, (a, vec()), (b, vec()), (nn.Linear(3, 3), vec()), (a, vec())


@any_graphs
def scripted_module_and_function():
    @torch.jit.script
    def g(x):
        return x * 2

    def f(x):
        return g(x) + 1

    return f, (vec(),), (vec(),)


@whole
def extra_repr_and_names():
    m = Simple()

    def f(x):
        return m(x), type(m.lin).__name__, m.lin.in_features, m.lin.bias is not None, m._get_name()

    return f, (vec(),)


@whole
def module_repr():
    m = Simple()

    def f(x):
        return m(x), repr(m.lin), str(m)

    return f, (vec(),)


@whole
def forward_with_many_signatures():
    class M(nn.Module):
        def forward(self, x, *rest, scale=1, flag: bool = False, **named):
            for r in rest:
                x = x + r
            return {"x": x * scale, **{k: v + 1 for k, v in named.items()}}, flag

    return M(), (vec(),), (vec(), vec()), (vec(), vec(), vec())


@whole
def module_iterated_like_a_sequence():
    class Stack(nn.ModuleList):
        def forward(self, x):
            for m in self:
                x = m(x)
            return x

    class Table(nn.ModuleDict):
        def forward(self, x):
            for k in sorted(self):
                x = self[k](x)
            return x

    s, t = Stack([nn.Linear(3, 3), nn.ReLU()]), Table({"b": nn.Tanh(), "a": nn.Linear(3, 3)})

    def f(x):
        return s(x), t(x), len(s), len(t)

    return f, (vec(),), lambda: s.append(nn.Tanh()) and None, (vec(),)


@whole
def uninitialized_and_meta_modules():
    with torch.device("meta"):
        m = nn.Linear(3, 3)
    return m, (torch.ones(3, device="meta"),), (torch.ones(2, 3, device="meta"),)
