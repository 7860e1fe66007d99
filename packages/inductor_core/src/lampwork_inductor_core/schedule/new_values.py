"""Which results may be written over the inputs that they are the new values of, and from which step on.

The caller says which result is the new value of which input (`new_values`): it would copy the one into the other. Asked
by the memory planner, which then lets the result lie in the input's memory if the old value is not read afterwards.
Invariant: a result that is allowed here is nobody else's result, lies exactly as the input does, and after it no call
comes that the runtime may want to repeat from the start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..ir.buffer import ComputedBuffer, ExternBuffer, InputBuffer, LoweredGraph
from ..ir.layout import Layout
from .dependencies import ExternNode
from .scheduler import Schedule

NEW_VALUES = "new_values"
"""The key in a graph's `meta`: the position of a result -> the position of the input that gets this as its value."""


@dataclass(frozen=True, slots=True)
class Overwrites:
    """`inputs`: the input that a buffer is the new value of, by names; from step `first` on it may be written."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    first: int = 0


def overwrites(graph: LoweredGraph, schedule: Schedule, new_values: Mapping[int, int]) -> Overwrites:
    """What may be written over, of all that `new_values` allows."""
    buffers = schedule.buffers
    calls = [number for number, step in enumerate(schedule.steps) if isinstance(step, ExternNode)]
    inputs = {b.position: b.name for b in graph.buffers if isinstance(b, InputBuffer)}
    returned = Counter(output.buffer for output in graph.outputs)
    viewed = {b.aliases for b in graph.buffers if isinstance(b, ExternBuffer)}
    found: dict[str, str] = {}
    for result, position in new_values.items():
        output, target = graph.outputs[result], inputs.get(position)
        if output.buffer is None or target is None:
            continue
        written, layout = buffers[output.buffer], buffers[target].layout
        if not isinstance(written, ComputedBuffer) or not isinstance(layout, Layout):
            continue
        is_alone = returned[written.name] == 1 and not returned[target] and target not in viewed
        if is_alone and written.layout == layout == output.layout:
            found[written.name] = target
    return Overwrites(found, max(calls, default=-1) + 1)
