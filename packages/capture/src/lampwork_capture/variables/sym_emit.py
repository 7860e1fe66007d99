"""Pushing the real number, or truth value, behind a symbolic term when a frame's state is rebuilt.

Asked by the symbolic values' `reconstruct`. Inputs are read from their sources; a number that depends on data leaves
the graph as a tensor without dimensions. Invariant: what is pushed is what the program itself would have computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lampwork_symshape.expr import IntExpr
from lampwork_symshape.scalar_expr import FloatSymbol, ScalarExpr, ScalarTerm

if TYPE_CHECKING:
    from ..graph.builder import GraphBuilder
    from ..interpreter.reconstruct import ValueEmitter


def emit_term(graph: GraphBuilder, term: ScalarTerm, emitter: ValueEmitter) -> None:
    """Push the value of a term that is made of applications of Python functions, symbols and literals (`applied`)."""
    if isinstance(term, ScalarExpr):
        emitter.begin_call(term.function)
        for operand in term.operands:
            emit_term(graph, operand, emitter)
        emitter.call(len(term.operands))
    elif isinstance(term, IntExpr | FloatSymbol):
        symbol: Any = term
        if graph.scalars.is_of_data(symbol):
            emitter.begin_call(torch.Tensor.item)
            emitter.load_graph_output(graph.number_as_tensor(symbol))
            emitter.call(1)
        else:
            emitter.load_sourced(graph.scalars.source_of(symbol))
    else:
        emitter.load_constant(term)
