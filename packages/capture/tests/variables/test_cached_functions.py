"""Functions behind functools.lru_cache: what the cache holds is what the program sees."""

from __future__ import annotations

import functools

import lampwork_capture as capture
import torch


def test_a_cached_tensor_comes_out_of_the_cache():
    @functools.lru_cache
    def table(n):
        return torch.full((2,), float(n))

    def f(x, n):
        return x + table(n), table(n)

    optimized = capture.optimize("eager")(f)
    x = torch.ones(2)
    assert optimized(x, 1)[1] is table(1)
    table(1).fill_(50)
    assert torch.equal(optimized(x, 1)[0], x + 50)
    table.cache_clear()
    assert torch.equal(optimized(x, 1)[0], x + 1)


def test_a_cached_number_is_known_while_tracing():
    @functools.lru_cache
    def scale(n):
        return n * 2

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    optimized = capture.optimize(backend, fullgraph=True)(lambda x: x * scale(3))
    assert torch.equal(optimized(torch.ones(2)), torch.full((2,), 6.0)) and len(graphs) == 1


def test_a_body_that_does_more_than_compute_runs_when_the_frame_runs():
    def program():
        log = []

        @functools.lru_cache
        def load(n):
            log.append(f"load {n}")
            if n > 2:
                raise ValueError(n)
            return n

        def f(x, n):
            log.append("f")
            try:
                scale = load(n)
            except ValueError:
                scale = 0
            return x * scale

        return f, log

    plain, expected = program()
    traced, log = program()
    optimized = capture.optimize("eager")(traced)
    for n in (2, 3, 2, 3):
        assert torch.equal(optimized(torch.ones(1), n), plain(torch.ones(1), n))
        assert log == expected


@functools.lru_cache
def doubled(n):
    numbers = []
    for number in range(n):
        numbers.append(number * 2)
    return sum(numbers)


def test_a_body_that_changes_what_it_made_is_known_while_tracing():
    optimized = capture.optimize("eager", fullgraph=True)(lambda x: x * doubled(3))
    assert torch.equal(optimized(torch.ones(2)), torch.full((2,), 6.0))
