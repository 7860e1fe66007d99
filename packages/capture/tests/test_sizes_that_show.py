"""What a program sees of symbolic sizes besides data: dimensions of size 1 left out, ends of memory, errors."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch
from lampwork_capture.aot import aot_backend


def _outcome(function, *args):
    """What a call gives, or the kind of error that it raises."""
    try:
        return function(*args)
    except (RuntimeError, IndexError) as error:
        return type(error)


def _same(found, expected):
    if isinstance(expected, type):
        assert found is expected
    else:
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def _check(function, inputs, dynamic):
    optimized = lampwork_capture.optimize("eager", dynamic=dynamic)(function)
    for x in inputs:
        _same(_outcome(optimized, x.clone()), _outcome(function, x.clone()))


SQUEEZED = [
    lambda x: x.squeeze(0).shape,
    lambda x: x.squeeze().dim(),
    lambda x: len(torch.squeeze(x, (0, 1)).shape),
    lambda x: torch.ones(x.squeeze(0).shape[0]) + x.sum(),
    lambda x: x.squeeze(0)[0] * 2,
    lambda x: x[1:].squeeze(0).shape,
    lambda x: (x * 2).squeeze_(0).shape,
]


@pytest.mark.parametrize("dynamic", [True, None])
@pytest.mark.parametrize("function", SQUEEZED)
@pytest.mark.parametrize("order", [(3, 1, 5, 2, 1), (1, 3, 2, 1, 7), (2, 1, 4)], ids=str)
def test_a_dimension_of_size_1_is_left_out(function, dynamic, order):
    _check(function, [torch.randn(n, 4) for n in order], dynamic)


def test_squeezing_takes_one_capture_for_the_sizes_that_are_kept():
    graphs = []

    def counting(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    optimized = lampwork_capture.optimize(counting, dynamic=True)(lambda x: x.squeeze(0) * 2)
    for n in (3, 5, 2, 9):
        assert optimized(torch.ones(n, 4)).shape == (n, 4)
    assert len(graphs) == 1
    assert optimized(torch.ones(1, 4)).shape == (4,)
    assert len(graphs) == 2


def test_a_size_of_data_that_is_squeezed_is_checked():
    def function(x, m):
        return x[m].squeeze(0) * 2

    optimized = lampwork_capture.optimize("eager")(function)
    x = torch.randn(4, 3)
    for m in ([1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]):
        mask = torch.tensor(m, dtype=torch.bool)
        torch.testing.assert_close(optimized(x, mask), function(x, mask))


BY_STRIDES = [
    lambda x: x.as_strided((5, 2), (2, 1), 1).sin(),
    lambda x: torch.as_strided_copy(x, (5, 2), (2, 1), 1).sin(),
]


@pytest.mark.parametrize("backend", ["eager", "aot"])
@pytest.mark.parametrize("dynamic", [True, None])
@pytest.mark.parametrize("function", BY_STRIDES)
def test_a_view_by_strides_stays_within_its_memory(function, dynamic, backend):
    chosen = aot_backend(lambda graph, inputs: graph.forward) if backend == "aot" else backend
    optimized = lampwork_capture.optimize(chosen, dynamic=dynamic)(function)
    for n in (30, 17, 11, 10, 12, 0):
        x = torch.randn(n)
        _same(_outcome(optimized, x), _outcome(function, x))


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_conjugated_tensor_that_is_squeezed_in_place_breaks_the_graph_of_symbolic_sizes(dynamic):
    def function(x):
        return (x * 2).conj().squeeze_(0) + 1

    for n in (3, 1):
        x = torch.randn(n, 4, dtype=torch.complex64)
        torch.testing.assert_close(lampwork_capture.optimize("eager", dynamic=dynamic)(function)(x), function(x))
        graphs = []
        lampwork_capture.optimize(lambda graph, inputs: graphs.append(graph) or graph.forward, dynamic=dynamic)(
            function
        )(x)
        assert len(graphs) == (2 if dynamic else 1)


def test_inputs_that_are_views_of_tensors_reshaped_in_place():
    def function(x, y):
        a, b = x.to(torch.float64), x.to(torch.float64)
        y.squeeze_(0)
        c = a.select(0, 0)
        b.squeeze_(0)
        return x, y, a, c, b, y.float()

    for shapes in (((3, 1), (1, 3)), ((1, 1), (1, 3)), ((4, 2), (1, 2))):
        inputs = [torch.randn(shape) for shape in shapes]
        expected = function(*(x.clone() for x in inputs))
        optimized = lampwork_capture.optimize("eager", dynamic=True)(function)
        for mine, eager in zip(optimized(*(x.clone() for x in inputs)), expected):
            torch.testing.assert_close(mine, eager, rtol=0, atol=0)
