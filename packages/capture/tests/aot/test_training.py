"""Programs that train, eagerly and through the joint graph: values, gradients, flags, and what is kept between.

The graphs are interpreted, so that what is tested is tracing, partition and run time. Programs are captured from
bytecode: what autograd meets is what users write.
"""

from __future__ import annotations

import gc
import weakref

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F
from lampwork_capture.aot import TRAINING, PartitionPolicy, aot_backend
from lampwork_capture.aot.partition import default_recompute_cost
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.checkpoint import checkpoint


class Interpreting:
    """A compiler that interprets; counts the calls of forward, backward and inference graphs."""

    def __init__(self):
        self.graphs = []
        self.calls = []

    def __call__(self, graph, example_inputs):
        self.graphs.append(graph)

        def run(*args):
            self.calls.append(graph._get_name())
            return graph.forward(*args)

        return run

    @property
    def names(self):
        return [graph._get_name() for graph in self.graphs]


def optimized(f, compiler=None, **options):
    return capture.optimize(aot_backend(compiler or Interpreting(), **options), fullgraph=True)(f)


def leaves(inputs):
    return [t.detach().clone().requires_grad_(t.requires_grad) if isinstance(t, torch.Tensor) else t for t in inputs]


def tensors(outputs):
    return [o for o in pytree.tree_leaves(outputs) if isinstance(o, torch.Tensor)]


def trained(f, inputs, orders, prepare):
    """Outputs, flags, inputs after the call and gradients of the given order."""
    inputs = leaves(inputs)
    sources = [t for t in inputs if isinstance(t, torch.Tensor) and t.requires_grad]
    outputs = f(*prepare(*inputs))
    flat = tensors(outputs)
    found = [o.detach().clone() for o in flat]
    values = [o for o in flat if o.requires_grad]
    for order in range(1, orders + 1):
        seeds = torch.Generator().manual_seed(order)
        tangents = [torch.randn(v.shape, dtype=v.dtype, generator=seeds) for v in values]
        gradients = torch.autograd.grad(values, sources, tangents, create_graph=order < orders, allow_unused=True)
        found += [torch.zeros_like(s) if g is None else g.detach() for s, g in zip(sources, gradients)]
        # as they are in eager, too: a gradient that does not depend on anything is not differentiated
        values = [(g * g).sum() + (g * s).sum() for s, g in zip(sources, gradients) if g is not None]
    return found, [o.requires_grad for o in flat], [t.detach() for t in inputs if isinstance(t, torch.Tensor)]


def check(f, *inputs, orders=2, prepare=lambda *x: x, graphs=("ForwardGraph", "BackwardGraph")):
    """Compares eager with compiled, two calls each; returns the compiler."""
    compiler = Interpreting()
    compiled = optimized(f, compiler)
    for order in range(1, orders + 1):
        torch.manual_seed(0)
        expected, flags, left = trained(f, inputs, order, prepare)
        torch.manual_seed(0)
        actual, our_flags, our_left = trained(compiled, inputs, order, prepare)
        assert flags == our_flags
        for e, a in zip([*expected, *left], [*actual, *our_left], strict=True):
            torch.testing.assert_close(a, e, rtol=1e-9, atol=1e-9)
    assert tuple(dict.fromkeys(compiler.names)) == graphs
    return compiler


def randn(*shape, grad=True):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(3)


# -- what graphs return and write


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


# -- how often, and with what around it


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


class Residual(nn.Module):
    """Blocks with dropout, each checkpointed or not."""

    def __init__(self, is_checkpointed):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 8)) for _ in range(3)
        )
        self.is_checkpointed = is_checkpointed

    def forward(self, x):
        for block in self.blocks:
            x = x + (checkpoint(block, x, use_reentrant=False) if self.is_checkpointed else block(x))
        return x


def kept_bytes(f, *inputs):
    """The bytes of the storages that autograd saves, beside parameters."""
    found = {}

    def pack(t):
        found[t.untyped_storage().data_ptr()] = (t.untyped_storage().nbytes(), isinstance(t, nn.Parameter))
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = f(*inputs)
    return sum(size for size, is_parameter in found.values() if not is_parameter), out


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


# -- memory


def test_never_more_is_kept_than_eager_keeps():
    def block(x, w, u):
        y = F.gelu(x @ w) @ u
        return F.layer_norm(x + y, (8,)).softmax(-1).sum()

    x, w, u = torch.randn(64, 8, requires_grad=True), nn.Parameter(torch.randn(8, 32)), nn.Parameter(torch.randn(32, 8))
    assert kept_bytes(optimized(block), x, w, u)[0] <= kept_bytes(block, x, w, u)[0]


def test_a_memory_budget_trades_work_for_memory():
    def f(x):
        for _ in range(6):
            x = x.sin().exp()
        return x.sum()

    x = torch.randn(100, requires_grad=True)
    everything = kept_bytes(optimized(f), x)[0]
    policy = PartitionPolicy(default_recompute_cost, memory_budget=0.2)
    compiled = optimized(f, partition=policy)
    little, out = kept_bytes(compiled, x)
    assert little <= 0.2 * everything + 400
    out.backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad(f(x), x)[0])


def test_what_is_kept_dies_with_the_result():
    class Watching(Interpreting):
        def __call__(self, graph, example_inputs):
            run = super().__call__(graph, example_inputs)

            def watched(*args):
                out = run(*args)
                alive.extend(weakref.ref(o) for o in out)
                return out

            return watched

    alive = []
    x, w = randn(3, 4), randn(4, 4)
    y = optimized(lambda x, w: (x @ w).exp().sin(), Watching())(x, w)
    gc.disable()
    try:
        del y
        assert not any(ref() is not None for ref in alive)  # no cycle keeps it
    finally:
        gc.enable()


# -- errors


def test_what_cannot_be_differentiated_says_so_with_the_line():
    def f(x):
        return (
            torch.searchsorted(x.sort().values, x).float().sum()
            + torch.nn.functional.embedding_bag(torch.tensor([[0, 1]]), x[:, None].repeat(1, 2), mode="max").sum()
        )

    x = torch.randn(4, requires_grad=True)
    torch.testing.assert_close(torch.autograd.grad(optimized(f)(x), x)[0], torch.autograd.grad(f(x), x)[0])


def test_lines_of_the_program_in_the_backward_graph():
    def f(x, w):
        y = x @ w
        return y.tanh().sum()

    compiler = Interpreting()
    x, w = randn(3, 4), randn(4, 4)
    optimized(f, compiler)(x, w).backward()
    backward = compiler.graphs[1]
    lines = {
        str(node.meta["user_line"]).rsplit("line ", 1)[-1].split(",")[0]
        for node in backward.graph.nodes
        if node.target is torch.ops.aten.mm.default
    }
    assert len(lines) == 1
    assert int(lines.pop()) == f.__code__.co_firstlineno + 1
