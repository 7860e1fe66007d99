"""`torch.autograd.Function` and `checkpoint` in a frame: results, gradients of first and second order, graph counts."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
import torch.utils._pytree as pytree
from lampwork_capture.aot import aot_backend
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

WEIGHT = torch.arange(9.0).reshape(3, 3)
FACTOR = 2.0


class Square(Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x * factor

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * 2 * x * ctx.factor, None


class Doubled(Square):
    @staticmethod
    def backward(ctx, gradient):
        return Square.backward(ctx, gradient)[0] * 2, None


class SeveralResults(Function):
    @staticmethod
    def forward(ctx, x, y):
        power = x.exp()
        ctx.power = power
        ctx.save_for_backward(y)
        return power * y, power.argmax(), 3

    @staticmethod
    def backward(ctx, gradient, of_index, of_number):
        (y,) = ctx.saved_tensors
        assert of_number is None
        return (gradient * ctx.power * y if ctx.needs_input_grad[0] else None), gradient * ctx.power


class WithSetup(Function):
    @staticmethod
    def forward(x, w):
        return x @ w

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx, gradient):
        x, w, output = ctx.saved_tensors
        return gradient @ w.t(), x.t() @ gradient + 0 * output.sum()


class NotDifferentiable(Function):
    @staticmethod
    def forward(ctx, x):
        made = x.clone()
        made.mul_(2)
        order = made.argsort()
        ctx.mark_non_differentiable(order)
        return made, order

    @staticmethod
    def backward(ctx, gradient, of_order):
        return gradient * 2


class Captures(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.shape = x.shape
        return x * WEIGHT

    @staticmethod
    def backward(ctx, gradient):
        return (gradient * WEIGHT).reshape(ctx.shape)


class Reverses(Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Once(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return gradient * (ctx.saved_tensors[0] > 0)


class Logs(Function):
    log: list[int] = []

    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        Logs.log.append(len(Logs.log))
        return gradient * 2


class TooMany(Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient, gradient


class ReadsNumber(Function):
    @staticmethod
    def forward(ctx, x):
        return x * FACTOR

    @staticmethod
    def backward(ctx, gradient):
        return gradient * FACTOR


class MissingGradients(Function):
    @staticmethod
    def forward(ctx, x, materialize):
        ctx.set_materialize_grads(materialize)
        return x * 2, x * 3

    @staticmethod
    def backward(ctx, gradient, of_unused):
        return gradient if of_unused is None else gradient * 100, None


class MissingGradientsBySetup(MissingGradients):
    @staticmethod
    def forward(x):
        return x * 2, x * 3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, gradient, of_unused):
        return MissingGradients.backward(ctx, gradient, of_unused)[0]


def checkpointed_with_state(x, w):
    calls = []

    def body(t):
        calls.append(1)
        return t.sin() @ w

    return checkpoint(body, x, use_reentrant=False), calls


def checkpointed_with_locals(x, w):
    def body(t, *, scale):
        parts = []
        for row in t:
            parts.append(row * scale)
        return torch.stack(parts), {"w": w * 2}

    return checkpoint(body, x, use_reentrant=False, scale=3)[0]


def gradients(function, mode):
    """Result, gradients and second gradients of a call, or the exception."""
    torch.manual_seed(0)
    x, w = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    Logs.log.clear()
    found = mode(function)
    try:
        result = found(x, w)
        first = result[0] if isinstance(result, tuple) else result
        slopes = torch.autograd.grad(first.sum(), (x, w), allow_unused=True, create_graph=True)
        again = [slope.square().sum() for slope in slopes if slope is not None and slope.requires_grad]
        seconds = torch.autograd.grad(sum(again), (x, w), allow_unused=True) if again else ()
        return result, slopes, seconds, first.grad_fn.name(), list(Logs.log)
    except Exception as error:
        return type(error), str(error)


WHOLE = {
    "plain": lambda x, w: Square.apply(x, 3) + 1,
    "twice": lambda x, w: Square.apply(Square.apply(x * 1, 2), 0.5),
    "inherited": lambda x, w: Doubled.apply(x, 3),
    "several results": lambda x, w: SeveralResults.apply(x, w),
    "setup_context": lambda x, w: WithSetup.apply(x, w).sin(),
    "not differentiable": lambda x, w: NotDifferentiable.apply(x),
    "captures a global": lambda x, w: Captures.apply(x),
    "reads a number of its module": lambda x, w: ReadsNumber.apply(x).sin() @ w,
    "returns its input": lambda x, w: Reverses.apply(x) * 2,
    "gradients of zeros": lambda x, w: MissingGradients.apply(x, True),
    "missing gradients under no_grad": lambda x, w: x * MissingGradients.apply(x.detach(), False)[0],
    "under no_grad": lambda x, w: x * Square.apply(x.detach(), 3),
    "checkpoint": lambda x, w: checkpoint(lambda t: Square.apply(t, 2).sin() @ w, x, use_reentrant=False),
    "checkpoint with dropout": lambda x, w: checkpoint(
        lambda t: torch.nn.functional.dropout(t @ w), x, use_reentrant=False
    ),
    "checkpoint with locals": checkpointed_with_locals,
}
BROKEN = {
    "once differentiable": lambda x, w: Once.apply(x),
    "backward with a side effect": lambda x, w: Logs.apply(x),
    "gradients that may be missing": lambda x, w: MissingGradients.apply(x, False),
    "gradients that may be missing, by setup_context": lambda x, w: MissingGradientsBySetup.apply(x),
    "wrong number of gradients": lambda x, w: TooMany.apply(x),
    "checkpoint with a side effect": checkpointed_with_state,
    "checkpoint that re-enters": lambda x, w: checkpoint(lambda t: t.sin() @ w, x, use_reentrant=True),
}


@pytest.mark.parametrize("name", [*WHOLE, *BROKEN])
def test_gradients_equal_eager(name):
    function = (WHOLE | BROKEN)[name]
    found = []

    def once(target):
        def call(*args):
            found.append(capture.capture(target, *args))
            return found[0].result

        return call

    expected, actual = gradients(function, lambda target: target), gradients(function, once)
    for want, got in zip(pytree.tree_leaves(expected), pytree.tree_leaves(actual), strict=True):
        if isinstance(want, torch.Tensor):
            assert torch.equal(want, got) and want.requires_grad == got.requires_grad
        else:
            assert want == got
    assert (len(found[0].graphs) == 1 and not found[0].graph_breaks) == (name in WHOLE)


def test_a_changed_backward_is_seen():
    class Scaled(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2

    optimized = capture.optimize("eager")(lambda x: Scaled.apply(x).sum())
    slopes = []
    for _ in range(2):
        x = torch.ones(3, requires_grad=True)
        optimized(x).backward()
        slopes.append(x.grad)
        Scaled.backward = staticmethod(lambda ctx, gradient: gradient * 5)
    assert torch.equal(slopes[0], torch.full((3,), 2.0)) and torch.equal(slopes[1], torch.full((3,), 5.0))


def test_a_checkpoint_keeps_no_activations():
    kept = []

    def function(x, w):
        return checkpoint(lambda t: ((t @ w).sin() @ w).cos(), x, use_reentrant=False)

    x, w = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        capture.optimize("eager", fullgraph=True)(function)(x, w)
    assert not [tensor for tensor in kept if tensor is not x and tensor is not w]


STATE = {"factor": 2.0}


def make_reads_layout():
    class Reads(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 2 if gradient.is_contiguous() else gradient * 7

    return Reads


def make_reads_grad_mode():
    class Reads(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * (2 if torch.is_grad_enabled() else 7)

    return Reads


def make_reads_global():
    class Reads(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            return gradient * STATE["factor"]

    return Reads


@pytest.mark.parametrize("make", [make_reads_layout, make_reads_grad_mode, make_reads_global])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_backward_sees_what_is_there_when_it_runs(make, create_graph):
    found = []
    for wrap in (lambda f: f, capture.optimize("eager")):
        function = make()
        STATE["factor"] = 2.0
        x = torch.ones(3, 4, requires_grad=True)
        y = wrap(lambda x: function.apply(x))(x)
        STATE["factor"] = 5.0
        found.append(torch.autograd.grad(y.sum(), x, create_graph=create_graph)[0])
    assert torch.equal(*found)


def slope_of_number(function, before, after):
    global FACTOR
    FACTOR = before
    x = torch.ones(3, requires_grad=True)
    y = function(x)
    FACTOR = after
    return torch.autograd.grad(y.sum(), x)[0]


@pytest.mark.parametrize("backend", ["eager", aot_backend(lambda graph, inputs: graph.forward)], ids=["eager", "aot"])
def test_a_number_that_changes_before_backward_is_refused(backend):
    optimized = capture.optimize(backend)(lambda x: ReadsNumber.apply(x) * 2)
    for number in (2.0, 3.0, 2.0, 5):
        assert torch.equal(slope_of_number(optimized, number, number), torch.full((3,), 2.0 * number))
    with pytest.raises(capture.CaptureError, match="FACTOR` was changed between the forward pass and the backward"):
        slope_of_number(optimized, 2.0, 4.0)
    with pytest.raises(capture.CaptureError, match="hint: Read it in `forward`"):
        slope_of_number(optimized, 3.0, 3)


def test_a_number_that_backward_reads_behind_a_write_to_an_input():
    """The written tensor leads to the backward of the graph, but is no output of it: the write is not in the graph."""
    global FACTOR
    FACTOR = 2.0
    x, out = torch.ones(3, requires_grad=True), torch.zeros(3)
    capture.optimize("eager")(lambda x, out: out.copy_(ReadsNumber.apply(x)) is None)(x, out)
    FACTOR = 4.0
    with pytest.raises(capture.CaptureError, match="FACTOR` was changed"):
        out.sum().backward()
    FACTOR = 2.0


def test_nothing_is_printed_when_a_body_raises(capfd):
    def function(x, i):
        try:
            return checkpoint(lambda a: a[i] * 2, x, use_reentrant=False)
        except IndexError:
            return x

    optimized = capture.optimize("eager")(function)
    x = torch.ones(3, requires_grad=True)
    optimized(x, torch.tensor([0]))
    assert optimized(x, torch.tensor([9])) is x
    assert capfd.readouterr().err == ""
