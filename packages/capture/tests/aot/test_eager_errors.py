"""Programs that eager refuses: compiled, they are refused with the same error, at the latest when they run."""

from __future__ import annotations

import math
import operator

import pytest
import torch
import torch.nn.functional as F
from lampwork_capture import optimize
from lampwork_capture.aot import UnsupportedForAot, aot_backend
from lampwork_capture.aot.errors import Misdescribed
from lampwork_capture.aot.overlap import overlap_in_part
from torch import fx

from .differential import Counting, capture, check


def error_of(f, *inputs):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        f(*inputs)
    return type(caught.value), str(caught.value).splitlines()[0]


def assert_same_error(f, *inputs):
    graph = fx.symbolic_trace(f)
    compiled = aot_backend(Counting())(graph, [t.clone() for t in inputs])
    assert error_of(compiled, *[t.clone() for t in inputs]) == error_of(f, *[t.clone() for t in inputs])


REFUSED = {
    "x - True": (lambda x: x - True, torch.ones(3)),
    "True - x": (lambda x: True - x, torch.ones(3)),
    "1 - mask": (lambda x: 1 - x, torch.ones(3, dtype=torch.bool)),
    "sub_": (lambda x: x.sub_(True), torch.ones(3)),
    "softmax": (lambda x: x.softmax(0), torch.ones(3, dtype=torch.int32)),
    "log_softmax": (lambda x: x.log_softmax(0), torch.ones(3, dtype=torch.int32)),
    "and": (lambda x: x & 1, torch.ones(3)),
    "gelu": (lambda x: F.gelu(x), torch.ones(3, dtype=torch.int32)),
    "silu": (lambda x: F.silu(x), torch.ones(3, dtype=torch.int32)),
    "frac": (lambda x: x.frac(), torch.ones(3, dtype=torch.int32)),
    "inverse": (lambda x: torch.linalg.inv(x) + 1, torch.zeros(2, 2)),
    "cholesky unused": (lambda x: (torch.linalg.cholesky(x), x + 1)[1], -torch.eye(2)),
    "solve unused": (lambda x: (torch.linalg.solve(x, x), x + 1)[1], torch.zeros(2, 2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_same_error(name):
    assert_same_error(*REFUSED[name])


@pytest.mark.parametrize("number", [-1.0, -math.inf, math.nan])
@pytest.mark.parametrize(
    "loss", [lambda x, n: F.smooth_l1_loss(x, x + 1, beta=n), lambda x, n: F.huber_loss(x, x, delta=n)]
)
@pytest.mark.filterwarnings("ignore::lampwork_capture.aot.errors.RanEagerlyWarning")
def test_losses_of_no_width(loss, number, monkeypatch):
    monkeypatch.setenv("LAMPWORK_STRICT", "0")  # fake tensors refuse one, too: then the graph runs as it is
    assert_same_error(lambda x: loss(x, number), torch.ones(3))


@pytest.mark.parametrize("classes", [torch.zeros(0, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)], ids=len)
def test_no_classes(classes):
    assert_same_error(lambda c: F.one_hot(c, 0), classes)


def test_no_classes_of_a_size():
    def program(classes, x):
        return F.one_hot(classes, x.shape[0]) + 1

    optimized = optimize(aot_backend(Counting()), dynamic=True)(program)
    for rows in (3, 2, 0):
        for count in (2, 0):
            inputs = torch.zeros(count, dtype=torch.int64), torch.ones(rows)
            if rows:
                torch.testing.assert_close(optimized(*inputs), program(*inputs))
            else:
                assert error_of(optimized, *inputs) == error_of(program, *inputs)


def test_checks_keep_their_order():
    def f(x, y):
        torch.linalg.cholesky(y)
        torch.linalg.inv(x)
        return x + 1

    graph = capture(f, [torch.eye(2), torch.eye(2)])
    compiled = aot_backend(Counting())(graph, [torch.eye(2), torch.eye(2)])
    assert "cholesky" in error_of(compiled, torch.zeros(2, 2), -torch.eye(2))[1]
    assert "inv" in error_of(compiled, torch.zeros(2, 2), torch.eye(2))[1]


def test_quantized_tensors_never_reach_a_captured_graph(monkeypatch):
    def f(x):
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8).dequantize()

    monkeypatch.setenv("LAMPWORK_STRICT", "0")
    with pytest.raises(Misdescribed, match="quantized"):
        aot_backend(Counting())(fx.symbolic_trace(f), [torch.ones(3)])


def test_sparse_intermediate_is_refused():
    def f(x):
        return x.to_sparse().to_dense() * 2

    with pytest.raises(UnsupportedForAot):
        aot_backend(Counting())(fx.symbolic_trace(f), [torch.ones(3)])


def shifted(x):
    x[1:] = x[:-1]
    return x


def shifted_copy(x):
    x[:, 1:].copy_(x[:, :-1])
    return x


def own_row(x):
    x.add_(x[0])
    return x


def own_transpose(x):
    x[:4, :4].copy_(x[:4, :4].t())
    return x


def own_output(x):
    torch.add(x[1:], 1, out=x[:-1])
    return x


def _graph_of(f):
    if f is not shifted:
        return fx.symbolic_trace(f)
    graph = fx.Graph()  # `symbolic_trace` refuses item assignment
    x = graph.placeholder("x")
    part = graph.call_function(operator.getitem, (x, slice(None, -1)))
    graph.call_function(operator.setitem, (x, slice(1, None), part))
    graph.output((x,))
    return fx.GraphModule(torch.nn.Module(), graph)


@pytest.mark.parametrize("f", [shifted, shifted_copy, own_row, own_transpose, own_output], ids=lambda f: f.__name__)
def test_overlapping_write_is_refused(f):
    with pytest.raises(UnsupportedForAot, match="memory it writes to"):
        aot_backend(Counting())(_graph_of(f), [torch.zeros(6, 6)])


def swapped_halves(x):
    x[:, :3] = x[:, 3:]
    x[::2] = x[1::2]
    x[0] += x[1]
    x[:, 1].mul_(x[:, 2])
    x.add_(x)
    x[1:, :2] = x[:1, 3:4]
    return x


def test_writes_from_other_parts_are_compiled():
    check(swapped_halves, torch.arange(24.0).view(4, 6))


def test_overlap_is_exact():
    base = torch.arange(60)
    generator = torch.Generator().manual_seed(0)

    def view():
        size = torch.randint(1, 4, (2,), generator=generator).tolist()
        stride = torch.randint(1, 8, (2,), generator=generator).tolist()
        return base.as_strided(size, stride, int(torch.randint(0, 20, (1,), generator=generator)))

    found = {True: 0, False: 0}
    for _ in range(400):
        a, b = view(), view()
        common = bool(set(a.flatten().tolist()) & set(b.flatten().tolist()))
        if a.shape != b.shape or a.stride() != b.stride() or a.storage_offset() != b.storage_offset():
            assert overlap_in_part(a, b) == common
            found[common] += 1
    assert min(found.values()) > 30
