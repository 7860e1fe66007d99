"""Value: what the tracer knows about one Python object that the frame would hold.

A frame is executed symbolically on values instead of objects. Each kind of object has one `Value` class in one file of
this package; a value answers the questions that bytecode asks of an object (call it, read an attribute, iterate, ask
its truth), by recording tensor work in the graph, facts in the guards and mutations in the side effects. Invariants:
one object that existed before the frame is one value (aliasing is kept by identity); a value never imports the
interpreter, it calls back through `Tracer`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import CellType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import Fact, UserLine
from ..source import Source
from .class_lookup import has_special

if TYPE_CHECKING:
    import torch.fx

    from ..graph.builder import GraphBuilder
    from ..interpreter.frame import SymbolicFrame
    from ..interpreter.reconstruct import ValueEmitter
    from ..interpreter.scope import GlobalScope
    from ..interpreter.side_effects import SideEffects
    from .cell import CellValue
    from .function import FunctionValue
    from .graph_context import GraphContextValue


class Value:
    """A traced object. Subclasses override what their kind of object can do; the defaults break the graph.

    `source` is where the object came from, None when the frame made it. Values are compared by identity.
    """

    kind: ClassVar[str] = "object"  # how messages name it: "a list", "a tensor"
    __slots__ = ("source",)

    def __init__(self, source: Source | None = None) -> None:
        self.source = source

    # What it is

    def python_type(self) -> type:
        """The exact type the real object has. Guarded where it came from a source."""
        raise NotImplementedError(type(self).__name__)

    def is_constant(self) -> bool:
        """Whether `as_constant` succeeds: the value is a literal, or a tuple, slice ... of literals; guarded."""
        return False

    def as_constant(self) -> Any:
        """The Python object this value certainly is (constants, types, functions without closures, dtypes ...)."""
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"the value of {self.describe()} is not known while tracing")

    def as_graph_argument(self) -> Any:
        """What an FX node takes for it: an `fx.Node`, a literal, or nested tuples, lists, dicts, slices of these."""
        if self.is_constant():
            return self.as_constant()
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{self.describe()} cannot be passed to a torch operation")

    def describe(self) -> str:
        """A few words for messages: the kind, and the user's expression when there is one."""
        return f"{self.kind} `{self.source}`" if self.source is not None else self.kind

    # What bytecode does with it. All may raise GraphBreak (not modelled) or ObservedException (the user's own error).

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """`value(*args, **kwargs)`."""
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"calling {self.describe()} is not modelled")

    def call_method(self, tracer: Tracer, name: str, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """`value.name(*args, **kwargs)`; the default reads the attribute and calls it."""
        return self.get_attribute(tracer, name).call(tracer, args, kwargs)

    def call_slot(self, tracer: Tracer, method: Any, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """Call a slot or method descriptor of a builtin base class on it: past what its class overrides."""
        name: str = method.__name__
        if method.__objclass__ is not object:
            return self.call_method(tracer, name, args, kwargs)
        match name, len(args):
            case "__setattr__", 2:
                self.set_attribute(tracer, args[0].as_constant(), args[1])
                return tracer.constant(None)
            case "__init__", 0 if not kwargs:
                return tracer.constant(None)
            case "__getattribute__", 1:
                return self.get_attribute(tracer, args[0].as_constant())
            case _:
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`object.{name}` of {self.describe()} is not modelled")

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        """`value.name`. Raises an observed AttributeError where Python would."""
        raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, f"attribute `{name}` of {self.describe()} is not modelled")

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        """`value.name = value`, recorded as a side effect."""
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"setting `{name}` on {self.describe()} is not modelled")

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        """`del value.name`."""
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"deleting `{name}` of {self.describe()} is not modelled")

    def truth(self, tracer: Tracer) -> bool:
        """`bool(value)`. A value whose truth depends on tensor data raises GraphBreak(DATA_DEPENDENT_BRANCH)."""
        if self.is_constant():
            return bool(self.as_constant())
        raise GraphBreak(BreakId.TRUTH_NOT_MODELLED, f"the truth of {self.describe()} is not modelled")

    def unpack(self, tracer: Tracer) -> list[Value]:
        """`list(value)` when all elements are known now (star-calls, unpacking, building lists)."""
        raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"iterating {self.describe()} is not modelled")

    def iterate(self, tracer: Tracer) -> Value:
        """`iter(value)`: a value whose `next` method steps it."""
        raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"iterating {self.describe()} is not modelled")

    def next(self, tracer: Tracer) -> Value:
        """`next(value)`. Raises an observed StopIteration at the end."""
        raise GraphBreak(BreakId.ITERATION_NOT_MODELLED, f"{self.describe()} is not a modelled iterator")

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        """`op(value, other)`, or `op(other, value)` when reflected; `op` is from `operator`. None: not implemented."""
        return None

    def get_item(self, tracer: Tracer, key: Value) -> Value:
        """`value[key]`."""
        if not has_special(self.python_type(), "__getitem__"):
            tracer.raise_observed(TypeError, f"'{self.python_type().__name__}' object is not subscriptable")
        return self.call_method(tracer, "__getitem__", [key], {})

    def set_item(self, tracer: Tracer, key: Value, item: Value) -> None:
        """`value[key] = item`."""
        if not has_special(self.python_type(), "__setitem__"):
            name = self.python_type().__name__
            tracer.raise_observed(TypeError, f"'{name}' object does not support item assignment")
        self.call_method(tracer, "__setitem__", [key, item], {})

    def delete_item(self, tracer: Tracer, key: Value) -> None:
        """`del value[key]`."""
        if not has_special(self.python_type(), "__delitem__"):
            tracer.raise_observed(TypeError, f"'{self.python_type().__name__}' object doesn't support item deletion")
        self.call_method(tracer, "__delitem__", [key], {})

    def contains(self, tracer: Tracer, item: Value) -> bool | None:
        """`item in value`, or None when it has to be asked of its `__contains__` or by iteration."""
        return None

    def length(self, tracer: Tracer) -> int | None:
        """`len(value)`, or None when it has to be asked of its `__len__`."""
        return None

    def hash_key(self, tracer: Tracer) -> Hashable:
        """What stands for the value as a key of a dict or set while tracing: equal for equal objects."""
        if self.is_constant():
            return self.as_constant()
        raise GraphBreak(BreakId.NOT_A_CONSTANT, f"{self.describe()} as a key is not modelled")

    def realize(self) -> Value:
        """The value itself; a lazily wrapped item of a container answers with the value it stands for."""
        return self

    # How the object comes back into the real world

    def reconstruct(self, emitter: ValueEmitter) -> None:
        """Emit bytecode that pushes the real object. The emitter has already tried `source` and what it built before.

        Load what the object contains by `emitter.load_value(child)`; a tensor by `emitter.load_graph_output(node)`.
        """
        raise GraphBreak(BreakId.RECONSTRUCTION_NOT_MODELLED, f"{self.describe()} cannot be rebuilt after the graph")

    def write_back(self, emitter: ValueEmitter) -> None:
        """Emit bytecode that brings the real, already existing object to this value's present contents (stack-neutral).

        Called at replay for values passed to `side_effects.mutated`; e.g. a list emits `real[:] = [...]`.
        """
        raise GraphBreak(BreakId.MUTATION_NOT_MODELLED, f"the mutation of {self.describe()} cannot be replayed")

    def children(self) -> Sequence[Value]:
        """The values that this one holds: what stays alive while it lives."""
        return ()

    def forget(self) -> None:
        """The trace is over: let go of everything, which may hold this value.

        The tracer asks it of values that came from outside or changed. One that is made to be held by what it holds
        asks for it itself (`Tracer.when_released`): nothing of a trace shall wait for the collector."""
        for name in _slots_of(type(self)):
            setattr(self, name, None)


@functools.cache
def _slots_of(kind: type[Value]) -> tuple[str, ...]:
    return tuple(name for base in kind.__mro__ for name in vars(base).get("__slots__", ()))


class ObservedException(Exception):
    """An exception of the user's program that happened while tracing: caught by their `except`, or raised for real."""

    def __init__(self, value: Value) -> None:
        super().__init__(value.describe())
        self.value = value


class Tracer(Protocol):
    """What a value may ask of the interpreter that holds it."""

    graph: GraphBuilder
    side_effects: SideEffects
    given_members: dict[tuple[int, str], Value]  # by id of a module and name: `torch.func.functional_call` runs
    function_modes: Sequence[Value]  # modes of the traced program that take over calls of torch, outermost first
    nesting: int  # of the containers whose text is being made
    handled: Value | None  # the exception that is being handled in the frames that are traced
    called_from_handler: bool  # a caller of the frame handles one

    @property
    def user_line(self) -> UserLine:
        """The user's line that is being traced."""
        ...

    def frame_above(self, level: int) -> tuple[SymbolicFrame | None, int]:
        """The frame `level` callers above the one that is traced; None and how many above the root."""
        ...

    @property
    def module_name(self) -> str | None:
        """`__name__` of the module whose function is being traced."""
        ...

    def guard(self, fact: Fact) -> None:
        """Record a fact, with the current user line."""
        ...

    def wrap(self, obj: Any, source: Source) -> Value:
        """The value of an object that existed before the frame, once per object: guarded, an input if a tensor."""
        ...

    def constant(self, obj: Any) -> Value:
        """The value of an object known while tracing that needs no guard (literals, types, torch functions)."""
        ...

    def call(self, function: Value, args: Sequence[Value], kwargs: Mapping[str, Value] | None = None) -> Value:
        """Call any value (convenience over `function.call`)."""
        ...

    def tail_call(self, caller: Value, function: Value, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """Call `function`, whose result is that of calling `caller`, with nothing left to do after it."""
        ...

    def inline(self, function: Value, code_locals: Mapping[str, Value]) -> Value:
        """Trace the body of a Python function with its arguments bound; the value it returns. Raises what it raises."""
        ...

    def run_class_body(self, function: Value, namespace: Value) -> Value:
        """Trace the body of a `class` statement over its namespace; what the body returns."""
        ...

    def when_released(self, action: Callable[[], None]) -> None:
        """Run `action` when the trace is over."""
        ...

    def add_node(
        self,
        op: str,
        target: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        run: Callable[..., Any] | None = None,
    ) -> Value:
        """Record an FX node (`call_function` or `call_method`), run it on fake tensors, and wrap what it returns.

        `run`: what to run there in place of the target, where that has no fake implementation."""
        ...

    def raise_observed(self, exception_type: type[BaseException], *args: Any) -> NoReturn:
        """Raise the user's own exception inside the traced program; arguments are values or known objects."""
        ...

    # Containers

    def make_tuple(self, items: Sequence[Value]) -> Value:
        """A new tuple."""
        ...

    def make_list(self, items: Sequence[Value]) -> Value:
        """A new list."""
        ...

    def make_dict(self, pairs: Sequence[tuple[Value, Value]]) -> Value:
        """A new dict."""
        ...

    def items_of_mapping(self, value: Value) -> list[tuple[Any, Value]]:
        """The entries of a dict whose keys are constants. Raises GraphBreak for another mapping."""
        ...

    # Functions

    def scope_of(self, variables: dict[str, Any], function_source: Source | None) -> GlobalScope:
        """The scope of a function with these globals."""
        ...

    def existing_cell(self, name: str, cell: CellType, source: Source, contents: Source) -> CellValue:
        """The value of a real cell, one for each."""
        ...

    def sourced_cells(self) -> Sequence[CellValue]:
        """The real cells that the trace has met."""
        ...

    def bind_method(self, function: Value, owner: Value) -> Value:
        """The method of a function that was found in the class of a value."""
        ...

    def check_call(self, function: FunctionValue) -> None:
        """Raise GraphBreak if the function may not be traced through."""
        ...

    def held_values(self) -> Sequence[Value]:
        """What the frames under tracing hold in their slots and on their stacks."""
        ...

    def wrap_unread(self, value: Value) -> Value:
        """Wrap a local of the root frame at its first use; any other value is itself."""
        ...

    # torch's state

    def grad_mode_changed(self) -> None:
        """The traced program set the grad mode."""
        ...

    def opened(self, context: GraphContextValue) -> None:
        """A context was entered in the graph."""
        ...

    def innermost(self) -> GraphContextValue | None:
        """The context that was entered last and is still open."""
        ...

    def closed(self, context: GraphContextValue) -> None:
        """A context was left in the graph."""
        ...

    def is_none(self, value: Value) -> bool:
        """`value is None`."""
        ...

    def is_tracing_through(self, code: Any) -> bool:
        """Whether a code object may be inlined (skip policy)."""
        ...


def graph_arguments(args: Sequence[Value], kwargs: Mapping[str, Value]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """FX arguments for a call."""
    return tuple(a.as_graph_argument() for a in args), {k: v.as_graph_argument() for k, v in kwargs.items()}


def node_of(value: Value) -> torch.fx.Node | None:
    """The FX node behind a value, if it has one."""
    return getattr(value, "node", None)
