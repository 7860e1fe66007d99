"""Buffers of a module whose sizes vary become symbolic, as inputs do; what stays as it is remains static."""

from __future__ import annotations

import lampwork_capture
import pytest
import torch


class Queue(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(1, 3))
        self.register_buffer("scale", torch.full((3,), 2.0))

    def forward(self, x):
        self.rows = torch.cat([self.rows, x])
        return self.rows.sum(0) * self.scale


@pytest.mark.parametrize("dynamic", [None, True])
def test_a_buffer_that_grows(dynamic):
    static_inputs = []

    def backend(graph, example_inputs):
        nodes = graph.graph.find_nodes(op="placeholder")
        static_inputs.append({str(n.meta["source"]).rpartition("'")[0][-4:]: n.meta["static_input"] for n in nodes})
        return graph.forward

    module, plain = Queue(), Queue()
    optimized = lampwork_capture.optimize(backend, dynamic=dynamic)(module)
    for count in range(12):
        x = torch.randn(2, 3) + count
        torch.testing.assert_close(optimized(x), plain(x), rtol=0, atol=0)
        torch.testing.assert_close(module.rows, plain.rows, rtol=0, atol=0)
    assert len(static_inputs) == 2
    assert [found["rows"] for found in static_inputs] == [True, False]
    assert all(found["cale"] for found in static_inputs)
