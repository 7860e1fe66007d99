"""Programs that an attack found to differ from eager: errors of operations, guard misses, decorators, escapes."""

from __future__ import annotations

from collections import defaultdict

import lampwork_capture as capture
import pytest
import torch
import torch.nn.functional as F


def optimized(f, **options):
    return capture.optimize("eager", **options)(f)


HALF = torch.ones(2, 2).half()
REFUSED = {
    "linear of two dtypes": lambda x: F.linear(x, HALF),
    "product of two dtypes": lambda x: x @ HALF,
    "in place beyond its dtype": lambda x: torch.ones(2).add_(1j),
    "maximum of nothing": lambda x: x[:0].max(),
    "integers to a negative power": lambda x: torch.ones(2, dtype=torch.int64).pow(-1),
    "memory that overlaps": lambda x: (lambda z: z[:2].add_(z[1:]))(torch.ones(3)),
    "out of bounds": lambda x: x.clone().as_strided((9,), (1,)),
}


@pytest.mark.parametrize("operation", REFUSED)
def test_errors_of_operations_are_caught_where_eager_catches_them(operation):
    refused = REFUSED[operation]

    def f(x, log):
        log.append("before")
        try:
            y = refused(x)
            log.append("after")
            return y
        except (RuntimeError, IndexError) as error:
            return type(error), str(error)
        finally:
            log.append("finally")

    def g(x, log):
        log.append("before")
        y = refused(x)
        log.append("after")
        return y

    x = torch.ones(1, 2)
    expected, found = [], []
    assert optimized(f)(x, found) == f(x, expected)
    assert found == expected == ["before", "finally"]
    log = []
    with pytest.raises((RuntimeError, IndexError)):
        optimized(g)(x, log)
    assert log == ["before"]


def test_a_guard_that_fails_runs_nothing_of_the_program():
    def f(d, x):
        return x + 1 if len(d) == 0 else x + d["a"]

    class Asked:
        asked = 0

        def __len__(self):
            return 1

        def __getitem__(self, key):
            self.asked += 1
            return 5

    g, x = optimized(f), torch.ones(2)
    g({"a": 1}, x)
    made = defaultdict(int)
    assert torch.equal(g(made, x), x + 1) and dict(made) == {}
    asked = Asked()
    assert torch.equal(g(asked, x), x + 5) and asked.asked == 1


def test_a_tensor_that_leaves_an_autograd_function_by_another_way():
    class Keep(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, kept):
            kept.append(x * 2)
            return x * 3

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 3, None

    def f(x, kept):
        return Keep.apply(x, kept) + 1

    x, kept, expected = torch.ones(2, requires_grad=True), [], []
    assert torch.equal(optimized(f)(x, kept), f(x, expected))
    assert torch.equal(kept[0], expected[0])


def test_a_grad_mode_as_decorator_waits():
    def f(x):
        @torch.set_grad_enabled(False)
        def h(y):
            return y * 3

        return x * 2, h(x), torch.is_grad_enabled()

    x = torch.ones(2, requires_grad=True)
    found = optimized(f)(x)
    assert [t.requires_grad for t in found[:2]] == [True, False] and found[2] and torch.is_grad_enabled()


def test_a_generator_under_a_grad_mode_as_decorator():
    def f(x):
        @torch.no_grad()
        def steps():
            yield x * 2

        return [v.requires_grad for v in steps()], x + 1

    x = torch.ones(2, requires_grad=True)
    assert optimized(f)(x)[0] == f(x)[0] == [False]


def test_a_method_under_a_grad_mode_as_decorator():
    def f(x):
        class Z:
            @torch.no_grad()
            def m(self, y):
                return y * 3

        return Z().m(x)

    x = torch.ones(2, requires_grad=True)
    assert not optimized(f)(x).requires_grad


def test_call_that_a_class_of_modules_gets_later():
    class A(torch.nn.Module):
        def forward(self, x):
            return x + 1

    def f(m, x):
        return m(x) * 2

    g, m, x = optimized(f), A(), torch.ones(2)
    assert torch.equal(g(m, x), f(m, x))
    A.__call__ = lambda self, x: x * 100
    assert torch.equal(g(m, x), f(m, x))


def test_inference_mode_gives_nothing_to_as():
    def f(x):
        with torch.inference_mode() as mode:
            y = x + 1
        return mode, y.is_inference()

    assert optimized(f)(torch.ones(2)) == (None, True)


def test_the_identity_of_a_tensor_as_key():
    def f(x):
        found = {id(x): 1}
        return x + found[id(x)]

    x = torch.ones(2)
    assert torch.equal(optimized(f)(x), x + 1)


def test_a_sparse_tensor_on_the_way():
    def f(x):
        return x.to_sparse_csr().to_dense() + 1

    assert torch.equal(optimized(f)(torch.eye(3)), torch.eye(3) + 1)


@pytest.mark.parametrize("words", ["simsalabim", "xy", "a", "zyxwvutsrq"])
def test_pop_of_a_set_that_came_with_the_call(words):
    def f(x, given):
        taken = given.pop()
        own = {1, 2, 3}
        own.pop()
        own.add(40)
        return taken, taken in given, len(given), own.pop() in own, sorted(own), x + 1

    expected, found = set(words), set(words)
    g = optimized(f)
    for _ in range(len(expected)):
        assert g(torch.ones(1), found)[:5] == f(torch.ones(1), expected)[:5] and found == expected
