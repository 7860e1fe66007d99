"""GraphBackend: what compiles a captured graph; the calling convention of `torch.compile` backends.

It is called with a graph module and example inputs (tensors, or a number for each number that became an input) and
returns what is called in the graph's place. Invariant: the callable takes the inputs in their order and returns one
value for each output of the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch.fx


class GraphRefused(RuntimeError):
    """What a backend raises for a graph of a kind that it does not take; another form of it may do."""


GraphBackend: TypeAlias = Callable[[torch.fx.GraphModule, list[Any]], Callable[..., Sequence[Any]]]

DATA_SIZES = "data_sizes"
"""In the `meta` of a captured graph: whether sizes or numbers in it depend on data. A backend may refuse those."""
