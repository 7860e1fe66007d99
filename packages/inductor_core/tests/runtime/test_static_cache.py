"""Values kept from static inputs are never stale, never pinned, and never mixed up by threads."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
import torch
from lampwork_inductor_core.runtime.static_cache import StaticCache


def _cache(positions=(1,)) -> StaticCache:
    return StaticCache(lambda tensors: [t * 2 for t in tensors], positions)


def test_kept_while_unchanged():
    cache, x, w = _cache(), torch.randn(2), torch.randn(100)
    first = cache.get([x, w])
    assert cache.get([torch.randn(2), w])[0] is first[0] and cache.computed == 1


def _in_place(w):
    with torch.no_grad():
        w.mul_(3)


def _data_copy(w):
    w.data.copy_(torch.randn_like(w))


def _data_add(w):
    w.data.add_(1)


def _data_assigned(w):
    w.data = torch.randn_like(w)


def _by_numpy(w):
    w.detach().numpy()[:] = 7.0


def _one_element(w):
    with torch.no_grad():
        w.view(-1)[37] = 5.0


@pytest.mark.parametrize(
    "change", [_in_place, _data_copy, _data_add, _data_assigned, _by_numpy, _one_element], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("size", [1, 3, 100, 100_000])
def test_changes_are_seen(change, size):
    if change is _one_element and size < 100:
        size = 100
    w = torch.nn.Parameter(torch.randn(size))
    cache = _cache((0,))
    with torch.no_grad():
        cache.get([w])
        change(w)
        assert torch.equal(cache.get([w])[0], w * 2)
    assert cache.computed == 2


def test_a_pruned_parameter_is_watched_where_it_is_not_zero():
    w = torch.nn.Parameter(torch.randn(1000) * (torch.arange(1000) % 10 == 3))
    cache = _cache((0,))
    cache.get([w])
    w.data.mul_(2)
    assert torch.equal(cache.get([w])[0], w.detach() * 2)


def test_optimizer_step_and_load_state_dict():
    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cache = _cache((0,))
    cache.get([model.weight])
    model(torch.randn(2, 8)).sum().backward()
    optimizer.step()
    assert torch.equal(cache.get([model.weight])[0], model.weight.detach() * 2)
    model.load_state_dict(torch.nn.Linear(8, 8).state_dict())
    assert torch.equal(cache.get([model.weight])[0], model.weight.detach() * 2)
    assert cache.computed == 3


def test_another_object_with_equal_contents_is_another_input():
    w = torch.randn(10)
    cache = _cache((0,))
    cache.get([w])
    cache.get([w.clone()])
    assert cache.computed == 2


def test_inference_tensors_are_never_kept():
    with torch.inference_mode():
        w = torch.randn(10)
        cache = _cache((0,))
        cache.get([w])
        w.add_(1)
        assert torch.equal(cache.get([w])[0], w * 2)
    assert cache.computed == 2


def test_values_made_inside_inference_mode_may_be_used_outside():
    w = torch.randn(10)
    cache = _cache((0,))
    with torch.inference_mode():
        cache.get([w])
    value = cache.get([w])[0]
    assert cache.computed == 1 and not value.is_inference()


def test_inputs_are_not_pinned_and_values_go_with_them():
    w = torch.randn(10)
    cache = _cache((0,))
    value = weakref.ref(cache.get([w])[0])
    alive = weakref.ref(w)
    del w
    gc.collect()
    assert alive() is None and value() is None


def test_freed_storage_is_not_read():
    w = torch.randn(1000)
    cache = _cache((0,))
    cache.get([w])
    w.untyped_storage().resize_(0)
    w.untyped_storage().resize_(4000)
    w.fill_(1.0)
    assert torch.equal(cache.get([w])[0], torch.full((1000,), 2.0))


def test_invalidate():
    w = torch.randn(1000)
    cache = _cache((0,))
    cache.get([w])
    cache.invalidate()
    cache.get([w])
    assert cache.computed == 2


def test_no_positions_means_constant():
    cache = StaticCache(lambda _: [torch.ones(1)], ())
    cache.get([torch.randn(1)])
    cache.get([torch.randn(1)])
    assert cache.computed == 1


def test_one_computation_for_many_threads():
    w = torch.randn(100)
    started = threading.Barrier(8)

    def slow(tensors):
        threading.Event().wait(0.05)
        return [tensors[0] + 1]

    cache = StaticCache(slow, (0,))
    results = []

    def work():
        started.wait()
        results.append(cache.get([w])[0])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.computed == 1 and all(r is results[0] for r in results)


def test_a_write_during_the_computation_is_not_kept():
    w = torch.zeros(100)

    def program(tensors):
        value = tensors[0] + 0
        tensors[0].add_(1)  # stands for another thread
        return [value]

    cache = StaticCache(program, (0,))
    cache.get([w])
    cache.get([w])
    assert cache.computed == 2


def test_each_set_of_inputs_keeps_its_values():
    cache = StaticCache(lambda tensors: [tensors[0] * 2], (0,))
    layers = [torch.full((40,), float(k)) for k in range(5)]
    for _ in range(3):
        for layer in layers:
            assert torch.equal(cache.get([layer])[0], layer * 2)
    assert cache.computed == 5
    layers[2].add_(1)
    assert torch.equal(cache.get([layers[2]])[0], layers[2] * 2) and cache.computed == 6
    held = weakref.ref(cache.get([layers[0]])[0])
    del layers[0]
    assert held() is None  # with the layer, what was made of it goes
