"""Conversion of a frame, all stages on one page: trace, place the break, emit code, compile the graph, assemble.

`FrameCallback` asks for it when no cache entry fits a frame. Invariants: tracing touches nothing real, so it may be
repeated from the start; torch's state is restored whatever happens; nothing of the user's program is run but what it
gave for graphs (operators, functions of `allow_in_graph`), and a trace that this changed the program under counts for
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from types import CodeType

from .bytecode.version import places_of_call, qualified_name
from .captured_frame import CapturedFrame
from .code_cache import GuardsDoNotHoldError
from .config import CaptureConfig
from .errors import GraphBreakError
from .graph.builder import EagerWouldRaise
from .graph.tensor_sizes import AssumedOtherSizes, SymbolicSizes
from .graph.unheard_warnings import ready_for_unheard
from .graph_break import BreakId, BreakRecord, GraphBreak, ShapeOfDataBreak, SkipFrame
from .guards.facts import GuardSetBuilder
from .guards.reason import first_failure
from .idle_breaks import IdleBreaks
from .interpreter.body_copy import copy_of, is_resumed_too_often, needs_self
from .interpreter.dispatch import Signal
from .interpreter.dropped_objects import EndsTooLate
from .interpreter.frame import FramePlace, Null, SymbolicFrame
from .interpreter.host_only import outermost_host_only
from .interpreter.instructions import DecodedCode
from .interpreter.loop_body import try_loop_body
from .interpreter.output import (
    CompileGraph,
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
from .interpreter.refusal import looks_at_callers, refuse_frame
from .interpreter.region import Exit, call_group, find_exits
from .interpreter.resume import NativePart, code_of_break, continuation_code, last_of_call
from .interpreter.torch_state import TorchState
from .interpreter.tracer import FrameTracer
from .skip_policy import SkipPolicy
from .source import FrameScope
from .variables.base import ObservedException, Value
from .variables.builder import final_facts
from .varying import NOTHING_VARIES, Varying

_FEW_OPERATIONS = 4  # between two shapes that depend on data: not worth a graph for each shape


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
    varying: Varying = NOTHING_VARIES,
    idle_breaks: IdleBreaks | None = None,
    symbolic_sizes: SymbolicSizes = SymbolicSizes.NONE,
    data_sizes: bool = False,
) -> CapturedFrame:
    """Convert one frame; numbers that are `varying` become inputs; `idle_breaks` grows by what breaks here.
    `data_sizes`: sizes that depend on data are symbols of the graph, in place of breaks.

    Raises SkipFrame, GraphBreakError (fullgraph), or what `compile_graph` raises.
    """
    refuse_frame(code)
    tried: list[BreakPoint] = []
    point: BreakPoint | None = None
    of_shape = breaks_at_drops = sizes_as_given = False
    while True:
        stop = None if point is None else point.stop
        tracer = FrameTracer(
            code,
            scope,
            policy,
            stop,
            varying,
            symbolic_sizes=symbolic_sizes,
            sizes_as_given=sizes_as_given,
            data_sizes=data_sizes,
            whole_graph=config.fullgraph,
            idle_breaks=idle_breaks,
            breaks_at_drops=breaks_at_drops,
        )
        attempt.guards = tracer.guards
        try:
            finish = _Finish(point, of_shape, config, compile_graph, idle_breaks)
            found = _trace(tracer, finish)
            if isinstance(found, CapturedFrame):
                return found
            if tracer.graph.sizes.has_other_hints and found.is_users_error:
                raise AssumedOtherSizes(found.record.cause)
            if tracer.graph.ran_user_code:
                _check_guards(tracer, code, scope)
            if config.fullgraph:
                if not found.is_users_error:
                    raise GraphBreakError(found.record)
                # Eager raises the real error; nothing below this frame may ask for a whole graph meanwhile.
                guards = tracer.guards.freeze()
                return CapturedFrame(qualified_name(code), code, code_of_eager(code), None, guards, found.record)
            if found.raised is not None and not tracer.graph.has_operations:
                raise SkipFrame(BreakId.EXCEPTION_NOT_MODELLED, f"nothing is computed: {found.record.cause}")
            if point is not None and point.keeps_locals and tracer.stopped is not None and not found.raises:
                point = replace(point, keeps_locals=False)  # a local that nothing reads cannot be rebuilt
                continue
            of_shape = isinstance(found.cause, ShapeOfDataBreak)
            point = place_break(_frames_to_break(tracer, found, tried, config), found.record, tried)
            tried.append(point)
            point = replace(point, keeps_locals=found.raises)
            if len(tried) > config.longest_chain:
                raise SkipFrame(BreakId.FRAME_NOT_MODELLED, f"no place to break: {found.record.cause}")
        except EndsTooLate:
            if breaks_at_drops:
                raise SkipFrame(BreakId.SIDE_EFFECT_ORDER, "an object ends that tells when it ends") from None
            breaks_at_drops = True
        except AssumedOtherSizes:
            sizes_as_given = True
        finally:
            tracer.release()


def _check_guards(tracer: FrameTracer, code: CodeType, scope: FrameScope) -> None:
    """Raise GuardsDoNotHoldError if running code of the user's on fake tensors changed what the trace had looked at.

    The next trace would find the program as this one left it, and be right only for that."""
    failure = first_failure(tracer.guards.freeze(), scope)
    if failure is not None:
        raise GuardsDoNotHoldError(code, str(failure))


@dataclass(frozen=True, slots=True)
class _Finish:
    """What a trace that got to its end needs to become a frame. `point`: where it shall stop, None: at a return;
    `of_shape`: because of a shape that depends on data."""

    point: BreakPoint | None
    of_shape: bool
    config: CaptureConfig
    compile_graph: CompileGraph
    idle_breaks: IdleBreaks | None


@dataclass(frozen=True, slots=True)
class _Broken:
    """How a trace broke. `raised`: by an exception that the frame does not catch."""

    cause: GraphBreak
    raised: Value | None
    record: BreakRecord

    @property
    def raises(self) -> bool:
        """Whether an exception of the program has to be raised for real."""
        return self.raised is not None or self.cause.raised_value is not None

    @property
    def is_users_error(self) -> bool:
        """Whether the program itself raises here: an exception that nobody catches, or an operation in error."""
        return self.raised is not None or isinstance(self.cause.__cause__, EagerWouldRaise)


def _trace(tracer: FrameTracer, finish: _Finish) -> CapturedFrame | _Broken:
    """Trace to a return, to the stop, or until it breaks; torch's state is then as it was."""
    state = TorchState()
    raised: Value | None = None
    try:
        with ready_for_unheard():
            signal = tracer.run()
        return _finished(tracer, signal, finish, state)
    except ObservedException as error:
        raised = error.value
        cause = f"{error.value.describe()} is not caught in the frame"
        broken = GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
    except RecursionError:
        cause = "something nested in itself, or deeper than the tracer can follow"
        broken = GraphBreak(BreakId.CALL_NOT_MODELLED, cause, breaks_in_root=True)
    except GraphBreak as error:
        broken = error
        broken.forget_frames()
    finally:
        tracer.abandon_state()
        state.restore()
    return _Broken(broken, raised, _record(tracer, broken))


def _finished(tracer: FrameTracer, signal: Signal, finish: _Finish, state: TorchState) -> CapturedFrame:
    emitter = ValueEmitter(tracer.code, tracer.side_effects)
    tracer.check_generators()
    tracer.close_state()
    if signal is Signal.STOPPED:
        if finish.idle_breaks is not None and not tracer.graph.has_operations:
            finish.idle_breaks.note(place.frame.code for place in _frames_to(tracer.stopped)[1:])
        return _finish_break(tracer, emitter, finish, state)
    if not (tracer.graph.has_operations or finish.config.convert_without_tensor_work):
        raise SkipFrame(BreakId.NO_TENSOR_WORK, f"`{tracer.code.co_name}` does no tensor work")
    return _finish_return(tracer, emitter, finish.compile_graph, state)


def _record(tracer: FrameTracer, broken: GraphBreak) -> BreakRecord:
    line = broken.user_line or tracer.user_line
    return BreakRecord(broken.break_id, broken.cause, broken.hint, line, broken.stack or tracer.user_stack())


def _frames_to_break(
    tracer: FrameTracer, found: _Broken, tried: Sequence[BreakPoint], config: CaptureConfig
) -> Sequence[FramePlace]:
    """The frames that a break is placed in, the root first. Raises SkipFrame if the root had better run natively."""
    frames = _broken_frames(tracer, found, tried)
    if not config.convert_without_tensor_work:
        frames = _without_host_only(tracer, frames)
    if isinstance(found.cause, ShapeOfDataBreak) and found.raised is None:
        frames = _without_shapes_of_data(tracer, frames, found.record)
    return frames


def _broken_frames(tracer: FrameTracer, found: _Broken, tried: Sequence[BreakPoint]) -> Sequence[FramePlace]:
    """The frames that were open where a trace broke, or where an exception was raised that must be raised for real."""
    error = found.cause.raised_value if found.raised is None else found.raised
    if error is not None:
        frames = tracer.frames_of_raise(error)
        if found.raised is not None or not is_tried(frames, tried):
            return frames
    if tracer.stopped is not None:  # it got to the stop, but the state there could not be rebuilt
        return _frames_to(tracer.stopped)
    frames = tracer.frames_of_break(found.cause)
    shows_callers = any(looks_at_callers(place.frame.code) for place in frames[1:])
    return frames[:1] if found.cause.breaks_in_root or shows_callers else frames


def _without_host_only(tracer: FrameTracer, frames: Sequence[FramePlace]) -> Sequence[FramePlace]:
    """The frames below the first that reaches no tensor: it runs natively as a whole. Raises SkipFrame for the root."""
    first = outermost_host_only(frames)
    if first is None:
        return frames
    if first > 0:
        return frames[:first]
    if tracer.graph.has_operations:
        return frames
    raise SkipFrame(BreakId.NO_TENSOR_WORK, f"`{tracer.code.co_name}` can reach no tensor")


def _without_shapes_of_data(
    tracer: FrameTracer, frames: Sequence[FramePlace], record: BreakRecord
) -> Sequence[FramePlace]:
    """The frames below one that goes on behind a shape that depends on data, and soon meets another: the rest of that
    frame runs natively. Small graphs would be made again for each shape. Raises SkipFrame for the root."""
    innermost = frames[-1].frame
    if tracer.graph.operations > _FEW_OPERATIONS or not copy_of(innermost.code).has_shapes_of_data:
        return frames
    if len(frames) == 1:
        raise SkipFrame(record.break_id, f"again, {record.cause}")
    return frames[:-1] if innermost.is_plain else frames


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


def _finish_break(tracer: FrameTracer, emitter: ValueEmitter, finish: _Finish, state: TorchState) -> CapturedFrame:
    point = finish.point
    assert point is not None
    links = _links(tracer, point)
    resumes: list[CodeType] = []
    handed_back: Sequence[CodeType] = ()
    continuations: list[Continuation] = []
    for link in links[1:]:
        made, handed_back = continuation_code(link.frame.code, link.native)
        resumes += handed_back
        continuations.append(continuation(link.frame, link.state, made, link.native.entry))
    emit_state(tracer, emitter, links[0].state, continuations)
    final_facts(tracer, tracer.side_effects.written_objects())
    state.restore()
    prefix = emit_prefix(tracer, emitter, finish.compile_graph)
    replacement, called = code_of_break(
        tracer.code, prefix.instructions, links[0].native, emitter, prefix.extra_arguments
    )
    if finish.of_shape:
        for resume in handed_back if len(links) > 1 else called:
            copy_of(resume).has_shapes_of_data = True
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


def _links(tracer: FrameTracer, point: BreakPoint) -> list[_Link]:
    """The frames that are open where a trace stopped, the root first."""
    links: list[_Link] = []
    for place in _frames_to(tracer.stopped):
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
                keeps_locals=point.keeps_locals,
            )
        )
    return links


def _link(
    frame: SymbolicFrame,
    start: int,
    region: frozenset[int],
    given: Collection[str],
    *,
    calls: bool,
    in_loop: bool,
    keeps_locals: bool,
) -> _Link:
    """A frame that goes on natively from `start`: with `calls`, at the call that begins there; `in_loop`, in a loop.

    `keeps_locals`: with all locals, not only those that are read later."""
    code, decoded = frame.code, frame.decoded
    copy = copy_of(code)
    live = copy.live_before(start) | (copy.user_locals if keeps_locals else frozenset())
    kept = live | {code.co_varnames[0]} if needs_self(code) else live
    taken = _places_of_call(decoded, start) if calls else 0
    state = state_at_break(frame, kept, given, taken)
    own = {*code.co_cellvars, *code.co_freevars}
    bound = frozenset(
        name for name, value in zip(decoded.slot_names, frame.slots) if value is not None and name not in own
    )
    nulls = tuple(isinstance(value, Null) for value in frame.stack)
    loop = try_loop_body(frame, region, bound) if in_loop else None
    exits: list[Exit] = []
    if not copy.makes_inner_cells and not is_resumed_too_often(code):
        carried = copy.user_locals if loop is None else copy.user_locals - loop.written
        exits = find_exits(decoded, start, region, nulls, state.bound_names, copy.live_before, carried)
    passed = state.bound_names & (live | copy.user_locals)
    names = tuple(name for name in decoded.slot_names if name in passed)
    entry = Exit(start, nulls[: len(nulls) - taken], names, calls)
    return _Link(frame, state, NativePart(entry, tuple(exits), loop))


def _places_of_call(decoded: DecodedCode, start: int) -> int:
    """How many places of the stack the call that begins at `start` takes."""
    call = decoded.instructions[last_of_call(decoded, start)]
    return places_of_call(call.name, call.arg)
