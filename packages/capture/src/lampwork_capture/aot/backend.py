"""`aot_backend`: a compiler of functional ATen graphs made into a backend for captured graphs.

The whole of this stage on one page: decide about autograd, trace, compile, wrap; `training` is the page for graphs that
need gradients. Invariant: what it returns behaves as the captured graph does; whatever cannot be compiled runs the
captured graph itself, with one warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from ..graph_backend import DATA_SIZES, GraphBackend
from . import torch_layer
from .c_floats import no_float_decided
from .decompositions import DEFAULT_DECOMPOSITIONS
from .errors import Misdescribed, RanEagerlyWarning, UnsupportedForAot
from .functionalize import Prepared, prepare, trace_prepared
from .joint_graph import JointGraph, trace_joint
from .metadata import NEW_VALUES, FunctionalGraph
from .need import Need, grad_gate, need_of, sets_grad_mode, training_gate
from .partition import DEFAULT_POLICY, PartitionPolicy
from .runtime_wrappers import wrap_for_calls
from .settings import Settings
from .trace import DecompositionTable
from .training import compile_training


def aot_backend(
    forward_compiler: GraphBackend,
    backward_compiler: GraphBackend | None = None,
    *,
    decompositions: DecompositionTable = DEFAULT_DECOMPOSITIONS,
    partition: PartitionPolicy = DEFAULT_POLICY,
    backward_at_once: bool = False,
    trains_on: frozenset[str] | None = None,
    refuse_numbers: bool = False,
) -> GraphBackend:
    """A graph backend that hands `forward_compiler` functional ATen graphs.

    `forward_compiler(graph, example_inputs)` gets a graph whose placeholders carry `val`, `static_input`, `source` and
    `user_line` in their `meta` (every other node `val` and `user_line`), and returns a callable that takes the same
    flat inputs and returns the list of the graph's results: new values of mutated inputs, then computed outputs, each
    in memory of its own and with the strides of its `val`. `graph.meta["new_values"]` says which result is the new
    value of which input: that one may also be written into the input, which then is the result. `backward_compiler` (by
    default the same) gets the graphs of derivatives when they are first needed, or with `backward_at_once` that of all
    results along with the forward graph; what it returns may offer `run_owned(arguments)`, see `training`. `partition`
    says what may be computed again rather than kept. Graphs that need gradients and have tensors on other types of
    devices than `trains_on` run as they were captured. Raises UnsupportedForAot under LAMPWORK_STRICT=1 (with
    `refuse_numbers` also for a graph that has numbers among its inputs), and Misdescribed always.
    """
    compilers = Compilers(
        forward_compiler, backward_compiler or forward_compiler, decompositions, partition, backward_at_once, trains_on
    )

    def backend(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        settings = Settings.from_environment()
        try:
            return compile_for_calls(graph, example_inputs, compilers)
        except UnsupportedForAot as error:
            refused = refuse_numbers and not all(isinstance(example, torch.Tensor) for example in example_inputs)
            refused |= graph.meta.get(DATA_SIZES, False)  # it may take the graphs in front of and behind such a size
            if settings.strict or refused or isinstance(error, Misdescribed):
                raise
            warnings.warn(f"a captured graph runs eagerly: {error}", RanEagerlyWarning, stacklevel=2)
            return graph.forward

    return backend


@dataclass(frozen=True, slots=True)
class Compilers:
    """What a backend brings."""

    forward: GraphBackend
    backward: GraphBackend
    decompositions: DecompositionTable
    partition: PartitionPolicy
    backward_at_once: bool
    trains_on: frozenset[str] | None


def compile_for_calls(graph: fx.GraphModule, example_inputs: Sequence[Any], compilers: Compilers) -> Callable[..., Any]:
    """The callable that replaces `graph` in calls like this one. Raises UnsupportedForAot."""
    grad_enabled = torch.is_grad_enabled()
    need = need_of(graph, example_inputs, grad_enabled)
    try:
        placeholders = graph.graph.find_nodes(op="placeholder")
        with no_float_decided(node.meta.get("example_value") for node in placeholders):
            prepared = prepare(graph, example_inputs)
            found = _traced(prepared, need, compilers)
    except UnsupportedForAot:
        raise
    except Exception as error:  # a failure of ours must not become one of the user's program
        raise UnsupportedForAot(
            f"tracing failed: {type(error).__name__}: {error}", hint="Please report it with this message."
        ) from error
    if found is None:
        return graph.forward
    functional, joint = found
    signature = functional.signature
    static = [i for i in signature.static_inputs if not signature.inputs[i].lifted]
    if joint is not None:
        compiled = compile_training(
            prepared, joint, compilers.forward, compilers.backward, compilers.decompositions, compilers.partition
        )
        if compilers.backward_at_once:
            compiled.derivatives.prepare(compiled)
        gate = training_gate(example_inputs, static)
    else:
        functional.graph.meta[NEW_VALUES] = signature.new_values
        with torch.no_grad(), torch_layer.disable_autocast():
            compiled = compilers.forward(functional.graph, [*example_inputs, *functional.lifted])
        switches = sets_grad_mode(graph) or need is Need.CERTAIN
        gate = grad_gate(example_inputs, static, grad_enabled, switches)
    return wrap_for_calls(
        compiled,
        functional,
        graph.forward,
        is_for_others=gate,
        may_see_grad=joint is None and grad_enabled and need is not Need.NONE,
        under_autocast=torch_layer.is_any_autocast_enabled(),
    )


def _traced(prepared: Prepared, need: Need, compilers: Compilers) -> tuple[FunctionalGraph, JointGraph | None] | None:
    """The functional graph, and the joint one if there is something to differentiate; None to run the captured one."""
    decompositions, trains_on = compilers.decompositions, compilers.trains_on
    if need is not Need.CERTAIN:
        functional = trace_prepared(prepared, decompositions, with_autograd=need is Need.UNKNOWN)
        if not functional.signature.outputs_require_grad:
            return functional, None
    devices = {item.value.device.type for item in prepared.inputs if isinstance(item.value, torch.Tensor)}
    if trains_on is not None and not devices <= trains_on:
        return None
    joint = trace_joint(prepared, decompositions)
    return joint.functional, joint if any(node is not None for node in joint.tangents[0]) else None
