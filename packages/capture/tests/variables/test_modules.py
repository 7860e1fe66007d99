"""nn.Module: calls, hooks, containers, attributes, buffers written in forward, guards on what was read."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
from torch import nn


class Block(nn.Module):
    scale = 2.0

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)])
        self.table = nn.ModuleDict({"a": nn.Tanh(), "b": nn.Sigmoid()})
        self.sequence = nn.Sequential(nn.LayerNorm(4), nn.Dropout(0.5), nn.GELU())
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(4)), nn.Parameter(torch.zeros(4))])
        self.named = nn.ParameterDict({"p": nn.Parameter(torch.ones(4))})
        self.register_buffer("seen", torch.zeros(()))
        self.optional = None
        self.calls = 0
        self.options = {"k": 3, "names": ["x", "y"]}

    @property
    def double(self):
        return self.scale * 2


class Everything(Block):
    def forward(self, x, flag=True):
        for index, layer in enumerate(self.layers[:2]):
            x = layer(x) + index
        for name, module in self.table.items():
            x = module(x) if name in ("a", "b") else x
        x = self.sequence(x) + self.layers[-1](x) * self.double
        x = x + sum(w.sum() for w in self.weights) + self.named["p"]
        if self.optional is None and flag and hasattr(self, "seen") and not hasattr(self, "absent"):
            x = x * self.options["k"] + len(self.layers) + len(self.options["names"])
        return x, self.training, sum(p.numel() for p in self.parameters()), [n for n, _ in self.named_children()]


class Counting(Block):
    def forward(self, x):
        self.calls += 1
        self.seen += 1
        self.seen = self.seen * 2
        self.last = x
        return self.inner(x) * self.seen


class Overriding(nn.Module):
    def __init__(self):
        super().__init__()
        self.child = nn.Linear(4, 4)

    def __call__(self, x):
        return super().__call__(x) + 1

    def __getattr__(self, name):
        if name == "virtual":
            return 5
        return super().__getattr__(name)

    def forward(self, x):
        return self.child(x) * self.virtual


class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = Overriding()

    def forward(self, x):
        return self.body(x)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.again = self.a

    def forward(self, x):
        return self.again(self.b(self.a(x))), self.a is self.again, self.a.weight is self.b.weight


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x):
        return self.body(x.repeat(3, 1).reshape(1, 3, 4, -1).repeat(1, 1, 2, 8)).flatten(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)
        self.embedding = nn.Embedding(10, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        out, (h, c) = self.lstm(x[None])
        attended, _ = self.attention(x[None], x[None], x[None])
        return out, h, c, self.embedding(torch.arange(3)), attended


def compare(make, x, *, train=False, calls=2, whole=True):
    torch.manual_seed(0)
    eager = make().train(train)
    torch.manual_seed(0)
    target = make().train(train)
    graphs = []
    optimized = lampwork_capture.optimize(lambda g, i: graphs.append(g) or g.forward, fullgraph=whole)(target)
    for _ in range(calls):
        torch.manual_seed(1)
        want = eager(x.clone())
        torch.manual_seed(1)
        got = optimized(x.clone())
        torch.testing.assert_close(got, want) if isinstance(want, torch.Tensor) else same(want, got)
        for (name, left), (_, right) in zip(eager.state_dict().items(), target.state_dict().items()):
            assert torch.equal(left, right), name
    return eager, target, graphs


def same(want, got):
    assert type(want) is type(got)
    for left, right in zip(want, got, strict=True):
        if isinstance(left, torch.Tensor):
            assert torch.equal(left, right) and left.requires_grad == right.requires_grad
        elif isinstance(left, (tuple, list)):
            same(left, right)
        else:
            assert left == right


X = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.5, 0.1, -1.0, 2.0]])


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("make", [Everything, Outer, Shared, Convolution, Recurrent])
def test_modules_in_one_graph(make, train):
    _, _, graphs = compare(make, X, train=train)
    assert len(graphs) == 1


def test_state_written_in_forward():
    eager, target, _ = compare(Counting, X, calls=3)
    assert eager.calls == target.calls == 3
    assert torch.equal(eager.last, target.last) and torch.equal(eager.seen, target.seen)
    assert "seen" in target._buffers


def test_hooks():
    def make():
        module = Shared()
        module.a.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
        module.a.register_forward_hook(lambda m, args, out: out * 2)
        module.b.register_forward_hook(lambda m, args, kwargs, out: out - 1, with_kwargs=True)
        return module

    _, _, graphs = compare(make, X)
    assert len(graphs) == 1


def test_hook_added_later_is_seen():
    module = Shared()
    optimized = lampwork_capture.optimize("eager")(module)
    before = optimized(X)[0]
    module.a.register_forward_hook(lambda m, args, out: out * 0)
    assert not torch.equal(optimized(X)[0], before)
    assert torch.equal(optimized(X)[0], module(X)[0])


def test_changes_of_the_module_are_seen():
    module = Everything().eval()
    optimized = lampwork_capture.optimize("eager")(module)
    optimized(X)
    for change in (
        lambda: setattr(module, "scale", 5.0),
        lambda: module.options.update(k=7),
        lambda: module.options["names"].append("z"),
        lambda: module.layers.append(nn.ReLU()),
        lambda: setattr(module, "layers", nn.ModuleList([nn.ReLU(), nn.ReLU()])),
        lambda: module.table.pop("a"),
        lambda: setattr(module, "optional", 1),
        lambda: setattr(module, "absent", 1),
        lambda: setattr(Block, "scale", 3.0),
        lambda: setattr(module.layers[0], "forward", lambda x: x * 0),
        lambda: module.inner.requires_grad_(False),
    ):
        change()
        same(module(X), optimized(X))
    Block.scale = 2.0


def test_weights_are_inputs():
    """A changed or replaced weight needs no new graph."""
    module = Shared()
    graphs = []
    optimized = lampwork_capture.optimize(lambda g, i: graphs.append(g) or g.forward)(module)
    optimized(X)
    with torch.no_grad():
        module.a.weight.mul_(2)
    torch.testing.assert_close(optimized(X)[0], module(X)[0])
    module.a.bias = nn.Parameter(torch.zeros(4))
    torch.testing.assert_close(optimized(X)[0], module(X)[0])
    assert len(graphs) == 1


def test_train_and_eval_have_their_own_graphs():
    module = Everything().train()
    graphs = []
    optimized = lampwork_capture.optimize(lambda g, i: graphs.append(g) or g.forward)(module)
    optimized(X)
    module.eval()
    same(module(X), optimized(X))
    assert len(graphs) == 2


def test_gradients_reach_the_parameters():
    torch.manual_seed(0)
    module = Shared()
    module(X)[0].sum().backward()
    want = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    lampwork_capture.optimize("eager", fullgraph=True)(module)(X)[0].sum().backward()
    for left, parameter in zip(want, module.parameters()):
        torch.testing.assert_close(parameter.grad, left)


class Halving(nn.Module):
    """Its `__setattr__` changes what is written, and counts."""

    def __init__(self):
        super().__init__()
        self.log = []

    def __setattr__(self, name, value):
        if name in ("alpha", "seen"):
            self.log.append(name)
            value = value / 2
        super().__setattr__(name, value)

    def __delattr__(self, name):
        self.log.append(f"-{name}")
        super().__delattr__(name)


def test_a_setattr_of_a_module_class_runs_once():
    class M(Halving):
        def forward(self, x):
            self.alpha = 1.0
            self.seen = x
            self.passing = x
            del self.passing
            return x * self.alpha + self.seen

    plain, traced = M(), M()
    x = torch.ones(2)
    optimized = lampwork_capture.optimize("eager")(traced)
    for _ in range(2):
        assert torch.equal(plain(x), optimized(x))
        assert (traced.alpha, traced.log) == (plain.alpha, plain.log)
        assert torch.equal(traced.seen, x / 2) and "passing" not in vars(traced)


def test_a_setattr_of_a_base_behind_module_runs():
    class Logging:
        def __setattr__(self, name, value):
            log.append(name)
            super().__setattr__(name, value)

    class M(nn.Module, Logging):
        def forward(self, x):
            self.last = x
            return x + 1

    log = []
    module = M()
    log.clear()
    assert torch.equal(lampwork_capture.optimize("eager")(module)(torch.ones(2)), torch.full((2,), 2.0))
    assert log == ["last"]


def test_an_assigned_buffer_is_registered():
    class M(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def register_buffer(self, name, tensor, persistent=True):
            log.append(name)
            super().register_buffer(name, tensor, persistent)

        def forward(self, x):
            self.count = self.count + x
            return self.count

    log = []
    module = M()
    log.clear()
    assert torch.equal(lampwork_capture.optimize("eager")(module)(torch.ones(1)), torch.ones(1))
    assert log == ["count"]


def test_registration_hooks_see_an_assigned_buffer():
    module = nn.Module()
    module.register_buffer("count", torch.zeros(1))
    log = []

    def f(x):
        module.count = module.count + x
        return module.count

    optimized = lampwork_capture.optimize("eager")(f)
    optimized(torch.ones(1))
    handle = nn.modules.module.register_module_buffer_registration_hook(lambda module, name, buffer: log.append(name))
    try:
        assert torch.equal(optimized(torch.ones(1)), torch.full((1,), 2.0))
    finally:
        handle.remove()
    assert log == ["count"]


@pytest.mark.parametrize("kind", [nn.ModuleDict, nn.Sequential, nn.ModuleList])
def test_a_container_that_changes_while_it_is_iterated(kind):
    def f(container, x):
        y = x + 1
        for number, _ in enumerate(container):
            container.add_module(f"more {number}", nn.ReLU())
        return y

    shown = []
    for function in (f, lampwork_capture.optimize("eager")(f)):
        container = kind()
        container.add_module("first", nn.ReLU())
        with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
            function(container, torch.ones(1))
        shown.append(list(container._modules))
    assert shown[0] == shown[1]
