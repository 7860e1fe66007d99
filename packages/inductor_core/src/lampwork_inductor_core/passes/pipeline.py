"""PASSES: the core's rewrites of the ATen graph, in order, on one page.

    take lists apart -> remove what does nothing -> merge equal calls -> find attention -> fold normalisation
    -> choose layouts -> clean up

A device's own passes come after these; `hoist_static` comes last of all and is no pass (it gives two graphs).
Invariant: each pass keeps what the graph computes and every node's fake value.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.fx

from .channels_last import choose_channels_last
from .common_subexpressions import merge_common_subexpressions
from .dead_code import remove_dead_code
from .expand_lists import expand_lists
from .fold_batch_norm import fold_batch_norm
from .merge_linears import merge_linears
from .recognise_attention import recognise_attention
from .remove_no_ops import remove_no_ops
from .rewriting import Pass, PassContext
from .verify_graph import verify_graph

PASSES: tuple[Pass, ...] = (
    ("expand_lists", expand_lists),
    ("dead_code", remove_dead_code),
    ("remove_no_ops", remove_no_ops),
    ("common_subexpressions", merge_common_subexpressions),
    ("recognise_attention", recognise_attention),
    ("fold_batch_norm", fold_batch_norm),
    ("merge_linears", merge_linears),
    ("channels_last", choose_channels_last),
    ("final_common_subexpressions", merge_common_subexpressions),
    ("final_dead_code", remove_dead_code),
)


def run_passes(
    graph: torch.fx.GraphModule, context: PassContext, passes: Sequence[Pass] = PASSES
) -> torch.fx.GraphModule:
    """Run passes in order; under `config.verify` the graph is checked after each. The given graph may be changed."""
    for name, rewrite in passes:
        if name in context.config.disabled_passes:
            continue
        graph = rewrite(graph, context)
        if context.config.verify:
            verify_graph(graph, name)
    return graph
