"""Operations that need not be exact because a half is all that is kept of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core import CompileOptions, compile_graph
from lampwork_inductor_gpu.backend import TritonBackend
from lampwork_inductor_gpu.device import H100
from torch.fx.experimental.proxy_tensor import make_fx


def compiled(function, *inputs: torch.Tensor):
    graph = make_fx(lambda *tensors: [function(*tensors)], tracing_mode="fake")(*inputs)
    backend = TritonBackend(H100)
    backend.device_type = "cpu"
    return compile_graph(graph, inputs, options=CompileOptions(backends={"cpu": backend}, keep_artifacts=True))


def test_gelu_of_halves_by_the_rough_error_function():
    x = torch.cat([torch.linspace(-12, 12, 4001), torch.tensor([0.0, -0.0, float("inf"), 1e-7, -3e-5])]).half()
    graph = compiled(F.gelu, x)
    assert "rough_erf" in graph.artifacts.stages["cpu code"]
    got, expected = graph(x)[0].double(), F.gelu(x.double())
    # half a unit in the last place of the result, and 4e-6 of the factor
    allowed = expected.abs() * 2**-11 + x.double().abs() * 4e-6 + 1e-7
    assert ((got == expected) | ((got - expected).abs() <= allowed)).all()
    assert graph(torch.full_like(x, float("nan")))[0].isnan().all()
    assert graph(torch.full_like(x, float("-inf")))[0].isnan().all() == F.gelu(torch.tensor(float("-inf"))).isnan()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.erf(x),
        lambda x: torch.erf(x.float()) + 1,
        lambda x: (torch.erf(x.float()) + 1).half() * torch.erf(x.float()).sum(),
        lambda x: ((torch.erf(x.float()) + 1) * x - x.float().exp()).half(),
        lambda x: F.gelu(x.float()),
    ],
)
def test_other_error_functions_are_exact(function):
    x = torch.linspace(-3, 3, 100).half()
    graph = compiled(function, x)
    assert "rough_erf" not in graph.artifacts.stages["cpu code"]
    torch.testing.assert_close(graph(x)[0], function(x))


def test_silu_of_halves_by_the_rough_sigmoid():
    x = torch.cat([torch.linspace(-30, 30, 4001), torch.tensor([0.0, -0.0, 1e-7, -3e-5, 60000.0, -60000.0])]).half()
    graph = compiled(lambda x: (x.float() * torch.sigmoid(x.float())).half(), x)
    assert "rough_sigmoid" in graph.artifacts.stages["cpu code"]
    got, expected = graph(x)[0].double(), F.silu(x.double())
    assert ((got - expected).abs() <= expected.abs() * 2**-10.9 + 6e-8).all()
    assert graph(torch.full_like(x, float("nan")))[0].isnan().all()
    assert "rough_sigmoid" not in compiled(torch.sigmoid, x).artifacts.stages["cpu code"]
