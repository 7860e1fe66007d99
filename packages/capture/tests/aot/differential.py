"""Eager against aot_backend with the functional graph interpreted: values, strides, identities and aliasing."""

from __future__ import annotations

import copy
import operator

import torch
from lampwork_capture.aot import aot_backend
from torch import fx
from torch.overrides import TorchFunctionMode


class Counting:
    """A forward compiler that interprets, and counts the calls that reached the compiled graph."""

    def __init__(self):
        self.graphs = []
        self.calls = 0

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)

        def run(*args):
            self.calls += 1
            return graph.forward(*args)

        return run


class Tape(TorchFunctionMode):
    """A five-minute capture: writes the torch functions that run under it into an FX graph."""

    def __init__(self, inputs):
        super().__init__()
        self.graph = fx.Graph()
        self.nodes = {}
        self.alive = []
        for i, value in enumerate(inputs):
            self.keep(value, self.graph.placeholder(f"x{i}"))

    def keep(self, value, node):
        self.alive.append(value)
        self.nodes[id(value)] = node

    def arg(self, value):
        return torch.utils._pytree.tree_map_only(torch.Tensor, lambda t: self.nodes[id(t)], value)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func.__name__ == "__get__":
            if not isinstance(out, torch.Tensor):
                return out
            node = self.graph.call_function(getattr, (self.arg(args[0]), func.__self__.__name__))
        elif func in (torch.Tensor.dim, torch.Tensor.size, torch.Tensor.numel, torch.Tensor.is_floating_point):
            return out
        else:
            node = self.graph.call_function(func, self.arg(tuple(args)), self.arg(kwargs))
        if isinstance(out, torch.Tensor):
            self.keep(out, node)
        elif isinstance(out, (tuple, list)):
            for i, element in enumerate(out):
                if isinstance(element, torch.Tensor):
                    self.keep(element, self.graph.call_function(operator.getitem, (node, i)))
        return out


def capture(f, inputs):
    """`f` as an FX graph of the torch functions it calls on `inputs`."""
    inputs = clone_inputs(inputs)
    tape = Tape(inputs)
    with tape:
        outputs = f(*inputs)
    tape.graph.output(tape.arg(outputs))
    return fx.GraphModule(torch.nn.Module(), tape.graph)


def storage(t):
    return t.untyped_storage()._cdata


def flat(outputs):
    return list(torch.utils._pytree.tree_leaves(outputs, is_leaf=lambda x: x is None))


def relations(inputs, outputs):
    """Who is whom and who shares memory with whom, by position."""
    things = [*inputs, *outputs]
    same = [[a is b for b in things] for a in things]
    share = [
        [isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and storage(a) == storage(b) for b in things]
        for a in things
    ]
    return same, share


def describe(t):
    if not isinstance(t, torch.Tensor):
        return (type(t), t)
    strides = tuple(s if n > 1 else None for n, s in zip(t.shape, t.stride())) if t.numel() else None
    return (t.dtype, tuple(t.shape), strides, t.device, t.requires_grad, t.is_conj(), t.is_neg())


def assert_same(expected, actual):
    assert describe(expected) == describe(actual), f"eager {describe(expected)}, compiled {describe(actual)}"
    if isinstance(expected, torch.Tensor):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


def clone_inputs(inputs):
    """Copies with the same strides, offsets, sharing and flags."""
    return copy.deepcopy(list(inputs))


def check(f, *inputs, graph=None, calls=2, compiled_calls=None):
    """Runs `f` eagerly and compiled on copies of `inputs`, `calls` times in a row; returns the compiler."""
    graph = capture(f, inputs) if graph is None else graph
    compiler = Counting()
    compiled = aot_backend(compiler)(graph, clone_inputs(inputs))
    for _ in range(calls):
        eager_inputs, our_inputs = clone_inputs(inputs), clone_inputs(inputs)
        torch.manual_seed(0)
        expected = f(*eager_inputs)
        torch.manual_seed(0)
        actual = compiled(*our_inputs)
        expected, actual = flat(expected), flat(actual)
        assert len(expected) == len(actual)
        for e, a in zip(expected, actual):
            assert_same(e, a)
        for e, a in zip(eager_inputs, our_inputs):
            assert_same(e, a)
        assert relations(eager_inputs, expected) == relations(our_inputs, actual)
    assert compiler.calls == (calls if compiled_calls is None else compiled_calls)
    return compiler
