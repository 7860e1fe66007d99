"""Programs that train, eagerly and through the joint graph: what their graphs return and write."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import TRAINING
from torch import nn

from .training_programs import Interpreting, check, optimized, randn


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def test_linear_and_activation():
    check(lambda x, w, b: F.gelu(F.linear(x, w, b)).pow(2), randn(3, 4, grad=False), randn(5, 4), randn(5), orders=3)


def test_loss_and_predictions_of_which_only_the_loss_is_differentiated():
    def f(x, w):
        y = torch.tanh(x @ w)
        return y.square().mean(), y

    compiler = Interpreting()
    compiled = optimized(f, compiler)
    x, w = randn(4, 3), randn(3, 3)
    loss, _ = compiled(x, w)
    loss.backward()
    expected = torch.autograd.grad(f(x, w)[0], [x, w])
    torch.testing.assert_close([x.grad, w.grad], list(expected))
    (backward,) = (graph for graph in compiler.graphs if graph._get_name() == "BackwardGraph")
    arriving = [n.name for n in backward.graph.nodes if n.op == "placeholder" and "tangent" in n.name]
    assert arriving == ["tangent_0"]  # no zeros are made for what nobody differentiates


def test_the_backward_graph_compiled_at_once():
    compiler = Interpreting()
    x, w = randn(4, 3), randn(3, 3)
    out = optimized(lambda x, w: (x @ w).sin(), compiler, backward_at_once=True)(x, w)
    assert compiler.names == ["ForwardGraph", "BackwardGraph"]
    out.sum().backward()
    assert compiler.names == ["ForwardGraph", "BackwardGraph"]


def test_tangents_that_meet_in_another_operator_than_a_sum():
    def f(x):
        a, b = x.sin(), x.cos()
        both = torch.cat([a, b]).exp()
        return both[:3].sum(), both[3:].sum(), (a * b).sum()

    compiled = optimized(f)
    for which in ([0], [1], [2], [0, 2], [1, 0]):
        x = randn(3)
        expected = torch.autograd.grad([f(x)[i] for i in which], x)
        actual = torch.autograd.grad([compiled(x)[i] for i in which], x)
        torch.testing.assert_close(actual, expected)


def test_only_the_gradients_that_are_asked_for_are_computed():
    compiler = Interpreting()
    x, w = randn(4, 3), randn(3, 5)
    (grad,) = torch.autograd.grad(optimized(lambda x, w: (x @ w).sin().sum(), compiler)(x, w), x)
    torch.testing.assert_close(grad, torch.autograd.grad((x @ w).sin().sum(), x)[0])
    backward = compiler.graphs[1]
    assert sum(node.target is torch.ops.aten.mm.default for node in backward.graph.nodes) == 1


def test_views_of_inputs_and_of_results():
    def f(x, y):
        z = x * y
        return x.t(), z.view(-1)[2:], z[0], y.unsqueeze(0).expand(2, 3, 4)

    check(f, randn(3, 4), randn(3, 4))


def test_outputs_without_gradients_beside_outputs_with():
    def f(x, y):
        z = x.exp()
        with torch.no_grad():
            fixed = z * y
        return z, z.detach(), fixed, z.argmax(), y, x.detach().t(), 3

    check(f, randn(3, 4), randn(3, 4), graphs=("ForwardGraph", "BackwardGraph"))


def test_only_views_of_inputs_are_returned():
    check(lambda x: (x.t(), x[1]), randn(3, 4), graphs=("FunctionalGraph",))


def test_nothing_that_is_returned_requires_gradients():
    compiler = Interpreting()
    x = randn(3, 4)
    doubled, place = optimized(lambda x: (x.detach() * 2, x.argmax()), compiler)(x)
    assert compiler.names == ["FunctionalGraph"] and not compiler.graphs[0].meta.get(TRAINING)
    assert torch.equal(doubled, 2 * x.detach()) and place == x.argmax()


def test_computed_inputs_may_be_written_to():
    def f(x, y):
        x.mul_(2)
        y[0] = x[1] * x[2]
        return x.sin() * y

    check(f, randn(3, 4), randn(3, 4), prepare=lambda x, y: (x * 1, y + 0))


def test_results_may_be_written_to():
    compiled = optimized(lambda x: (x.exp().view(2, 6), x.sin().t()))
    x = randn(3, 4)
    flat, turned = compiled(x)
    flat.mul_(2)
    turned[1] = 0
    (gradient,) = torch.autograd.grad(flat.sum() + turned.sum(), x)
    expected = x.exp() * 2 + x.cos()
    expected[:, 1] -= x.cos()[:, 1]
    torch.testing.assert_close(gradient, expected)


def test_buffers_are_updated_beside_the_gradients():
    def f(x, average):
        with torch.no_grad():
            average.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return (x - average).square().sum()

    check(f, randn(5, 3), randn(3, grad=False))


def test_batch_norm_in_training():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)).double()
    twin = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)).double()
    twin.load_state_dict(model.state_dict())
    compiled = optimized(twin)
    for _ in range(3):
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        model(x).square().sum().backward()
        compiled(x).square().sum().backward()
    torch.testing.assert_close(dict(twin.state_dict()), dict(model.state_dict()))
    torch.testing.assert_close([p.grad for p in twin.parameters()], [p.grad for p in model.parameters()])


def test_empty_and_strided_inputs():
    check(lambda x, w: (x @ w).relu().sum(0), randn(0, 4), randn(4, 3))
    check(lambda x, w: (x.t() @ w).relu(), randn(4, 5), randn(8, 3), prepare=lambda x, w: (x, w[::2]))


def test_complex_values():
    check(lambda x: torch.view_as_complex(x).exp().conj().abs().sum(), randn(3, 2))
    check(lambda x: torch.fft.rfft(x).real.square(), randn(8))


def test_expanded_and_strided_tangents():
    compiled = optimized(lambda x: x.sin().t())
    x = randn(3, 4)
    expected = torch.autograd.grad(x.sin().t(), x, torch.ones(1, 1, dtype=x.dtype).expand(4, 3))
    actual = torch.autograd.grad(compiled(x), x, torch.ones(1, 1, dtype=x.dtype).expand(4, 3))
    torch.testing.assert_close(actual, expected)
    tangent = torch.randn(8, 3, dtype=x.dtype)[::2]
    torch.testing.assert_close(
        torch.autograd.grad(compiled(x), x, tangent), torch.autograd.grad(x.sin().t(), x, tangent)
    )
