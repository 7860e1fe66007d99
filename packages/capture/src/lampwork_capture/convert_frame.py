"""Conversion of a frame, all stages on one page: trace, place the break, emit code, compile the graph, assemble.

`FrameCallback` asks for it when no cache entry fits a frame. Invariants: tracing touches nothing real, so it may be
repeated from the start; torch's state is restored whatever happens; nothing of the user's program is run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from .captured_frame import CapturedFrame
from .config import CaptureConfig
from .errors import GraphBreakError
from .graph.builder import EagerWouldRaise, TracedGraph
from .graph_break import BreakId, BreakRecord, GraphBreak, SkipFrame
from .guards.facts import GuardSetBuilder
from .interpreter.dispatch import Signal
from .interpreter.frame import Null
from .interpreter.instructions import DecodedCode, decode
from .interpreter.output import code_of_eager, code_of_return, emit_prefix, emit_return, emit_state, state_at_break
from .interpreter.reconstruct import ValueEmitter
from .interpreter.region import find_exits
from .interpreter.resume import call_group, code_of_break, copy_of, loop_region, needs_self
from .interpreter.tracer import FrameTracer, TorchState, refuse_frame
from .skip_policy import SkipPolicy
from .source import FrameScope, Source
from .variables.base import ObservedException, Value
from .variables.builder import final_facts

CompileGraph = Callable[[TracedGraph], Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class BreakPoint:
    """Where a trace stops: before instruction `start`; what runs natively from there, and why."""

    start: int
    region: frozenset[int]
    record: BreakRecord


@dataclass(slots=True)
class Attempt:
    """What a conversion that fails had relied on: calls for which these guards hold would fail in the same way."""

    guards: GuardSetBuilder | None = None


def convert(
    code: CodeType,
    scope: FrameScope,
    config: CaptureConfig,
    policy: SkipPolicy,
    compile_graph: CompileGraph,
    attempt: Attempt,
    varying: frozenset[Source] = frozenset(),
) -> CapturedFrame:
    """Convert one frame; numbers at `varying` sources become inputs.

    Raises SkipFrame, GraphBreakError (fullgraph), or what `compile_graph` raises.
    """
    refuse_frame(code)
    decoded = decode(code)
    tried: set[int] = set()
    point: BreakPoint | None = None
    while True:
        state = TorchState()
        raised: Value | None = None
        tracer = FrameTracer(code, scope, policy, stop_at=-1 if point is None else point.start, varying=varying)
        attempt.guards = tracer.guards
        try:
            try:
                signal = tracer.run()
                emitter = ValueEmitter(code, tracer.side_effects)
                tracer.check_generators()
                tracer.close_state()
                if signal is Signal.STOPPED:
                    assert point is not None
                    return _finish_break(tracer, emitter, point, compile_graph, state)
                if not (tracer.graph.has_operations or config.convert_without_tensor_work):
                    raise SkipFrame(BreakId.NO_TENSOR_WORK, f"`{code.co_name}` does no tensor work")
                return _finish_return(tracer, emitter, compile_graph, state)
            except ObservedException as error:
                raised = error.value
                cause = f"{error.value.describe()} is not caught in the frame"
                broken = GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
            except GraphBreak as error:
                broken = error
        finally:
            tracer.abandon_state()
            state.restore()
        record = _record(tracer, broken)
        if config.fullgraph:
            if not _is_users_error(broken, raised):
                raise GraphBreakError(record)
            # Eager raises the real error; nothing below this frame may ask for a whole graph meanwhile.
            return CapturedFrame(code.co_qualname, code, code_of_eager(code), None, tracer.guards.freeze(), record)
        point = _place(tracer, decoded, record, tried, point, broken.raised_value if raised is None else raised)
        tried.add(point.start)
        if len(tried) > config.longest_chain:
            raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"no place to break: {record.cause}")


def _is_users_error(broken: GraphBreak, raised: Value | None) -> bool:
    """Whether the program itself raises here: an exception that nobody catches, or an operation in error."""
    return raised is not None or isinstance(broken.__cause__, EagerWouldRaise)


def _record(tracer: FrameTracer, broken: GraphBreak) -> BreakRecord:
    line = broken.user_line or tracer.user_line
    return BreakRecord(broken.break_id, broken.cause, broken.hint, line, broken.stack or tracer.user_stack())


def _place(
    tracer: FrameTracer,
    decoded: DecodedCode,
    record: BreakRecord,
    tried: set[int],
    stopped: BreakPoint | None,
    raised: Value | None,
) -> BreakPoint:
    """Where to stop the next trace, given that this one broke at its root's present instruction."""
    root = tracer.root
    known = raised is not None and call_group(decoded, root.raised.get(raised, root.index))[0] not in tried
    if (
        stopped is not None and root.pc == stopped.start and not known
    ):  # the stop itself could not be rebuilt: go back a statement
        index = stopped.start
        start = _statement_start(decoded, index)
        region = frozenset(range(start, max(stopped.region) + 1)) | stopped.region
    else:
        index = root.index if raised is None else root.raised.get(raised, root.index)
        if root.handler_origins:
            index = root.handler_origins[0]
        start, region = call_group(decoded, index)
    loop = loop_region(decoded, start)
    if loop is not None:
        start, region = loop[0], loop[1] | region
    elif decoded.loop_of[start] >= 0:
        raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"a break in a loop with several entries: {record.cause}")
    if start in tried:
        earlier = _statement_start(decoded, start)
        if earlier in tried or earlier == start:
            raise SkipFrame(record.break_id, record.cause)
        start, region = earlier, region | frozenset(range(earlier, start))
    return BreakPoint(start, region, record)


def _statement_start(decoded: DecodedCode, index: int) -> int:
    """The nearest earlier instruction with an empty stack."""
    depths = decoded.depths
    start = index - 1
    while start > 0 and depths[start] != 0:
        start -= 1
    if start <= 0 or decoded.instructions[start].name in ("RESUME", "MAKE_CELL", "COPY_FREE_VARS"):
        return index
    return start


def _finish_return(
    tracer: FrameTracer, emitter: ValueEmitter, compile_graph: CompileGraph, state: TorchState
) -> CapturedFrame:
    result = tracer.root.result
    assert result is not None
    emit_return(tracer, emitter, result)
    final_facts(tracer, tracer.side_effects.written_objects())
    state.restore()
    prefix = emit_prefix(tracer, emitter, compile_graph)
    code = code_of_return(tracer.code, prefix)
    return CapturedFrame(tracer.code.co_qualname, tracer.code, code, prefix.graph, tracer.guards.freeze(), None)


def _finish_break(
    tracer: FrameTracer, emitter: ValueEmitter, point: BreakPoint, compile_graph: CompileGraph, state: TorchState
) -> CapturedFrame:
    code = tracer.code
    copy = copy_of(code)
    root = tracer.root
    live = copy.live_before(point.start)
    if needs_self(code):
        live |= {code.co_varnames[0]}
    emit_state(tracer, emitter, state_at_break(tracer, live))
    final_facts(tracer, tracer.side_effects.written_objects())
    exits = []
    if not copy.makes_inner_cells:
        own = {*code.co_cellvars, *code.co_freevars}
        bound = frozenset(
            name for name, value in zip(root.decoded.slot_names, root.slots) if value is not None and name not in own
        )
        stack = [isinstance(value, Null) for value in root.stack]
        exits = find_exits(root.decoded, point.start, point.region, stack, bound, copy.live_before)
    state.restore()
    prefix = emit_prefix(tracer, emitter, compile_graph)
    replacement, resumes = code_of_break(code, prefix.instructions, point.start, exits, emitter)
    return CapturedFrame(
        code.co_qualname, code, replacement, prefix.graph, tracer.guards.freeze(), point.record, tuple(resumes)
    )
