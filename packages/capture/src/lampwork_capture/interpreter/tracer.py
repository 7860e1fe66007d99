"""FrameTracer: one trace of one frame; what traced values call back (`variables.base.Tracer`).

It owns what the trace collects: the graph, the guards, the side effects; and the stack of symbolic frames. Invariant:
torch's grad mode and the like are, during the trace, what the traced program would see, and are restored after it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CellType, CodeType
from typing import Any, NoReturn

import torch
from torch.utils._pytree import tree_leaves

from ..bytecode.version import PY311
from ..graph.builder import HAS_KERNELS, MAY_RAISE, EagerWouldRaise, GraphBuilder
from ..graph.late_reads import LateRead
from ..graph.scalar_inputs import ScalarInputs
from ..graph.tensor_sizes import SymbolicSizes, TensorSizes
from ..graph_break import BreakId, GraphBreak, SkipFrame
from ..guards.facts import GLOBAL_STATE, Fact, GlobalStateIs, GuardSetBuilder, SameObject, UserLine
from ..guards.global_state import SAVED_TENSOR_HOOKS, read_global_state
from ..idle_breaks import IdleBreaks
from ..skip_policy import PROTECTED_MARK, CallPolicy, SkipPolicy
from ..source import AttributeSource, CellObjectSource, CellSource, FrameScope, GlobalSource, LocalSource, Source
from ..variables import builder
from ..variables.base import ObservedException, Value
from ..variables.cell import CellValue
from ..variables.context_manager import emit_grad_mode
from ..variables.dict import DictValue, dict_contents
from ..variables.exception import ExceptionValue, raise_value
from ..variables.function import FunctionValue, MethodValue
from ..variables.generator import GeneratorValue, drop
from ..variables.graph_context import GraphContextValue
from ..variables.list import ListValue
from ..variables.operators import hash_key
from ..variables.range import SliceValue
from ..variables.set import make_set
from ..variables.torch_function import guarded_state
from ..variables.tuple import TupleValue
from ..varying import NOTHING_VARIES, Varying
from . import opcodes
from .dispatch import Signal
from .dropped_objects import DroppedObjects
from .frame import FramePlace, StopPlace, SymbolicFrame, Unread
from .handlers import is_for_missing_kernels, objects_reset, undoes_only
from .instructions import HandlerEntry
from .refusal import GENERATOR, NOT_PLAIN, looks_at_its_frame
from .scope import GlobalScope
from .side_effects import SideEffects
from .suspended_generator import SuspendedGenerator
from .torch_state import drop_needless_grad_modes

_DEEPEST = 60
_MOST_ITERATIONS = 5_000
_MOST_GUARDS = 10_000  # before the first operation on a tensor
_MOST_IDLE = 3_000  # rounds of loops and calls in a row that work with no tensor
_COMPARED_LATER = (bool, int, float, complex, str, bytes)
_READ_LATER = (*_COMPARED_LATER, list, dict, set, tuple)


class TraceStopped(BaseException):
    """The trace reached its stop in an inlined frame (internal: leaves the frames below as they are)."""


class FrameTracer:
    """One trace. `run` follows the root frame to its end or to `stop`; `stopped` is then the frame that stopped."""

    def __init__(
        self,
        code: CodeType,
        scope: FrameScope,
        policy: SkipPolicy,
        stop: StopPlace | None = None,
        varying: Varying = NOTHING_VARIES,
        *,
        symbolic_sizes: SymbolicSizes = SymbolicSizes.NONE,
        sizes_as_given: bool = False,
        data_sizes: bool = False,
        whole_graph: bool = False,
        idle_breaks: IdleBreaks | None = None,
        breaks_at_drops: bool = False,
    ) -> None:
        self._idle_breaks = idle_breaks
        self.code = code
        self._whole_graph = whole_graph  # whether Python's own work may take as long as it likes
        self._idle = 0
        self._operations = 0
        self.frame_scope = scope
        self.policy = policy
        scalars = ScalarInputs(varying, lambda: self.user_line)
        sizes = TensorSizes(scalars, varying, symbolic_sizes, as_given=sizes_as_given, takes_data=data_sizes)
        self.graph = GraphBuilder(scalars, sizes)
        self.dropped = DroppedObjects(self, must_break=breaks_at_drops)
        self.side_effects = SideEffects(self.dropped)
        self.guards = GuardSetBuilder()
        self.guards.add_late(scalars.guards)
        self.handled: Value | None = None
        self.called_from_handler = sys.exc_info()[1] is not None
        self.nesting = 0
        self.function_modes: Sequence[Value] = ()
        self.given_members: dict[tuple[int, str], Value] = {}
        self.visited: set[int] = set()
        self._scopes: dict[int, GlobalScope] = {}
        self._cells: dict[int, CellValue] = {}
        self._depth = 0
        self._open: list[GraphContextValue] = []
        self._iterations = 0
        self._generators: list[SuspendedGenerator] = []
        self._stop = stop
        self._entered = 0  # frames so far, besides the root
        self.stopped: SymbolicFrame | None = None
        self._broken: tuple[GraphBreak, tuple[FramePlace, ...]] | None = None
        self._raised: dict[int, tuple[Value, tuple[FramePlace, ...]]] = {}
        self._at_release: list[Callable[[], None]] = []
        self._grad_at_start = torch.is_grad_enabled()
        global_values: Any = scope.global_values
        root_scope = GlobalScope(global_values, None, is_root=True)
        self._scopes[id(global_values)] = root_scope
        self.root = SymbolicFrame(self, code, root_scope, None, None)
        self.may_catch = self.root.decoded.has_handlers  # whether an exception may be handled in what is traced
        if stop is not None and stop.serial == 0:
            self.root.stop_at = stop.index
        self.frame = self.root
        self._fill_root(code, scope)
        self.guard(GlobalStateIs(GLOBAL_STATE, read_global_state()))

    def _fill_root(self, code: CodeType, scope: FrameScope) -> None:
        slot_of = self.root.decoded.slot_of
        for name, obj in scope.local_values.items():
            self.root.slots[slot_of[name]] = Unread(obj, LocalSource(name))
        for name in code.co_freevars:
            cell = self.existing_cell(name, scope.cells[name], CellObjectSource(name), CellSource(name))
            self.root.slots[slot_of[name]] = cell
        self.root.make_cells()

    def run(self) -> Signal:
        """Trace the root frame. Raises ObservedException for an exception that it does not catch."""
        try:
            signal = self.root.run()
        except TraceStopped:
            return Signal.STOPPED
        if signal is Signal.STOPPED:
            self.stopped = self.root
        return signal

    # Where it broke

    def frames(self) -> tuple[FramePlace, ...]:
        """The open frames with their present instructions, the root first."""
        places: list[FramePlace] = []
        frame: SymbolicFrame | None = self.frame
        while frame is not None:
            handling = bool(frame.handler_origins)
            places.append(FramePlace(frame, frame.handler_origins[0] if handling else frame.index, handling))
            frame = frame.parent
        return tuple(reversed(places))

    def frames_of_break(self, broken: GraphBreak) -> tuple[FramePlace, ...]:
        """The frames that were open where a break was raised."""
        known = self._broken
        return known[1] if known is not None and known[0] is broken else self.frames()

    def frames_of_raise(self, error: Value) -> tuple[FramePlace, ...]:
        """The frames that were open where an exception was first raised."""
        known = self._raised.get(id(error))
        return self.frames() if known is None else known[1]

    def note_raised(self, error: Value) -> None:
        """An exception arrived in a frame: the first one that it arrives in is where it was raised."""
        if id(error) not in self._raised:
            self._raised[id(error)] = (error, self.frames())

    # What values ask

    @property
    def user_line(self) -> UserLine:
        frame = self.frame
        return frame.decoded.user_line(frame.index)

    @property
    def module_name(self) -> str | None:
        return self.frame.scope.variables.get("__name__")

    def frame_above(self, level: int) -> tuple[SymbolicFrame | None, int]:
        """The frame `level` callers above the one that is traced; None and how many above the root."""
        frame: SymbolicFrame | None = self.frame
        while frame is not None and level > 0:
            frame, level = frame.parent, level - 1
        return frame, 0 if frame is not None else level + 1

    def user_stack(self) -> tuple[UserLine, ...]:
        """The user's lines that are being traced, outermost first."""
        lines: list[UserLine] = []
        frame: SymbolicFrame | None = self.frame
        while frame is not None:
            lines.append(frame.decoded.user_line(frame.index))
            frame = frame.parent
        return tuple(reversed(lines))

    def guard(self, fact: Fact) -> None:
        self.guards.add(fact, self.user_line)

    def wrap(self, obj: Any, source: Source) -> Value:
        if len(self.guards) > _MOST_GUARDS and not self.graph.has_operations and not self._whole_graph:
            cause = f"more than {_MOST_GUARDS} guards on what is looked at, and no tensor work"
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, cause, breaks_in_root=True)
        if self.graph.runs_later and issubclass(type(obj), _READ_LATER) and not self.policy.is_torch(self.frame.code):
            self._read_later(obj, source)
        return builder.wrap(self, obj, source)

    def _read_later(self, obj: Any, source: Source) -> None:
        """A `backward` reads something: a plain value of a module is compared when it runs; else the graph breaks."""
        name = source.name if isinstance(source, (GlobalSource, AttributeSource)) else ""
        module = self.frame.scope.module
        if type(obj) not in _COMPARED_LATER or module is None or source != self.frame.scope.source_of(name):
            cause = f"a `backward` that reads `{source}`: it runs later, when that may have changed"
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
        self.graph.late_reads[module, name] = LateRead(module, name, self.user_line)

    def wrap_unread(self, value: Value) -> Value:
        """Wrap a local of the root frame at its first use."""
        if isinstance(value, Unread):
            assert value.source is not None
            return self.wrap(value.obj, value.source)
        return value

    def constant(self, obj: Any) -> Value:
        return builder.constant(self, obj)

    def held_values(self) -> list[Value]:
        """What the frames under tracing hold in their slots and on their stacks."""
        held: list[Value] = []
        frame: SymbolicFrame | None = self.frame
        while frame is not None:
            held += (value for value in frame.slots if value is not None)
            held += frame.stack
            frame = frame.parent
        return held

    def literal(self, obj: Any) -> Value:
        """The value of a constant of the bytecode."""
        return builder.constant(self, obj)

    def call(self, function: Value, args: Sequence[Value], kwargs: Mapping[str, Value] | None = None) -> Value:
        return function.call(self, args, kwargs or {})

    def tail_call(self, caller: Value, function: Value, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.frame.callee is caller:
            self.frame.callee = function
        return function.call(self, args, kwargs)

    def add_node(
        self,
        op: str,
        target: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        run: Callable[..., Any] | None = None,
    ) -> Value:
        try:
            node, result = self.graph.add_node(op, target, args, kwargs, self.user_line, run)
        except EagerWouldRaise as error:
            raise GraphBreak(
                BreakId.FAKE_TENSOR_FAILED, f"`{getattr(target, '__name__', target)}` raises: {error.error}"
            ) from error
        self._note_saved_tensors(result)
        if node.meta.get(MAY_RAISE):
            self._allow_raising(target, node.meta[HAS_KERNELS])
        if self.graph.late_reads and self.graph.input_writes:
            read = next(iter(self.graph.late_reads.values()))
            cause = f"a `backward` that reads `{read.name}`, in a graph that writes to its inputs"
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
        if self.graph.arrays > 1 and self.graph.input_writes:
            cause = "a write to an input, in a graph that reads arrays of NumPy, which may share memory"
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
        if self.graph.is_rerun and self.graph.cannot_repeat:
            name = getattr(target, "__name__", target)
            cause = f"`{name}`, {self.graph.cannot_repeat}, after an operation that may raise"
            raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
        return builder.wrap_result(self, node, result)

    def _allow_raising(self, target: Any, has_kernels: bool) -> None:
        """An operation that raises for some data: where the program sees when, the frame is rerun without the graph."""
        name = getattr(target, "__name__", target)
        if self.is_handled(has_kernels):
            self.graph.is_handled = True
            if self.graph.cannot_repeat:
                cause = f"`{name}` may raise inside a `try` or `with`, in a graph with {self.graph.cannot_repeat}"
                raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, cause)
            self.graph.is_rerun = True
        elif self._has_visible_effects():
            if self.graph.cannot_repeat:
                cause = f"`{name}` may raise behind side effects, in a graph with {self.graph.cannot_repeat}"
                raise GraphBreak(BreakId.SIDE_EFFECT_ORDER, cause)
            self.graph.is_rerun = True

    def _note_saved_tensors(self, result: Any) -> None:
        """What autograd saves for `result` goes through the hooks of the user's that are set around the frame."""
        if SAVED_TENSOR_HOOKS in self.graph.asked_state or not torch.is_grad_enabled():
            return
        if any(isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in tree_leaves(result)):
            self.graph.calls_hooks |= guarded_state(self, SAVED_TENSOR_HOOKS)

    def is_handled(self, has_kernels: bool = False) -> bool:
        """Whether the program would see an exception raised here: a handler that does more than restore torch's state
        covers the instruction in an open frame. `has_kernels`: the exception is no NotImplementedError."""
        if PROTECTED_MARK in self.code.co_varnames:
            return True
        return any(
            not (undoes_only(frame, entry) or (has_kernels and is_for_missing_kernels(frame, entry)))
            for frame, entry in self._open_handlers()
        )

    def _open_handlers(self) -> Iterator[tuple[SymbolicFrame, HandlerEntry]]:
        """The handlers that an exception raised here goes through if none stops it, the innermost first."""
        frame: SymbolicFrame | None = self.frame
        while frame is not None:
            entry = frame.decoded.handler_at(frame.index)
            while entry is not None:
                yield frame, entry
                entry = frame.decoded.handler_at(entry.target)
            frame = frame.parent

    def _has_visible_effects(self) -> bool:
        """Whether something is to be replayed that the handlers on the way of an exception do not undo."""
        if self.side_effects.is_empty():
            return False
        undone = [obj for frame, entry in self._open_handlers() for obj in objects_reset(frame, entry)]
        return not self.side_effects.is_only_about(undone)

    def raise_observed(self, exception_type: type[BaseException], *args: Any) -> NoReturn:
        values = [arg if isinstance(arg, Value) else self.constant(arg) for arg in args]
        raise_value(self, ExceptionValue.of(exception_type, values))

    def is_tracing_through(self, code: Any) -> bool:
        return self.policy.of_code(code) is CallPolicy.INLINE

    # Functions

    def scope_of(self, variables: dict[str, Any], function_source: Source | None) -> GlobalScope:
        """The scope of a function with these globals."""
        scope = self._scopes.get(id(variables))
        if scope is None:
            scope = self._scopes[id(variables)] = GlobalScope(variables, function_source, is_root=False)
        return scope

    def existing_cell(self, name: str, cell: CellType, source: Source, contents: Source) -> CellValue:
        """The value of a real cell, one for each."""
        value = self._cells.get(id(cell))
        if value is None:
            value = self._cells[id(cell)] = CellValue.existing(name, cell, source, contents)
        elif value.source is not None and value.source != source:
            self.guard(SameObject(source, value.source))
        return value

    def sourced_cells(self) -> list[CellValue]:
        """The real cells that the trace has met."""
        return list(self._cells.values())

    def bind_method(self, function: Value, owner: Value) -> Value:
        """The method of a function that was found in the class of a value."""
        return MethodValue(function, owner)

    def check_call(self, function: FunctionValue) -> None:
        """Raise GraphBreak if the function may not be traced."""
        known = self._idle_breaks
        if known is not None and not self.graph.has_operations and known.runs_natively(function.code):
            cause = f"{function.describe()}, where traces without tensor work keep breaking"
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, cause)
        self.policy.check_call(function.code, getattr(function, "function", None))

    def inline(self, function: Value, code_locals: Mapping[str, Value]) -> Value:
        assert isinstance(function, FunctionValue)
        code = function.code
        if code.co_flags & NOT_PLAIN:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{function.describe()} is a coroutine")
        if self._depth > _DEEPEST:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"calls nested deeper than {_DEEPEST}")
        self._count_idle()
        caller = self.frame
        is_plain, caller.callee = caller.callee is function, None
        self._entered += 1
        frame = SymbolicFrame(self, code, function.scope(self), caller, function, self._entered)
        self.may_catch |= frame.decoded.has_handlers
        frame.is_plain = is_plain and not code.co_flags & GENERATOR and not looks_at_its_frame(code)
        if self._stop is not None and self._stop.serial == frame.serial:
            frame.stop_at = self._stop.index
        slot_of = frame.decoded.slot_of
        for name, value in code_locals.items():
            frame.slots[slot_of[name]] = value
        if code.co_freevars:
            frame.slots[frame.decoded.first_free :] = function.cells(self)
        frame.make_cells()
        if code.co_flags & GENERATOR:
            if PY311:
                self.continue_frame(frame)  # up to its RETURN_GENERATOR
            suspended = SuspendedGenerator(self, frame)
            self._generators.append(suspended)
            return GeneratorValue(suspended, function, dict(code_locals))
        self.continue_frame(frame)
        assert frame.result is not None
        self.drop_locals(frame)
        return frame.result

    def drop_locals(self, frame: SymbolicFrame) -> None:
        """A frame has ended: a generator that only its locals held is closed."""
        for index in range(len(frame.slots)):
            if isinstance(frame.slots[index], GeneratorValue):
                held, frame.slots[index] = [frame.slots[index]], None
                drop(self, held)

    def run_class_body(self, function: Value, namespace: Value) -> Value:
        """Trace the body of a `class` statement over its namespace; what the body returns."""
        assert isinstance(function, FunctionValue)
        frame = SymbolicFrame(self, function.code, function.scope(self), self.frame, function)
        frame.namespace = namespace
        if function.code.co_freevars:
            frame.slots[frame.decoded.first_free :] = function.cells(self)
        frame.make_cells()
        self.continue_frame(frame)
        assert frame.result is not None
        return frame.result

    def when_released(self, action: Callable[[], None]) -> None:
        """Run `action` when the trace is over."""
        self._at_release.append(action)

    def release(self) -> None:
        """The trace is over: let go of the program's objects, which may be waited for, and leave no cycle behind.

        Values hold each other in a cycle if one of them changed or came from outside (`Value.forget` says what else),
        frames hold what runs in them, and all know the tracer: these are emptied, it last. It is not to be used again.
        """
        for action in self._at_release:
            action()
        known = [self.root, self.frame, *(place.frame for _, places in self._raised.values() for place in places)]
        known += [suspended.frame for suspended in self._generators]
        while known:
            frame = known.pop()
            if frame.parent is not None:
                known.append(frame.parent)
            frame.release()
        for value in dict.fromkeys(self.side_effects.changed_values):
            value.forget()
        for _, value in self.graph.values_of_objects.values():
            value.forget()
        self.graph.release()
        vars(self).clear()

    def count_iteration(self) -> None:
        """A loop goes round again. Raises GraphBreak when loops would make the trace too long."""
        self._count_idle()
        self._iterations += 1
        if self._iterations > _MOST_ITERATIONS:
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"loops of more than {_MOST_ITERATIONS} rounds in all")

    def _count_idle(self) -> None:
        """A round of a loop, or a call. Raises GraphBreak where many in a row work with no tensor: all that they look
        at would be guarded, and each is traced for a hundred times what it takes to run it."""
        if self.graph.operations != self._operations:
            self._operations = self.graph.operations
            self._idle = 0
        self._idle += 1
        if self._idle > _MOST_IDLE and not self._whole_graph:
            cause = f"more than {_MOST_IDLE} rounds and calls without tensor work"
            raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, cause, breaks_in_root=True)

    def check_generators(self) -> None:
        """Raise SkipFrame if closing a generator that was left in a `try` or `with` does anything that can be seen:
        Python closes it at the moment when it is dropped, which is not modelled."""
        if self.root.result is not None:
            self.drop_locals(self.root)
        for suspended in self._generators:
            if not suspended.waits_for_cleanup():
                continue
            before = self.side_effects.count, self.graph.node_count
            try:
                suspended.throw(ExceptionValue.of(GeneratorExit))
            except ObservedException as error:
                silent = issubclass(error.value.python_type(), GeneratorExit)
            except GraphBreak:
                silent = False
            else:
                silent = False
            if not silent or before != (self.side_effects.count, self.graph.node_count):
                raise SkipFrame(BreakId.FRAME_NOT_MODELLED, "a generator is left before its cleanup ran")

    def continue_frame(self, frame: SymbolicFrame) -> Signal:
        """Run a frame above the current one until it returns or yields."""
        below = self.frame
        frame.parent = below
        self.frame = frame
        self._depth += 1
        try:
            signal = frame.run()
            if signal is Signal.STOPPED:
                self.stopped = frame
                raise TraceStopped
            return signal
        except GraphBreak as error:
            if error.user_line is None:
                error.user_line = self.user_line
                error.stack = self.user_stack()
                self._broken = (error, self.frames())
            raise
        finally:
            self.frame = below
            self._depth -= 1

    # torch's state

    def grad_mode_changed(self) -> None:
        """The traced program set the grad mode: what it leaves behind differs from what it found, or not."""
        enabled = torch.is_grad_enabled()
        changed = enabled != self._grad_at_start
        self.side_effects.at_replay("grad mode", emit_grad_mode(enabled) if changed else None)

    def opened(self, context: GraphContextValue) -> None:
        """A context was entered in the graph."""
        self._open.append(context)

    def innermost(self) -> GraphContextValue | None:
        """The context that was entered last and is still open."""
        return self._open[-1] if self._open else None

    def closed(self, context: GraphContextValue) -> None:
        """A context was left in the graph."""
        if not self._open or self._open[-1] is not context:
            raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, "contexts left in another order than they were entered")
        self._open.pop()

    def close_state(self) -> None:
        """End of the trace: the graph leaves torch's state as it found it; the emitted code enters what stays open."""
        if self.function_modes:
            raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, "a break, or the end of the frame, inside a function mode")
        for context in reversed(self._open):
            context.close_in_graph(self)
            self.side_effects.at_replay(f"context {id(context)}", None)
        for context in self._open:
            self.side_effects.at_replay(f"context {id(context)}", context.emit_entered)
        if not self.graph.has_operations:
            return
        if torch.is_grad_enabled() != self._grad_at_start:
            self.graph.add_node("call_function", torch._C._set_grad_enabled, (self._grad_at_start,), {})
        drop_needless_grad_modes(self.graph.graph, self._grad_at_start)

    def abandon_state(self) -> None:
        """Leave every context that tracing entered for real."""
        for context in reversed(self._open):
            context.abandon()

    # Containers, for opcodes and functions

    def make_tuple(self, items: Sequence[Value]) -> Value:
        return TupleValue(items)

    def make_list(self, items: Sequence[Value]) -> Value:
        return ListValue(items)

    def make_set(self, items: Sequence[Value]) -> Value:
        return make_set(self, items, set)

    def make_dict(self, pairs: Sequence[tuple[Value, Value]]) -> Value:
        entries: dict[Any, tuple[Value, Value]] = {}
        for key, value in pairs:
            name = hash_key(self, key)
            entries[name] = (entries[name][0] if name in entries else key, value)
        return DictValue(entries)

    def make_slice(self, parts: Sequence[Value]) -> Value:
        step = parts[2] if len(parts) == 3 else self.constant(None)
        return SliceValue(parts[0], parts[1], step)

    def items_of_mapping(self, value: Value) -> list[tuple[Any, Value]]:
        """The entries of a dict whose keys are constants."""
        value = value.realize()
        if dict_contents(value) is None:
            raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`**` of {value.describe()} is not modelled")
        keys = value.call_method(self, "keys", [], {}).unpack(self)
        return [(key.as_constant(), value.get_item(self, key)) for key in keys]

    def is_none(self, value: Value) -> bool:
        """`value is None`."""
        value = value.realize()
        return value.is_constant() and value.as_constant() is None


FAMILIES = opcodes.FAMILIES  # importing them fills the dispatch table

__all__ = ["FAMILIES", "FrameTracer"]
