"""Arrays of NumPy that become tensors: one graph, copies and shared memory as in eager, guards on the array."""

from __future__ import annotations

import copy
import warnings

import lampwork_capture as capture
import numpy as np
import pytest
import torch
from lampwork_capture.aot import aot_backend

TABLE = np.arange(3.0)


def copied(x, a):
    return x + torch.tensor(a), torch.tensor(a, dtype=torch.bool), torch.tensor(a, device="cpu"), a


def shared(x, a):
    first, second = torch.from_numpy(a), torch.as_tensor(a)
    first.add_(1)
    return x + second, first is second, torch.as_tensor(a, dtype=torch.float16), first, a


def copied_between_writes(x, a):
    view = torch.from_numpy(a)
    before = torch.tensor(a)
    view.mul_(3)
    return before + x, torch.tensor(a), a


def given_names(x, a):
    return torch.as_tensor(a, dtype=torch.int32, device="cpu") * x + torch.as_tensor(a, dtype=None, device=x.device)


def of_module(x, a):
    return torch.as_tensor(TABLE).sum() + x


WHOLE = [copied, shared, copied_between_writes, given_names, of_module]
ARRAYS = [
    np.arange(3), np.arange(3), np.arange(4), np.arange(3.0), np.arange(6)[::2], np.arange(9).reshape(3, 3).T,
    np.array(2), np.zeros((0, 3)), np.array([True, False, True]),
]  # fmt: skip


def same(want, got):
    if isinstance(want, torch.Tensor):
        assert torch.equal(want, got) and want.dtype == got.dtype
        assert want.stride() == got.stride() or not want.numel()
    elif isinstance(want, np.ndarray):
        np.testing.assert_array_equal(want, got)
    else:
        assert want == got


@pytest.mark.parametrize("backend", ["eager", aot_backend(lambda graph, inputs: graph.forward)], ids=["eager", "aot"])
@pytest.mark.parametrize("function", WHOLE, ids=lambda f: f.__name__)
def test_one_graph_as_in_eager(function, backend):
    optimized = capture.optimize(backend, fullgraph=True)(function)
    for array in ARRAYS:
        if function is not copied and array.dtype == bool:
            continue  # neither eager nor the graph adds to booleans
        x = torch.ones(()) if array.shape != (4,) else torch.ones(4)
        mine, theirs = copy.deepcopy(array), copy.deepcopy(array)
        want, got = function(x, theirs), optimized(x, mine)
        want, got = ((one,) if isinstance(one, torch.Tensor) else one for one in (want, got))
        for left, right in zip(want, got, strict=True):
            same(left, right)


def test_what_torch_gives_shares_memory_or_not():
    array = np.arange(3.0)
    taken, made = capture.optimize("eager", fullgraph=True)(lambda a: (torch.as_tensor(a), torch.tensor(a)))(array)
    array[0] = 7
    assert taken[0] == 7 and made[0] == 0


def test_arrays_are_guarded():
    graphs = []
    optimized = capture.optimize(lambda g, i: graphs.append(g) or g.forward)(lambda a: torch.tensor(a) + 1)
    for array in (np.arange(3), np.arange(3) * 5, np.arange(4), np.arange(3.0), np.arange(6)[::2]):
        assert torch.equal(optimized(array), torch.tensor(array) + 1)
    assert len(graphs) == 4


def test_no_warning_and_no_graph_where_torch_is_particular():
    """Reversed arrays are refused, arrays that are read-only give a warning, objects have no dtype: all as in eager."""
    fixed = np.arange(3)
    fixed.flags.writeable = False
    function = lambda a: torch.as_tensor(a) + 1
    for array in (np.arange(3)[::-1], np.array([None]), np.arange(3).astype(">i4")):
        with pytest.raises((ValueError, TypeError)) as expected:
            function(array)
        with pytest.raises(type(expected.value)) as actual:
            capture.optimize("eager")(function)(array)
        assert str(actual.value) == str(expected.value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(capture.optimize("eager")(function)(fixed), torch.tensor([1, 2, 3]))
    assert all("not writable" in str(w.message) for w in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        capture.optimize("eager", fullgraph=True)(lambda a: torch.tensor(a) + 1)(np.arange(3))


def test_arrays_that_share_memory_are_written_as_in_eager():
    def f(a, b):
        torch.from_numpy(a).add_(1)
        return torch.from_numpy(b) * 1

    def arrays():
        a = np.zeros(4)
        return a, a[1:]

    found = capture.optimize("eager")(f)(*arrays())
    assert torch.equal(found, f(*arrays()))
