"""The decomposition table: which ATen operators reach a compiler, and what the others are written as.

The policy, by kind of operator:

* Kept, one operator each, because a library or template does them, or because their access pattern is their meaning:
  mm, addmm, bmm, baddbmm, convolution, the `_scaled_dot_product_*` forms, pooling, embedding, index, gather, scatter
  and their kin, cat, sort, topk, cumsum and other scans, argmax and argmin, max/min along a dimension, upsampling, fft,
  linear algebra, every random operator (so that eager's stream of numbers is kept).
* Written as pointwise work and reductions (`sum.dim_IntList`, `amax`, `amin`, `var_mean.correction`), because a fusing
  lowering makes one or two loops of them: normalisations, softmax, losses, activations, statistics; their gradients
  too.
* Reduced to fewer forms: views (transposes become `permute`), creation (`full`), copies (`clone`, `_to_copy`).
* Composite operators (linear, matmul, conv2d, ...) have been taken apart by the dispatcher before the table is asked: a
  linear layer is `addmm(bias, view(x), permute(weight, [1, 0]))` or `mm`, with `weight` a static input.

Invariant: the table holds only functional decompositions of our own, in ATen operators; a caller may extend it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from torch._ops import OpOverload

from . import decomp_backward, decomp_norm_backward, decomp_pointwise, decomp_reductions, decomp_shapes
from .trace import Decomposition, DecompositionTable


def merge(*tables: DecompositionTable) -> dict[OpOverload, Decomposition]:
    """One table of several; a later table's entry replaces an earlier one's."""
    merged: dict[OpOverload, Decomposition] = {}
    for table in tables:
        merged.update(table)
    return merged


def without(table: DecompositionTable, *kept: Any) -> dict[OpOverload, Decomposition]:
    """`table` less the overloads in `kept`: a compiler that has a kernel for an operator asks to see it whole."""
    return {op: decomposition for op, decomposition in table.items() if op not in kept}


DEFAULT_DECOMPOSITIONS: DecompositionTable = MappingProxyType(
    merge(
        decomp_pointwise.registry.table,
        decomp_reductions.registry.table,
        decomp_shapes.registry.table,
        decomp_backward.registry.table,
        decomp_norm_backward.registry.table,
    )
)
