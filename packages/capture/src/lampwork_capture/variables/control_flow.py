"""`torch.cond` in a frame: both branches become subgraphs of one graph operation that tests the data when it runs.

Invariant: both branches take the same operands (what either captures) and give tensors alike; a branch with side
effects on objects is not traced, because only one of the two runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.fx

from ..graph.subgraph import EXAMPLE, FinishedSubgraph
from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .registry import handles
from .tensor import TensorValue
from .traced_body import TracedBody, changes_outside, value_of

_TORCH: Any = torch
_cond_operator: Any = torch.ops.higher_order.cond


@handles(_TORCH.cond)
def cond(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    named = dict(zip(("pred", "true_fn", "false_fn", "operands"), args))
    predicate = named["pred"].realize()
    operands = list(named["operands"].realize().unpack(tracer)) if "operands" in named else []
    if not isinstance(predicate, TensorValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`torch.cond` of a Python value")
    if predicate.fake.dtype != torch.bool or predicate.fake.numel() != 1:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "`torch.cond` of what is no boolean scalar: eager raises")
    bodies = [_branch(tracer, named[name].realize(), operands) for name in ("true_fn", "false_fn")]
    if bodies[0].result != bodies[1].result:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "the branches of `torch.cond` return different structures")
    branches = [_finished(body) for body in bodies]
    captured = list(dict.fromkeys([*branches[0].captured, *branches[1].captured]))
    for branch in branches:
        _take_operands(branch, captured)
    names = ("true_branch", "false_branch")
    nodes = [tracer.graph.add_module(name, branch.module) for name, branch in zip(names, branches)]
    node_args = (predicate.node, *nodes, tuple(captured))
    flat = tracer.add_node("call_function", _cond_operator, node_args, {}, run=_results_of_both).unpack(tracer)
    return value_of(tracer, bodies[0].result, lambda at: tracer.constant(None) if at is None else flat[at])


def _branch(tracer: Tracer, function: Value, operands: Sequence[Value]) -> TracedBody:
    changes, elsewhere = len(tracer.side_effects.changed_values), tracer.side_effects.changes_elsewhere
    body = TracedBody(tracer, lambda _, __: tracer.call(function, operands))
    body()
    changed = tracer.side_effects.changed_values[changes:]
    held = [*tracer.held_values(), function, *operands]
    if tracer.side_effects.changes_elsewhere != elsewhere or changes_outside(tracer, changed, held):
        raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, "a branch of `torch.cond` that changes objects: it may not run")
    return body


def _finished(body: TracedBody) -> FinishedSubgraph:
    assert body.finished is not None
    graph = body.finished.module.graph
    if any(node.meta.get("lampwork_mutates", False) for node in graph.nodes):
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, "a branch of `torch.cond` that writes to a tensor")
    if any(node.op == "placeholder" for node in graph.output_node().all_input_nodes):
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "a branch of `torch.cond` returns its input: eager raises")
    return body.finished


def _take_operands(branch: FinishedSubgraph, captured: Sequence[torch.fx.Node]) -> None:
    """Give the branch the placeholders of all operands, in their order."""
    graph = branch.module.graph
    own = dict(zip(branch.captured, graph.find_nodes(op="placeholder")))
    last: torch.fx.Node = graph._root
    for outer in captured:
        node = own.get(outer)
        if node is None:
            with graph.inserting_after(last):
                node = graph.placeholder(f"unused_{outer.name}")
            node.meta.update(outer.meta)
        else:
            last.append(node)
        last = node
    branch.module.recompile()


def _results_of_both(
    predicate: torch.Tensor,
    true_branch: torch.fx.GraphModule,
    false_branch: torch.fx.GraphModule,
    operands: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """What `torch.cond` gives, on fake tensors: the results of either branch as traced, which must be alike."""
    outputs: list[Any] = [branch.graph.output_node().args[0] for branch in (true_branch, false_branch)]
    results: list[list[torch.Tensor]] = [[node.meta[EXAMPLE] for node in nodes] for nodes in outputs]
    for one, other in zip(*results):
        if (one.shape, one.dtype, one.device, one.stride()) != (other.shape, other.dtype, other.device, other.stride()):
            raise RuntimeError("the branches of `torch.cond` give tensors of different shape, dtype, device or strides")
    needs_gradient = torch.is_grad_enabled() and any(operand.requires_grad for operand in operands)
    found: list[torch.Tensor] = []
    for result in results[0]:
        fresh = result.detach()
        if needs_gradient and (result.is_floating_point() or result.is_complex()):
            fresh.requires_grad_()
        found.append(fresh.clone())
    return tuple(found)
