"""Random programs of pointwise operators, views, reductions and concatenations: the interpreter agrees with eager."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.interpret import interpret
from lampwork_inductor_core.lowering.graph import lower
from lampwork_inductor_core.passes.pipeline import run_passes
from lampwork_inductor_core.passes.rewriting import PassContext
from torch.fx.experimental.proxy_tensor import make_fx

UNARY = (torch.sin, torch.relu, torch.abs, torch.neg, lambda x: x * 1, lambda x: x - 0.0, lambda x: x * 0.5 + 1)
BINARY = (torch.add, torch.mul, torch.maximum, lambda a, b: torch.where(a > b, a, b * 2))
REDUCTIONS = (
    lambda x, d: x.sum(d, keepdim=True),
    lambda x, d: x.mean(d),
    lambda x, d: x.amax(d, keepdim=True),
    lambda x, d: x.var(d, correction=0, keepdim=True),
    lambda x, d: x.softmax(d),
)


def views(x: torch.Tensor, choice: int, pick: int) -> torch.Tensor:
    """One view or rearrangement of x, chosen by numbers that always mean something."""
    rank = x.dim()
    if rank == 0:
        return x.unsqueeze(0)
    dim = pick % rank
    kinds = (
        lambda: x.transpose(0, dim),
        lambda: x.reshape(-1) if rank > 2 else x.unsqueeze(dim),
        lambda: x.narrow(dim, 0, max(1, x.shape[dim] - 1)) if x.shape[dim] else x,
        lambda: x.flip(dim),
        lambda: x.select(dim, -1) if x.shape[dim] and rank > 1 else x,
        lambda: torch.cat([x, x + 1], dim),
        lambda: x.unsqueeze(0).expand(2, *x.shape),
        lambda: x.roll(1, dim) if 0 not in x.shape else x,
        lambda: x.permute(*range(rank - 1, -1, -1)).clone(memory_format=torch.contiguous_format),
        lambda: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]) if rank > 1 else x,
    )
    return kinds[choice % len(kinds)]()


steps = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 100), st.integers(0, 100), st.integers(0, 9)), min_size=1, max_size=9
)
shapes = st.lists(st.integers(0, 4), min_size=1, max_size=3)


def program(script):
    def function(*inputs: torch.Tensor) -> list[torch.Tensor]:
        values = list(inputs)
        for kind, choice, pick, other in script:
            x = values[pick % len(values)]
            if kind == 0:
                values.append(UNARY[choice % len(UNARY)](x))
            elif kind == 1:
                y = values[other % len(values)]
                if x.shape == y.shape:
                    values.append(BINARY[choice % len(BINARY)](x, y))
            elif kind == 2 and x.dim() and x.numel() < 4000:
                values.append(views(x, choice, other))
            elif kind == 3 and x.dim() and 0 not in x.shape:
                values.append(REDUCTIONS[choice % len(REDUCTIONS)](x, other % x.dim()))
        return values[len(inputs) :] or [values[0] + 0]

    return function


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(shape=shapes, script=steps, transposed=st.booleans())
def test_programs(shape, script, transposed):
    torch.manual_seed(0)
    x = torch.randn(shape)
    x, y = (x.t() if transposed and x.dim() == 2 else x), torch.randn(shape)
    function = program(script)
    graph = make_fx(function, tracing_mode="fake")(x, y)
    expected = function(x, y)
    for rewritten in (False, True):
        if rewritten:
            graph = run_passes(graph, PassContext(Config(verify=True)))
        lowered = lower(graph, config=Config(verify=True))
        actual = interpret(lowered, [x, y])
        for one, other in zip(actual, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
            if other.numel():
                assert all(a == b or s == 1 for a, b, s in zip(one.stride(), other.stride(), other.shape))
