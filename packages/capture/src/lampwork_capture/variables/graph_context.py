"""GraphContextValue: a context of torch that nodes of the graph enter and leave: autocast, inference mode, a default
device, a choice of attention kernels, a profiler's record.

Entering one also makes the change while tracing, so that fake results are what they would be. Invariants: a graph
leaves torch's state as it found it; a context that is open at a graph break is rebuilt and entered by the emitted code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.amp.autocast_mode import _enter_autocast, _exit_autocast
from torch.autograd.grad_mode import _enter_inference_mode, _exit_inference_mode
from torch.autograd.profiler import record_function
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..graph_break import BreakId, GraphBreak
from ..graph_contexts import enter_attention, enter_device, enter_record, leave_context
from ..guards.facts import TypeIs
from ..source import AttributeSource, Source
from .base import Tracer, Value
from .constant import DEVICE_CONTEXTS, fold
from .construction import new_object
from .context_manager import ContextMethodValue, ContextValue, decorated
from .dict import DictValue
from .registry import handles, wraps_type
from .torch_function import ATTENTION_FLAGS, guarded_state

if TYPE_CHECKING:
    from ..interpreter.reconstruct import ValueEmitter


@dataclass(frozen=True, slots=True)
class ContextKind:
    """One kind of context: its class, what makes one again, and the functions that the graph calls."""

    cls: type
    maker: Callable[..., Any]
    enter: Callable[..., Any]
    leave: Callable[..., Any]
    state: tuple[str, ...] = ()  # what it changes and a program may ask for


_MANAGER: Any = contextlib._GeneratorContextManager  # pyright: ignore[reportPrivateUsage]
AUTOCAST = ContextKind(torch.autocast, torch.autocast, _enter_autocast, _exit_autocast)
INFERENCE = ContextKind(torch.inference_mode, torch.inference_mode, _enter_inference_mode, _exit_inference_mode)
DEVICE = ContextKind(torch.device, torch.device, enter_device, leave_context)
ATTENTION = ContextKind(
    _MANAGER,
    sdpa_kernel,
    enter_attention,
    leave_context,
    (*ATTENTION_FLAGS, "cudnn attention allowed", "attention priority"),
)
RECORD = ContextKind(record_function, record_function, enter_record, leave_context)


class GraphContextValue(ContextValue):
    """A context that is entered and left by nodes in the graph.

    `constructor` are the arguments of what makes one, `arguments` those of the function that enters.
    """

    kind = "a context of torch"
    __slots__ = ("_entered", "_node", "arguments", "constructor", "context")

    def __init__(
        self,
        context: ContextKind,
        constructor: tuple[Any, ...],
        arguments: tuple[Any, ...],
        source: Source | None = None,
    ) -> None:
        super().__init__(source)
        self.context = context
        self.constructor = constructor
        self.arguments = arguments
        self._node: torch.fx.Node | None = None
        self._entered: Any = None

    def python_type(self) -> type:
        return self.context.cls

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name == "clone" and self.context is INFERENCE:
            return ContextMethodValue(self, name)
        if name == "_recreate_cm" and self.context is not INFERENCE:
            return ContextMethodValue(self, "clone")
        return super().get_attribute(tracer, name)

    def clone(self, tracer: Tracer) -> Value:
        return GraphContextValue(self.context, self.constructor, self.arguments)

    def enter(self, tracer: Tracer) -> Value:
        if self._node is not None:
            raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"{self.describe()} is entered twice")
        for name in self.context.state:
            guarded_state(tracer, name)
        # Entered outside the fake mode: leaving restores torch's dispatch state as it was found here.
        self._entered = self.context.enter(*self.arguments)
        tracer.opened(self)
        self._node = tracer.graph.add_state_change(self.context.enter, self.arguments, tracer.user_line)
        if self.context is INFERENCE:
            return tracer.constant(None)
        return DictValue({}) if self.context is ATTENTION else self

    def leave(self, tracer: Tracer) -> None:
        if self._node is None:
            raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, f"{self.describe()} is left but was not entered here")
        tracer.closed(self)  # breaks where the order is wrong, before anything real is left
        self.close_in_graph(tracer)
        self._node = None

    def close_in_graph(self, tracer: Tracer) -> None:
        """Record the end of the context; it stays open in the real program if the frame ends here."""
        self.abandon()
        tracer.graph.add_state_change(self.context.leave, (self._node,), None)

    def abandon(self) -> None:
        """Leave the real context that tracing entered."""
        if self._entered is not None:
            entered, self._entered = self._entered, None
            self.context.leave(entered)

    def emit_entered(self, emitter: ValueEmitter) -> None:
        """Make and enter the real context; later loads find it."""
        emitter.load_value(self)
        emitter.load_attribute("__enter__")
        name = emitter.fresh_local("enter")
        emitter.emit("STORE_FAST", name)
        emitter.begin_call()
        emitter.emit("LOAD_FAST", name)
        emitter.callable_ready()
        emitter.call(0)
        emitter.pop()
        emitter.temporaries.append(name)

    def reconstruct(self, emitter: ValueEmitter) -> None:
        emitter.begin_call(self.context.maker)
        for part in self.constructor:
            emitter.load_constant(part)
        emitter.call(len(self.constructor))
        emitter.remember(self)


# Autocast


def _autocast(device: str, dtype: Any, enabled: bool, cache: bool, source: Source | None = None) -> GraphContextValue:
    arguments = (device, dtype, enabled, cache)
    return GraphContextValue(AUTOCAST, arguments, arguments, source)


@handles(torch.autocast, like=lambda device_type, dtype=None, enabled=True, cache_enabled=None: None)
def make_autocast(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    # It raises and warns as eager does; entering is what changes state
    real = fold(tracer, torch.autocast, *(arg.as_constant() for arg in args))
    return _autocast(real.device, real.fast_dtype, real._enabled, real._cache_enabled)


@wraps_type(torch.autocast)
def wrap_autocast(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, torch.autocast))
    names = ("device", "fast_dtype", "_enabled", "_cache_enabled")
    device, dtype, enabled, cache = (
        tracer.wrap(getattr(obj, name), AttributeSource(source, name)).as_constant() for name in names
    )
    return _autocast(device, dtype, enabled, cache, source)


# Inference mode


@handles(torch.inference_mode, like=lambda mode=True: None)
def make_inference_mode(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    mode = args[0] if args else None
    if mode is not None and not mode.is_constant():  # used as a decorator without parentheses
        return decorated(tracer, GraphContextValue(INFERENCE, (True,), (True,)), mode)
    enabled = True if mode is None else bool(mode.as_constant())
    return GraphContextValue(INFERENCE, (enabled,), (enabled,))


@wraps_type(torch.inference_mode)
def wrap_inference_mode(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, torch.inference_mode))
    enabled = bool(tracer.wrap(obj.mode, AttributeSource(source, "mode")).as_constant())
    return GraphContextValue(INFERENCE, (enabled,), (enabled,), source)


# A default device


def device_context(device: torch.device) -> GraphContextValue:
    """`with device`."""
    return GraphContextValue(DEVICE, (str(device),), (str(device),))


DEVICE_CONTEXTS.append(device_context)


# Attention kernels


def _choice_of_attention(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    given = dict(zip(("backends", "set_priority"), args), **kwargs)
    backends = given["backends"].realize()
    chosen = [backends] if issubclass(backends.python_type(), SDPBackend) else backends.unpack(tracer)
    priority = "set_priority" in given and given["set_priority"].truth(tracer)
    found = [item.realize().as_constant() for item in chosen]
    numbers = tuple(int(backend) for backend in found)  # what an FX node can hold
    return GraphContextValue(ATTENTION, (found, priority), (numbers, priority))


@handles(_MANAGER, like=lambda func, args, kwds: None)
def make_manager(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """What `contextlib.contextmanager` makes of a call: traced, but for torch's own choice of attention kernels."""
    function = args[0].realize()
    if getattr(function, "function", None) is _ATTENTION_GENERATOR:
        named = {str(key.as_constant()): args[2].get_item(tracer, key) for key in args[2].unpack(tracer)}
        return _choice_of_attention(tracer, args[1].unpack(tracer), named)
    class_value: Any = tracer.constant(_MANAGER)
    return new_object(tracer, class_value, args, kwargs)


_ATTENTION_GENERATOR: Any = vars(sdpa_kernel)["__wrapped__"]


# Profiler


@handles(record_function, like=lambda name, args=None: None)
def make_record(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    name = args[0].as_constant()
    argument = args[1].as_constant() if len(args) > 1 else None
    return GraphContextValue(RECORD, (name, argument), (name, argument))


@wraps_type(record_function)
def wrap_record(tracer: Tracer, obj: Any, source: Source) -> Value:
    tracer.guard(TypeIs(source, record_function))
    name, argument = (
        tracer.wrap(getattr(obj, part), AttributeSource(source, part)).as_constant() for part in ("name", "args")
    )
    return GraphContextValue(RECORD, (name, argument), (name, argument), source)
