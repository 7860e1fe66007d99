"""Every other operator is called as it is, never a failure."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lampwork_inductor_core.config import Config
from lampwork_inductor_core.ir.buffer import ExternBuffer
from lampwork_inductor_core.ir.layout import OpaqueLayout
from lampwork_inductor_core.lowering.fallback import MutationInGraph
from lampwork_inductor_core.lowering.graph import lower
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten
FORMS = {
    "several_results": lambda x: list(torch.sort(x, 1)),
    "one_of_several": lambda x: torch.topk(x, 2)[1] + 1,
    "scan": lambda x: torch.cumsum(x * 2, 1) + 1,
    "list": lambda x: [t + 1 for t in aten.unsafe_split(x, 2, 1)],
    "view_result": lambda x: x.unfold(1, 2, 1) + 1,
    "complex": lambda x: torch.view_as_real(torch.fft.fft(x)) * 2,
    "mixed": lambda x: aten.convolution(x[None], x[:, :, None], None, [1], [0], [1], False, [0], 1),
    "pool": lambda x: F.max_pool2d(x[None], 2),
    "svd": lambda x: torch.linalg.svd(x)[1],
    "scatter": lambda x: torch.scatter_add(x, 1, torch.zeros(4, 1, dtype=torch.int64), x),
    "index_put": lambda x: torch.index_put(x, [torch.tensor([0, 1])], torch.ones(4)),
}


@pytest.mark.parametrize("name", FORMS)
def test_called_as_they_are(lowers_as_eager, name):
    x = torch.randn(4, 4)
    lowered = lowers_as_eager(FORMS[name], x if name != "mixed" else torch.randn(4, 4), rtol=1e-4, atol=1e-4)
    assert any(isinstance(b, ExternBuffer) for b in lowered.buffers)


def test_results_share_one_call(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: list(torch.sort(x)), torch.randn(5))
    calls = [b for b in lowered.buffers if isinstance(b, ExternBuffer)]
    assert len(calls) == 2 and len({b.call for b in calls}) == 1
    assert [b.result_index for b in calls] == [0, 1]


def test_data_dependent_sizes_are_opaque(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: (torch.nonzero(x > 0) * 2).sum(0) + 1, torch.randn(6))
    assert any(isinstance(b.layout, OpaqueLayout) for b in lowered.buffers)


def test_views_name_what_they_alias(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: x.unfold(0, 2, 1), torch.randn(6))
    (call,) = (b for b in lowered.buffers if isinstance(b, ExternBuffer))
    assert call.aliases == "x_1"


def test_mutation_is_refused():
    graph = make_fx(lambda x: x.clone().add_(1), tracing_mode="fake")(torch.randn(3))
    with pytest.raises(MutationInGraph, match="functionalise"):
        lower(graph, config=Config())


def test_notes_say_why(lowers_as_eager):
    lowered = lowers_as_eager(lambda x: torch.cumsum(x, 0), torch.randn(3))
    assert lowered.notes == ("cumsum: aten.cumsum.default is called as it is: no lowering",)
    assert lowers_as_eager(lambda x: torch.mm(x, x), torch.randn(3, 3)).notes == ()


def test_random_operators_are_kept_even_unused():
    def function(x):
        torch.rand(3)
        return x + 1

    lowered = lower(make_fx(function, tracing_mode="fake")(torch.randn(3)), config=Config(verify=True))
    assert sum(isinstance(b, ExternBuffer) for b in lowered.buffers) == 1


def test_results_with_gaps_are_eagers(lowers_as_eager):
    x = torch.randn(5, 10)[:, ::2]
    lowered = lowers_as_eager(lambda x: torch.select_scatter(x, x[0], 0, 1), x)
    assert "gaps" in lowered.notes[0]


def test_checks_are_kept(lowers_as_eager):
    def function(x):
        torch._assert_async((x > -100).all())
        return x + 1

    lowered = lowers_as_eager(function, torch.randn(3))
    assert sum(isinstance(b, ExternBuffer) for b in lowered.buffers) == 1
