"""Optimized modules as objects: a new forward, copies, pickles, lazy modules."""

from __future__ import annotations

import copy
import io
import pickle

import lampwork_capture as capture
import pytest
import torch
from lampwork_capture.optimize import OptimizedModule


class Plus(torch.nn.Module):
    def forward(self, x):
        return x + 1


def test_forward_assigned_later():
    module = Plus()
    optimized = capture.optimize("eager")(module)
    x = torch.ones(2)
    assert torch.equal(optimized(x), x + 1)
    forward = optimized.forward
    assert optimized.forward is forward  # not made anew in each call
    module.forward = lambda x: x * 100
    assert torch.equal(optimized(x), x * 100)
    del module.forward
    assert torch.equal(optimized(x), x + 1)


def test_forward_of_the_class_replaced():
    cls = type("Local", (Plus,), {"forward": lambda self, x: x + 1})
    optimized = capture.optimize("eager")(cls())
    x = torch.ones(2)
    assert torch.equal(optimized(x), x + 1)
    cls.forward = lambda self, x: x * 100
    assert torch.equal(optimized(x), x * 100)


def test_deepcopy_has_parameters_of_its_own():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    module = torch.nn.Linear(2, 2)
    optimized = capture.optimize(backend)(module)
    other = copy.deepcopy(optimized)
    assert type(other) is OptimizedModule
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
    x = torch.ones(1, 2)
    assert not optimized(x).any() and other(x).any()
    assert len(graphs) >= 1 and other._orig_mod is not module
    shallow = copy.copy(optimized)
    assert shallow.weight is module.weight and not shallow(x).any()


def test_pickle_optimizes_again():
    optimized = capture.optimize("eager")(torch.nn.Linear(2, 2))
    x = torch.ones(1, 2)
    other = pickle.loads(pickle.dumps(optimized))
    assert type(other) is OptimizedModule and torch.equal(other(x), optimized(x))
    file = io.BytesIO()
    torch.save(optimized, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(x), optimized(x)) and loaded.lampwork_callback.backend_name == "eager"


def test_pickle_with_an_unregistered_backend_says_why():
    optimized = capture.optimize(lambda graph, inputs: graph.forward)(torch.nn.Linear(2, 2))
    with pytest.raises(pickle.PicklingError, match="_orig_mod"):
        pickle.dumps(optimized)


def test_lazy_module():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    module = torch.nn.LazyLinear(3)
    optimized = capture.optimize(backend)(module)
    x = torch.ones(1, 2)
    assert optimized(x).shape == (1, 3)
    assert type(module) is torch.nn.Linear
    assert torch.equal(optimized(x), module(x))
    assert graphs  # the second call is captured


def _plain_and_optimized(module):
    optimized = capture.optimize("eager")(module)
    x = torch.ones(2)
    assert torch.equal(optimized(x), module(x))
    assert optimized._plain is not None and not optimized._plain.is_dead
    return optimized, x


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_that_come_later_run(register):
    module = Plus()
    optimized, x = _plain_and_optimized(module)
    seen = []
    handle = getattr(module, register)(lambda *args: seen.append(args[0]))
    optimized(x)
    assert seen == [module]
    handle.remove()
    assert torch.equal(optimized(x=x), x + 1) and seen == [module]


def test_hooks_written_into_the_table_run():
    module = Plus()
    optimized, x = _plain_and_optimized(module)
    module._forward_hooks[0] = lambda module, args, output: output * 10
    assert torch.equal(optimized(x), (x + 1) * 10)


def test_hooks_of_all_modules_run():
    optimized, x = _plain_and_optimized(Plus())
    seen = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda module, args, output: seen.append(module))
    try:
        optimized(x)
    finally:
        handle.remove()
    assert seen == [optimized._orig_mod]
    optimized(x)
    assert len(seen) == 1


def test_call_replaced_in_the_module_or_its_class():
    module = Plus()
    optimized, x = _plain_and_optimized(module)
    module._call_impl = lambda x: x * 7
    assert torch.equal(optimized(x), x * 7)
    del module._call_impl
    assert torch.equal(optimized(x), x + 1)
    cls = type("Local", (Plus,), {})
    optimized, x = _plain_and_optimized(cls())
    cls._call_impl = lambda self, x: x * 7
    assert torch.equal(optimized(x), x * 7)
    del cls._call_impl
    module.__class__ = type("Other", (Plus,), {"_call_impl": lambda self, x: x * 5})
    optimized = capture.optimize("eager")(module)
    assert torch.equal(optimized(x), x * 5)


def test_class_changed():
    module = Plus()
    optimized, x = _plain_and_optimized(module)
    module.__class__ = type("Times", (Plus,), {"forward": lambda self, x: x * 3})
    assert torch.equal(optimized(x), x * 3)


def test_modules_that_are_called_in_their_own_way():
    class Called(Plus):
        def __call__(self, x):
            return super().__call__(x) * 2

    class Reading(Plus):
        def __getattribute__(self, name):
            return super().__getattribute__(name)

    x = torch.ones(2)
    for module, expected in ((Called(), (x + 1) * 2), (Reading(), x + 1)):
        optimized = capture.optimize("eager")(module)
        assert torch.equal(optimized(x), expected)
    script = torch.jit.script(torch.nn.Linear(2, 2))
    assert torch.equal(capture.optimize("eager")(script)(x), script(x))


def test_errors_of_the_call_are_those_of_the_module():
    optimized, x = _plain_and_optimized(Plus())
    with pytest.raises(TypeError, match="unexpected keyword argument 'y'"):
        optimized(y=x)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        optimized()


def test_call_of_the_class_replaced_later():
    cls = type("Local", (Plus,), {})
    optimized, x = _plain_and_optimized(cls())
    cls.__call__ = lambda self, x: x * 9
    assert torch.equal(optimized(x), x * 9)
    del cls.__call__
    assert torch.equal(optimized(x), x + 1)


def test_hook_that_goes_makes_the_call_plain():
    module = Plus()
    handle = module.register_forward_hook(lambda module, args, output: output * 10)
    optimized, x = capture.optimize("eager")(module), torch.ones(2)
    assert torch.equal(optimized(x), (x + 1) * 10)
    handle.remove()
    assert torch.equal(optimized(x), x + 1) and optimized._plain.counts["sweeps"] + optimized._plain.counts["walks"] > 0
