"""Python functions: those of the user's program, those the frame makes, and bound methods.

Calling one binds the arguments as Python does and traces the body (`tracer.inline`). Invariants: a function that comes
with the call (an argument, a closure) is guarded by its code, so that one made anew by each call is not recompiled; one
found in a module or class is guarded by identity; an error in binding is the user's own TypeError.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from ..bytecode.version import qualified_name
from ..graph_break import BreakId, GraphBreak
from ..guards.facts import ByIdentity, ConstantIs, IdentityIs, InstanceDictLacks, LengthIs, TypeIs
from ..interpreter.side_effects import DELETED, emit_attribute_write
from ..skip_policy import is_kept_from_torch
from ..source import (
    AttributeSource,
    CellSource,
    ClosureSource,
    DefaultSource,
    ItemSource,
    LocalSource,
    MethodFunctionSource,
    Source,
)
from . import operators
from .argument_binding import bind_arguments
from .base import Tracer, Value
from .cell import CellValue
from .context_manager import ContextMethodValue, ContextValue
from .keys import IdentityKey
from .registry import handler_of, handles, wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter
    from ..interpreter.scope import GlobalScope

_OPTIMIZERS = "torch.optim.optimizer"
_DECORATORS = "torch._dynamo.decorators"
_PLAIN_ATTRIBUTES = frozenset({"__name__", "__qualname__", "__module__", "__doc__"})


class FunctionValue(Value):
    """A Python function: `code` with defaults and cells, however it came to be."""

    kind = "a function"
    __slots__ = ("code",)

    def __init__(self, code: CodeType, source: Source | None) -> None:
        super().__init__(source)
        self.code = code

    def python_type(self) -> type:
        return FunctionType

    def truth(self, tracer: Tracer) -> bool:
        return True

    # What a call needs

    def scope(self, tracer: Tracer) -> GlobalScope:
        """The globals that the body sees."""
        raise NotImplementedError

    def cells(self, tracer: Tracer) -> Sequence[Value]:
        """The closure, in the order of `code.co_freevars`."""
        raise NotImplementedError

    def default(self, tracer: Tracer, index: int) -> Value | None:
        """The default of a positional parameter, by its index from the right end (-1 is the last parameter)."""
        raise NotImplementedError

    def keyword_default(self, tracer: Tracer, name: str) -> Value | None:
        """The default of a keyword-only parameter."""
        raise NotImplementedError

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        tracer.check_call(self)
        return tracer.inline(self, bind_arguments(tracer, self, args, kwargs))

    def set_attribute(self, tracer: Tracer, name: str, value: Value) -> None:
        is_plain = name in ("__doc__", "__module__")
        if hasattr(FunctionType, name) and not is_plain:
            is_text = value.is_constant() and type(value.as_constant()) is str
            is_annotations = name == "__annotations__" and issubclass(value.realize().python_type(), dict)
            if not is_annotations and (name not in ("__name__", "__qualname__") or not is_text):
                super().set_attribute(tracer, name, value)
        tracer.side_effects.store_attribute(self, name, value)

    def delete_attribute(self, tracer: Tracer, name: str) -> None:
        if hasattr(FunctionType, name):
            super().delete_attribute(tracer, name)
        self.get_attribute(tracer, name)
        tracer.side_effects.delete_attribute(self, name)

    def written_attribute(self, tracer: Tracer, name: str) -> Value | None:
        """What the traced program assigned to an attribute, or None."""
        pending = tracer.side_effects.pending_attribute(self, name)
        if pending is DELETED:
            tracer.raise_observed(AttributeError, f"'function' object has no attribute '{name}'")
        return pending if isinstance(pending, Value) else None


class SourcedFunctionValue(FunctionValue):
    """A function that existed before the frame. `by_identity`: the guards hold the function object itself."""

    __slots__ = ("_cells", "_scope", "by_identity", "function")

    def __init__(self, function: FunctionType, source: Source | None, *, by_identity: bool) -> None:
        super().__init__(function.__code__, source)
        self.function = function
        self.by_identity = by_identity
        self._cells: tuple[CellValue, ...] | None = None
        self._scope: GlobalScope | None = None

    def describe(self) -> str:
        return f"the function `{self.function.__qualname__}`"

    def is_constant(self) -> bool:
        return self.by_identity

    def as_constant(self) -> Any:
        return self.function if self.by_identity else super().as_constant()

    def scope(self, tracer: Tracer) -> GlobalScope:
        if self._scope is None:
            if not self.by_identity and self.source is not None:
                variables = self.function.__globals__
                tracer.guard(IdentityIs(AttributeSource(self.source, "__globals__"), ByIdentity(variables)))
            through = None if self.by_identity and self.function.__globals__.get("__name__") else self.source
            self._scope = tracer.scope_of(self.function.__globals__, through or self.source)
        return self._scope

    def cells(self, tracer: Tracer) -> Sequence[Value]:
        if self._cells is None:
            closure = self.function.__closure__ or ()
            if closure and self.source is None:
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"the closure of {self.describe()} has no known origin")
            self._cells = tuple(
                tracer.existing_cell(
                    name,
                    cell,
                    ItemSource(AttributeSource(self.source, "__closure__"), index),  # type: ignore[arg-type]
                    ClosureSource(self.source, index),  # type: ignore[arg-type]
                )
                for index, (name, cell) in enumerate(zip(self.code.co_freevars, closure))
            )
        return self._cells

    def default(self, tracer: Tracer, index: int) -> Value | None:
        defaults = self.function.__defaults__ or ()
        if self.source is not None:
            held = AttributeSource(self.source, "__defaults__")
            if self.function.__defaults__ is None:
                tracer.guard(ConstantIs(held, ByIdentity(None)))
            else:
                tracer.guard(LengthIs(held, len(defaults)))
        if -index > len(defaults):
            return None
        position = len(defaults) + index
        return self._wrap(tracer, defaults[position], position)

    def keyword_default(self, tracer: Tracer, name: str) -> Value | None:
        defaults = self.function.__kwdefaults__ or {}
        return self._wrap(tracer, defaults[name], name) if name in defaults else None

    def _wrap(self, tracer: Tracer, obj: Any, key: int | str) -> Value:
        if self.source is None:
            literal = tracer.constant(obj)
            if not literal.is_constant():
                raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"a default of {self.describe()} has no known origin")
            return literal
        return tracer.wrap(obj, DefaultSource(self.source, key))

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.source is not None and is_kept_from_torch(self.function):
            return self.get_attribute(tracer, "_torchdynamo_orig_callable").call(tracer, args, kwargs)
        handler = handler_of(self.function)
        if handler is not None:
            return handler(tracer, args, kwargs)
        if _is_idle_break(tracer, self.function):
            return tracer.constant(None)
        if self.by_identity and self.source is not None:
            tracer.guard(IdentityIs(AttributeSource(self.source, "__code__"), ByIdentity(self.code)))
        return super().call(tracer, args, kwargs)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        written = self.written_attribute(tracer, name)
        if written is not None:
            return written
        if name == "__class__":
            return tracer.constant(FunctionType)
        if name == "__code__":
            if self.source is None:
                return tracer.constant(self.code)
            return tracer.wrap(self.code, AttributeSource(self.source, name))
        if name == "__get__":
            return super().get_attribute(tracer, name)
        if not hasattr(self.function, name):
            if self.source is not None:
                tracer.guard(InstanceDictLacks(self.source, name))
            tracer.raise_observed(AttributeError, f"'function' object has no attribute '{name}'")
        obj = getattr(self.function, name)
        if name in _PLAIN_ATTRIBUTES and isinstance(obj, (str, type(None))):
            return tracer.constant(obj) if self.source is None else self._guarded(tracer, name, obj)
        if self.source is None or name in ("__dict__", "__globals__"):
            return super().get_attribute(tracer, name)
        return tracer.wrap(obj, AttributeSource(self.source, name))

    def _guarded(self, tracer: Tracer, name: str, obj: Any) -> Value:
        assert self.source is not None
        tracer.guard(ConstantIs(AttributeSource(self.source, name), ByIdentity(obj)))
        return tracer.constant(obj)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_constant(self.function)  # without a source: a function known while tracing


def _is_idle_break(tracer: Tracer, function: Any) -> bool:
    """Whether a call of a function of torch's own capture, `torch._dynamo.graph_break`, does nothing here.

    Torch's optimizers call it around each step, for what their capture would otherwise make of the mode of gradients.
    Raises GraphBreak where the program itself asks for one.
    """
    if function.__name__ != "graph_break" or function.__module__ != _DECORATORS:
        return False
    if tracer.module_name != _OPTIMIZERS:
        raise GraphBreak(BreakId.REQUESTED, "`torch._dynamo.graph_break()` was called")
    return True


class MadeFunctionValue(FunctionValue):
    """A function made by the traced program (`def`, `lambda`, a comprehension)."""

    __slots__ = ("_annotations", "_cells", "_defaults", "_keyword_defaults", "_qualified", "_scope")

    def __init__(
        self,
        code: CodeType,
        scope: GlobalScope,
        cells: Sequence[Value],
        defaults: Value | None,
        keyword_defaults: Value | None,
        annotations: Value | None,
        qualified: str,
    ) -> None:
        super().__init__(code, None)
        self._scope = scope
        self._qualified = qualified
        self._cells = tuple(cells)
        self._defaults = defaults
        self._keyword_defaults = keyword_defaults
        self._annotations = annotations

    def with_part(self, part: int, value: Value, tracer: Tracer) -> MadeFunctionValue:
        """A function that also has defaults (1), keyword defaults (2), annotations (4) or a closure (8)."""
        cells = value.unpack(tracer) if part == 8 else self._cells
        defaults = value if part == 1 else self._defaults
        keyword_defaults = value if part == 2 else self._keyword_defaults
        annotations = value if part == 4 else self._annotations
        parts = defaults, keyword_defaults, annotations
        return MadeFunctionValue(self.code, self._scope, cells, *parts, self._qualified)

    def describe(self) -> str:
        return f"the function `{self.code.co_name}`"

    @property
    def variables(self) -> Mapping[str, Any]:
        """The globals that the body sees."""
        return self._scope.variables

    def scope(self, tracer: Tracer) -> GlobalScope:
        return self._scope

    def cells(self, tracer: Tracer) -> Sequence[Value]:
        return self._cells

    def default(self, tracer: Tracer, index: int) -> Value | None:
        if self._defaults is None:
            return None
        defaults = self._defaults.unpack(tracer)
        return defaults[index] if -index <= len(defaults) else None

    def keyword_default(self, tracer: Tracer, name: str) -> Value | None:
        if self._keyword_defaults is None:
            return None
        for key, value in tracer.items_of_mapping(self._keyword_defaults):
            if key == name:
                return value
        return None

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        written = self.written_attribute(tracer, name)
        if written is not None:
            return written
        match name:
            case "__class__":
                return tracer.constant(FunctionType)
            case "__code__":
                return tracer.constant(self.code)
            case "__name__":
                return tracer.constant(self.code.co_name)
            case "__qualname__":
                return tracer.constant(self._qualified)
            case "__doc__":
                consts = self.code.co_consts
                return tracer.constant(consts[0] if consts and isinstance(consts[0], str) else None)
            case "__module__":
                return tracer.constant(self._scope.variables.get("__name__"))
            case "__annotations__":
                flat = [] if self._annotations is None else self._annotations.unpack(tracer)
                made = tracer.make_dict(list(zip(flat[::2], flat[1::2])))
                tracer.side_effects.store_attribute(self, name, made)
                return made
            case "__defaults__":
                return self._defaults or tracer.constant(None)
            case "__kwdefaults__":
                return self._keyword_defaults or tracer.constant(None)
            case _ if name in FunctionType.__dict__ or hasattr(FunctionType, name):
                return super().get_attribute(tracer, name)
            case _:
                tracer.raise_observed(AttributeError, f"'function' object has no attribute '{name}'")

    def children(self) -> Sequence[Value]:
        parts = (self._defaults, self._keyword_defaults, self._annotations)
        return [*self._cells, *(part for part in parts if part is not None)]

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self._scope.is_root:
            self._make_in_root(emitter)
        else:
            self._make_elsewhere(emitter)
        writes = emitter.side_effects.attribute_writes(self)
        if writes:
            emitter.remember(self)
        for name, write in writes.items():
            emit_attribute_write(emitter, self, name, write)

    def _make_in_root(self, emitter: ValueEmitter) -> None:
        flags = 0
        for bit, part in ((1, self._defaults), (2, self._keyword_defaults), (4, self._annotations)):
            if part is not None:
                emitter.load_value(part)
                flags |= bit
        if self._cells:
            for cell in self._cells:
                emitter.load_value(cell)
            emitter.build_tuple(len(self._cells))
            flags |= 8
        emitter.finish_function(self.code, flags, self._qualified)

    def _make_elsewhere(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(FunctionType)
        emitter.load_constant(self.code)
        self._scope.emit_namespace(emitter)
        emitter.load_constant(self.code.co_name)
        if self._defaults is None:
            emitter.load_constant(None)
        else:
            emitter.load_value(self._defaults)
        for cell in self._cells:
            emitter.load_value(cell)
        emitter.build_tuple(len(self._cells))
        emitter.call(5)
        if self._keyword_defaults is not None:
            emitter.copy(1)
            emitter.load_value(self._keyword_defaults)
            emitter.swap(2)
            emitter.store_attribute("__kwdefaults__")
        if self._qualified != qualified_name(self.code):
            emitter.copy(1)
            emitter.load_constant(self._qualified)
            emitter.swap(2)
            emitter.store_attribute("__qualname__")
        if self._annotations is not None:
            emitter.copy(1)
            self._load_annotations(emitter, self._annotations)
            emitter.swap(2)
            emitter.store_attribute("__annotations__")

    def _load_annotations(self, emitter: ValueEmitter, flat: Value) -> None:
        """The dict of a flat tuple of names and annotations, as MAKE_FUNCTION takes it."""
        if flat.is_constant():
            items = flat.as_constant()
            for item in items:
                emitter.load_constant(item)
        else:
            items = flat.children()
            for item in items:
                emitter.load_value(item)
        emitter.build_dict(len(items) // 2)


class MethodValue(Value):
    """A function bound to its first argument."""

    kind = "a method"
    __slots__ = ("function", "owner")

    def __init__(self, function: Value, owner: Value, source: Source | None = None) -> None:
        super().__init__(source)
        self.function = function
        self.owner = owner

    def describe(self) -> str:
        return f"the method of {self.function.describe()}"

    def python_type(self) -> type:
        return MethodType

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        return tracer.tail_call(self, self.function, [self.owner, *args], kwargs)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        match name:
            case "__self__":
                return self.owner
            case "__func__":
                return self.function
            case "__class__":
                return tracer.constant(MethodType)
            case _:
                return self.function.get_attribute(tracer, name)

    def binary(self, tracer: Tracer, op: Callable[..., Any], other: Value, reflected: bool) -> Value | None:
        if op not in (operator.eq, operator.ne) or not isinstance(other, MethodValue):
            return None
        same = operators.is_same(tracer, self.owner, other.owner)
        same = same and operators.equal(tracer, self.function, other.function)
        return tracer.constant(same is (op is operator.eq))

    def hash_key(self, tracer: Tracer) -> Hashable:
        return MethodKey(tracer, self)

    def children(self) -> Sequence[Value]:
        return (self.function, self.owner)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(MethodType)
        emitter.load_value(self.function)
        emitter.load_value(self.owner)
        emitter.call(2)


_TAGGING = "torch._dynamo.mutation_guard"


def behind_tags(function: FunctionType) -> FunctionType:
    """What `Module.__init__` was before torch's own capture, once it is used, put a function around it that notes which
    modules are new: nothing of the program."""
    if function.__module__ != _TAGGING or not function.__closure__:
        return function
    (inner,) = (cell.cell_contents for cell in function.__closure__)
    return inner


class MethodKey(IdentityKey):
    """A method as a key: equal to the same method of the same object."""

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer, value: MethodValue) -> None:
        super().__init__(value)
        self._tracer = tracer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MethodKey) and operators.equal(self._tracer, self.value, other.value)

    def __hash__(self) -> int:
        return hash(MethodKey)


@wraps_type(FunctionType)
def wrap_function(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A function with a source: guarded by code where each call may bring a new one, else by identity."""
    if behind_tags(obj) is not obj:
        tracer.guard(IdentityIs(source, ByIdentity(obj)))
        return SourcedFunctionValue(behind_tags(obj), ClosureSource(source, 0), by_identity=True)
    if (
        obj.__closure__ is not None
        or isinstance(source.root, (LocalSource, CellSource))
        or isinstance(source, ClosureSource)
    ):
        tracer.guard(TypeIs(source, FunctionType))
        tracer.guard(IdentityIs(AttributeSource(source, "__code__"), ByIdentity(obj.__code__)))
        return SourcedFunctionValue(obj, source, by_identity=False)
    tracer.guard(IdentityIs(source, ByIdentity(obj)))
    return SourcedFunctionValue(obj, source, by_identity=True)


@wraps_type(MethodType)
def wrap_method(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, MethodType))
    function = tracer.wrap(obj.__func__, MethodFunctionSource(source))
    owner = tracer.wrap(obj.__self__, AttributeSource(source, "__self__"))
    if isinstance(owner, ContextValue) and obj.__name__ in ("__enter__", "__exit__", "clone"):
        return ContextMethodValue(owner, obj.__name__)
    return MethodValue(function, owner, source)


@handles(MethodType)
def make_method(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) != 2 or kwargs:
        tracer.raise_observed(TypeError, f"method expected 2 arguments, got {len(args)}")
    if tracer.constant(callable).call(tracer, [args[0]], {}).truth(tracer):
        return MethodValue(args[0].realize(), args[1].realize())
    return tracer.raise_observed(TypeError, "first argument must be callable")
