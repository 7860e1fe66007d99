"""Whether a graph's host program may be recorded once and replayed, and the facts that a replayer needs.

Asked at the end of a compile, where a device can replay (`runtime.replay`). A recording repeats what was sent to the
device and nothing that the host did. Invariant: what is not known to be the same device work at each call with the
same sizes and numbers is an obstacle, stated with the operator and the user's line.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx

from ..ir.buffer import Buffer, ExternBuffer, InputBuffer, numbers_of
from ..ir.layout import OpaqueLayout
from ..runtime.compiled_graph import restride
from ..runtime.replay import PlannedReplay, ReplayFacts, Replays
from ..schedule.dependencies import ExternNode, writes_of
from .program import HostPlan
from .wrapper import WrapperProgram

aten = torch.ops.aten
_NAMESPACES = frozenset({"aten", "prims"})  # others may do anything on the host: count, print, read a file
_ADDRESSING = frozenset({aten.as_strided.default, aten.as_strided_copy.default, aten.as_strided_scatter.default})
_UNSAFE_TAGS: Mapping[torch.Tag, str] = {
    torch.Tag.data_dependent_output: "reads data on the host",
    torch.Tag.dynamic_output_shape: "has results whose sizes depend on data",
    torch.Tag.cudagraph_unsafe: "is marked as unsafe to record",
}
_DROPOUT = "dropout_p"  # the argument of attention by which it says that it draws nothing


@dataclass(frozen=True, slots=True)
class ReplayDecision:
    """Either how to replay, or notes that say why not."""

    planned: PlannedReplay | None
    notes: tuple[str, ...] = ()


def decide_replay(
    replays: Replays, host: HostPlan, program: WrapperProgram, graph: torch.fx.GraphModule
) -> ReplayDecision:
    """Whether `program` is replayed. `graph` is the ATen graph that was lowered."""
    used = {name for name in program.inputs if name is not None}
    inputs = [b for b in host.graph.buffers if isinstance(b, InputBuffer) and b.name in used]
    devices = _devices(host, program, inputs)
    obstacles = [*_reads_beyond(graph), *_written_inputs(host, inputs), *_calls(host)]
    obstacles.extend(f"its input {b.name} is not a plain tensor" for b in inputs if _is_opaque_tensor(b))
    if len(devices) != 1:
        obstacles.append(f"tensors on {len(devices)} devices ({', '.join(sorted(map(str, devices))) or 'none'})")
    launches = sum(_is_launch(step) for step in host.schedule.steps)
    if launches < replays.least_launches:
        obstacles.append(f"with {launches} launches a replay costs more than it saves")
    if obstacles:
        return ReplayDecision(None, tuple(f"no {replays.noun}: {text}" for text in dict.fromkeys(obstacles)))
    tensors = [b for b in inputs if b.layout.dtype is not None]
    facts = ReplayFacts(
        device=next(iter(devices)),
        input_count=len(program.inputs),
        static=tuple(b.position for b in tensors if b.static),
        passing=tuple(b.position for b in tensors if not b.static),
        numbers=tuple(b.position for b in inputs if b.layout.dtype is None),
        symbolic=any(number.free_symbols for b in tensors for number in numbers_of(b)),
        launches=launches,
        calls_operators=any(isinstance(step, ExternNode) for step in host.schedule.steps),
        given=len(program.given),
    )
    return ReplayDecision(PlannedReplay(replays, facts))


def _is_opaque_tensor(buffer: InputBuffer) -> bool:
    return isinstance(buffer.layout, OpaqueLayout) and buffer.layout.dtype is not None


def _devices(host: HostPlan, program: WrapperProgram, inputs: list[InputBuffer]) -> set[torch.device]:
    """The devices of all tensors that the program touches, results of calls that nobody reads apart."""
    buffers: list[Buffer] = list(inputs)
    by_name, read = host.schedule.buffers, {*host.schedule.readers, *host.schedule.outputs}
    buffers.extend(by_name[name] for name in program.constants)
    for step in host.schedule.steps:
        names = writes_of(step) if isinstance(step, ExternNode) else step.writes
        buffers.extend(by_name[name] for name in names if name in read)
    buffers.extend(by_name[name] for name in host.schedule.empty if name in read)
    return {b.layout.device for b in buffers if b.layout.dtype is not None}


def _is_launch(step: Any) -> bool:
    """Whether a step sends work to the device: views and the picking of results do not."""
    return not isinstance(step, ExternNode) or step.results[0].aliases is None


def _reads_beyond(graph: torch.fx.GraphModule) -> list[str]:
    """Operators that address memory around their argument's elements, which copies of inputs do not have."""
    nodes = [n for n in graph.graph.nodes if n.op == "call_function" and n.target in _ADDRESSING]
    return [f"{n.target} addresses the memory around its input{_at(n.meta.get('user_line'))}" for n in nodes]


def _written_inputs(host: HostPlan, inputs: list[InputBuffer]) -> list[str]:
    """Inputs in whose memory something else is stored: a recording would write into its own copy."""
    names = {b.name for b in inputs}
    sources = (p.source for placed in host.memory.placements for p in placed)
    return [f"it writes over its input {name}" for name in dict.fromkeys(sources) if name in names]


def _calls(host: HostPlan) -> list[str]:
    found: list[str] = []
    for step in host.schedule.steps:
        if isinstance(step, ExternNode):
            call = step.results[0]
            reason = _unsafe(call, defines=any(result.defines for result in step.results))
            if reason is not None:
                found.append(f"{_name(call.target)} {reason}{_at(call.origin.user_line)}")
    return found


def _unsafe(call: ExternBuffer, *, defines: bool) -> str | None:
    """Why a call may be more than the same device work each time."""
    target = call.target
    if target is operator.getitem or target is restride:
        return None
    if not isinstance(target, torch._ops.OpOverload) or target.namespace not in _NAMESPACES:
        return "may do more than device work"
    for tag, reason in _UNSAFE_TAGS.items():
        if tag in target.tags:
            return reason
    if defines:
        return _UNSAFE_TAGS[torch.Tag.dynamic_output_shape]
    if target._schema.is_mutable and call.out_variant is None:
        return "writes into its arguments"
    if not target._schema.returns:
        return "runs for its effect on the host"
    if torch.Tag.nondeterministic_seeded in target.tags and not _draws_nothing(call):
        return "draws random numbers"
    return None


def _draws_nothing(call: ExternBuffer) -> bool:
    """Whether a random operator is asked for a dropout of probability zero, as attention mostly is."""
    arguments = call.target._schema.arguments
    values = {a.name: a.default_value for a in arguments if a.has_default_value()}
    values.update(zip((a.name for a in arguments), call.arguments))
    values.update(call.keywords)
    probability = values.get(_DROPOUT)
    return isinstance(probability, int | float) and probability == 0


def _name(target: Any) -> str:
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))


def _at(line: Any) -> str:
    return f" ({line})" if line else ""
