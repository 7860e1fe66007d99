"""TracedGraph: a finished graph of one frame, with its inputs: what the graph builder gives and backends compile.

Invariant: the inputs stand in the order of the module's placeholders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch._subclasses.fake_tensor import FakeTensor

from ..source import Source
from .subgraph import count_operations


@dataclass(frozen=True, slots=True)
class GraphInput:
    """One placeholder: its name, where its value comes from in a call, the tensor or number of this call, and what
    stands for it while tracing: a fake tensor, a SymInt or a SymFloat."""

    name: str
    source: Source
    example: torch.Tensor | int | float
    fake: Any

    @property
    def is_number(self) -> bool:
        """Whether it is a Python number."""
        return not isinstance(self.example, torch.Tensor)

    @property
    def has_symbols(self) -> bool:
        """Whether it is a tensor of which some sizes or strides are symbolic."""
        return isinstance(self.fake, FakeTensor) and bool(self.fake._has_symbolic_sizes_strides)


@dataclass(frozen=True, slots=True)
class TracedGraph:
    """A finished graph. `module(*tensors in order of inputs)` returns a tuple with one tensor per output."""

    module: torch.fx.GraphModule
    inputs: tuple[GraphInput, ...]
    output_fakes: tuple[Any, ...]
    has_data_sizes: bool = False  # whether sizes or numbers that depend on data are symbols of it

    @property
    def operator_count(self) -> int:
        return count_operations(self.module)
