"""Programs whose world changes between two calls: classes, modules, hooks, modes, dtypes, globals that they read."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from surface import Surface
from torch import nn

S = Surface()
whole, any_graphs = S.whole, S.any_graphs


def vec() -> torch.Tensor:
    return torch.tensor([1.0, 2.0, 3.0])


SCALE: Any = 2.0
TABLE: dict[str, Any] = {"act": F.relu}
WEIGHT = torch.ones(3)


def set_global(name: str, value: Any):
    def change() -> None:
        globals()[name] = value

    return change


@whole
def global_number_and_tensor_change():
    def f(x):
        return x * SCALE + WEIGHT

    old = WEIGHT
    return (
        f,
        (vec(),),
        set_global("SCALE", 3),
        (vec(),),
        set_global("WEIGHT", torch.zeros(3, dtype=torch.float64)),
        (vec(),),
        set_global("SCALE", torch.tensor(5.0)),
        (vec(),),
        set_global("WEIGHT", old),
        set_global("SCALE", 2.0),
    )


@whole
def table_of_functions_changes():
    def f(x):
        return TABLE["act"](x - 2)

    return (
        f,
        (vec(),),
        lambda: TABLE.update(act=F.gelu),
        (vec(),),
        lambda: TABLE.update(act=nn.Tanh()),
        (vec(),),
        lambda: TABLE.update(act=lambda t: t * 9),
        (vec(),),
        lambda: TABLE.update(act=F.relu),
    )


@whole
def buffer_becomes_none_or_parameter():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("b", torch.ones(3))

        def forward(self, x):
            return x + 1 if self.b is None else x * self.b

    m = M()

    def none():
        m.b = None

    def parameter():
        del m._buffers["b"]
        m.b = nn.Parameter(torch.ones(3) * 4)

    def plain():
        del m.b
        m.b = 7

    return m, (vec(),), none, (vec(),), parameter, (vec(),), plain, (vec(),)


@whole
def base_class_forward_replaced():
    class Base(nn.Module):
        def act(self, x):
            return x * 2

        def forward(self, x):
            return self.act(x)

    class Child(Base):
        pass

    def override():
        Child.act = lambda self, x: x * 100

    def replace_base():
        Base.forward = lambda self, x: self.act(x) + 1

    def change_class():
        m.__class__ = Base

    m = Child()
    return m, (vec(),), override, (vec(),), replace_base, (vec(),), change_class, (vec(),)


@whole
def submodule_mode_changes_alone():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Dropout(0.2))

    def f(x):
        return net(x)

    return f, (vec(),), lambda: net[1].eval() and None, (vec(),), lambda: setattr(net[2], "p", 0.9), (vec(),)


@whole
def conv_settings_change():
    conv = nn.Conv1d(1, 1, 3, padding=1)

    def f(x):
        return conv(x[None, None])

    def stride():
        conv.stride = (2,)

    def padding():
        conv.padding_mode = "circular"
        conv._reversed_padding_repeated_twice = [1, 1]

    return f, (vec(),), stride, (vec(),), padding, (vec(),)


@whole
def hooks_come_and_go():
    lin = nn.Linear(3, 3)
    handles: list[Any] = []

    def f(x):
        return lin(x)

    def add():
        handles.append(lin.register_forward_pre_hook(lambda m, a: (a[0] + 1,)))

    def clear():
        lin._forward_pre_hooks.clear()

    def swap():
        key = next(iter(lin._forward_hooks), None)
        if key is None:
            lin.register_forward_hook(lambda m, a, o: o * 2)
        else:
            lin._forward_hooks[key] = lambda m, a, o: o * 3

    return f, (vec(),), add, (vec(),), clear, (vec(),), swap, (vec(),), swap, (vec(),)


@whole
def hook_reads_a_closure_that_changes():
    lin = nn.Linear(3, 3)
    state = {"k": 1.0}
    lin.register_forward_hook(lambda m, a, o: o * state["k"])

    def f(x):
        return lin(x)

    return f, (vec(),), lambda: state.update(k=4.0), (vec(),), lambda: state.update(k=torch.tensor(2.0)), (vec(),)


@whole
def requires_grad_of_inputs_and_mode():
    lin = nn.Linear(3, 3)

    def f(x):
        with torch.set_grad_enabled(lin.training):
            return lin(x), lin(x).requires_grad

    return f, (vec(),), lambda: lin.eval() and None, (vec(),), lambda: lin.train() and None, (vec().requires_grad_(),)


@whole
def context_chosen_by_a_table():
    modes = {"a": torch.no_grad, "b": torch.enable_grad, "c": contextlib.nullcontext}

    def f(x, name):
        with modes[name]():
            return x * 2

    x = vec().requires_grad_()
    return f, (x, "a"), (x, "b"), lambda: modes.update(a=torch.enable_grad), (x, "a"), (x, "c")


@whole
def decorated_method_replaced():
    class Net:
        @torch.no_grad()
        def run(self, x):
            return x * 2

    net = Net()

    def f(x):
        return net.run(x)

    def change():
        Net.run = torch.enable_grad()(lambda self, x: x * 5)

    x = vec().requires_grad_()
    return f, (x,), change, (x,)


@whole
def shared_submodule_untied():
    a = nn.Linear(3, 3)
    net = nn.ModuleDict({"x": a, "y": a})

    def f(x):
        return net["y"](net["x"](x)), net["x"] is net["y"]

    return f, (vec(),), lambda: net.update({"y": nn.Linear(3, 3)}), (vec(),)


@whole
def same_weight_given_twice():
    def f(w, v, x):
        w.mul_(2)
        return x @ v

    one, two = torch.ones(3), torch.ones(3)
    return f, (one, two, vec()), (one, one, vec()), (two, one, vec())


@whole
def weight_list_of_a_recurrent_net():
    rnn = nn.GRU(3, 2)

    def f(x):
        return rnn(x[None])[0]

    def replace():
        rnn.weight_ih_l0 = nn.Parameter(torch.ones(6, 3))

    def write():
        with torch.no_grad():
            rnn.bias_hh_l0.fill_(1.0)

    return f, (vec(),), write, (vec(),), replace, (vec(),)


@any_graphs
def batch_norm_turned_off():
    bn = nn.BatchNorm1d(3)

    def f(x):
        return bn(torch.stack([x, x * 2]))

    def untrack():
        bn.track_running_stats = False
        bn.running_mean = bn.running_var = None

    def momentum():
        bn.momentum = None

    return f, (vec(),), momentum, (vec(),), lambda: bn.eval() and None, (vec(),), untrack, (vec(),)


@whole
def device_and_dtype_of_factories():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(3))

        def forward(self, x):
            return (
                torch.zeros(3, dtype=self.w.dtype, device=self.w.device)
                + x.to(self.w)
                + torch.arange(3).type_as(self.w)
            )

    m = M()
    return m, (vec(),), lambda: m.double() and None, (vec(),), lambda: m.bfloat16() and None, (vec(),)


@any_graphs
def autocast_dtype_changes_around():
    lin = nn.Linear(3, 3)

    def f(x):
        return lin(x), torch.get_autocast_dtype("cpu")

    def outer(x, dtype):
        torch.set_autocast_dtype("cpu", dtype)
        with torch.autocast("cpu"):
            return f(x)

    return outer, (vec(), torch.bfloat16), (vec(), torch.float16), (vec(), torch.bfloat16)


@whole
def forward_of_functional_reads_flags():
    class Flags:
        train = True
        rate = 0.5

    def f(x):
        return F.dropout(x, Flags.rate, Flags.train)

    def off():
        Flags.train = False

    def on():
        Flags.train, Flags.rate = True, 0.25

    return f, (vec(),), off, (vec(),), on, (vec(),)


@whole
def parameters_frozen_and_counted():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))

    def f(x):
        trained = [n for n, p in net.named_parameters() if p.requires_grad]
        return net(x), trained, sum(p.numel() for p in net.parameters())

    def freeze():
        net[0].requires_grad_(False)

    def grow():
        net.append(nn.Linear(1, 2))

    return f, (vec(),), freeze, (vec(),), grow, (vec(),), lambda r: r[-1][0].sum().backward()


@whole
def strides_and_shapes_of_inputs():
    def f(x):
        return x.contiguous().view(-1) * x.shape[0], x.stride(), x.is_contiguous()

    base = torch.arange(12.0).reshape(3, 4)
    return f, (base,), (base.t(),), (base[::2],), (base[:, ::2],), (base.double(),), (base,)


@whole
def grad_accumulates_over_calls():
    w = nn.Parameter(vec())

    def f(x):
        had = w.grad is not None
        return (w * x).sum(), had

    def backward(r):
        r[-1][0].backward()

    return f, (vec(),), backward, (vec(),), backward, (vec(),), lambda: w.grad.zero_().sum().item() and None, (w,)


@whole
def tensor_attribute_of_an_object_replaced():
    class Holder:
        pass

    h = Holder()
    h.t = vec()

    def f(x):
        h.t.add_(1)
        return h.t * x

    def replace():
        h.t = torch.ones(3, dtype=torch.int32)

    def alias():
        h.t = shared

    shared = vec()
    return f, (vec(),), (vec(),), replace, (vec(),), alias, (shared,)


@whole
def inference_tensor_held_by_a_module():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.t = torch.ones(3)

        def forward(self, x):
            return x * self.t, self.t.is_inference()

    m = M()

    def change():
        with torch.inference_mode():
            m.t = torch.ones(3) * 2

    return m, (vec(),), change, (vec(),)


@whole
def lr_schedule_and_optimizer_state():
    w = nn.Parameter(vec())
    opt = torch.optim.SGD([w], lr=0.1, momentum=0.9)

    def f(x):
        loss = (w * x).sum()
        return loss

    def step(r):
        opt.zero_grad()
        r[-1].backward()
        opt.step()
        opt.param_groups[0]["lr"] *= 0.5

    return f, (vec(),), step, (vec(),), step, (vec(),), (w,)
