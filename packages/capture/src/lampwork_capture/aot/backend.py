"""`aot_backend`: a compiler of functional ATen graphs made into a backend for captured graphs.

The whole of this stage on one page: decide about autograd, trace, compile, wrap. Invariant: what it returns behaves as
the captured graph does; whatever cannot be compiled runs the captured graph itself, with one warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from ..graph_backend import DATA_SIZES, GraphBackend
from . import torch_layer
from .c_floats import no_float_decided
from .decompositions import DEFAULT_DECOMPOSITIONS
from .errors import Misdescribed, RanEagerlyWarning, UnsupportedForAot
from .functionalize import trace_functional
from .metadata import NEW_VALUES
from .runtime_wrappers import wrap_for_calls
from .settings import Settings
from .trace import DecompositionTable
from .training import Need, grad_gate, need_of, sets_grad_mode


def aot_backend(
    forward_compiler: GraphBackend,
    backward_compiler: GraphBackend | None = None,
    *,
    decompositions: DecompositionTable = DEFAULT_DECOMPOSITIONS,
    partition: Callable[..., Any] | None = None,
    refuse_numbers: bool = False,
) -> GraphBackend:
    """A graph backend that hands `forward_compiler` functional ATen graphs.

    `forward_compiler(graph, example_inputs)` gets a graph whose placeholders carry `val`, `static_input`, `source` and
    `user_line` in their `meta` (every other node `val` and `user_line`), and returns a callable that takes the same
    flat inputs and returns the list of the graph's results: new values of mutated inputs, then computed outputs, each
    in memory of its own and with the strides of its `val`. `graph.meta["new_values"]` says which result is the new
    value of which input: that one may also be written into the input, which then is the result. `backward_compiler`
    and `partition` are for training, which runs eagerly until then. Raises UnsupportedForAot under LAMPWORK_STRICT=1
    (with `refuse_numbers` also for a graph that has numbers among its inputs), and Misdescribed always.
    """

    def backend(graph: fx.GraphModule, example_inputs: Sequence[Any]) -> Callable[..., Any]:
        settings = Settings.from_environment()
        try:
            return compile_inference(graph, example_inputs, forward_compiler, decompositions)
        except UnsupportedForAot as error:
            refused = refuse_numbers and not all(isinstance(example, torch.Tensor) for example in example_inputs)
            refused |= graph.meta.get(DATA_SIZES, False)  # it may take the graphs in front of and behind such a size
            if settings.strict or refused or isinstance(error, Misdescribed):
                raise
            warnings.warn(f"a captured graph runs eagerly: {error}", RanEagerlyWarning, stacklevel=2)
            return graph.forward

    return backend


def compile_inference(
    graph: fx.GraphModule,
    example_inputs: Sequence[Any],
    forward_compiler: GraphBackend,
    decompositions: DecompositionTable = DEFAULT_DECOMPOSITIONS,
) -> Callable[..., Any]:
    """The callable that replaces `graph` in calls like this one; the captured graph itself if it needs autograd."""
    grad_enabled = torch.is_grad_enabled()
    need = need_of(graph, example_inputs, grad_enabled)
    if need is Need.CERTAIN:
        return graph.forward
    try:
        placeholders = graph.graph.find_nodes(op="placeholder")
        with no_float_decided(node.meta.get("example_value") for node in placeholders):
            functional = trace_functional(
                graph, example_inputs, decompositions=decompositions, with_autograd=need is Need.UNKNOWN
            )
    except UnsupportedForAot:
        raise
    except Exception as error:  # a failure of ours must not become one of the user's program
        raise UnsupportedForAot(
            f"tracing failed: {type(error).__name__}: {error}", hint="Please report it with this message."
        ) from error
    if functional.signature.outputs_require_grad:
        return graph.forward
    signature = functional.signature
    switches = sets_grad_mode(graph)
    static = [i for i in signature.static_inputs if not signature.inputs[i].lifted]
    functional.graph.meta[NEW_VALUES] = signature.new_values
    with torch.no_grad():
        compiled = forward_compiler(functional.graph, [*example_inputs, *functional.lifted])
    return wrap_for_calls(
        compiled,
        functional,
        graph.forward,
        needs_autograd=grad_gate(example_inputs, static, grad_enabled, switches),
        may_see_grad=grad_enabled and need is Need.UNKNOWN,
        under_autocast=torch_layer.is_any_autocast_enabled(),
    )
