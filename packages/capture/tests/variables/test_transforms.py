"""torch.func's transforms in a frame: one graph with a subgraph, equal to eager; what cannot be breaks cleanly."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch
from kinds import Programs, check
from torch.func import grad, grad_and_value, hessian, jacfwd, jacrev, vmap

programs = Programs()


@programs.whole
def maps_a_lambda(x, w):
    return torch.vmap(lambda row: (row * x).sin())(w) + 1


@programs.whole
def maps_structures(x, w):
    return vmap(lambda a, b: {"p": a * b, "q": [a + 1, b]}, in_dims=(0, None), out_dims=0)(w, x)


@programs.whole
def maps_another_dimension(x, w):
    return vmap(lambda column: column.sum() * column.shape[0], in_dims=1, out_dims=0)(w)


@programs.whole
def nested_maps(x, w):
    return vmap(vmap(lambda a, b: a * b + x.sum()))(w, w)


@programs.whole
def gradient(x, w):
    def loss(parameter, y):
        return ((w @ parameter - y) ** 2).sum()

    return grad(loss)(x, x[:2]), grad(loss, argnums=1)(x, x[:2])


@programs.whole
def gradient_with_aux(x, w):
    slope, (value, aux) = grad_and_value(lambda p: ((p * x).sum(), p * 2), has_aux=True)(w)
    return slope, value, aux


@programs.whole
def gradient_without_grad_mode(x, w):
    with torch.no_grad():
        return grad(lambda t: t.sin().sum())(x)


@programs.whole
def gradients_per_sample(x, w):
    return vmap(grad(lambda p, row: (p * row).sum() ** 2), in_dims=(None, 0))(x, w)


@programs.whole
def jacobians(x, w):
    return jacrev(torch.sin)(x), jacfwd(lambda t: t * w)(x), hessian(lambda t: (t**3).sum())(x)


@programs.whole
def second_derivative(x, w):
    return vmap(grad(grad(torch.sin)))(x)


@programs.whole
def random_under_vmap(x, w):
    return vmap(lambda row: row + torch.randn(3), randomness="different")(w)


@programs.whole
def side_effects_of_the_body(x, w):
    shapes = []

    def body(row):
        shapes.append(row.shape)
        return row * 2

    return vmap(body)(w), shapes


@programs.whole
def shape_of_a_leaked_tensor(x, w):
    leaked = []
    y = vmap(lambda row: leaked.append(row) or row * 2)(w)
    return y, leaked[0].shape


@programs.whole
def no_grad_inside(x, w):
    def body(row):
        with torch.no_grad():
            y = row * 2
        return (y * row).sum()

    return grad(body)(x)


@torch.vmap
def decorated(row):
    return row.sum() * row.shape[0]


@programs.whole
def calls_a_decorated_function(x, w):
    return decorated(w)


@programs.any_graphs
def uses_a_leaked_tensor(x, w):
    leaked = []
    grad(lambda t: leaked.append(t * 2) or t.sum())(x)
    return leaked[0].shape


@programs.any_graphs
def needs_data(x, w):
    return vmap(lambda row: row.sum().item())(w)


@programs.any_graphs
def wrong_dimension(x, w):
    return vmap(lambda row: row, in_dims=3)(w)


@programs.any_graphs
def body_raises_and_is_caught(x, w):
    def body(row):
        raise ValueError("no")

    try:
        return vmap(body)(w)
    except ValueError as error:
        return x, str(error)


@programs.any_graphs
def made_here_called_outside(x, w):
    return vmap(lambda row: row * 2)


@programs.any_graphs
def vector_product(x, w):
    out, pull = torch.func.vjp(torch.sin, x)
    return out, pull(x)


@pytest.mark.parametrize(("function", "is_whole"), programs.found, ids=lambda value: getattr(value, "__name__", ""))
def test_transform(function, is_whole):
    if function is made_here_called_outside:
        w = torch.ones(2, 3)
        assert torch.equal(capture.optimize("eager")(function)(w, w)(w), w * 2)
    else:
        check(function, is_whole)


def test_gradients_flow_through_a_transform():
    def function(x, w):
        return (vmap(lambda row: row * w)(x) ** 2).sum()

    found = []
    for call in (function, capture.optimize("eager")(function)):
        x, w = torch.ones(2, 3, requires_grad=True), torch.arange(3.0, requires_grad=True)
        call(x, w).backward()
        found.append((x.grad, w.grad))
    assert all(torch.equal(a, b) for a, b in zip(*found))


def test_what_the_body_closes_over_is_guarded():
    scale = 2

    def function(x):
        return vmap(lambda row: row * scale)(x)

    optimized = capture.optimize("eager")(function)
    assert torch.equal(optimized(torch.ones(2, 3)), torch.full((2, 3), 2.0))
    scale = 3
    assert torch.equal(optimized(torch.ones(2, 3)), torch.full((2, 3), 3.0))


def test_the_subgraph_is_counted_and_printed():
    found = capture.capture(lambda x: vmap(lambda row: row.sin() + 1)(x), torch.ones(2, 3))
    assert len(found.graphs) == 1 and found.operator_count == 4  # sin, add, the transform, its first result
    assert "vmap_body" in found.graphs[0].code


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(length, reverse):
    from torch._higher_order_ops.associative_scan import associative_scan

    def function(a, b):
        pair = {"a": a, "b": [b]}

        def combine(left, right):
            return {"a": left["a"] * right["a"], "b": [right["a"] * left["b"][0] + right["b"][0]]}

        return associative_scan(combine, pair, dim=1, reverse=reverse, combine_mode="generic")

    arguments = torch.rand(2, length, 3), torch.rand(2, length, 3)
    expected, found = function(*arguments), capture.capture(function, *arguments)
    torch.testing.assert_close(found.result, expected)
    assert len(found.graphs) == 1 and not found.graph_breaks


def test_associative_scan_of_sizes_that_vary():
    from torch._higher_order_ops.associative_scan import associative_scan

    def function(a, b):
        return associative_scan(lambda x, y: x + y, a * b, dim=1, combine_mode="generic")

    optimized = capture.optimize("eager", dynamic=True, fullgraph=True)(function)
    for rows, length in ((2, 5), (3, 5), (2, 8)):
        arguments = torch.rand(rows, length), torch.rand(rows, length)
        torch.testing.assert_close(optimized(*arguments), function(*arguments))


def test_associative_scan_of_nothing_raises_as_in_eager():
    from torch._higher_order_ops.associative_scan import associative_scan

    def function(a):
        return associative_scan(torch.add, a, dim=0, combine_mode="generic")

    for call in (function, capture.optimize("eager")(function)):
        with pytest.raises(ValueError, match="scan dimension > 0"):
            call(torch.ones(0, 3))
