"""From FX graphs to functional ATen graphs, and back to callables that behave like the graph they came from.

`aot_backend` makes a graph backend of a compiler of functional graphs; `trace_functional` does the tracing alone. The
stage stands between capture and any lowering. Invariant: compilers see no mutation, no aliasing output, no autograd.
"""

from ..graph_backend import GraphBackend
from .backend import aot_backend
from .decompositions import DEFAULT_DECOMPOSITIONS, merge, without
from .errors import RanEagerlyWarning, UnsupportedForAot
from .functionalize import trace_functional
from .metadata import (
    FunctionalGraph,
    GraphSignature,
    InputMutation,
    InputSpec,
    OutputKind,
    OutputSpec,
    ViewSpec,
)
from .printer import print_functional
from .trace import Decomposition, DecompositionTable, is_random
from .verify import NotFunctional, verify

__all__ = [
    "DEFAULT_DECOMPOSITIONS",
    "Decomposition",
    "DecompositionTable",
    "FunctionalGraph",
    "GraphBackend",
    "GraphSignature",
    "InputMutation",
    "InputSpec",
    "NotFunctional",
    "OutputKind",
    "OutputSpec",
    "RanEagerlyWarning",
    "UnsupportedForAot",
    "ViewSpec",
    "aot_backend",
    "is_random",
    "merge",
    "print_functional",
    "trace_functional",
    "verify",
    "without",
]
