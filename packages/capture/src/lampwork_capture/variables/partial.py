"""functools.partial, and `update_wrapper` and `wraps`, which are called through one.

Invariants: the arguments that a partial holds are its own tuple and dict, so that what the program does to them counts;
they are guarded like any other containers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import TypeIs
from ..source import AttributeSource, Source
from .base import Tracer, Value
from .class_lookup import is_callable
from .constant import ConstantValue
from .dict import DictValue
from .function import FunctionValue, SourcedFunctionValue
from .registry import handles, wraps_type
from .tuple import TupleValue

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


class PartialValue(Value):
    """A `functools.partial`."""

    kind = "a partial"
    __slots__ = ("args", "function", "is_open", "keywords")

    def __init__(self, function: Value, args: Value, keywords: Value, source: Source | None = None) -> None:
        super().__init__(source)
        self.function = function
        self.args = args
        self.keywords = keywords
        self.is_open = False  # whether the program has its tuple or dict: a rebuilt one must hold the same

    @classmethod
    def of(cls, function: Value, args: Sequence[Value], kwargs: Mapping[str, Value]) -> PartialValue:
        """A new one."""
        keywords = DictValue({name: (ConstantValue(name), value) for name, value in kwargs.items()})
        return cls(function, TupleValue(args), keywords)

    def python_type(self) -> type:
        return functools.partial

    def truth(self, tracer: Tracer) -> bool:
        return True

    def is_nested(self) -> bool:
        """Whether it was made here of one that came with the call."""
        return self.source is None and isinstance(self.function, PartialValue)

    def given(self, tracer: Tracer) -> tuple[list[Value], dict[str, Value]]:
        """The arguments that it adds to a call."""
        return self.args.unpack(tracer), dict(tracer.items_of_mapping(self.keywords))

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        first, named = self.given(tracer)
        return tracer.tail_call(self, self.function, [*first, *args], {**named, **kwargs})

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if self.is_nested() and name in ("func", "args", "keywords"):
            cause = "what a partial of a partial holds: that depends on whether the inner one has attributes"
            raise GraphBreak(BreakId.ATTRIBUTE_NOT_MODELLED, cause)
        match name:
            case "func":
                return self.function
            case "args":
                self.is_open = True
                return self.args
            case "keywords":
                self.is_open = True
                return self.keywords
            case "__class__":
                return tracer.constant(functools.partial)
            case _ if not hasattr(functools.partial, name) and self.source is None:
                tracer.raise_observed(AttributeError, f"'functools.partial' object has no attribute '{name}'")
            case _:
                return super().get_attribute(tracer, name)

    def children(self) -> Sequence[Value]:
        if self.is_open:
            return (self.function, self.args, self.keywords)
        return (self.function, *self.args.children(), *self._named().values())

    def _named(self) -> dict[str, Value]:
        """The keyword arguments of one that only calls and the frame itself know."""
        flat = self.keywords.children()
        return {key.as_constant(): value for key, value in zip(flat[::2], flat[1::2])}

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.is_open:
            emitter.begin_call(_partial_of)
            for part in self.children():
                emitter.load_value(part)
            emitter.call(3)
            return
        named = self._named()
        emitter.begin_call(functools.partial)
        emitter.load_value(self.function)
        for value in (*self.args.children(), *named.values()):
            emitter.load_value(value)
        emitter.call(1 + len(self.args.children()), tuple(named))


def _partial_of(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """A partial that holds this very tuple and dict."""
    made: Any = functools.partial(function)
    made.__setstate__((function, args, keywords, None))
    return made


@wraps_type(functools.partial)
def wrap_partial(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, functools.partial))
    function = tracer.wrap(obj.func, AttributeSource(source, "func"))
    args = tracer.wrap(obj.args, AttributeSource(source, "args"))
    return PartialValue(function, args, tracer.wrap(obj.keywords, AttributeSource(source, "keywords")), source)


@handles(functools.partial)
def make_partial(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    function = args[0].realize()
    if isinstance(function, PartialValue) and function.source is None:
        first, named = function.given(tracer)
        return PartialValue.of(function.function, [*first, *args[1:]], {**named, **kwargs})
    if not is_callable(function.python_type()):
        tracer.raise_observed(TypeError, "the first argument must be callable")
    return PartialValue.of(function, args[1:], kwargs)


@handles(functools.update_wrapper)
def update_wrapper(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """What describes the wrapped function is put on the wrapper, as `functools.wraps` does."""
    if len(args) > 2:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "update_wrapper with its own list of attributes")
    wrapper, wrapped = args
    target = wrapped.realize()
    if isinstance(target, SourcedFunctionValue) and set(vars(target.function)) - {"__wrapped__"}:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"{target.describe()} has attributes of its own to be copied")
    if not isinstance(target, FunctionValue):
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"functools.wraps of {target.describe()}")
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        wrapper.set_attribute(tracer, name, wrapped.get_attribute(tracer, name))
    for name in tracer.side_effects.attribute_writes(target):
        if name not in functools.WRAPPER_ASSIGNMENTS:
            wrapper.set_attribute(tracer, name, wrapped.get_attribute(tracer, name))
    wrapper.set_attribute(tracer, "__wrapped__", wrapped)
    return wrapper


@handles(functools.wraps)
def wraps(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if len(args) != 1 or kwargs:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "functools.wraps with its own list of attributes")
    return PartialValue.of(tracer.constant(functools.update_wrapper), [], {"wrapped": args[0]})
