"""`Module.to` inside a frame: traced where it changes nothing, a clean break where it does."""

from __future__ import annotations

import lampwork_capture as capture
import torch


class Converts(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        self.head = torch.nn.Linear(3, 3)
        self.cell = torch.nn.GRU(3, 3)
        self.dtype = dtype

    def forward(self, x):
        self.head = self.head.to(self.dtype).to("cpu").to(device=x.device)
        self.cell.cpu()
        return self.head(x.to(self.dtype))


def test_a_conversion_that_changes_nothing_is_traced():
    found = capture.capture(Converts(torch.float32), torch.ones(2, 3))
    assert len(found.graphs) == 1 and not found.graph_breaks


def test_a_conversion_that_changes_something_happens():
    module = Converts(torch.float64)
    found = capture.capture(module, torch.ones(2, 3))
    assert found.graph_breaks and module.head.weight.dtype is torch.float64 and found.result.dtype is torch.float64


def test_a_module_converted_between_calls_is_seen():
    module = Converts(torch.float32)
    optimized = capture.optimize("eager")(module)
    assert optimized(torch.ones(2, 3)).dtype is torch.float32
    module.head.double()
    assert optimized(torch.ones(2, 3)).dtype is torch.float32
    assert module.head.weight.dtype is torch.float32
