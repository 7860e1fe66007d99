"""From FX graphs to functional ATen graphs, and back to callables that behave like the graph they came from.

`aot_backend` makes a graph backend of a compiler of functional graphs; `trace_functional` does the tracing alone. The
stage stands between capture and any lowering. Invariant: compilers see no mutation, no aliasing output, no autograd: a
graph that trains comes to them as a forward graph and backward graphs.
"""

from ..graph_backend import GraphBackend
from .backend import aot_backend
from .decompositions import DEFAULT_DECOMPOSITIONS, merge, without
from .errors import RanEagerlyWarning, UnsupportedForAot
from .functionalize import trace_functional
from .joint_graph import JointGraph, trace_joint
from .joint_rewrite import JointRewrite
from .kept_report import KEPT, KeptReport, KeptTensor
from .metadata import (
    FunctionalGraph,
    GraphSignature,
    InputMutation,
    InputSpec,
    OutputKind,
    OutputSpec,
    ViewSpec,
)
from .operator_traits import is_random
from .partition import (
    Partition,
    PartitionPolicy,
    RecomputeCost,
    bytes_of,
    default_recompute_cost,
    partition,
)
from .printer import print_functional
from .split_graphs import TRAINING
from .trace import Decomposition, DecompositionTable
from .verify import NotFunctional, verify

__all__ = [
    "DEFAULT_DECOMPOSITIONS",
    "KEPT",
    "TRAINING",
    "Decomposition",
    "DecompositionTable",
    "FunctionalGraph",
    "GraphBackend",
    "GraphSignature",
    "InputMutation",
    "InputSpec",
    "JointGraph",
    "JointRewrite",
    "KeptReport",
    "KeptTensor",
    "NotFunctional",
    "OutputKind",
    "OutputSpec",
    "Partition",
    "PartitionPolicy",
    "RanEagerlyWarning",
    "RecomputeCost",
    "UnsupportedForAot",
    "ViewSpec",
    "aot_backend",
    "bytes_of",
    "default_recompute_cost",
    "is_random",
    "merge",
    "partition",
    "print_functional",
    "trace_functional",
    "trace_joint",
    "verify",
    "without",
]
