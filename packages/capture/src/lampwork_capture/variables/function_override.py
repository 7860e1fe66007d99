"""`__torch_function__`: calls of torch that a mode of the program, or an argument that is no tensor, takes over.

Which function an operator or a method stands for, and how its arguments are bound, is asked of torch: the call is begun
on empty tensors under a recorder and stopped where torch asks for an override. What the program then does is traced.
Invariants: a real mode is never entered while tracing; a mode is not active in its own `__torch_function__`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MethodWrapperType
from typing import Any, NoReturn

import torch
from torch.overrides import TorchFunctionMode

from ..graph_break import BreakId, GraphBreak
from .base import Tracer, Value
from .registry import handles

_C: Any = torch._C


class _Intercepted(Exception):
    """Where torch asks for an override: what it would pass."""

    def __init__(self, function: Any, types: Any, args: Any, kwargs: Any) -> None:
        super().__init__()
        self.function = function
        self.types = types
        self.args_given = args
        self.kwargs_given = kwargs


class _Recorder(TorchFunctionMode):
    """Stops at the first call that can be overridden."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise _Intercepted(func, types, args, kwargs)


class _StandIn:
    """An argument of a class with `__torch_function__`, while torch is asked."""

    def __init__(self, value: Value) -> None:
        self.value = value

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise _Intercepted(func, types, args, kwargs)


def overrides(value: Value) -> bool:
    """Whether a value is no tensor, but of a class that takes part in calls of torch."""
    known = getattr(value, "class_value", None)
    return known is not None and hasattr(known.obj, "__torch_function__")


def overridden(
    tracer: Tracer, target: Callable[..., Any], args: Sequence[Value], kwargs: Mapping[str, Value]
) -> Value | None:
    """What takes over `target(*args, **kwargs)`, and its result; None if nothing does."""
    args = [arg.realize() for arg in args]
    named = {name: arg.realize() for name, arg in kwargs.items()}
    objects = [value for value in (*args, *named.values()) if overrides(value)]
    if not tracer.function_modes and not objects:
        return None
    examples = _Examples()
    call = _intercept(target, [examples.of(arg) for arg in args], {k: examples.of(v) for k, v in named.items()})
    if call is None:
        return None
    if isinstance(target, FunctionType) and target is not call.function and target.__module__ != __name__:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, f"`{target.__name__}`, whose parts are overridden one by one")
    if not tracer.function_modes:
        return _by_object(tracer, call, objects, examples)
    *below, mode = tracer.function_modes
    types = tracer.make_tuple([tracer.constant(cls) for cls in call.types])
    before, tracer.function_modes = tracer.function_modes, below
    try:
        return mode.call_method(tracer, "__torch_function__", _passed(tracer, call, types, examples), {})
    finally:
        tracer.function_modes = before


def method_caller(name: str) -> Callable[..., Any]:
    """A call of the method of that name."""
    raw: Any = getattr(torch.Tensor, name, None)
    if issubclass(type(raw), FunctionType):
        return raw

    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(tensor, name)(*args, **kwargs)

    return call


def _intercept(target: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> _Intercepted | None:
    try:
        with _Recorder():
            target(*args, **kwargs)
    except _Intercepted as call:
        return call
    except Exception as error:
        raise GraphBreak(BreakId.FAKE_TENSOR_FAILED, f"an overridden call raises: {error}") from error
    return None


def _by_object(tracer: Tracer, call: _Intercepted, objects: Sequence[Value], examples: _Examples) -> Value:
    classes = {id(value.class_value): value.class_value for value in objects}  # type: ignore[attr-defined]
    if len(classes) != 1:
        raise GraphBreak(BreakId.CALL_NOT_MODELLED, "objects of several classes with `__torch_function__`")
    (cls,) = classes.values()
    types = tracer.make_tuple([cls])
    result = cls.call_method(tracer, "__torch_function__", _passed(tracer, call, types, examples), {})
    if result.is_constant() and result.as_constant() is NotImplemented:
        raise GraphBreak(BreakId.EXCEPTION_NOT_MODELLED, "`__torch_function__` is not implemented: eager raises")
    return result


def _passed(tracer: Tracer, call: _Intercepted, types: Value, examples: _Examples) -> list[Value]:
    """(function, types, args, kwargs) as `__torch_function__` is given them; torch leaves out kwargs that are none."""
    given = [examples.value(tracer, call.function), types, examples.value(tracer, tuple(call.args_given))]
    return given if call.kwargs_given is None else [*given, examples.value(tracer, call.kwargs_given)]


class _Examples:
    """What stands for the arguments of one call while torch is asked, and the way back."""

    def __init__(self) -> None:
        self._values: dict[int, tuple[Any, Value]] = {}

    def of(self, value: Value) -> Any:
        """A tensor without data for a tensor; anything else as it is."""
        value = value.realize()
        fake = getattr(value, "fake", None)
        if isinstance(fake, torch.Tensor):
            return self._tensor(value, fake)
        if overrides(value):
            return _StandIn(value)
        if value.is_constant():
            return value.as_constant()
        if value.kind in ("a list", "a tuple"):
            parts = [self.of(item) for item in value.children()]
            return parts if value.kind == "a list" else tuple(parts)
        raise GraphBreak(BreakId.NOT_A_GRAPH_ARGUMENT, f"{value.describe()} in a call of torch that is overridden")

    def _tensor(self, value: Value, fake: torch.Tensor) -> torch.Tensor:
        for example, known in self._values.values():
            if known is value:
                return example
        example = torch.empty(tuple(int(size) for size in fake.shape), dtype=fake.dtype, device="meta")
        if value.python_type() is torch.nn.Parameter:
            example = torch.nn.Parameter(example, requires_grad=False)
        self._values[id(example)] = (example, value)
        return example

    def value(self, tracer: Tracer, leaf: Any) -> Value:
        """The value that an example stands for, or of what torch made itself."""
        if id(leaf) in self._values:
            return self._values[id(leaf)][1]
        if isinstance(leaf, _StandIn):
            return leaf.value
        if type(leaf) is tuple:
            return tracer.make_tuple([self.value(tracer, item) for item in leaf])
        if type(leaf) is list:
            return tracer.constant(list).call(tracer, [self.value(tracer, tuple(leaf))], {})
        if type(leaf) is dict:
            return tracer.make_dict([(tracer.constant(key), self.value(tracer, item)) for key, item in leaf.items()])
        if isinstance(leaf, MethodWrapperType) and leaf.__name__ == "__get__":
            return PropertyGetterValue(leaf)
        return tracer.constant(leaf)


class PropertyGetterValue(Value):
    """`torch.Tensor.shape.__get__` and its kin: what a mode is given where a property of a tensor is read."""

    kind = "the getter of a property"
    __slots__ = ("obj",)

    def __init__(self, getter: MethodWrapperType) -> None:
        super().__init__()
        self.obj = getter

    def is_constant(self) -> bool:
        return True

    def as_constant(self) -> Any:
        return self.obj

    def python_type(self) -> type:
        return MethodWrapperType

    def truth(self, tracer: Tracer) -> bool:
        return True

    def call(self, tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
        descriptor: Any = self.obj.__self__
        return args[0].realize().get_attribute(tracer, descriptor.__name__)

    def get_attribute(self, tracer: Tracer, name: str) -> Value:
        if name in ("__name__", "__qualname__"):
            return tracer.constant(getattr(self.obj, name))
        return super().get_attribute(tracer, name)


# Entering and leaving


@handles(_C._push_on_torch_function_stack, like=lambda mode, /: None)
def push_mode(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    tracer.function_modes = [*tracer.function_modes, args[0].realize()]
    return tracer.constant(None)


@handles(_C._pop_torch_function_stack)
def pop_mode(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    if not tracer.function_modes:
        raise GraphBreak(BreakId.CONTEXT_NOT_MODELLED, "a function mode is left that was not entered here")
    *tracer.function_modes, mode = tracer.function_modes
    return mode


@handles(
    torch.overrides.has_torch_function,
    torch.overrides.has_torch_function_unary,
    torch.overrides.has_torch_function_variadic,
)
def has_torch_function(tracer: Tracer, args: Sequence[Value], kwargs: Mapping[str, Value]) -> Value:
    """Tensor subclasses never become values of the graph: only a mode can override."""
    return tracer.constant(bool(tracer.function_modes))
