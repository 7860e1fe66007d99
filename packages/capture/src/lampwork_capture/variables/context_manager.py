"""Context managers of torch: what they have in common, and the grad modes. User-defined ones are traced as plain code.

Entering one records the change of state in the graph and makes it while tracing, so that fake results are what they
would be. Invariants: a graph leaves torch's state as it found it, the emitted code sets what the frame leaves behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.profiler import record_function

from ..graph_break import BreakId, GraphBreak
from ..guards.facts import TypeIs
from ..source import AttributeSource, Source
from .base import Tracer, Value
from .registry import handles, wraps_type

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter

_SUSPENDING = 0x20 | 0x80 | 0x100 | 0x200  # generators and coroutines of all kinds
_GRAD_MODES: tuple[type, ...] = (torch.no_grad, torch.enable_grad, torch.set_grad_enabled)
CONTEXT_CLASSES: tuple[type, ...] = (*_GRAD_MODES, torch.autocast, torch.inference_mode, record_function)


def set_grad_mode(tracer: Tracer, enabled: bool) -> None:
    """Change the grad mode in the graph and for the rest of the trace."""
    if torch.is_grad_enabled() != enabled:
        tracer.graph.add_node("call_function", torch._C._set_grad_enabled, (enabled,), {}, tracer.user_line)
        torch._C._set_grad_enabled(enabled)
    tracer.grad_mode_changed()


def emit_grad_mode(enabled: bool) -> Callable[[ValueEmitter], None]:
    """The side effect of a frame that leaves another grad mode than it found."""

    def emit(emitter: ValueEmitter) -> None:
        emitter.begin_call(torch._C._set_grad_enabled)
        emitter.load_constant(enabled)
        emitter.call(1)
        emitter.pop()

    return emit


class ContextValue(Value):
    """A context manager that is entered and left natively while tracing."""

    kind = "a context manager"
    __slots__ = ()

    def truth(self, tracer: Tracer) -> bool:
        return True

    def enter(self, tracer: Tracer) -> Value:
        raise NotImplementedError

    def leave(self, tracer: Tracer) -> None:
        raise NotImplementedError

    def clone(self, tracer: Tracer) -> Value:
        """A new manager like this one, not entered: what `with` decorators use."""
        raise NotImplementedError

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in ("__enter__", "__exit__"):
            return ContextMethodValue(self, name)
        if name == "__class__":
            return tracer.constant(self.python_type())
        return super().get_attribute(tracer, name)

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        """As a decorator."""
        if len(args) == 1 and not kwargs:
            return decorated(tracer, self, args[0])
        return super().call(tracer, args, kwargs)


class ContextMethodValue(Value):
    """`manager.__enter__` or `manager.__exit__`, not called yet."""

    kind = "a method of a context manager"
    __slots__ = ("manager", "name")

    def __init__(self, manager: ContextValue, name: str) -> None:
        super().__init__()
        self.manager = manager
        self.name = name

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.name == "__enter__":
            return self.manager.enter(tracer)
        if self.name == "clone":
            return self.manager.clone(tracer)
        self.manager.leave(tracer)
        return tracer.constant(None)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        return self.manager if name == "__self__" else super().get_attribute(tracer, name)

    def children(self) -> Sequence[Value]:
        return (self.manager,)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.load_value(self.manager)
        emitter.load_attribute(self.name)


def decorated(tracer: Tracer, manager: ContextValue, function: Value) -> Value:
    """A function under a context manager as decorator. Raises GraphBreak for what torch wraps in another way."""
    code = getattr(function.realize(), "code", None)
    if code is None or code.co_flags & _SUSPENDING:
        raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"{manager.describe()} as decorator of {function.describe()}")
    return DecoratedValue(manager, function)


class DecoratedValue(Value):
    """A function decorated with a context manager inside the frame."""

    kind = "a decorated function"
    __slots__ = ("function", "manager")

    def __init__(self, manager: ContextValue, function: Value) -> None:
        super().__init__()
        self.manager = manager
        self.function = function

    def python_type(self) -> type:
        raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"{self.kind} is used in another way than by calling it")

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        self.manager.enter(tracer)
        try:
            return self.function.call(tracer, args, kwargs)
        finally:
            self.manager.leave(tracer)

    def children(self) -> Sequence[Value]:
        return (self.manager, self.function)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call()
        emitter.load_value(self.manager)
        emitter.callable_ready()
        emitter.load_value(self.function)
        emitter.call(1)


class GradModeValue(ContextValue):
    """`torch.no_grad()`, `torch.enable_grad()`, `torch.set_grad_enabled(mode)`. `previous` is None until entered."""

    kind = "a grad mode"
    __slots__ = ("cls", "mode", "obj", "previous")

    def __init__(self, cls: type, mode: bool, source: Source | None = None, obj: Any = None) -> None:
        super().__init__(source)
        self.cls = cls
        self.mode = mode
        self.obj = obj
        self.previous: bool | None = None

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "clone" and self.source is not None:
            return ContextMethodValue(self, name)
        return super().get_attribute(tracer, name)

    def python_type(self) -> type:
        return self.cls

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        if self.cls is torch.set_grad_enabled and self.previous is not None and len(args) == 1 and not kwargs:
            set_grad_mode(tracer, self.previous)  # making it had changed the mode; as a decorator it waits
        return super().call(tracer, args, kwargs)

    def clone(self, tracer: Tracer) -> Value:
        mode = [tracer.constant(self.mode)] if self.cls is torch.set_grad_enabled else []
        return tracer.constant(self.cls).call(tracer, mode, {})

    def enter(self, tracer: Tracer) -> Value:
        if self.cls is not torch.set_grad_enabled or self.previous is None:  # that one notes it when it is made
            self.previous = torch.is_grad_enabled()
            if self.source is not None:
                tracer.side_effects.store_attribute(self, "prev", tracer.constant(self.previous))
        set_grad_mode(tracer, self.mode)
        return tracer.constant(None)

    def leave(self, tracer: Tracer) -> None:
        if self.previous is None and self.source is not None and hasattr(self.obj, "prev"):
            self.previous = bool(tracer.wrap(self.obj.prev, AttributeSource(self.source, "prev")).as_constant())
        if self.previous is None:
            raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"leaving {self.describe()} that was not entered")
        set_grad_mode(tracer, self.previous)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        if self.cls is not torch.set_grad_enabled:
            emitter.begin_call(self.cls)
            emitter.call(0)
        else:  # its constructor already changes the mode
            emitter.begin_call(object.__new__)
            emitter.load_constant(self.cls)
            emitter.call(1)
            _assign(emitter, "mode", self.mode)
        if self.previous is not None:
            _assign(emitter, "prev", self.previous)


def _assign(emitter: ValueEmitter, name: str, obj: Any) -> None:
    """object -> object, with a constant attribute set"""
    emitter.load_constant(obj)
    emitter.copy(2)
    emitter.store_attribute(name)


@handles(torch.no_grad, like=lambda orig_func=None: None)
def make_no_grad(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if args:  # used as a decorator without parentheses
        return decorated(tracer, GradModeValue(torch.no_grad, False), args[0])
    return GradModeValue(torch.no_grad, False)


@handles(torch.enable_grad, like=lambda orig_func=None: None)
def make_enable_grad(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if args:
        return decorated(tracer, GradModeValue(torch.enable_grad, True), args[0])
    return GradModeValue(torch.enable_grad, True)


@handles(torch.set_grad_enabled, like=lambda mode: None)
def make_set_grad_enabled(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    manager = GradModeValue(torch.set_grad_enabled, _mode_of(tracer, args[0]))
    manager.enter(tracer)
    return manager


@handles(torch._C._set_grad_enabled, like=lambda enabled: None)
def set_grad_enabled(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    set_grad_mode(tracer, _mode_of(tracer, args[0]))
    return tracer.constant(None)


def _mode_of(tracer: Tracer, given: Value) -> bool:
    """The mode that `set_grad_enabled` is given, which must be a bool."""
    kind = given.realize().python_type()
    if kind is not bool:
        words = f"set_grad_enabled(): argument 'enabled' (position 1) must be bool, not {kind.__name__}"
        tracer.raise_observed(TypeError, words)
    return given.realize().as_constant()


@wraps_type(*_GRAD_MODES)
def wrap_grad_mode(tracer: Tracer, obj: Any, source: Source) -> Value:
    """A grad mode object that existed before the frame; in a resumed frame it was entered already."""
    tracer.guard(TypeIs(source, type(obj)))
    mode = {torch.no_grad: False, torch.enable_grad: True}.get(type(obj))
    if mode is None:
        mode = bool(tracer.wrap(obj.mode, AttributeSource(source, "mode")).as_constant())
    return GradModeValue(type(obj), mode, source, obj)


@handles(*(cls.__dict__["__enter__"] for cls in CONTEXT_CLASSES))
def enter_context(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`type(manager).__enter__(manager)`."""
    return _manager(args[0]).enter(tracer)


@handles(*(cls.__dict__["__exit__"] for cls in CONTEXT_CLASSES))
def leave_context(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """`type(manager).__exit__(manager, ...)`."""
    _manager(args[0]).leave(tracer)
    return tracer.constant(None)


def _manager(value: Value) -> ContextValue:
    value = value.realize()
    if not isinstance(value, ContextValue):
        raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"{value.describe()} as a context is not modelled")
    return value
