"""Compiled programs that train: how often they are called and differentiated, and with what around it."""

from __future__ import annotations

import subprocess
import sys

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import aot_backend
from torch import nn
from torch.utils.checkpoint import checkpoint

from .training_programs import Interpreting, Residual, check, kept_bytes, optimized, randn, trained


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


def test_a_backward_pass_inside_of_an_optimized_function():
    seen = []

    class Watching(Interpreting):
        def __call__(self, graph, example_inputs):
            run = super().__call__(graph, example_inputs)

            def watched(*args):
                seen.append(graph._get_name())
                return run(*args)

            return watched

    def step(x, w):
        loss = (x * w).sin().sum()
        loss.backward()
        return loss.detach()

    compiler = Watching()
    compiled = capture.optimize(aot_backend(compiler))(step)
    x, w = randn(3, grad=False), randn(3)
    for _ in range(2):
        w.grad = None
        compiled(x, w)
        torch.testing.assert_close(w.grad, x * (x * w).detach().cos())
    assert compiler.names[:2] == ["ForwardGraph", "BackwardGraph"]  # behind the break something is detached
    assert seen.count("ForwardGraph") == seen.count("BackwardGraph") == 2


def test_retained_graphs_and_graphs_that_are_used_up():
    x, w = randn(3, 4), randn(4, 4)
    y = optimized(lambda x, w: (x @ w).exp())(x, w)
    y.sum().backward(retain_graph=True)
    once = x.grad.clone()
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * once)
    with pytest.raises(RuntimeError, match="second time"):
        y.sum().backward()


def test_a_kept_value_that_is_written_to_is_told_of():
    x, w = randn(3, 4), randn(4, 4)
    y = optimized(lambda x, w: (x @ w).exp())(x, w)
    with torch.no_grad():
        w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_result_that_is_kept_and_written_to_is_told_of():
    x = randn(3, 4)
    (y,) = optimized(lambda x: (x.exp().view(2, 6),))(x)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_hooks_of_tensors_see_gradients():
    seen = []
    x = randn(3)
    y = optimized(lambda x: x.sin())(x)
    y.register_hook(lambda g: seen.append(g) or g * 2)
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach().cos())
    assert torch.equal(seen[0], torch.ones(3, dtype=x.dtype))  # its memory was not taken


def test_the_gradient_of_a_result_stays_with_who_asked_for_it():
    x = randn(3)
    y = optimized(lambda x: x.exp())(x)
    y.retain_grad()
    given = torch.full((3,), 2.0, dtype=x.dtype)
    y.backward(given)
    assert torch.equal(y.grad, given) and given.shape == (3,)
    z = optimized(lambda x: x.exp() * 2)(x)
    seen = []
    z.grad_fn.register_hook(lambda of_inputs, of_outputs: seen.extend(of_outputs))
    (z * 3).sum().backward()
    assert seen[0] is None or torch.equal(seen[0], torch.full((3,), 3.0, dtype=x.dtype))


def test_saved_tensor_hooks_see_what_is_kept():
    packed = []
    x, w = randn(3, 4), randn(4, 4)

    def pack(t):
        packed.append(t.shape)
        return t.clone()

    compiled = optimized(lambda x, w: (x @ w).exp().sum())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = compiled(x, w)
    loss.backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad((x @ w).exp().sum(), x)[0])
    assert 0 < len(packed) <= 3


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_compiled_module_inside_a_checkpoint(use_reentrant):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 4)).double()
    compiled = optimized(model)
    gradients = []
    for f in (model, compiled):
        x = torch.ones(3, 4, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(0)
        checkpoint(f, x, use_reentrant=use_reentrant).sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_checkpoints_inside_the_graph_are_computed_again_with_the_same_random_numbers():
    eager = Residual(True).double()
    model = Residual(True).double()
    model.load_state_dict(eager.state_dict())
    compiled = optimized(model)
    x = torch.randn(16, 8, dtype=torch.float64)
    states = []
    for f in (eager, compiled):
        torch.manual_seed(5)
        f(x).square().sum().backward()
        states.append(torch.get_rng_state())
    torch.testing.assert_close([p.grad for p in model.parameters()], [p.grad for p in eager.parameters()])
    assert torch.equal(states[0], states[1])
    # eager keeps the checkpoints' inputs under hooks of its own; without checkpoints everything is kept
    plain = Residual(False).double()
    assert kept_bytes(compiled, x)[0] < 0.6 * kept_bytes(optimized(plain), x)[0]


def test_dropout_is_reproduced_by_the_seed():
    model = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)).double()
    compiled = optimized(model)
    x = randn(4, 8)
    results = []
    for f in (model, compiled, compiled):
        torch.manual_seed(11)
        y = f(x)
        results.append([y.detach(), *torch.autograd.grad(y.sum(), x)])
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize("grad", [True, False])
def test_dropout_of_transposed_values(grad):
    x = randn(4, 6, grad=grad)
    drawn = []
    for f in (lambda x: F.dropout(x.t(), 0.5), optimized(lambda x: F.dropout(x.t(), 0.5))):
        torch.manual_seed(7)
        drawn.append(f(x).detach())
    assert torch.equal(*drawn) and drawn[0].stride() == drawn[1].stride()


def test_no_grad_calls_between_training_calls():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh()).double()
    compiled = optimized(model)
    x = torch.randn(3, 4, dtype=torch.float64)
    for _ in range(2):
        compiled(x).sum().backward()
        with torch.no_grad():
            assert not compiled(x).requires_grad
        with torch.inference_mode():
            assert compiled(x).is_inference()
    torch.testing.assert_close(model[0].weight.grad, 2 * torch.autograd.grad(model(x).sum(), model[0].weight)[0])


def test_autocast_is_that_of_the_forward_pass():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    compiled = optimized(model)
    x = torch.randn(4, 8)
    gradients = []
    for f in (model, compiled):
        with torch.autocast("cpu", torch.bfloat16):
            y = f(x)
        assert y.dtype == torch.bfloat16
        gradients.append(torch.autograd.grad(y.float().sum(), list(model.parameters())))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-2, atol=2e-2)


def test_a_gradient_penalty_and_a_hessian_vector_product():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    compiled = optimized(model)

    def penalty(f):
        x = torch.linspace(0, 1, 12, dtype=torch.float64).view(3, 4) * torch.ones((), requires_grad=True)
        out = f(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        loss = out.mean() + ((slope.norm(2, dim=1) - 1) ** 2).mean()
        return torch.autograd.grad(loss, list(model.parameters()))

    torch.testing.assert_close(penalty(compiled), penalty(model))

    def product(f, v):
        x = torch.linspace(0, 1, 12, dtype=torch.float64).view(3, 4).requires_grad_()
        (slope,) = torch.autograd.grad(f(x).sum(), x, create_graph=True)
        return torch.autograd.grad(slope, x, v)

    v = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(product(compiled, v), product(model, v))


def test_higher_derivatives_reach_inputs_that_are_not_kept():
    # relu keeps its result only, so the input that was computed before is reached by its history
    def f(f1, x):
        h = x * 3
        y = f1(h)
        (slope,) = torch.autograd.grad((y**3).sum(), h, create_graph=True)
        return torch.autograd.grad((slope**2).sum(), x)

    x = randn(5)
    torch.testing.assert_close(f(optimized(lambda h: h.relu() + 1), x), f(lambda h: h.relu() + 1, x))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


def test_functions_of_the_user_with_a_backward_of_their_own():
    check(lambda x: Square.apply(x.sin()).sum(), randn(4), orders=3)


@pytest.mark.parametrize(
    ("f", "shapes"),
    [
        (lambda x, w: F.layer_norm((x @ w).relu(), (5,)).square().mean(), [((n, 4), (4, 5)) for n in (3, 5, 9)]),
        # its second derivative is written for whole numbers, so there is one for each size
        (lambda x, w: F.conv2d(x, w).relu().mean((2, 3)), [((n, 3, 8 + n, 8), (4, 3, 3, 3)) for n in (2, 3, 5, 2)]),
    ],
)
def test_symbolic_sizes(f, shapes):
    compiler = Interpreting()
    compiled = capture.optimize(aot_backend(compiler), dynamic=True, fullgraph=True)(f)
    for left, right in shapes:
        for order in (1, 2):
            inputs = randn(*left), randn(*right)
            expected = trained(f, inputs, order, lambda *x: x)
            actual = trained(compiled, inputs, order, lambda *x: x)
            torch.testing.assert_close(actual, expected)
    assert compiler.names.count("ForwardGraph") == 1


def test_a_tangent_that_arrives_alone_under_the_autocast_of_the_forward_pass():
    layer = nn.Linear(16, 16).requires_grad_(False)

    def f(x):
        first, second = torch.split(torch.tanh(layer(x)) * 1.5, 8, 1)
        return first.sin(), second.cos()

    gradients = []
    for g in (f, optimized(f)):
        torch.manual_seed(0)
        x = torch.randn(4, 16, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            first, _ = g(x)
        (gradient,) = torch.autograd.grad(first.float().square().sum(), x)  # traced again, outside of autocast
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-2, atol=2e-2)


def test_sizes_that_no_kept_value_shows():
    def f(x):
        return F.pad(x, (0, x.shape[-1] % 2)).sin()

    compiled = capture.optimize(aot_backend(Interpreting()), dynamic=True)(f)
    for length in (5, 8, 7):
        x = randn(2, length)
        torch.testing.assert_close(torch.autograd.grad(compiled(x).sum(), x), torch.autograd.grad(f(x).sum(), x))


def test_a_weight_of_a_loss_that_varies():
    compiled = optimized(lambda x, s: (x * s).sin())
    for weight in (0.5, 0.25, 0.125):
        x = randn(4)
        torch.testing.assert_close(
            torch.autograd.grad(compiled(x, weight).sum(), x), torch.autograd.grad((x * weight).sin().sum(), x)
        )


def test_what_eager_lets_be_written_to():
    def f(x):
        h = x * 2
        return h, (h * 2).sin() + (h * 3).cos() + (h * 0.5).exp()

    x = randn(4)
    h, out = optimized(f)(x)
    h.add_(1)  # eager's autograd kept nothing of it
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x), torch.autograd.grad(f(x)[1].sum(), x))


def test_batched_tangents():
    x = randn(3)
    f = lambda x: (x.sin() * x).exp()  # noqa: E731
    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(optimized(f), x, vectorize=True), jacobian(f, x))


def test_devices_that_are_not_trained_on():
    compiler = Interpreting()
    x = randn(3)
    optimized(lambda x: x.sin(), compiler, trains_on=frozenset({"cuda"}))(x).sum().backward()
    assert not compiler.graphs and torch.allclose(x.grad, x.detach().cos())


def test_forward_gradients_pass_through():
    forward_ad = torch.autograd.forward_ad
    compiled = optimized(lambda x: x.sin())
    x = randn(3, grad=False)
    compiled(x)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(compiled(forward_ad.make_dual(x, torch.ones_like(x)))).tangent
    torch.testing.assert_close(found, x.cos())


def test_a_checkpointed_stack_is_recorded_twice_and_not_more():
    compiler = Interpreting()
    blocks = nn.Sequential(*(nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(0.5)) for _ in range(4))).double()
    compiled = optimized(lambda x: checkpoint(blocks, x, use_reentrant=False).sum(), compiler)
    compiled(randn(2, 8)).backward()
    draws = [sum("bernoulli" in str(node.target) for node in graph.graph.nodes) for graph in compiler.graphs]
    assert draws == [4, 4]


def test_the_first_call_of_a_process_inside_a_checkpoint():
    program = """
import torch, lampwork_capture
from lampwork_capture.aot import aot_backend
from torch.utils.checkpoint import checkpoint
model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
compiled = lampwork_capture.optimize(aot_backend(lambda graph, _: graph.forward))(model)
x = torch.randn(5, 4, requires_grad=True)
checkpoint(compiled, x, use_reentrant=False).sum().backward()
expected = torch.autograd.grad(model(x).sum(), x)[0]
torch.testing.assert_close(x.grad, expected)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
