"""Shapes that depend on data, one after the other: in one graph, or, where the backend refuses them, without small
graphs in between."""

from __future__ import annotations

import lampwork_capture as capture
import pytest
import torch


def picked(x):
    """Two such shapes close together, inside an inlined call."""
    chosen = x.nonzero()
    others = (1 - x).nonzero()
    rows = chosen[:, 0].unique()
    return torch.cat([chosen[:, 0], others[:, 0]]).sum() + rows.sum()


def around(x):
    return (picked((x > 2).long()) + x).relu() * 2


def in_loop(x):
    total = torch.zeros_like(x)
    for row in (x > 2).nonzero():
        at = torch.where(x >= row)[0]
        total.index_add_(0, at, x[at])
    return total * 2


def far_apart(x):
    chosen = x[x > 2]
    y = ((((chosen + 1).sum() * x).exp() - 1).tanh() + 2) * x
    return y[y > 0] * 2 + 1


@pytest.mark.parametrize(
    ("function", "graphs", "breaks"),
    [(around, 1, 0), (in_loop, 3, 2), (far_apart, 1, 0)],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_graphs(function, graphs, breaks):
    found = capture.capture(function, torch.arange(5.0))
    assert (len(found.graphs), len(found.graph_breaks)) == (graphs, breaks), found.graph_breaks


@pytest.mark.parametrize(("function", "graphs"), [(around, 2), (in_loop, 1), (far_apart, 3)])
def test_graphs_where_they_are_refused(function, graphs, monkeypatch):
    monkeypatch.delenv("LAMPWORK_STRICT", raising=False)
    made = []

    def backend(graph, inputs):
        if graph.meta["data_sizes"]:
            raise NotImplementedError("sizes that depend on data")
        made.append(graph)
        return graph.forward

    x = torch.arange(5.0)
    assert torch.equal(capture.optimize(backend)(function)(x), function(x))
    assert len(made) == graphs


@pytest.mark.parametrize("function", [around, in_loop, far_apart])
def test_results(function):
    compiled = capture.optimize("eager")(function)
    for count in (5, 5, 4, 6, 7):
        x = torch.arange(float(count))
        assert torch.equal(function(x), compiled(x))
