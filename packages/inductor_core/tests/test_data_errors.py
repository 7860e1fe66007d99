"""Errors that depend on values or that only eager's kernels raise: compiled graphs raise them too."""

from __future__ import annotations

import operator

import pytest
import torch
from lampwork_inductor_core import CompileOptions, compile_graph
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten

REFUSED = {
    "bits of floats": (lambda x: aten.bitwise_and.Scalar(x, 1), torch.ones(3)),
    "shifted floats": (lambda x: aten.bitwise_not.default(x), torch.ones(3)),
    "minus true": (lambda x: aten.sub.Tensor(x, True), torch.ones(3)),
    "true minus": (lambda x: aten.rsub.Scalar(x, True), torch.ones(3)),
    "silu of integers": (lambda x: aten.silu.default(x), torch.ones(3, dtype=torch.int32)),
    "frac of integers": (lambda x: aten.frac.default(x), torch.ones(3, dtype=torch.int32)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_eager_is_asked(name, compile_interpreted):
    function, x = REFUSED[name]
    with pytest.raises(Exception) as expected:  # noqa: PT011
        function(x)
    with pytest.raises(type(expected.value)) as raised:
        compile_interpreted(function, [x])[0](x)
    assert str(raised.value).splitlines()[0] == str(expected.value).splitlines()[0]


def _inverse(x):
    inverse, info = aten.linalg_inv_ex.default(x)
    aten._linalg_check_errors.default(info, "linalg.inv", is_matrix=True)
    return inverse + 1


def test_a_check_without_results_is_called(monkeypatch, interpreted):
    monkeypatch.setattr(torch.fx.Graph, "eliminate_dead_code", lambda *_, **__: False)  # it would drop the check
    graph = make_fx(_inverse, tracing_mode="fake")(torch.eye(2))
    if not any(node.target is aten._linalg_check_errors.default for node in graph.graph.nodes):
        output = next(node for node in graph.graph.nodes if node.op == "output")
        info = next(node for node in graph.graph.nodes if node.target is operator.getitem and node.args[1] == 1)
        with graph.graph.inserting_before(output):
            check = graph.graph.call_function(
                aten._linalg_check_errors.default, (info, "linalg.inv"), {"is_matrix": True}
            )
        check.meta["val"] = None
    compiled = compile_graph(graph, [torch.eye(2)], options=CompileOptions(backends={"cpu": interpreted()}))
    assert torch.equal(compiled(torch.eye(2))[0], torch.eye(2) + 1)
    with pytest.raises(torch.linalg.LinAlgError, match="singular"):
        compiled(torch.zeros(2, 2))


def test_an_index_is_checked_where_all_elements_are_the_same(compile_interpreted):
    index = torch.tensor([[70]])
    graph = compile_interpreted(lambda i: torch.full((8, 64), 2.0).gather(1, i), [torch.tensor([[3]])])[0]
    assert graph(torch.tensor([[63]]))[0].item() == 2.0
    with pytest.raises(Exception, match="out of bounds|IndexError|index"):
        graph(index)
