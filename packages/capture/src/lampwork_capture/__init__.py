"""Lampwork's capture: Python bytecode to FX graphs, guards and new bytecode.

`optimize` captures a function or module just in time for a graph backend; `capture` and `explain` show the result.
"""

from .dimension_marks import mark_dynamic, mark_static
from .errors import BackendError, CaptureError, CaptureWarning, GraphBreakError, SpecializedDimensionError
from .explain import Capture, Explanation, capture, explain
from .graph_backend import GraphBackend
from .graph_break import BreakId, BreakRecord
from .marks import (
    allow_in_graph,
    assume_constant_result,
    disable,
    graph_break,
    is_compiling,
    reset,
    substitute_in_graph,
)
from .number_variants import NumberVariantsWarning, with_number_variants
from .optimize import OptimizedModule, UnknownBackendError, optimize

__all__ = [
    "BackendError",
    "BreakId",
    "BreakRecord",
    "Capture",
    "CaptureError",
    "CaptureWarning",
    "Explanation",
    "GraphBackend",
    "GraphBreakError",
    "NumberVariantsWarning",
    "OptimizedModule",
    "SpecializedDimensionError",
    "UnknownBackendError",
    "allow_in_graph",
    "assume_constant_result",
    "capture",
    "disable",
    "explain",
    "graph_break",
    "is_compiling",
    "mark_dynamic",
    "mark_static",
    "optimize",
    "reset",
    "substitute_in_graph",
    "with_number_variants",
]
