"""Conversion of a frame, all stages on one page: trace, place the break, emit code, compile the graph, assemble.

`FrameCallback` asks for it when no cache entry fits a frame. Invariants: tracing touches nothing real, so it may be
repeated from the start; torch's state is restored whatever happens; nothing of the user's program is run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from .bytecode.version import places_of_call, qualified_name
from .captured_frame import CapturedFrame
from .config import CaptureConfig
from .errors import GraphBreakError
from .graph.builder import EagerWouldRaise, TracedGraph
from .graph_break import BreakId, BreakRecord, GraphBreak, SkipFrame
from .guards.facts import GuardSetBuilder
from .idle_breaks import IdleBreaks
from .interpreter.body_copy import copy_of, needs_self
from .interpreter.dispatch import Signal
from .interpreter.frame import FramePlace, Null, SymbolicFrame
from .interpreter.instructions import DecodedCode
from .interpreter.loop_body import try_loop_body
from .interpreter.output import (
    Continuation,
    FrameState,
    code_of_eager,
    code_of_return,
    continuation,
    emit_prefix,
    emit_return,
    emit_state,
    state_at_break,
)
from .interpreter.placement import BreakPoint, is_tried, place_break
from .interpreter.reconstruct import ValueEmitter
from .interpreter.region import Exit, call_group, find_exits
from .interpreter.resume import NativePart, code_of_break, continuation_code, last_of_call
from .interpreter.tracer import FrameTracer, TorchState, refuse_frame
from .skip_policy import SkipPolicy
from .source import FrameScope, Source
from .variables.base import ObservedException, Value
from .variables.builder import final_facts

CompileGraph = Callable[[TracedGraph], Callable[..., Any]]


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
    idle_breaks: IdleBreaks | None = None,
) -> CapturedFrame:
    """Convert one frame; numbers at `varying` sources become inputs; `idle_breaks` grows by what breaks here.

    Raises SkipFrame, GraphBreakError (fullgraph), or what `compile_graph` raises.
    """
    refuse_frame(code)
    tried: list[BreakPoint] = []
    point: BreakPoint | None = None
    while True:
        state = TorchState()
        raised: Value | None = None
        stop = None if point is None else point.stop
        patient = config.fullgraph
        tracer = FrameTracer(code, scope, policy, stop, varying, is_patient=patient, idle_breaks=idle_breaks)
        attempt.guards = tracer.guards
        try:
            try:
                try:
                    signal = tracer.run()
                    emitter = ValueEmitter(code, tracer.side_effects)
                    tracer.check_generators()
                    tracer.close_state()
                    if signal is Signal.STOPPED:
                        assert point is not None
                        if idle_breaks is not None and not tracer.graph.has_operations:
                            idle_breaks.note(place.frame.code for place in _frames_to(tracer.stopped)[1:])
                        return _finish_break(tracer, emitter, point, compile_graph, state)
                    if not (tracer.graph.has_operations or config.convert_without_tensor_work):
                        raise SkipFrame(BreakId.NO_TENSOR_WORK, f"`{code.co_name}` does no tensor work")
                    return _finish_return(tracer, emitter, compile_graph, state)
                except ObservedException as error:
                    raised = error.value
                    cause = f"{error.value.describe()} is not caught in the frame"
                    broken = GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
                except RecursionError:
                    cause = "something nested in itself, or deeper than the tracer can follow"
                    broken = GraphBreak(BreakId.CALL_NOT_MODELLED, cause, is_of_root=True)
                except GraphBreak as error:
                    broken = error
                    broken.__traceback__ = None  # its frames hold the program's objects
            finally:
                tracer.abandon_state()
                state.restore()
            record = _record(tracer, broken)
            if config.fullgraph:
                if not _is_users_error(broken, raised):
                    raise GraphBreakError(record)
                # Eager raises the real error; nothing below this frame may ask for a whole graph meanwhile.
                guards = tracer.guards.freeze()
                return CapturedFrame(qualified_name(code), code, code_of_eager(code), None, guards, record)
            point = place_break(_broken_frames(tracer, broken, raised, tried), record, tried)
            tried.append(point)
            if len(tried) > config.longest_chain:
                raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"no place to break: {record.cause}")
        finally:
            tracer.release()


def _is_users_error(broken: GraphBreak, raised: Value | None) -> bool:
    """Whether the program itself raises here: an exception that nobody catches, or an operation in error."""
    return raised is not None or isinstance(broken.__cause__, EagerWouldRaise)


def _record(tracer: FrameTracer, broken: GraphBreak) -> BreakRecord:
    line = broken.user_line or tracer.user_line
    return BreakRecord(broken.break_id, broken.cause, broken.hint, line, broken.stack or tracer.user_stack())


def _broken_frames(
    tracer: FrameTracer, broken: GraphBreak, raised: Value | None, tried: Sequence[BreakPoint]
) -> Sequence[FramePlace]:
    """The frames that were open where a trace broke, or where an exception was raised that must be raised for real."""
    error = broken.raised_value if raised is None else raised
    if error is not None:
        frames = tracer.frames_of_raise(error)
        if raised is not None or not is_tried(frames, tried):
            return frames
    if tracer.stopped is not None:  # it got to the stop, but the state there could not be rebuilt
        return _frames_to(tracer.stopped)
    frames = tracer.frames_of_break(broken)
    return frames[:1] if broken.is_of_root else frames


def _frames_to(frame: SymbolicFrame | None) -> list[FramePlace]:
    """A frame where a trace stopped and the ones below it, the root first."""
    places: list[FramePlace] = []
    while frame is not None:
        places.append(FramePlace(frame, frame.index if places else frame.pc))
        frame = frame.parent
    places.reverse()
    return places


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
    guards, name = tracer.guards.freeze(), qualified_name(tracer.code)
    return CapturedFrame(name, tracer.code, code, prefix.graph, guards, None, handed=prefix.handed)


def _finish_break(
    tracer: FrameTracer, emitter: ValueEmitter, point: BreakPoint, compile_graph: CompileGraph, state: TorchState
) -> CapturedFrame:
    frames = _frames_to(tracer.stopped)
    links: list[_Link] = []
    for place in frames:
        inner = place.frame is tracer.stopped
        region = point.region if inner else call_group(place.frame.decoded, place.index)[1]
        given = tracer.frame_scope.local_values if place.frame is tracer.root else ()
        links.append(
            _link(
                place.frame,
                point.start if inner else min(region),
                region,
                given,
                calls=not inner,
                in_loop=inner and point.in_loop,
            )
        )
    resumes: list[CodeType] = []
    continuations: list[Continuation] = []
    for link in links[1:]:
        made, handed_back = continuation_code(link.frame.code, link.native)
        resumes += handed_back
        continuations.append(continuation(link.frame, link.state, made, link.native.entry))
    emit_state(tracer, emitter, links[0].state, continuations)
    final_facts(tracer, tracer.side_effects.written_objects())
    state.restore()
    prefix = emit_prefix(tracer, emitter, compile_graph)
    replacement, called = code_of_break(
        tracer.code, prefix.instructions, links[0].native, emitter, prefix.extra_arguments
    )
    return CapturedFrame(
        qualified_name(tracer.code),
        tracer.code,
        replacement,
        prefix.graph,
        tracer.guards.freeze(),
        point.record,
        (*resumes, *called),
        len(point.region),
        handed=prefix.handed,
    )


@dataclass(frozen=True, slots=True)
class _Link:
    """One of the frames that a break is inside of: its state and its native part."""

    frame: SymbolicFrame
    state: FrameState
    native: NativePart


def _link(
    frame: SymbolicFrame, start: int, region: frozenset[int], given: Collection[str], *, calls: bool, in_loop: bool
) -> _Link:
    """A frame that goes on natively from `start`: with `calls`, at the call that begins there; `in_loop`, in a loop."""
    code, decoded = frame.code, frame.decoded
    copy = copy_of(code)
    live = copy.live_before(start)
    kept = live | {code.co_varnames[0]} if needs_self(code) else live
    own = {*code.co_cellvars, *code.co_freevars}
    bound = frozenset(
        name for name, value in zip(decoded.slot_names, frame.slots) if value is not None and name not in own
    )
    nulls = tuple(isinstance(value, Null) for value in frame.stack)
    exits: list[Exit] = []
    if not copy.makes_inner_cells:
        exits = find_exits(decoded, start, region, nulls, bound, copy.live_before)
    loop = try_loop_body(frame, region, bound) if in_loop else None
    taken = _places_of_call(decoded, start) if calls else 0
    names = tuple(name for name in decoded.slot_names if name in live and name in bound)
    entry = Exit(start, nulls[: len(nulls) - taken], names, calls)
    return _Link(frame, state_at_break(frame, kept, given, taken), NativePart(entry, tuple(exits), loop))


def _places_of_call(decoded: DecodedCode, start: int) -> int:
    """How many places of the stack the call that begins at `start` takes."""
    call = decoded.instructions[last_of_call(decoded, start)]
    return places_of_call(call.name, call.arg)
