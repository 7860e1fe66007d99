"""`torch.utils.checkpoint.checkpoint` in a frame: the function becomes a subgraph that is recomputed in backward.

Invariant: a function with side effects is not traced when it would run twice, at forward and at recomputation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch.utils.checkpoint import checkpoint, noop_context_fn

from ..graph.checkpoint_call import call_checkpoint
from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .registry import handles
from .traced_body import TracedBody, changes_outside, value_of

_OPTIONS = {"use_reentrant", "preserve_rng_state", "context_fn", "determinism_check", "debug", "early_stop"}


@handles(checkpoint, like=lambda function, *args, **kwargs: None)
def call_checkpointed(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    options = {name: value.realize() for name, value in kwargs.items() if name in _OPTIONS}
    named = {name: value for name, value in kwargs.items() if name not in _OPTIONS}
    if "use_reentrant" not in options or options.pop("use_reentrant").truth(tracer):
        raise GraphBreak(
            BreakId.CALL_NOT_MODELLED, "`checkpoint` that re-enters autograd", hint="Pass `use_reentrant=False`."
        )
    context = options.pop("context_fn", None)
    if context is not None and not (context.is_constant() and context.as_constant() is noop_context_fn):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "`checkpoint` with a `context_fn`")
    preserve = options.pop("preserve_rng_state", None)
    preserve_rng_state = preserve is None or preserve.truth(tracer)
    changes, elsewhere = len(tracer.side_effects.changed_values), tracer.side_effects.changes_elsewhere
    body = TracedBody(tracer, lambda _, __: tracer.call(args[0].realize(), args[1:], named))
    body()
    assert body.finished is not None
    changed = tracer.side_effects.changed_values[changes:]
    held = [*tracer.held_values(), *args, *named.values()]
    if tracer.side_effects.changes_elsewhere != elsewhere or changes_outside(tracer, changed, held):
        raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, "a checkpointed function that changes objects: it runs twice")
    body_node = tracer.graph.add_module("checkpointed", body.finished.module)
    node_args = (body_node, tuple(body.finished.captured), preserve_rng_state)
    flat = tracer.add_node("call_function", call_checkpoint, node_args, {}).unpack(tracer)
    return value_of(tracer, body.result, lambda index: tracer.constant(None) if index is None else flat[index])
