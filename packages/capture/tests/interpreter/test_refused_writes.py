"""Writes that torch refuses although they run on fake tensors: the program sees it where eager refuses them."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch

WRITES = {
    "expanded": lambda: (torch.zeros(1).expand(3), torch.ones(3), torch.Tensor.add_),
    "expanded in one dimension": lambda: (torch.zeros(3, 1).expand(3, 2), torch.ones(3, 2), torch.Tensor.mul_),
    "copied over itself": lambda: (*shifted(), torch.Tensor.copy_),
    "added to its neighbour": lambda: (*shifted(), torch.Tensor.add_),
    "of another dtype": lambda: (torch.zeros(3), torch.ones(3, dtype=torch.float64), torch.Tensor.heaviside_),
    "cast to integers": lambda: (torch.zeros(3, dtype=torch.int64), torch.full((3,), 1.5), torch.Tensor.mul_),
    "bits of floats": lambda: (torch.zeros(3), torch.ones(3), torch.Tensor.bitwise_and_),
    "no truth is subtracted": lambda: (torch.zeros(3), torch.ones(3, dtype=torch.bool), torch.Tensor.sub_),
    "out": lambda: (torch.zeros(1).expand(3), torch.ones(3), lambda x, y: torch.add(y, y, out=x)),
    "in front of it": lambda: (torch.zeros(3), torch.ones(3), lambda x, y: x.add_(y).expand(2, 3).add_(y)),
}
TAKEN = {
    "its own": lambda: (torch.ones(3), torch.ones(3), lambda x, y: x.add_(x)),
    "expanded, read": lambda: (torch.ones(3), torch.ones(3), lambda x, y: x.add_(y[:1].expand(3))),
    "another dtype": lambda: (torch.ones(3), torch.ones(3, dtype=torch.float64), torch.Tensor.mul_),
    "integers": lambda: (torch.ones((), dtype=torch.int64), torch.ones(3), lambda x, y: x.add_(1)),
    "other rows": lambda: (*rows(), torch.Tensor.copy_),
    "interleaved": lambda: (*interleaved(), torch.Tensor.add_),
    "copied from another dtype": lambda: (torch.ones(3, dtype=torch.int64), torch.ones(3), torch.Tensor.copy_),
    "statistics": lambda: (
        torch.ones(3),
        torch.arange(6.0).view(2, 3),
        lambda x, y: torch.nn.functional.batch_norm(y, x, torch.ones(3), training=True),
    ),
}


NUMBERS = (True, 0, 5, -1, 1000, -129, 2**40, 2**65, 0.5, 2.0, -0.5, 65520.0, 1e10, float("inf"), float("nan"), 1j)
REFUSALS = (RuntimeError, TypeError, ValueError, OverflowError)
DTYPES = (torch.int8, torch.int64, torch.bool, torch.float16, torch.float32, torch.complex64)
WITH_NUMBERS = {
    "fill": lambda x, number: x.fill_(number),
    "fill the diagonal": lambda x, number: x.fill_diagonal_(number),
    "fill at a mask": lambda x, number: x.masked_fill_(x == x, number),
    "clamp from above": lambda x, number: x.clamp_(max=number),
    "clamp from below": lambda x, number: x.clamp_(min=number),
    "power": lambda x, number: x.pow_(number),
    "difference": lambda x, number: x.sub_(number),
    "draw below": lambda x, number: x.random_(number),
    "draw between": lambda x, number: x.random_(5, number),
    "uniform": lambda x, number: x.uniform_(0, number),
    "bernoulli": lambda x, number: x.bernoulli_(number),
    "normal": lambda x, number: x.normal_(0, number),
    "cauchy": lambda x, number: x.cauchy_(0, number),
    "exponential": lambda x, number: x.exponential_(number),
    "geometric": lambda x, number: x.geometric_(number),
}


def shifted():
    memory = torch.arange(6.0)
    return memory[1:], memory[:-1]


def rows():
    memory = torch.arange(6.0).view(2, 3)
    return memory[0], memory[1]


def interleaved():
    memory = torch.arange(6.0)
    return memory[::2], memory[1::2]


def caught(write):
    def function(x, y, log):
        log.append("before")
        try:
            write(x, y)
        except RuntimeError as error:
            log.append(str(error))
        return y + 1

    return function


def caught_behind_a_write(write):
    def function(x, y, log):
        y.add_(1)
        try:
            write(x, y)
        except RuntimeError as error:
            log.append(str(error))
        return y + 1

    return function


def with_effects_around(write):
    def function(x, y, log):
        log.append("before")
        z = y + 1
        write(x, y)
        log.append("after")
        return z

    return function


def plain(write):
    def function(x, y, log):
        y.add_(1)
        write(x, y)
        return y + 1

    return function


def outcome(make, arguments, wrap):
    x, y, write = arguments()
    log, result = [], None
    try:
        result = wrap(make(write))(x, y, log)
    except RuntimeError as error:
        log.append((type(error), str(error)))
    return log, *(tensor.tolist() for tensor in (result, x, y) if tensor is not None)


@pytest.mark.parametrize("make", [caught, caught_behind_a_write, with_effects_around, plain])
@pytest.mark.parametrize("name", [*WRITES, *TAKEN])
def test_a_refused_write_is_seen_as_in_eager(make, name):
    arguments = (WRITES | TAKEN)[name]
    assert outcome(make, arguments, capture.optimize("eager")) == outcome(make, arguments, lambda f: f)


@pytest.mark.parametrize("make", [caught, caught_behind_a_write, with_effects_around])
@pytest.mark.parametrize("name", TAKEN)
def test_what_is_never_refused_stays_in_the_graph(make, name):
    x, y, write = TAKEN[name]()
    found = capture.capture(make(write), x, y, [])
    assert len(found.graphs) == 1 and not found.graph_breaks


@pytest.mark.parametrize("name", WRITES)
def test_eager_refuses(name):
    x, y, write = WRITES[name]()
    with pytest.raises(RuntimeError):
        write(x, y)


def is_refused(write, dtype, number):
    try:
        write(torch.ones(2, 2).to(dtype), number)
    except REFUSALS:
        return True
    return False


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_a_number_that_is_refused_is_seen_as_in_eager(name, dtype):
    """The program handles the error behind a write, which must have happened once."""
    write = WITH_NUMBERS[name]
    for number in NUMBERS:
        if not is_refused(write, dtype, number):
            continue

        def function(x, y, number=number):
            y.add_(1)
            try:
                write(x, number)
            except REFUSALS:
                return y + 10
            return y

        y = torch.zeros(2)
        result = capture.optimize("eager")(function)(torch.ones(2, 2).to(dtype), y)
        assert (result.tolist(), y.tolist()) == ([11.0, 11.0], [1.0, 1.0]), number


@pytest.mark.parametrize("number", [0, 5, -128, 127, True])
def test_numbers_that_fit_stay_in_the_graph(number):
    def function(x, y):
        y.add_(1)
        try:
            x.fill_(number)
            x.clamp_(max=number)
        except RuntimeError:
            return y + 10
        return y

    assert not capture.capture(function, torch.ones(2, dtype=torch.int8), torch.ones(2)).graph_breaks


UNCOMMON = (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64, torch.complex32)
WITHOUT_KERNELS = {
    "clamp": lambda x: x.clamp_(max=1),
    "add": lambda x: x.add_(1),
    "multiply": lambda x: x.mul_(x.clone()),
    "absolute": lambda x: x.abs_(),
    "bits": lambda x: x.bitwise_not_(),
    "at a mask": lambda x: x.masked_fill_(torch.ones(2, dtype=torch.bool), 1),
}


@pytest.mark.parametrize("dtype", UNCOMMON)
@pytest.mark.parametrize("name", WITHOUT_KERNELS)
def test_a_dtype_without_a_kernel_is_seen_as_in_eager(name, dtype):
    def function(x, y):
        y.add_(1)
        try:
            WITHOUT_KERNELS[name](x)
        except RuntimeError:
            return y + 10
        return y

    expected, given = torch.zeros(2), torch.zeros(2)
    result = function(torch.ones(2).to(dtype), expected).clone()
    found = capture.optimize("eager")(function)(torch.ones(2).to(dtype), given)
    assert torch.equal(found, result) and torch.equal(given, expected)
