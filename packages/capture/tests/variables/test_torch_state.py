"""Whatever tracing does to torch's dispatch state is undone, however the trace ends."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch


def inside(x):
    with torch.inference_mode():
        y = x + 1
    return y


def returns_inside(x):
    with torch.inference_mode():
        return x * 2


def breaks_inside(x):
    with torch.inference_mode():
        y = x + 1
        print(end="")
        y = y * 2
    return y, x + 1


def raises_inside(x):
    try:
        with torch.inference_mode():
            y = x + 1
            y @ torch.ones(7, 7)
    except RuntimeError:
        return x + 2
    return y


def disabled_inside(x):
    with torch.inference_mode():
        with torch.inference_mode(False):
            y = x * 2
        z = x + 1
    return y, z


def wrong_order(x):
    outer, inner = torch.inference_mode(), torch.inference_mode(False)
    outer.__enter__()
    inner.__enter__()
    y = x + 1
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
    return y


def with_autocast(x):
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        return x[None] @ x[:, None]


FUNCTIONS = [inside, returns_inside, breaks_inside, raises_inside, disabled_inside, wrong_order, with_autocast]


def flags(result):
    tensors = result if isinstance(result, tuple) else (result,)
    return [(t.is_inference(), t.requires_grad, t.dtype, t.tolist()) for t in tensors]


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_state_is_as_before(function, requires_grad):
    x = torch.ones(2, requires_grad=requires_grad)
    before = (
        torch._C._dispatch_tls_local_include_set().raw_repr(),
        torch._C._dispatch_tls_local_exclude_set().raw_repr(),
    )
    optimized = capture.optimize("eager")(function)
    for _ in range(2):
        assert flags(optimized(x)) == flags(function(x))
        after = (
            torch._C._dispatch_tls_local_include_set().raw_repr(),
            torch._C._dispatch_tls_local_exclude_set().raw_repr(),
        )
        assert after == before
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
        assert torch.equal(torch.ones(2) + 1, torch.full((2,), 2.0))


@pytest.mark.parametrize("mode", ["q", 1, None, 0.0])
@pytest.mark.parametrize("setter", [torch.set_grad_enabled, torch._C._set_grad_enabled])
def test_a_grad_mode_is_a_bool(setter, mode):
    def f(x):
        y = x + 1
        setter(mode)
        return y

    errors = []
    for function in (f, capture.optimize("eager")(f)):
        with pytest.raises(TypeError) as caught:
            function(torch.ones(1))
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
