"""Output code: what a finished trace becomes: call the graph, replay the side effects, leave the result.

A trace that reached its end returns its value; one that stopped before an instruction rebuilds stack and locals and
continues in a copy of the original code (`resume`). Invariants: everything that is read from a source is read before
the first side effect; the original code's names and handlers are untouched in the copy.
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import CellType, CodeType, FunctionType
from typing import Any

import torch.fx

from .. import _native
from ..bytecode.assemble import EditableCode, assemble, disassemble, prologue, prologue_end
from ..bytecode.emitter import Emitter
from ..bytecode.emitter import Instruction as CodeItem
from ..errors import REPORT, CaptureWarning
from ..graph.failed_checks import FailedChecks
from ..graph.late_reads import checking_late_reads
from ..graph.rerun import RERUN, or_rerun
from ..graph.traced_graph import TracedGraph
from ..graph_break import BreakId, GraphBreak
from ..guards.tree import NOTHING_HANDED, Handed
from ..source import Source
from ..variables.base import Value
from ..variables.cell import CellValue
from .body_copy import needs_self
from .frame import LastInstruction, Null, SavedException, SymbolicFrame, Unread
from .reconstruct import SourceEmitter, ValueEmitter, is_held, is_in_place
from .region import Exit
from .resume import argument_names
from .scope import GlobalScope
from .tracer import FrameTracer


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a backend made of a graph, and who counts the calls whose data fail its checks (None: it has none)."""

    call: Callable[..., Any]
    checks: FailedChecks | None = None


CompileGraph = Callable[[TracedGraph], Compiled]

_TWICE = "The call ran again as plain Python, so operators and functions of yours in the graph may have run twice."

HANDED_LOCAL = "__lampwork_handed"  # the last argument of replacement code that the guard check hands something to


@dataclass(frozen=True, slots=True)
class FrameState:
    """What must be real of one frame at a graph break: the stack from the bottom (None: NULL), the locals by name."""

    stack: tuple[Value | None, ...]
    local_values: dict[str, Value]
    deleted: tuple[str, ...]  # locals of the root frame that were given and hold something else, or nothing, now
    cells: tuple[CellValue, ...]
    in_place: tuple[str, ...] = ()  # locals of the root frame that hold what they were given

    @property
    def bound_names(self) -> frozenset[str]:
        """The locals that are bound in the copy where the break is."""
        return frozenset((*self.local_values, *self.in_place))


@dataclass(frozen=True, slots=True)
class Continuation:
    """An inlined frame that goes on as a function of its own: its code, and the state that it takes."""

    code: CodeType
    scope: GlobalScope
    closure: tuple[CellValue, ...]
    arguments: tuple[Value, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        return (*self.closure, *self.arguments)


def state_at_break(frame: SymbolicFrame, live: frozenset[str], given: Collection[str], taken: int = 0) -> FrameState:
    """The state of a frame where the trace stopped, without the `taken` topmost places of its stack.

    Of the locals that are not `live` it keeps the objects that nothing else may hold. `given` are the locals that
    replacement code starts with. Raises GraphBreak for what cannot be rebuilt.
    """
    stack: list[Value | None] = []
    for value in frame.stack[: len(frame.stack) - taken]:
        if isinstance(value, (LastInstruction, SavedException)):
            raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "a break while an exception is being handled")
        stack.append(None if isinstance(value, Null) else value)
    code = frame.code
    own_cells = {*code.co_cellvars, *code.co_freevars}
    local_values: dict[str, Value] = {}
    deleted: list[str] = []
    in_place: list[str] = []
    cells: list[CellValue] = []
    for name, value in zip(frame.decoded.slot_names, frame.slots):
        if name in own_cells:
            if isinstance(value, CellValue):
                if frame.parent is None and value.source is None and not value.in_root:
                    cause = f"the cell of `{name}` inside a comprehension"
                    raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, cause)
                cells.append(value)
            elif frame.parent is not None:
                raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, f"`{name}` has no cell yet")
        elif value is None:
            if name in given:
                deleted.append(name)
        elif name in given and (isinstance(value, Unread) or is_in_place(name, value)):
            in_place.append(name)
        elif name in live or is_held(value) or (name in given and value.source is not None):
            local_values[name] = value
        elif name in given:
            deleted.append(name)
    return FrameState(tuple(stack), local_values, tuple(deleted), tuple(cells), tuple(in_place))


def continuation(frame: SymbolicFrame, state: FrameState, code: CodeType, entry: Exit) -> Continuation:
    """What rebuilds an inlined frame with `state` at `entry`; `code` is entered there."""
    by_name = dict(zip(frame.decoded.slot_names, frame.slots))
    closure: list[CellValue] = []
    for name in code.co_freevars:
        cell = by_name[name]
        assert isinstance(cell, CellValue)
        closure.append(cell)
    arguments: list[Value] = []
    if needs_self(frame.code):
        first = frame.first_argument()
        assert first is not None
        arguments.append(first)
    arguments += [state.local_values[name] for name in argument_names(frame.code, entry)]
    arguments += [value for value in state.stack if value is not None]
    return Continuation(code, frame.scope, tuple(closure), tuple(arguments))


def emit_return(tracer: FrameTracer, emitter: ValueEmitter, result: Value) -> None:
    """Side effects, then the value."""
    tracer.dropped.check([result, *tracer.side_effects.written_values()])
    emitter.count_uses([result, *tracer.side_effects.written_values()])
    tracer.side_effects.emit(emitter)
    emitter.load_value(result)
    emitter.run_later()
    emitter.return_value()


def emit_state(
    tracer: FrameTracer, emitter: ValueEmitter, state: FrameState, continuations: Sequence[Continuation] = ()
) -> None:
    """Side effects, then stack and locals of the root frame; on top of its stack what the call there calls."""
    roots = [value for value in state.stack if value is not None]
    roots += state.local_values.values()
    for part in continuations:
        roots += part.values
    cell_contents = [contents for cell in state.cells if (contents := cell.peek()) is not None]
    kept = [*roots, *cell_contents, *tracer.side_effects.written_values()]
    tracer.dropped.check([*kept, *tracer.held_values()])
    emitter.count_uses(kept)
    tracer.side_effects.emit(emitter)
    for cell in state.cells:
        if cell.in_root:
            emitter.fill_root_cell(cell)
    for value in state.stack:
        if value is None:
            emitter.push_null()
        else:
            emitter.load_value(value)
    if continuations:
        emitter.begin_call(_native.call_unfinished)
        _load_continuations(emitter, continuations)
    moved = {n: v for n, v in state.local_values.items() if not is_in_place(n, v)}
    for value in moved.values():
        emitter.load_value(value)
    emitter.run_later()
    for name in reversed(moved):
        emitter.emit("STORE_FAST", name)
    for name in state.deleted:
        emitter.emit("DELETE_FAST", name)
    for name in emitter.temporaries:
        emitter.emit("DELETE_FAST", name)


def _load_continuations(emitter: ValueEmitter, continuations: Sequence[Continuation]) -> None:
    """Push the function of the first and the tuple of its arguments, of which the last two are those of the next."""
    first, *rest = continuations
    if first.scope.is_root:
        for cell in first.closure:
            emitter.load_value(cell)
        emitter.build_tuple(len(first.closure))
        emitter.finish_function(first.code, 0x08)
    else:
        emitter.begin_call(FunctionType)
        emitter.load_constant(first.code)
        first.scope.emit_namespace(emitter)
        emitter.load_constant(first.code.co_name)
        emitter.load_constant(None)
        for cell in first.closure:
            emitter.load_value(cell)
        emitter.build_tuple(len(first.closure))
        emitter.call(5)
    for value in first.arguments:
        emitter.load_value(value)
    if rest:
        _load_continuations(emitter, rest)
    emitter.build_tuple(len(first.arguments) + (2 if rest else 0))


@dataclass(frozen=True, slots=True)
class Prefix:
    """The generated part of replacement code, and the graph that it calls (None: no tensor work)."""

    instructions: list[CodeItem]
    graph: TracedGraph | None
    handed: Handed = NOTHING_HANDED  # by the guard check; everything else is read by the code itself

    @property
    def extra_arguments(self) -> tuple[str, ...]:
        return (HANDED_LOCAL,) if self.handed.inputs else ()


def handed_by_check(tracer: FrameTracer, traced: TracedGraph, preloads: Iterable[Source]) -> Handed:
    """What the guard check shall hand over, which has it at hand anyway: all graph inputs, and what else it knows.

    Nothing if all inputs are arguments, which bytecode loads for less, or if one is not in the guard tree.
    """
    sources = tuple(entry.source for entry in traced.inputs)
    guarded = {guard.fact.source for guard in tracer.guards.freeze()}
    if all(source.parent is None for source in sources) or not guarded.issuperset(sources):
        return NOTHING_HANDED
    return Handed(sources, tuple(source for source in preloads if source.parent is not None and source in guarded))


def emit_prefix(tracer: FrameTracer, body: ValueEmitter, compile_graph: CompileGraph) -> Prefix:
    """Everything in front of the copy: the graph call, the reads of sources, then what `body` emitted."""
    outputs = body.outputs
    head = SourceEmitter(tracer.code)
    traced: TracedGraph | None = None
    handed = NOTHING_HANDED
    if tracer.graph.has_operations:
        nodes: list[torch.fx.Node] = list(outputs)
        tracer.graph.check_outputs(nodes)
        traced = tracer.graph.freeze(nodes)
        if traced.operator_count == 0 and not nodes:
            traced = None
        else:
            tracer.graph.sizes.check_assumed()
            tracer.graph.sizes.check_marks()
            made = compile_graph(traced)
            compiled = made.call
            tracer.graph.sizes.check_assumed()
            tracer.graph.sizes.check_marks()
            if tracer.graph.late_reads:
                compiled = checking_late_reads(compiled, tuple(tracer.graph.late_reads.values()))
            if tracer.graph.can_rerun:
                written = tracer.graph.input_writes.positions(traced.inputs)
                compiled = or_rerun(compiled, draws_random=tracer.graph.fake_mode.draws_random, written=written)
            handed = handed_by_check(tracer, traced, body.preloads)
            head.plan(source for source in body.preloads if source not in handed.extras)
            if handed.inputs:
                _emit_call_of_handed(head, compiled, handed, body.preloads)
            else:
                _emit_call(head, compiled, traced)
            if tracer.graph.can_rerun:
                _emit_rerun(head, tracer.code, _rerun_of(tracer, made.checks))
            if nodes:
                head.unpack_sequence(len(nodes))
                for name in outputs.values():
                    head.emit("STORE_FAST", name)
            else:
                head.pop()
    elif outputs:
        raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, "a tensor input without a source")
    for source, name in body.preloads.items():
        if source not in handed.extras:
            head.load_source(source)
            head.emit("STORE_FAST", name)
    tracer.graph.sizes.check_assumed()  # a frame may have guards about sizes and no graph
    return Prefix([*head.instructions, *body.instructions], traced, handed)


def _emit_call(head: SourceEmitter, compiled: Callable[..., Any], traced: TracedGraph) -> None:
    head.plan(entry.source for entry in traced.inputs)
    head.begin_call(compiled)
    for entry in traced.inputs:
        head.load_source(entry.source)
    head.call(len(traced.inputs))


def _emit_call_of_handed(
    head: SourceEmitter, compiled: Callable[..., Any], handed: Handed, names: Mapping[Source, str]
) -> None:
    """Take apart what the guard check handed over, and call the graph; what follows must not keep its inputs alive."""
    if handed.extras:
        head.emit("LOAD_FAST", HANDED_LOCAL)
        head.unpack_sequence(1 + len(handed.extras))
        for name in (HANDED_LOCAL, *(names[source] for source in handed.extras)):
            head.emit("STORE_FAST", name)
    head.begin_call(compiled)
    head.emit("LOAD_FAST", HANDED_LOCAL)
    head.emit("DELETE_FAST", HANDED_LOCAL)
    head.call_with_tuple()


def code_of_return(code: CodeType, prefix: Prefix) -> CodeType:
    """Replacement code of a trace that reached its end."""
    editable = disassemble(code)
    start = prologue_end(editable.instructions)
    editable.instructions = [*editable.instructions[:start], *prefix.instructions]
    return finish(editable, prefix.extra_arguments)


@dataclass(frozen=True, slots=True)
class Rerun:
    """Why a frame runs again as plain Python, as far as the user must know of it; by default it never ran before."""

    must_raise: bool = False  # its graph raised what the program handles nowhere: if plain Python does not, it is wrong
    repeats_user_code: bool = False  # operators or functions of the user's in the graph may have run before
    checks: FailedChecks | None = None  # the graph checks data: what fails is no error in eager, such as a size of 1


def _rerun_of(tracer: FrameTracer, checks: FailedChecks | None) -> Rerun:
    return Rerun(not tracer.may_catch and checks is None, tracer.graph.calls_user_code, checks)


def run_eagerly(
    reference: weakref.ref[CodeType],
    variables: dict[str, Any],
    closure: tuple[CellType, ...],
    rerun: Rerun,
    positional: tuple[Any, ...],
    rest: tuple[Any, ...],
    named: dict[str, Any],
    more: dict[str, Any],
) -> Any:
    """Call the original code with capture off. It is alive: a call of it is running. What was emitted does not hold it,
    since an entry of its cache would then keep it.

    What `rerun` says of it is told by a CaptureWarning.
    """
    code = reference()
    assert code is not None
    function = FunctionType(code, variables, code.co_name, None, closure or None)
    place = f"`{code.co_name}`, {code.co_filename}:{code.co_firstlineno}"
    try:
        result = _native.call_disabled(function, *positional, *rest, **named, **more)
    except Exception:
        if rerun.repeats_user_code:
            warnings.warn(f"The compiled graph of {place} raised. {_TWICE}", CaptureWarning, stacklevel=2)
        raise
    if rerun.checks is not None:
        rerun.checks.ran_eagerly()
    if rerun.must_raise or rerun.repeats_user_code:
        more_of_it = _TWICE if rerun.repeats_user_code else REPORT
        message = f"The compiled graph of {place} raised where plain Python does not; the call ran eagerly."
        warnings.warn(f"{message} {more_of_it}", CaptureWarning, stacklevel=2)
    return result


def code_of_eager(code: CodeType) -> CodeType:
    """Replacement code that runs the original, and all that it calls, as plain Python."""
    editable = disassemble(code)
    emitter = Emitter((), code.co_freevars, code.co_varnames)
    _emit_eager_call(emitter, code, Rerun())
    emitter.return_value()
    editable.cellvars = []
    editable.instructions = [*prologue([], list(code.co_freevars)), *emitter.instructions]
    return finish(editable)


def _emit_rerun(emitter: Emitter, code: CodeType, rerun: Rerun) -> None:
    """Behind the call of the graph: if it raised, run the frame from its start as plain Python."""
    ran = emitter.label()
    emitter.copy(1)
    emitter.load_constant(RERUN)
    emitter.emit("IS_OP", 0)
    emitter.pop_jump_if_false(ran)
    emitter.pop()
    _emit_eager_call(emitter, code, rerun)
    emitter.return_value()
    emitter.place(ran)


def _emit_eager_call(emitter: Emitter, code: CodeType, rerun: Rerun) -> None:
    """Call the original with the frame's arguments, and all that it calls as plain Python."""
    names = list(code.co_varnames)
    keyword_only = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    stars = names[code.co_argcount + code.co_kwonlyargcount :]
    emitter.begin_call(run_eagerly)
    emitter.load_constant(weakref.ref(code))
    emitter.begin_call(globals)
    emitter.call(0)
    for name in code.co_freevars:
        emitter.load_closure(name)
    emitter.build_tuple(len(code.co_freevars))
    emitter.load_constant(rerun)
    for name in names[: code.co_argcount]:
        emitter.load_local(name)
    emitter.build_tuple(code.co_argcount)
    if code.co_flags & inspect.CO_VARARGS:
        emitter.load_local(stars.pop(0))
    else:
        emitter.load_constant(())
    for name in keyword_only:
        emitter.load_constant(name)
        emitter.load_local(name)
    emitter.build_dict(len(keyword_only))
    if code.co_flags & inspect.CO_VARKEYWORDS:
        emitter.load_local(stars.pop(0))
    else:
        emitter.build_dict(0)
    emitter.call(8)


def finish(editable: EditableCode, extra_arguments: Sequence[str] = ()) -> CodeType:
    """Assemble replacement code: every argument slot is a plain positional argument."""
    editable.take_plain_arguments(extra_arguments)
    editable.stack_size = 0
    return assemble(editable)
